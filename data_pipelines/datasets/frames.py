"""A folder of folders of pictures: every folder that holds pictures is a video.

  football/match_1/img_00001.jpg, img_00002.jpg, ...
  football/match_2/...

Pictures are taken in the order of the numbers in their names.
"""

import fnmatch
import functools
import os
import re

from data_pipelines.datasets import layout, walk
from data_pipelines.datasets.numbered import LazyRecords
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {"all": {}}
PREPARED = ("all",)


def read(root: str, split: str = "all", *, allow_missing: bool = False, fps: float | None = None,
         by_class: bool = False, pattern: str = "*") -> Dataset:
  """Reads a folder of folders of pictures, whatever their depth.

  Ids are paths relative to `root` (the folder's own name for pictures in `root` itself), sorted.

  Args:
    root: the folder.
    split: "all".
    allow_missing: changes nothing; nothing is known of what should be there.
    fps: pictures a second, where known.
    by_class: the first folder below `root` is the class, numbered in the alphabet's order.
    pattern: of the names to use, as in a shell; for folders with several kinds of pictures
      ("img_*" beside flow_x_*).

  Raises:
    DataError: no pictures, several kinds of them in a folder, or pictures outside of the classes.
  """
  layout.check_split("frames", split, SPLITS)
  if fps is not None and not fps > 0:
    raise DataError(f"frames: fps should be positive, is {fps}")
  folder = layout.root_folder("frames", root)
  found = {}
  for place, names in walk.folders(folder):
    pictures = [name for name in names if name.lower().endswith(walk.PICTURES)
                and fnmatch.fnmatchcase(name, pattern)]
    if pictures:
      found[place] = ordered(os.path.join(folder, place), pictures)
  if not found:
    raise walk.nothing_found("frames", folder, f"pictures ({', '.join(walk.PICTURES)}) named like "
                             f"{pattern!r}", "folders of pictures")
  if by_class and (bad := [place for place in found if "/" not in place]):
    raise DataError(f"frames: by_class needs pictures in folders of folders, CLASS/VIDEO/001.jpg, "
                    f"but there are some in {folder / bad[0]}")
  classes = tuple(sorted({place.split("/")[0] for place in found})) if by_class else ()
  make = functools.partial(_record, str(folder), classes, fps)
  records = LazyRecords(make, sorted(found.items()))
  return Dataset("frames", split, records, tuple(map(walk.printable, classes)))


def _record(folder: str, classes: tuple[str, ...], fps: float | None,
            entry: tuple[str, str]) -> Record:
  place, names = entry
  name = place.split("/")[0] if classes else ""
  return Record(walk.printable(place or os.path.basename(folder)),
                frames=paths(os.path.join(folder, place), names), fps=fps,
                label=classes.index(name) if classes else -1, text=walk.printable(name))


def paths(folder: str, names: str) -> tuple[str, ...]:
  """What `ordered` gave as paths in `folder`."""
  return tuple(os.path.join(folder, name) for name in names.split("\0"))


def ordered(folder: str, names: list[str]) -> str:
  """The pictures of one video in the order of the numbers in their names.

  Returns:
    the names with "\\0" between, a tenth of the memory of their paths; see `paths`.

  Raises:
    DataError: the names are of several kinds, such as img_00001.jpg and flow_x_00001.jpg.
  """
  kinds = {}
  for name in names:
    kinds.setdefault(re.sub("[0-9]+", "#", name), []).append(name)
  if len(kinds) > 1 and any(len(own) > 1 for own in kinds.values()):
    shown = ", ".join(f"{kind} ({len(own)})" for kind, own in sorted(kinds.items())[:4])
    raise DataError(f"{folder}: the pictures are of {len(kinds)} kinds: {shown}; say which to use "
                    "with pattern=, for example pattern='img_*'")
  return "\0".join(sorted(names, key=walk.natural))
