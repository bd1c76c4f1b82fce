"""A csv, tsv or Parquet list of videos, one a row.

  path,start,end,label,split
  videos/a.mp4,,,cooking,train
  videos/b.mp4,3.5,9,sleeping,train
  frames/c,,,cooking,val

Only `path` is needed; it is relative to the list, and may be a video, a folder of pictures, or a
picture. `id`, `start`, `end` (seconds), `label` (a name or a number), `split` and `text` may be
there or not; other columns are not used.
"""

import csv
import dataclasses
import math
import os
import pathlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow
import pyarrow.parquet

from data_pipelines.datasets import completeness, layout, walk
from data_pipelines.datasets.folder import SUFFIXES as _VIDEOS
from data_pipelines.datasets.frames import ordered, paths
from data_pipelines.datasets.numbered import LazyRecords
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {"all": {}}  # and those that the column `split` names
PREPARED = ("all",)
COLUMNS = ("path", "id", "start", "end", "label", "split", "text")
SUFFIXES = (".csv", ".tsv", ".parquet")


def read(root: str, split: str = "all", *, allow_missing: bool = False, classes: str = "",
         fps: float | None = None) -> Dataset:
  """Reads a list of videos; see the module for its columns.

  Records keep the order of the rows. Without a column `id` the path is the id, followed by the
  seconds (`#3.5-9`) where the list has it more than once. Labels that are all whole numbers are
  taken as they are; names are numbered in the alphabet's order over the whole list.

  Args:
    root: the list, or a folder with a `manifest.csv`, `.tsv` or `.parquet`.
    split: "all", or a value of the column `split`.
    allow_missing: go on, with a warning, where files are missing.
    classes: a text file with class names in the order of their numbers, one a line.
    fps: pictures a second of folders of pictures, where known.

  Raises:
    DataError: there is no such list or split, the list has no `path`, a value is wrong (names the
      row), two rows have one id, or files are missing.
  """
  path = _file(root)
  table = _table(path)
  n_rows = len(table["path"])
  splits = [_text(value) for value in table.get("split", [""] * n_rows)]
  layout.check_split(str(path), split, SPLITS | dict.fromkeys(filter(None, splits)))
  parts = [_part(path, row, table) for row in range(n_rows)]
  names, labels = _labels(path, table, n_rows, classes)
  ids = _ids(path, table, parts)
  disk, found, missing = _Disk(path.parent), [], []
  for row in range(n_rows):
    if split not in ("all", splits[row]):
      continue
    own = names[labels[row]] if 0 <= labels[row] < len(names) else ""
    record = Record(ids[row], start=parts[row][0], end=parts[row][1], label=labels[row],
                    text=_text(table["text"][row]) if "text" in table else own,
                    splits=(splits[row],) if splits[row] else ())
    entry = disk.find(record, _text(table["path"][row]), fps)
    if entry:
      found.append(entry)
    else:
      missing.append(record.id)
  completeness.check(str(path), split, {"videos": len(found)},
                     {"videos": len(found) + len(missing)}, missing, allow_missing)
  return Dataset("manifest", split, LazyRecords(_whole, found), names, tuple(sorted(missing)))


def _whole(entry: tuple[Record, str, str]) -> Record:
  record, folder, names = entry
  return dataclasses.replace(record, frames=paths(folder, names)) if names else record


def _file(root: str) -> pathlib.Path:
  if not root:
    raise DataError("manifest: no list given; give a csv, tsv or Parquet file")
  path = pathlib.Path(root).expanduser().absolute()
  if path.is_dir():
    found = [path / f"manifest{s}" for s in SUFFIXES if (path / f"manifest{s}").is_file()]
    if len(found) != 1:
      raise DataError(f"manifest: {path} has {len(found)} files named manifest"
                      f"{' or manifest'.join(SUFFIXES)}; give the list itself")
    return found[0]
  if not path.is_file():
    raise DataError(f"manifest: {path} doesn't exist; give a csv, tsv or Parquet file")
  if path.suffix.lower() not in SUFFIXES:
    raise DataError(f"manifest: {path} should end in {', '.join(SUFFIXES)}, by which its form is "
                    "known")
  return path


def _table(path: pathlib.Path) -> dict[str, list]:
  """Name -> values of the columns that are used."""
  try:
    if path.suffix.lower() == ".parquet":
      found = pyarrow.parquet.read_schema(path).names
      _check_columns(path, found)
      used = [name for name in COLUMNS if name in found]
      table = pyarrow.parquet.read_table(path, columns=used).to_pydict()
    else:
      table = _csv(path)
  except (OSError, UnicodeDecodeError, csv.Error, pyarrow.ArrowException) as e:
    raise DataError(f"{path}: can't read this list ({e})") from e
  if not table["path"]:
    raise DataError(f"{path}: has no rows")
  return table


