"""Lists of Kinetics videos in the forms that people have.

- The official csv files, with the columns `label` (a name; the test list was published without),
  `youtube_id`, `time_start`, `time_end` (seconds), `split`, and perhaps `is_cc`.
- Lines of a path and a class's number with a space or comma between, without a header, as training
  codes exchange them. The path may be of another machine: its file name counts.
"""

import csv
import dataclasses
import pathlib
import re
from collections.abc import Sequence

from data_pipelines.datasets import layout, walk
from data_pipelines.errors import DataError

SUFFIXES = (".csv", ".txt")
COLUMNS = ("youtube_id", "time_start", "time_end")

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
           "test": "test"}
_PATH = re.compile(r"(?P<path>.*\S)(?:\s*,\s*|\s+)(?P<number>-?\d+)")
_WANTED = f"a header with {', '.join(COLUMNS)} (and label), or lines 'PATH NUMBER' without one"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
  """One video of a list.

  Attributes:
    id: name of its file without suffix, `YOUTUBEID_000059_000069`.
    bare: the YouTube id, where the list gives it; "" otherwise.
    start, end: seconds in the YouTube video, where the list gives them.
    name: of the class, "" where not given.
    number: of the class, -1 where not given.
    path: as the list gives it, "" where it doesn't.
  """

  id: str
  bare: str = ""
  start: float | None = None
  end: float | None = None
  name: str = ""
  number: int = -1
  path: str = ""


def split_of(name: str) -> str:
  """The split that a file's or folder's name speaks of: "val" for val_256; "" for none or two."""
  found = {_SPLITS[word] for word in re.split("[^a-z]+", name.lower()) if word in _SPLITS}
  return found.pop() if len(found) == 1 else ""


def find_lists(root: pathlib.Path, names: Sequence[str]) -> dict[str, pathlib.Path]:
  """The list of each split, of files in `root` and the folders in it.

  Args:
    root: absolute path.
    names: of all files below it that might be lists, relative.

  Raises:
    DataError: two lists of one split are equally near.
  """
  ranked = {}
  for name in names:
    split = split_of(walk.stem(name))
    if split and name.count("/") <= 1:
      rank = (name.count("/"), walk.stem(name).lower() not in _SPLITS, not name.endswith(".csv"))
      ranked.setdefault(split, []).append((rank, name))
  for split, found in ranked.items():
    found.sort()
    if len(found) > 1 and found[0][0] == found[1][0]:
      raise DataError(f"kinetics400: {found[0][1]} and {found[1][1]} in {root} may both be the "
                      f"list of {split}; say with lists=FILE (or FOLDER) which one is")
  return {split: root / found[0][1] for split, found in ranked.items()}


def read_list(path: pathlib.Path, split: str = "") -> list[Row]:
  """The videos of one list, in order, each once.

  Args:
    path: of the list.
    split: where given and the list says which splits its lines belong to, only lines of this one.

  Raises:
    DataError: it can't be read, is empty or of neither form; names the line.
  """
  lines = layout.read_lines(path, f"a list of Kinetics videos: {_WANTED}")
  header = [column.strip().lower() for column in next(csv.reader(lines[:1]))]
  if set(COLUMNS) <= set(header):
    rows = _official(path, lines, header, split)
  elif "youtube_id" in header or not _PATH.fullmatch(lines[0]):
    raise DataError(f"{path}: begins with {lines[0][:80]!r}; a list of Kinetics videos has "
                    f"{_WANTED}")
  else:
    rows = [_with_path(path, number, line) for number, line in enumerate(lines, 1)]
  return list({row.id: row for row in reversed(rows)}.values())[::-1]


def _official(path, lines, header, split):
  rows = []
  for number, values in enumerate(csv.reader(lines[1:]), 2):
    if len(values) != len(header):
      raise DataError(f"{path}: line {number} has {len(values)} values for {len(header)} columns: "
                      f"{','.join(values)[:80]!r}")
    row = dict(zip(header, values, strict=True))
    if split and split_of(row.get("split", "")) not in ("", split):
      continue
    try:
      start, end = float(row["time_start"]), float(row["time_end"])
    except ValueError:
      raise DataError(f"{path}: line {number}: time_start and time_end should be seconds, are "
                      f"{row['time_start']!r} and {row['time_end']!r}") from None
    bare = row["youtube_id"].strip()
    rows.append(Row(f"{bare}_{int(start):06d}_{int(end):06d}", bare, start, end,
                    row.get("label", "").strip()))
  return rows


def _with_path(path, number, line):
  match = _PATH.fullmatch(line)
  if not match:
    raise DataError(f"{path}: line {number} should be a path and a class's number, is "
                    f"{line[:80]!r}")
  given = match["path"].strip('"')
  return Row(walk.stem(given), number=int(match["number"]), path=given)
