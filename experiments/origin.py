"""What a run depends on and its config only names: files, by content; and where data are cached."""

import hashlib
import json
import os
import pathlib

from data_pipelines import shards
from data_pipelines.records import Record
from vssl_jax.types import ConfigError

FILE = "origin.json"


def write(workdir: pathlib.Path, origin: dict[str, str | int]) -> None:
  """Writes into a run's folder what it begins with: name -> hash, and what reports tell of it."""
  temporary = workdir / "origin.tmp"
  temporary.write_text(json.dumps(origin, indent=1))
  os.replace(temporary, workdir / FILE)


def read(workdir: pathlib.Path) -> dict[str, str | int]:
  """What `write` wrote; {} in a folder without it."""
  file = workdir / FILE
  return json.loads(file.read_text()) if file.is_file() else {}


def check(workdir: pathlib.Path, origin: dict[str, str]) -> None:
  """Raises ConfigError where something in `origin` is no longer what the run began with."""
  before = read(workdir) or origin
  changed = [name for name, value in origin.items() if before.get(name, "") != value]
  if changed:
    raise ConfigError(f"--workdir={workdir}: the files behind {' and '.join(changed)} have changed "
                      "since this run began; bring them back, or train anew in another --workdir")


def of_weights(config, group: str) -> str:
  """A hash of the file that `weights` of this group of the config names, or ""."""
  path = config[group].weights
  return file_digest(path) if path else ""


def cache_folder(path: str) -> pathlib.Path:
  """`data.cache_dir`, or vssl_jax below the user's cache folder where it is empty."""
  if path:
    return pathlib.Path(path).expanduser()
  home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(home) / "vssl_jax"


def digest(*parts) -> str:
  """A short hash of values that JSON can hold."""
  text = json.dumps(parts, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_digest(path: str) -> str:
  """A hash of a file's content."""
  with open(path, "rb") as f:
    return hashlib.file_digest(f, "sha256").hexdigest()


def video_digest(video: Record) -> str:
  """A hash of what a video shows: its file as it is now, the part, the edit.

  Of pictures it is their number, the first and the last, and how many there are a second.
  """
  strength = [video.edit_strength] if video.edit_strength else []  # what was stored before has none
  pictures = video.frames and [len(video.frames), video.fps, state(video.frames[0]),
                               state(video.frames[-1])]
  shown = pictures or state(video.video)
  return digest(shown, video.start, video.end, video.edit_seed, *strength)


def state(source: str | bytes) -> list:
  """A file as it is now, or content by its hash; "" for none."""
  if isinstance(source, bytes):
    return [hashlib.sha256(source).hexdigest()]
  if not source:
    return []
  if shards.is_address(source):
    shard, _, row = source.rpartition("#")
    return [*state(shard), row]
  path = os.path.abspath(source)
  try:
    stat = os.stat(path)
  except OSError:
    return [path, "unreadable"]
  return [path, stat.st_size, stat.st_mtime_ns]
