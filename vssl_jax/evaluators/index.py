"""Embedded videos of a database, in memory or on disk: what a search reads.

On disk an index is a folder: `frames.f32` and `video.f32`, rows of little-endian float32 numbers,
`weights.f32` where the embedding weighs its frames, and `index.jsonl`, a line a video: `{"id",
"length"}`. A video's line is written after its rows, so an interrupted writer continues behind the
last whole line. Files are memory-mapped; what is held is two numbers a video.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Iterable

import numpy as np

from vssl_jax.evaluators.embedded import Batch
from vssl_jax.types import ConfigError

_HEADER, _LINES = "header.json", "index.jsonl"


class Index:
  """Embedded videos, in the order in which they were added.

  Attributes:
    ids: of the videos.
    length: [N] int64, valid frames of each.
  """

  def __init__(self, folder: str | os.PathLike | None = None, *, meta: dict | None = None,
               keep_frames: bool = True, memory: float = 2.0):
    """An index in memory, or the one in `folder`, which is made, or continued.

    Args:
      memory: GiB above which an index without a folder moves to a temporary one.
      keep_frames: without them only video vectors are kept, a hundredth of the size.
      meta: what the index was made from; a folder with other facts is refused.

    Raises:
      ConfigError: the folder holds an index made from something else, or can't be written.
    """
    self.folder = None if folder is None else pathlib.Path(folder)
    self._keep_frames, self._limit, self._size = keep_frames, memory * 2**30, 0
    self.ids: list[str] = []
    self._lengths: list[int] = []
    self._parts: dict[str, list[np.ndarray]] = {}
    self._maps: dict[str, np.ndarray] = {}
    self._dims: dict[str, int] = {}
    if self.folder is not None:
      self._open(meta or {})

  def add(self, batches: Iterable[Batch]) -> None:
    """Appends the videos of each batch; fillers and padding are left out."""
    for batch in batches:
      n = len(batch.ids)
      valid = np.arange(batch.frames.shape[1]) < batch.length[:n, None]
      parts = {"video": batch.video[:n]}
      if self._keep_frames:
        parts["frames"] = batch.frames[:n][valid]
      if self._keep_frames and batch.weights is not None:
        parts["weights"] = batch.weights[:n][valid][:, None]
      self._append(parts, [{"id": i, "length": int(k)}
                           for i, k in zip(batch.ids, batch.length, strict=False)])

  def __len__(self) -> int:
    return len(self.ids)

  @property
  def length(self) -> np.ndarray:
    return np.asarray(self._lengths, np.int64)

  @property
  def start(self) -> np.ndarray:
    """[N] int64, the first row of each video."""
    return np.concatenate([[0], np.cumsum(self.length)[:-1]]).astype(np.int64)

  def rows(self, name: str) -> np.ndarray | None:
    """All rows of "frames" [M, D], "video" [N, D'] or "weights" [M, 1]; None where there are none.
    """
    if name not in self._dims:
      return None
    if self.folder is None:
      if len(self._parts[name]) > 1:
        self._parts[name] = [np.concatenate(self._parts[name])]
      return self._parts[name][0]
    count = len(self) if name == "video" else int(self.length.sum())
    known = self._maps.get(name)
    if known is None or len(known) != count:
      shape, file = (count, self._dims[name]), self.folder / f"{name}.f32"
      self._maps[name] = (np.memmap(file, "<f4", "r", shape=shape) if count else
                          np.zeros(shape, "<f4"))  # an empty file can't be mapped
    return self._maps[name]

  def padded(self, name: str, at: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
    """`rows(name)` of the videos `at` as [*shape, D], zero where there is nothing; None likewise.

    `shape` is a number of videos and a length, at least those of `at`.
    """
    source = self.rows(name)
    if source is None:
      return None
    found, start, length = np.zeros((*shape, source.shape[1]), np.float32), self.start, self.length
    for row, k in enumerate(at):
      found[row, :length[k]] = source[start[k]:start[k] + length[k]]
    return found

  def _append(self, parts: dict[str, np.ndarray], lines: list[dict]) -> None:
    dims = {name: x.shape[1] for name, x in parts.items()}
    if self._dims and dims != self._dims:
      raise ValueError(f"the embedding's sizes have changed from {self._dims} to {dims}")
    self._dims = dims
    if self.folder is None:
      for name, x in parts.items():
        self._parts.setdefault(name, []).append(np.asarray(x, np.float32))
        self._size += 4 * x.size
    else:
      self._write(parts, lines)
    self.ids += [line["id"] for line in lines]
    self._lengths += [line["length"] for line in lines]
    if self.folder is None and self._size > self._limit:
      self._move()

  def _move(self) -> None:
    """From memory to a temporary folder, which goes when the index goes."""
    self._temporary = tempfile.TemporaryDirectory(prefix="vssl_jax-index-")
    parts, self._parts, ids, self.ids = self._parts, {}, self.ids, []
    self.folder, self._meta = pathlib.Path(self._temporary.name), {}
    self._write({name: np.concatenate(x) for name, x in parts.items()},
                [{"id": i, "length": n} for i, n in zip(ids, self._lengths, strict=True)])
    self.ids = ids

  def _write(self, parts: dict[str, np.ndarray], lines: list[dict]) -> None:
    try:
      if not self.ids:
        self._save_header()
      for name, x in parts.items():
        with (self.folder / f"{name}.f32").open("ab") as f:
          f.write(np.ascontiguousarray(x, "<f4").data)
      with (self.folder / _LINES).open("a") as f:
        f.write("".join(json.dumps(line) + "\n" for line in lines))
    except OSError as e:
      raise ConfigError(f"{self.folder}: can't write embedded videos ({e.strerror}); free some "
                        "space, and run again to continue") from e

  def _save_header(self) -> None:
    temporary = self.folder / f"{_HEADER}.tmp"
    temporary.write_text(json.dumps({"meta": self._meta, "dims": self._dims}))
    os.replace(temporary, self.folder / _HEADER)

  def _open(self, meta: dict) -> None:
    self._meta = meta
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      header = self.folder / _HEADER
      if not header.is_file():
        for file in self.folder.glob("*.f32"):  # begun, and not one video whole
          file.unlink()
        return
      found = json.loads(header.read_text())
      if found["meta"] != meta:
        raise ConfigError(f"{self.folder} holds embedded videos of something else (it says "
                          f"{found['meta']}, not {meta}); delete it, or name another folder")
      self._dims = found["dims"]
      self._recover()
    except OSError as e:
      raise ConfigError(f"{self.folder}: can't keep embedded videos here ({e.strerror}); choose "
                        "another folder") from e

  def _recover(self) -> None:
    """Cuts all files behind the last video that is whole in all of them."""
    path = self.folder / _LINES
    for file in (path, *(self.folder / f"{name}.f32" for name in self._dims)):
      file.touch()  # it may have been about to be written
    text = path.read_text()
    rows = {name: (self.folder / f"{name}.f32").stat().st_size // (4 * dim)
            for name, dim in self._dims.items()}
    most = min((n for name, n in rows.items() if name != "video"), default=2**62)
    at, kept = 0, []
    for line in text[:text.rfind("\n") + 1].splitlines():
      entry = json.loads(line)
      if at + entry["length"] > most or len(kept) == rows["video"]:
        break
      at += entry["length"]
      kept.append(entry)
    for name, dim in self._dims.items():
      os.truncate(self.folder / f"{name}.f32", 4 * dim * (len(kept) if name == "video" else at))
    path.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
    self.ids = [entry["id"] for entry in kept]
    self._lengths = [entry["length"] for entry in kept]
