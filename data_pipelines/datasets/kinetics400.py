"""Kinetics-400: ten-second clips of 400 actions from YouTube, of which everyone has another part.

  train.csv, val.csv, test.csv                        label,youtube_id,time_start,time_end,split
  train/abseiling/-3B32lodo2M_000059_000069.mp4

Lists and folders may be named otherwise (validate.csv, annotations/kinetics_val.csv, val_256/,
compress/train_256/), class folders may have _ for spaces, and there may be none; a file belongs to
a line of a list by its name. `kinetics_lists` says which lists are read. Without a list for a
split, its folder and the class folders in it say what there is.
"""

import functools
import os
import pathlib
import re
from collections.abc import Iterable

from data_pipelines.datasets import completeness, layout, walk
from data_pipelines.datasets.folder import SUFFIXES
from data_pipelines.datasets.kinetics_lists import SUFFIXES as LISTS
from data_pipelines.datasets.kinetics_lists import Row, find_lists, read_list, split_of
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

# How many videos a split has depends on the edition of its list, which is what counts.
SPLITS = {split: {"classes": 400} for split in ("train", "val", "test", "all")}
PREPARED = ("all",)

_NAME = re.compile(r"(.{11})_(\d{1,6})_(\d{1,6})")
_NO_CLASS = ("videos", "clips", "compress")
_RIGHT = "train.csv, val.csv and train/abseiling/-3B32lodo2M_000059_000069.mp4, ..."


def read(root: str, split: str = "train", *, allow_missing: bool = False, lists: str = "",
         classes: str = "", whole_videos: bool = False) -> Dataset:
  """Reads Kinetics-400; see the module for its layout.

  Ids are the files' names without suffix (`YOUTUBEID_000059_000069`). Classes are numbered in the
  alphabet's order over all splits that are there; lists of paths and numbers keep their numbers.
  The test list has been published without labels too: then `label` is -1. Of several files of one
  name the one in the split's folder is used, then the one nearest to `root`; `note` counts them.

  Args:
    root: the folder that holds lists and videos.
    split: one of `SPLITS`; "all" has every split that there is a list or a folder for, or where
      there are none, every video.
    allow_missing: go on, with a warning, where listed videos or classes are missing.
    lists: a file, the list of this split; or the folder of the lists, where it isn't in `root`.
    classes: a text file with the class names in the order of their numbers, one a line.
    whole_videos: files named by a YouTube id alone are whole videos, of which the records use the
      listed seconds; otherwise they are taken to be cut already.

  Raises:
    DataError: not this layout, no such split, a damaged list, or something is missing.
  """
  layout.check_split("kinetics400", split, SPLITS)
  folder = layout.root_folder("kinetics400", root)
  files = _Files(folder)
  rows = _rows(files, _list_paths(files, lists, split))
  if split != "all" and split not in rows:
    raise DataError(f"kinetics400: neither a list like {split}.csv nor a folder like {split}/ in "
                    f"{folder}; give the folder that holds {_RIGHT}, say with lists=FILE where the "
                    "list is, or read the split 'all'")
  asked = rows if split == "all" else {split: rows[split]}
  names = _Classes(rows, [row for own in asked.values() for row in own], files, classes)
  records, missing, labels = [], [], set()
  for row, splits in _each_once(asked):
    label = names.label(row)
    labels.add(label)
    path, cut = files.find(row, splits[0])
    if not path:
      missing.append(row.id)
      continue
    start, end = (row.start, row.end) if whole_videos and not cut else (None, None)
    records.append(Record(walk.printable(row.id), os.path.join(folder, path), start=start, end=end,
                          label=label, text=names.text(label), splits=splits if splits[0] else ()))
  found = {"videos": len(records)}
  if labels - {-1}:
    found["classes"] = len(labels - {-1})
  expected = {"videos": len(records) + len(missing), **SPLITS[split]}
  completeness.check("kinetics400", split, found, expected, missing, allow_missing)
  return Dataset("kinetics400", split, records, names.names, tuple(missing), files.note())


def _each_once(asked: dict[str, list[Row]]) -> list[tuple[Row, tuple[str, ...]]]:
  """The rows sorted by id, the first of each, and the splits that have the id."""
  found = {}
  for split, rows in asked.items():
    for row in rows:
      first, splits = found.get(row.id, (row, ()))
      if split not in splits:
        found[row.id] = first, (*splits, split)
  return [found[id_] for id_ in sorted(found)]


def _list_paths(files: "_Files", lists: str, split: str) -> dict[str, pathlib.Path]:
  """Split -> its list; of the splits that have one."""
  if not lists:
    return find_lists(files.folder, files.lists)
  place = pathlib.Path(lists).expanduser().absolute()
  if place.is_dir():
    found = find_lists(place, walk.files(place, LISTS))
    if not found:
      raise DataError(f"kinetics400: no lists like train.csv or val.csv in lists={lists}")
    return found
  if split == "all":
    raise DataError(f"kinetics400: lists={lists} is one list; name its split ('train') in place of "
                    "'all', or give the folder of the lists")
  return {split: place}


