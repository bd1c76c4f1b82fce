"""Folders of numbered pictures (00001.jpg, 00002.jpg, ...), a million of them and more."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.records import Record

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True, slots=True)
class Pictures:
  """The pictures of one folder; a tenth of the memory that their paths would take.

  Attributes:
    folder: absolute path.
    numbers: int32 [n], ascending.
    digits: to which smaller numbers are filled up with zeros.
    suffix: with the dot.
  """

  folder: str
  numbers: np.ndarray
  digits: int
  suffix: str

  def __len__(self) -> int:
    return len(self.numbers)

  def __getitem__(self, which: Any) -> "Pictures":
    """Those at a slice, an index array or a mask."""
    return dataclasses.replace(self, numbers=self.numbers[which])

  @property
  def paths(self) -> tuple[str, ...]:
    """Absolute paths in the order of the numbers."""
    return tuple(os.path.join(self.folder, f"{n:0{self.digits}d}{self.suffix}")
                 for n in self.numbers.tolist())


class LazyRecords(Sequence[Record]):
  """Records that are made from small entries when they are asked for.

  Args:
    make: entry -> record; a function of a module, so that processes can be given it.
    entries: random access.
  """

  def __init__(self, make: Callable[[Any], Record], entries: Sequence):
    self._make, self._entries = make, entries

  def __len__(self) -> int:
    return len(self._entries)

  def __getitem__(self, index: int | slice) -> "Record | LazyRecords":
    if isinstance(index, slice):
      return LazyRecords(self._make, self._entries[index])
    return self._make(self._entries[index])


def scan(folder: pathlib.Path) -> Pictures:
  """The numbered pictures in `folder`; other names (thumbnails, hidden files) are passed over.

  Raises:
    DataError: the folder can't be read, or its pictures differ in suffix or number one twice.
  """
  try:
    names = os.listdir(folder)
  except OSError as e:
    raise DataError(f"{folder}: can't read this folder ({e.strerror})") from e
  split = [os.path.splitext(name) for name in names]
  found = sorted((int(stem), stem, suffix) for stem, suffix in split
                 if suffix.lower() in SUFFIXES and stem.isascii() and stem.isdigit())
  if not found:
    return Pictures(str(folder), np.zeros(0, np.int32), 1, SUFFIXES[0])
  digits, suffix = min(len(stem) for _, stem, _ in found), found[0][2]
  for number, stem, own in found:
    if own != suffix or stem != f"{number:0{digits}d}":
      raise DataError(f"{folder}: {stem}{own} is not named like {found[0][1]}{suffix}; keep "
                      "pictures of one kind in this folder, numbered with as many digits each")
  return Pictures(str(folder), np.array([n for n, _, _ in found], np.int32), digits, suffix)
