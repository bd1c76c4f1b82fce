"""UCF101: 13,320 videos of 101 actions, with three official splits into training and test.

  UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
  ucfTrainTestlist/classInd.txt                            lines "1 ApplyEyeMakeup"
  ucfTrainTestlist/trainlist01.txt, testlist01.txt, ...    "ApplyEyeMakeup/v_....avi", with the
                                                           class's number or without
"""

import pathlib
import re
from collections.abc import Sequence

from data_pipelines.datasets import completeness, layout, walk
from data_pipelines.datasets.folder import SUFFIXES
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {
  "all": {"videos": 13320, "classes": 101},
  "train1": {"videos": 9537, "classes": 101}, "test1": {"videos": 3783, "classes": 101},
  "train2": {"videos": 9586, "classes": 101}, "test2": {"videos": 3734, "classes": 101},
  "train3": {"videos": 9624, "classes": 101}, "test3": {"videos": 3696, "classes": 101},
}
PREPARED = ("all",)

_NAME = re.compile(r"v_(?P<name>[A-Za-z]+)_g\d+_c\d+")
_RIGHT = ("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi, ... and "
          "ucfTrainTestlist/trainlist01.txt, ...")


def read(root: str, split: str = "all", *, allow_missing: bool = False,
         lists: str = "") -> Dataset:
  """Reads UCF101; see the module for its layout.

  Videos are found by name wherever they lie below `root`, also without folders for classes and
  converted to other containers. Ids are names without suffix; `splits` names the part that a video
  has in each of the three ("train1", "test2", "test3"). Classes are numbered from 0 in the order
  of `classInd.txt`, without it in that order too, which is the alphabet's without regard to case.

  Args:
    root: the folder that holds videos and lists.
    split: one of `SPLITS`.
    allow_missing: go on, with a warning, where videos or lists are missing.
    lists: the folder of the lists, where it isn't below `root` or beside it.

  Raises:
    DataError: not this layout, no such split, a damaged list, or something is missing.
  """
  layout.check_split("ucf101", split, SPLITS)
  folder = layout.root_folder("ucf101", root)
  path_of = _videos(folder)
  place = _lists(folder, lists)
  if place is None and (split != "all" or not allow_missing):
    raise DataError(f"ucf101: no folder with classInd.txt, trainlist01.txt and testlist01.txt in "
                    f"{folder} or beside it; unpack the official split files there or say with "
                    "lists=FOLDER where they are" +
                    " (or read 'all' with allow_missing=True, without splits)")
  members = _members(place) if place else {}
  classes = _classes(place, [*path_of, *members])
  number = {name.lower(): k for k, name in enumerate(classes)}
  ids = sorted({*path_of, *members} if split == "all" else
               (id_ for id_ in members if split in members[id_]))
  records = []
  for id_ in ids:
    name = _class_name(id_)
    if name.lower() not in number:
      raise DataError(f"ucf101: {id_} is of class {name!r}, which is not in {place}/classInd.txt")
    if id_ in path_of:
      label = number[name.lower()]
      records.append(Record(id_, str(folder / path_of[id_]), label=label, text=classes[label],
                            splits=tuple(members.get(id_, ()))))
  missing = [id_ for id_ in ids if id_ not in path_of]
  found = {"videos": len(records), "classes": len({record.label for record in records})}
  completeness.check("ucf101", split, found, SPLITS[split], missing, allow_missing)
  return Dataset("ucf101", split, records, classes, tuple(missing),
                 "" if place else "no split files were found, so the records have no splits")


def _videos(folder: pathlib.Path) -> dict[str, str]:
  """Id -> path relative to `folder`."""
  found = {}
  for path in walk.files(folder, SUFFIXES):
    id_ = walk.stem(path)
    if not _NAME.fullmatch(id_):
      continue
    if id_ in found:
      raise DataError(f"ucf101: {folder} has {id_} twice, {found[id_]} and {path}; give a folder "
                      "that has every video once")
    found[id_] = path
  if not found:
    raise walk.nothing_found("ucf101", folder, "videos named like v_ApplyEyeMakeup_g01_c01.avi",
                             _RIGHT)
  return found


def _lists(folder: pathlib.Path, lists: str) -> pathlib.Path | None:
  """The folder of the split files."""
  near = [folder, *sorted(p for p in folder.iterdir() if p.is_dir()), folder.parent]
  near = [place / name for place in near for name in (".", "ucfTrainTestlist")]
  for place in [pathlib.Path(lists).expanduser().absolute()] if lists else near:
    if (place / "trainlist01.txt").is_file():
      return place
  if lists:
    raise DataError(f"ucf101: no trainlist01.txt in lists={lists}; give the folder of the official "
                    "split files (ucfTrainTestlist)")
  return None


def _members(place: pathlib.Path) -> dict[str, list[str]]:
  """Id -> its part of each split."""
  found = {}
  for number in (1, 2, 3):
    for kind in ("train", "test"):
      path = place / f"{kind}list0{number}.txt"
      for line in layout.read_lines(path, "paths of videos, one a line"):
        id_ = walk.stem(line.split()[0])
        if not _NAME.fullmatch(id_):
          raise DataError(f"{path}: {line!r} should be like "
                          "'ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1'")
        found.setdefault(id_, []).append(f"{kind}{number}")
  return found


def _classes(place: pathlib.Path | None, ids: Sequence[str]) -> tuple[str, ...]:
  if place is None or not (place / "classInd.txt").is_file():
    return tuple(sorted({_class_name(id_) for id_ in ids}, key=str.lower))
  path = place / "classInd.txt"
  rows = [line.split() for line in layout.read_lines(path, "lines '1 ApplyEyeMakeup'")]
  for number, row in enumerate(rows, 1):
    if len(row) != 2 or row[0] != str(number):
      raise DataError(f"{path}: row {number} is {' '.join(row)!r}, should be '{number} CLASS'")
  return tuple(name for _, name in rows)


def _class_name(id_: str) -> str:
  name = _NAME.fullmatch(id_)["name"]
  # The videos of one class are spelt unlike its folder.
  return "HandstandPushups" if name == "HandStandPushups" else name
