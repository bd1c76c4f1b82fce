"""Files that a user names on the command line."""

import pathlib

from data_pipelines.datasets import folder
from data_pipelines.records import Record
from vssl_jax.types import ConfigError


def find_videos(source: str) -> list[Record]:
  """The videos of a folder, or one file."""
  path = pathlib.Path(source)
  if path.is_file():
    return [Record(path.name, str(path))]
  if not path.is_dir():
    raise ConfigError(f"--input={source}: no such file or folder")
  found = folder.list_videos(path, key="--input")
  if not found:
    raise ConfigError(f"--input={source}: no videos here; looked for {', '.join(folder.SUFFIXES)}")
  return [Record(folder.video_id(p, path), str(p)) for p in found]
