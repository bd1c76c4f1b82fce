"""Features of a user's videos in a folder: one array a video, and a page that says what they are.

  FOLDER/ID.npy          [T, ...]; `numpy.load(path, mmap_mode="r")` reads a part of it
  FOLDER/features.json   what the rows are, and for each video its array's shape and more; which
                         ones could not be read, and why
"""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from data_pipelines.encode import write_atomic
from data_pipelines.errors import VideoError
from data_pipelines.records import Record
from experiments import cli, interrupt
from vssl_jax import log
from vssl_jax.evaluators.dense import named
from vssl_jax.types import ConfigError

PAGE = "features.json"
DTYPES = ("float16", "float32")
SAVE_EVERY = 5.0  # seconds between writes of the page, which names all videos

# Of a video: first how many rows it has and what the page says of it, then row by row.
Describe = Callable[[Record], Iterator[Any]]


@dataclasses.dataclass(frozen=True)
class Extracted:
  """What `extract` left.

  Attributes:
    page: the file that describes the features.
    videos, frames: how many arrays and rows there are now.
    kept: how many of the videos an earlier call had finished.
    bad: id of a video that could not be read -> why.
  """

  page: pathlib.Path
  videos: int
  frames: int
  kept: int
  bad: dict[str, str]

  def text(self) -> str:
    """A line for the terminal."""
    kept = f" ({self.kept} of an earlier call)" if self.kept else ""
    bad = f", {len(self.bad)} that could not be read, see bad in it" if self.bad else ""
    return f"{self.page}: {self.videos} videos{kept}, {self.frames} frames{bad}"


def write(describe: Describe, videos: Sequence[Record], output: str, *, dtype: str, settings: dict,
          about: str, progress: bool = True) -> Extracted:
  """Writes the features of whole videos; a later call goes on where one was interrupted.

  Args:
    describe: yields `(rows, facts)` and then the rows, arrays of one shape.
    videos: as of `inputs.find_videos`.
    output: a folder, new or of an earlier call with the same settings.
    dtype: "float16" or "float32", of the arrays.
    settings: what the features depend on; goes into the page.
    about: what the page says of the rows.
    progress: shows it and the remaining time, where it takes longer than seconds.

  Raises:
    ConfigError: an impossible setting, or the folder holds features of other settings. A video
      that can't be read is reported and counted, and raises nothing.
  """
  if dtype not in DTYPES:
    raise ConfigError(f"{dtype=}: should be one of {', '.join(DTYPES)}")
  folder, settings = pathlib.Path(output), settings | {"dtype": dtype}
  cli.make_folder(folder, "--output")
  known, bad, kept = _known(folder, settings), {}, 0
  saved = time.monotonic()

  def save():
    page = {"about": about, **settings, "videos": known, "bad": bad}
    write_atomic(folder / PAGE, (json.dumps(page, indent=1) + "\n").encode())

  with cli.writing(folder):
    try:
      save()  # from now on the folder is known as ours
      for video in log.stage(videos, name="extract", unit="videos", show=progress):
        interrupt.INTERRUPT.check()
        try:
          if _finished(folder, video, known.get(video.id)):
            kept += 1
          else:
            known.pop(video.id, None)
            known[video.id] = _write(describe, video, folder, dtype)
        except VideoError as e:
          bad[video.id] = e.reason
          log.write(f"can't use {video.id}: {e.reason}")
        if time.monotonic() - saved > SAVE_EVERY:
          save()
          saved = time.monotonic()
    finally:
      save()
  now = [known[v.id] for v in videos if v.id in known]
  return Extracted(folder / PAGE, len(now), sum(v["shape"][0] for v in now), kept, bad)


def _file(folder: pathlib.Path, video: Record) -> pathlib.Path:
  return folder / f"{video.id}.npy"


def _source(video: Record) -> list[int]:
  """Size and time of a video's file: what tells that it was replaced."""
  try:
    state = os.stat(video.video)
  except OSError as e:
    raise VideoError(video.video, (e.strerror or "can't be read").lower()) from e
  return [state.st_size, state.st_mtime_ns]


def _finished(folder: pathlib.Path, video: Record, entry: dict | None) -> bool:
  return entry is not None and entry["source"] == _source(video) and _file(folder, video).is_file()


def _write(describe: Describe, video: Record, folder: pathlib.Path, dtype: str) -> dict:
  """Writes one array, whole or not at all; returns its entry for the page."""
  path, source = _file(folder, video), _source(video)
  cli.make_folder(path.parent, "--output")
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  path.unlink(missing_ok=True)  # of what the video was before
  try:
    with named(video):
      rows = describe(video)
      count, facts = next(rows)
      for t, row in enumerate(rows):
        if t == 0:
          out = open_memmap(temporary, mode="w+", dtype=dtype, shape=(count, *row.shape))
        out[t] = _narrow(row, dtype)
        interrupt.INTERRUPT.check()
      out.flush()
      entry = {"file": path.relative_to(folder).as_posix(), "shape": list(out.shape), **facts,
               "source": source}
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
  return entry


def _narrow(row: np.ndarray, dtype: str) -> np.ndarray:
  with np.errstate(over="ignore"):  # told below
    narrow = row.astype(dtype)
  if not np.isfinite(narrow).all():
    raise ConfigError(f"features up to {np.abs(row).max():g} don't fit into {dtype}"
                      + ("; use float32" if np.isfinite(row).all() else ": some aren't finite"))
  return narrow


def _known(folder: pathlib.Path, settings: dict) -> dict[str, dict]:
  """What an earlier call has finished, id -> entry."""
  page = folder / PAGE
  if not page.is_file():
    if any(not p.name.startswith(".") for p in folder.iterdir()):
      raise ConfigError(f"--output={folder} holds other files and no {PAGE}; choose a new folder")
    return {}
  try:
    before = json.loads(page.read_text(encoding="utf-8"))
    videos = before.pop("videos")
  except (ValueError, KeyError) as e:
    raise ConfigError(f"{page} is damaged ({e}); choose a new folder") from e
  before = {k: v for k, v in before.items() if k not in ("bad", "about")}
  changed = sorted(k for k in before.keys() | settings.keys()
                   if before.get(k) != settings.get(k))
  if changed:
    shown = ", ".join(f"{k} ({before.get(k)} there, {settings.get(k)} now)" for k in changed)
    raise ConfigError(f"--output={folder} holds features of other settings: {shown}; choose a new "
                      "folder")
  return videos
