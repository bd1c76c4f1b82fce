"""What an evaluation that was interrupted has found, in a folder: from there it goes on."""

import os
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipelines.records import Dataset
from experiments import interrupt, origin

VERSION = 1  # raise it when what was found would come out differently


class Unfinished:
  """Name -> {key: array}, each in a file that is written whole or not at all."""

  def __init__(self, folder: pathlib.Path, *about: Any):
    """Args:
      about: what all of it depends on, in JSON's types; with other values nothing is there.
    """
    self._folder = folder / origin.digest(VERSION, *about)
    self._folder.mkdir(parents=True, exist_ok=True)

  def _file(self, name: str) -> pathlib.Path:
    return self._folder / f"{origin.digest(name)}.npz"

  def get(self, name: str) -> dict[str, np.ndarray] | None:
    """None for what isn't there, or is damaged."""
    try:
      with np.load(self._file(name), allow_pickle=False) as found:
        return dict(found)
    except (FileNotFoundError, EOFError, ValueError, zipfile.BadZipFile):
      return None

  def __setitem__(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keeps arrays; a signal that came meanwhile is heard after it."""
    part = self._file(name).with_suffix(f".{os.getpid()}.part")
    try:
      with part.open("wb") as f:
        np.savez(f, **arrays)
      os.replace(part, self._file(name))
    finally:
      part.unlink(missing_ok=True)
    interrupt.INTERRUPT.check()


def state(dataset: Dataset) -> list:
  """What the videos of a data set show, and what is said of them, in JSON's types."""
  return [[record.id, origin.video_digest(record),
           origin.digest([origin.state(x) for x in (*record.frames, *record.masks)]),
           [[key, x.shape, str(x.dtype), zlib.crc32(np.ascontiguousarray(x))]
            for key, x in sorted(record.truth.items())]]
          for record in dataset.records]
