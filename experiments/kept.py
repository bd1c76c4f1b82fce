"""Arrays in a folder by name, from which work that was interrupted goes on."""

import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from data_pipelines.records import Dataset, Record
from experiments import origin


class Kept(MutableMapping):
  """Name -> {key: array}, each in a file that is written whole or not at all."""

  def __init__(self, folder: pathlib.Path, *about: Any):
    """Args:
      about: what all that is kept depends on, in JSON's types; other values see nothing of it.
    """
    self._folder = folder / origin.digest(*about)
    self._folder.mkdir(parents=True, exist_ok=True)

  def _file(self, name: str) -> pathlib.Path:
    return self._folder / f"{origin.digest(name)}.npz"

  def __contains__(self, name: str) -> bool:
    return self._file(name).is_file()

  def __getitem__(self, name: str) -> dict[str, np.ndarray]:
    try:
      with np.load(self._file(name), allow_pickle=False) as found:
        return dict(found)
    except FileNotFoundError as e:
      raise KeyError(name) from e

  def __setitem__(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    part = self._file(name).with_suffix(".part")
    with part.open("wb") as f:
      np.savez(f, **arrays)
    os.replace(part, self._file(name))

  def __delitem__(self, name: str) -> None:
    self._file(name).unlink()

  def __iter__(self) -> Iterator[str]:
    raise TypeError("names are kept as hashes alone")

  def __len__(self) -> int:
    return sum(1 for _ in self._folder.glob("*.npz"))


def state(dataset: Dataset) -> list:
  """What the videos of a data set show, and what is said of them, in JSON's types."""
  return [[record.id, origin.video_digest(record),
           origin.video_digest(Record("", frames=record.masks)) if record.masks else "",
           [[key, zlib.crc32(np.ascontiguousarray(x))] for key, x in sorted(record.truth.items())]]
          for record in dataset.records]