def _rows(files: "_Files", lists: dict[str, pathlib.Path]) -> dict[str, list[Row]]:
  """Split -> its videos, by its list or by its folder; {"": all videos} where there is neither."""
  found = {}
  for split in ("train", "val", "test"):
    rows = read_list(lists[split], split) if split in lists else files.rows(split)
    if rows:
      found[split] = rows
  return found or {"": files.rows("")}


class _Files:
  """The videos on disk, by name."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    names = walk.files(folder, (*SUFFIXES, *LISTS))
    self.lists = [name for name in names if name.lower().endswith(LISTS)]
    self.videos = [name for name in names if not name.lower().endswith(LISTS)]
    if not self.videos:
      raise walk.nothing_found("kinetics400", folder, "videos", _RIGHT)
    self._split_of = {}
    self._by_name = {}
    for path in self.videos:
      self._by_name.setdefault(_key(walk.stem(path)), []).append(path)
    self._doubled = set()

  def find(self, row: Row, split: str) -> tuple[str, bool]:
    """The path of a row's file relative to the folder, "" where there is none; and whether the
    file is named by the seconds too, or the list gives its path."""
    cut = self._by_name.get(_key(row.id))
    paths = cut or self._by_name.get(row.bare, ())
    if not paths:
      return (row.path if row.path and os.path.isfile(self.folder / row.path) else ""), True
    if len(paths) > 1:
      self._doubled.add(row.id)
    return min(paths, key=lambda path: self._rank(path, split)), bool(cut)

  def rows(self, split: str) -> list[Row]:
    """The videos in a split's folder, or those in no split's folder for ""."""
    own = [path for path in self.videos if self._split(path) == split]
    named = split_of(self.folder.name)
    if not own and named == split and not any(map(self._split, self.videos)):
      own = self.videos  # the split's folder itself was given
    return [Row(walk.stem(path), name=class_folder(path), path=path) for path in own]

  def note(self) -> str:
    """What was found more than once."""
    if not self._doubled:
      return ""
    return (f"found more than once: {len(self._doubled):,} (first: {min(self._doubled)}); the file "
            "in the split's folder or nearest to the top is used")

  def _split(self, path: str) -> str:
    folder = path.rpartition("/")[0]
    if folder not in self._split_of:
      parts = [split_of(part) for part in folder.split("/")]
      self._split_of[folder] = next(filter(None, reversed(parts)), "")
    return self._split_of[folder]

  def _rank(self, path, split):
    own = self._split(path)
    return 0 if own == split else 2 if own else 1, path.count("/"), path


class _Classes:
  """Class names and numbers over all splits."""

  def __init__(self, rows: dict[str, list[Row]], asked: list[Row], files: _Files, path: str):
    every = [row for own in rows.values() for row in own]
    if path:
      self.names = tuple(layout.read_lines(pathlib.Path(path).expanduser(),
                                           "class names, one a line"))
    else:
      numbered, named = (any(row.number >= 0 for row in asked), any(row.name for row in asked))
      self.names = _names_by_folder((row for row in every if row.number >= 0), files)
      if numbered and named and not self.names:
        raise DataError("kinetics400: some lists have class numbers, others or folders have names; "
                        "say with classes=FILE which name has which number")
      if not self.names and not numbered:
        known = {_plain(row.name): row.name for row in every if row.name}
        self.names = tuple(sorted(known.values(), key=str.lower))
    self._number = {_plain(name): number for number, name in enumerate(self.names)}

  def label(self, row: Row) -> int:
    if row.number >= 0 or not row.name:
      return row.number
    if _plain(row.name) not in self._number:
      raise DataError(f"kinetics400: {row.id} is of class {row.name!r}, which is not among the "
                      f"{len(self.names)} class names; give all of them with classes=FILE")
    return self._number[_plain(row.name)]

  def text(self, label: int) -> str:
    return self.names[label] if 0 <= label < len(self.names) else ""


def class_folder(path: str) -> str:
  """The class that the folder of a video is named by, with spaces; "" where it isn't one's."""
  name = path.rpartition("/")[0].rpartition("/")[2]
  return "" if split_of(name) or name.lower() in _NO_CLASS else name.replace("_", " ")


def _names_by_folder(rows: Iterable[Row], files: _Files) -> tuple[str, ...]:
  """Class names of numbered rows by their folders; () where folders and numbers don't fit."""
  pairs = {(row.number, class_folder(row.path if "/" in row.path else files.find(row, "")[0]))
           for row in rows}
  pairs = sorted((number, name) for number, name in pairs if name)
  numbers, names = zip(*pairs, strict=True) if pairs else ((), ())
  fit = numbers == tuple(range(len(pairs))) and len({*names}) == len(pairs)
  return names if fit else ()


def _key(stem: str) -> tuple[str, int, int] | str:
  match = _NAME.fullmatch(stem)
  return (match[1], int(match[2]), int(match[3])) if match else stem


@functools.lru_cache(maxsize=4096)
def _plain(name: str) -> str:
  return " ".join(re.findall(r"\w+", name.lower().replace("_", " ")))
