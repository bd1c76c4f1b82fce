"""HMDB51: 6,766 clips of 51 actions, with three official splits of 70 training and 30 test clips
a class.

  videos/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi
  testTrainMulti_7030_splits/brush_hair_test_split1.txt        lines "April_09_....avi 1"

The number behind a name is 1 for training, 2 for test, 0 for neither in this split. Names have
characters such as # ; & ( ) ! and are taken as they are.
"""

import pathlib

from data_pipelines.datasets import completeness, layout, walk
from data_pipelines.datasets.folder import SUFFIXES
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {
  "all": {"videos": 6766, "classes": 51},
  **{f"{kind}{number}": {"videos": count, "classes": 51}
     for number in (1, 2, 3) for kind, count in (("train", 3570), ("test", 1530))},
}
PREPARED = ("all",)

_KIND = {"1": "train", "2": "test"}
_LIST = "{}_test_split{}.txt"
_RIGHT = ("videos/brush_hair/*.avi, ... and "
          "testTrainMulti_7030_splits/brush_hair_test_split1.txt, ...")


def read(root: str, split: str = "all", *, allow_missing: bool = False,
         lists: str = "") -> Dataset:
  """Reads HMDB51; see the module for its layout.

  Videos are found wherever they lie below `root`, by the name of their folder (the class) and their
  own, also without folders for classes and converted to other containers. Ids are "CLASS/NAME",
  without suffix; `splits` names the part that a clip has in each of the three ("train1", "test2").
  Classes are numbered from 0 in the alphabet's order.

  Args:
    root: the folder that holds videos and lists.
    split: one of `SPLITS`.
    allow_missing: go on, with a warning, where videos or lists are missing.
    lists: the folder of the lists, where it isn't below `root` or beside it.

  Raises:
    DataError: not this layout, no such split, a damaged list, or something is missing.
  """
  layout.check_split("hmdb51", split, SPLITS)
  folder = layout.root_folder("hmdb51", root)
  place = _lists(folder, lists)
  if place is None and (split != "all" or not allow_missing):
    raise DataError(f"hmdb51: no folder with lists like brush_hair_test_split1.txt in {folder} or "
                    "beside it; unpack the official splits there or say with lists=FOLDER where "
                    "they are (or read 'all' with allow_missing=True, without splits)")
  members = _members(place) if place else {}
  path_of = _videos(folder, members)
  classes = tuple(sorted({id_.split("/")[0] for id_ in members or path_of}))
  ids = [id_ for id_ in sorted(members or path_of)
         if split == "all" or split in members[id_]]
  records = [Record(walk.printable(id_), str(folder / path_of[id_]),
                    label=classes.index(id_.split("/")[0]), text=id_.split("/")[0],
                    splits=tuple(members.get(id_, ()))) for id_ in ids if id_ in path_of]
  missing = [id_ for id_ in ids if id_ not in path_of]
  found = {"videos": len(records), "classes": len({record.label for record in records})}
  completeness.check("hmdb51", split, found, SPLITS[split], missing, allow_missing)
  return Dataset("hmdb51", split, records, classes, tuple(missing),
                 "" if place else "no split files were found, so the records have no splits")


def _videos(folder: pathlib.Path, members: dict[str, list[str]]) -> dict[str, str]:
  """Id -> path relative to `folder`; of the listed clips, or of all where none is listed."""
  classes_of = {}
  for id_ in members:
    name, _, video = id_.partition("/")
    classes_of.setdefault(video, []).append(name)
  found = {}
  for path in walk.files(folder, SUFFIXES):
    video, above = walk.stem(path), path.split("/")[-2:-1] or [folder.name]
    id_ = f"{above[0]}/{video}"
    if members and id_ not in members:  # no folders for classes: the name alone has to tell
      names = classes_of.get(video, ())
      if len(names) != 1:
        continue
      id_ = f"{names[0]}/{video}"
    if id_ in found:
      raise DataError(f"hmdb51: {folder} has {id_} twice, {found[id_]} and {path}; give a folder "
                      "that has every video once")
    found[id_] = path
  if not found:
    raise walk.nothing_found("hmdb51", folder, "videos of the lists" if members else "videos",
                             _RIGHT)
  return found


def _lists(folder: pathlib.Path, lists: str) -> pathlib.Path | None:
  """The folder of the split files."""
  near = [folder, *sorted(p for p in folder.iterdir() if p.is_dir()), folder.parent]
  near = [place / name for place in near for name in (".", "testTrainMulti_7030_splits")]
  for place in [pathlib.Path(lists).expanduser().absolute()] if lists else near:
    if place.is_dir() and any(place.glob(f"[!.]{_LIST.format('*', 1)}")):
      return place
  if lists:
    raise DataError(f"hmdb51: no lists like brush_hair_test_split1.txt in lists={lists}; give the "
                    "folder of the official splits (testTrainMulti_7030_splits)")
  return None


def _members(place: pathlib.Path) -> dict[str, list[str]]:
  """Id -> its part of each split; [] for clips that no split uses."""
  found = {}
  for number in (1, 2, 3):
    for path in sorted(place.glob(f"[!.]{_LIST.format('*', number)}")):
      name = path.name.removesuffix(_LIST.format("", number))
      for line in layout.read_lines(path, "lines 'VIDEO.avi 1'"):
        video, _, flag = line.rpartition(" ")
        if flag not in ("0", *_KIND) or not video.strip():
          raise DataError(f"{path}: {line!r} should be a video and 0 (unused), 1 (train) or 2 "
                          "(test), with a space between")
        parts = found.setdefault(f"{name}/{walk.stem(video.strip())}", [])
        if flag in _KIND:
          parts.append(f"{_KIND[flag]}{number}")
  return found