def _csv(path: pathlib.Path) -> dict[str, list[str]]:
  with open(path, newline="", encoding="utf-8-sig") as f:
    rows = csv.reader(f, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    header = [name.strip() for name in next(rows, [])]
    _check_columns(path, header)
    table = {name: [] for name in COLUMNS if name in header}
    for row in rows:
      if row and len(row) != len(header):
        raise DataError(f"{path}: line {rows.line_num} has {len(row)} values for {len(header)} "
                        "columns; put values with commas between double quotes")
      for name, value in zip(header, row, strict=False):
        if name in table:
          table[name].append(value)
  return table


def _check_columns(path: pathlib.Path, found: Sequence[str]) -> None:
  twice = [name for name, count in Counter(found).items() if count > 1 and name in COLUMNS]
  if "path" not in found or twice:
    raise DataError(f"{path}: has the columns {', '.join(map(str, found))[:200] or 'none'}; "
                    f"wanted: path, and if known {', '.join(COLUMNS[1:])}, each once, named in the "
                    "first row")


def _text(value: Any) -> str:
  empty = value is None or (isinstance(value, float) and math.isnan(value))
  return "" if empty else str(value).strip()


def _part(path: pathlib.Path, row: int, table: dict[str, list]) -> tuple[float | None, ...]:
  """Start and end of a row in seconds, None where not given."""
  given = [_text(table[name][row]) if name in table else "" for name in ("start", "end")]
  try:
    start, end = (float(value) if value else None for value in given)
  except ValueError:
    start = end = math.nan
  if not 0 <= (start or 0) < (math.inf if end is None else end) or end == math.inf:
    raise DataError(f"{path}: row {row + 1}: start and end should be seconds, the first smaller "
                    f"than the second, are {given[0]!r} and {given[1]!r}")
  return start, end


def _labels(path: pathlib.Path, table: dict[str, list], n_rows: int,
            classes: str) -> tuple[tuple[str, ...], list[int]]:
  """Class names, and the label of each row."""
  given = [_text(value) for value in table.get("label", [""] * n_rows)]
  names = tuple(layout.read_lines(pathlib.Path(classes).expanduser(),
                                  "class names, one a line")) if classes else ()
  # Whole numbers come as 3.0 where some rows have no label.
  numeric = all(re.fullmatch(r"-?\d+(\.0*)?", value) for value in given if value)
  if numeric:
    labels = [int(float(value)) if value else -1 for value in given]
    top = len(names) if names else math.inf
  else:
    names = names or tuple(sorted({*given} - {""}))
    number = {name: k for k, name in enumerate(names)}
    labels, top = [number.get(value, -2) if value else -1 for value in given], len(names)
  for row, label in enumerate(labels):
    if not -1 <= label < top:
      raise DataError(f"{path}: row {row + 1}: label {given[row]!r} is not among the "
                      f"{f'{len(names)} classes of {classes}' if classes else 'numbers from 0'}")
  return names, labels


def _ids(path: pathlib.Path, table: dict[str, list], parts: list[tuple]) -> list[str]:
  given = [_text(value) for value in table["path"]]
  empty = [row for row, value in enumerate(given, 1) if not value]
  if empty:
    raise DataError(f"{path}: row {empty[0]} has no path")
  count = Counter(given)
  ids = [walk.printable(value) + (f"#{start or 0:g}-{'' if end is None else f'{end:g}'}"
                                  if count[value] > 1 else "")
         for value, (start, end) in zip(given, parts, strict=True)]
  if "id" in table:
    ids = [_text(value) or own for value, own in zip(table["id"], ids, strict=True)]
  first = {}
  for row, id_ in enumerate(ids, 1):
    if first.setdefault(id_, row) != row:
      raise DataError(f"{path}: rows {first[id_]} and {row} are both {id_!r}; give them different "
                      "values in a column 'id'")
  return ids


class _Disk:
  """What is there; every folder is listed once, which is much faster than a look at each file."""

  def __init__(self, base: pathlib.Path):
    self._base = base
    self._folders = {}

  def find(self, record: Record, given: str, fps: float | None) -> tuple[Record, str, str] | None:
    """The record with its video, with its folder and names of pictures, or None: not there."""
    path = os.path.normpath(os.path.join(self._base, os.path.expanduser(given)))
    folder, name = os.path.split(path)
    if folder not in self._folders:
      try:
        self._folders[folder] = set(os.listdir(folder))
      except OSError:  # its files are reported as missing
        self._folders[folder] = frozenset()
    if name not in self._folders[folder]:
      return None
    if path.lower().endswith(walk.PICTURES):
      return record, folder, name
    if not name.lower().endswith(_VIDEOS) and os.path.isdir(path):
      names = [n for n in os.listdir(path) if n.lower().endswith(walk.PICTURES) and n[0] != "."]
      if not names:
        raise DataError(f"{path}: this folder of the list has no pictures")
      return dataclasses.replace(record, fps=fps), path, ordered(path, names)
    return dataclasses.replace(record, video=path), "", ""
