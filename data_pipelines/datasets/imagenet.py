"""ImageNet-1k (ILSVRC 2012): 1,281,167 training and 50,000 validation pictures of 1,000 classes.

  train/n01440764/n01440764_10026.JPEG
  val/n01440764/ILSVRC2012_val_00000293.JPEG     in folders of classes, or
  val/ILSVRC2012_val_00000293.JPEG               as in the download, with one of these lists in the
                                                 root, in val or in ILSVRC2012_devkit_t12/data:
    LOC_val_solution.csv                         "ILSVRC2012_val_00000293,n01440764 ..."
    imagenet_2012_validation_synset_labels.txt   a synset a line, in the pictures' order
    ILSVRC2012_validation_ground_truth.txt       a number a line, in the pictures' order; and
                                                 meta.mat or synsets.txt ("1 n02119789" a line)

Classes are the synsets (n01440764) in the order of their names, as everybody numbers them; the
devkit's own numbers are others.
"""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.io

from data_pipelines.datasets import completeness, layout, walk
from data_pipelines.datasets.numbered import LazyRecords
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {"train": {"pictures": 1281167, "classes": 1000},
          "val": {"pictures": 50000, "classes": 1000}}
PREPARED = ("train", "val")

_PLACES = {split: (split, f"Data/CLS-LOC/{split}", f"ILSVRC/Data/CLS-LOC/{split}")
           for split in SPLITS}
_SYNSET = re.compile(r"n\d{8}")
_BY_NAME = "LOC_val_solution.csv"
_IN_ORDER = "imagenet_2012_validation_synset_labels.txt"
_NUMBERS = "ILSVRC2012_validation_ground_truth.txt"
_DEVKIT = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data")


@dataclasses.dataclass(frozen=True)
class _Pictures(Sequence):
  """File names sorted, and their classes int16 [n]: a million of them in 100 MB."""

  names: list[str]
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return _Pictures(self.names[index], self.labels[index])
    return self.names[index], int(self.labels[index])


def read(root: str, split: str = "train", *, allow_missing: bool = False) -> Dataset:
  """Reads ImageNet-1k; see the module for its layout.

  A record is one picture: `frames` has one path. Ids are file names without suffix, behind the
  class's folder where some name occurs twice. `text` is what `LOC_synset_mapping.txt` calls the
  class where that file is there, otherwise the synset. Records are made when they are asked for.

  Args:
    root: the folder that holds `train` and `val`, or of which `ILSVRC/Data/CLS-LOC` does.
    split: one of `SPLITS`.
    allow_missing: go on, with a warning, where pictures or classes are missing.

  Raises:
    DataError: not this layout, no such split, a damaged list, or something is missing.
  """
  layout.check_split("imagenet", split, SPLITS)
  folder = layout.root_folder("imagenet", root)
  place = layout.first_folder("imagenet", folder, _PLACES[split],
                              "train/n01440764/*.JPEG, ... and val")
  own = _synsets([place])
  listed = {} if own or split == "train" else _val_synsets(folder, place)
  if not own and not listed:
    raise walk.nothing_found("imagenet", place, "folders named like n01440764",
                             "train/n01440764/*.JPEG, ...")
  every = _synsets(folder / name for names in _PLACES.values() for name in names)
  classes = tuple(sorted({*every, *listed.values()}))
  pictures = _flat(place, listed, classes) if listed else _in_folders(place, own, classes)
  missing = tuple(sorted(listed.keys() - set(map(walk.stem, pictures.names)))) if listed else ()
  once = len(set(pictures.names)) == len(pictures)
  make = functools.partial(_record, str(place), classes, _words(place), not listed, once)
  found = {"pictures": len(pictures), "classes": len(np.unique(pictures.labels))}
  completeness.check("imagenet", split, found, SPLITS[split], missing, allow_missing)
  return Dataset("imagenet", split, LazyRecords(make, pictures), classes, missing)


def _record(place: str, classes: tuple[str, ...], words: dict[str, str], nested: bool, once: bool,
            entry: tuple[str, int]) -> Record:
  """`once`: whether every picture's name occurs once, which else its folder has to tell apart."""
  name, label = entry
  synset = classes[label]
  path = os.path.join(place, synset, name) if nested else os.path.join(place, name)
  id_ = walk.stem(name) if once else f"{synset}/{walk.stem(name)}"
  return Record(id_, frames=(path,), label=label, text=words.get(synset, synset))


def _synsets(places: Iterable[pathlib.Path]) -> list[str]:
  """Names of the class folders in these folders, as far as they are there, sorted."""
  return sorted({name for place in places if place.is_dir() for name in os.listdir(place)
                 if _SYNSET.fullmatch(name) and (place / name).is_dir()})


def _pictures_in(folder: pathlib.Path) -> list[str]:
  try:
    return sorted(name for name in os.listdir(folder) if name.lower().endswith(walk.PICTURES))
  except OSError as e:
    raise DataError(f"imagenet: can't read the folder {folder} ({e.strerror})") from e


def _in_folders(place: pathlib.Path, synsets: list[str], classes: tuple[str, ...]) -> _Pictures:
  number = {synset: k for k, synset in enumerate(classes)}
  names, labels = [], []
  for synset in synsets:
    found = _pictures_in(place / synset)
    names += found
    labels.append(np.full(len(found), number[synset], np.int16))
  labels = np.concatenate(labels)
  order = sorted(range(len(names)), key=names.__getitem__)  # quick: training is sorted already
  return _Pictures([names[k] for k in order], labels[order])


def _flat(place: pathlib.Path, listed: dict[str, str], classes: tuple[str, ...]) -> _Pictures:
  number = {synset: k for k, synset in enumerate(classes)}
  names = _pictures_in(place)
  unknown = [name for name in names if walk.stem(name) not in listed]
  if unknown:
    raise DataError(f"imagenet: {place} has {len(unknown):,} pictures that the list of labels "
                    f"doesn't have (first: {unknown[0]}); move them away")
  labels = [number[listed[walk.stem(name)]] for name in names]
  return _Pictures(names, np.array(labels, np.int16))


def _val_synsets(folder: pathlib.Path, place: pathlib.Path) -> dict[str, str]:
  """Id -> synset of the validation pictures, from the first list that is there."""
  near = _near(place)
  by_name, in_order, numbers = (_first(near, name) for name in (_BY_NAME, _IN_ORDER, _NUMBERS))
  if by_name:
    rows = [line.split(",", 1) for line in layout.read_lines(by_name, "validation labels")]
    found = {row[0]: row[-1].split(" ")[0] for row in rows if row[0] != "ImageId"}
    return _checked(by_name, found)
  if in_order:
    return _checked(in_order, _numbered(layout.read_lines(in_order, "a synset a line")))
  if not numbers:
    raise DataError(f"imagenet: {place} has no folders of classes, and there is no list of labels: "
                    f"put {_BY_NAME}, {_IN_ORDER} or the devkit's {_NUMBERS} and meta.mat into "
                    f"{folder}")
  synset_of = _devkit(near, numbers)
  lines = layout.read_lines(numbers, "a class number of the devkit a line")
  unknown = [n for n, line in enumerate(lines, 1) if line not in synset_of]
  if unknown:
    raise DataError(f"{numbers}: line {unknown[0]} is {lines[unknown[0] - 1]!r}, which is not a "
                    "number of a class in the devkit's list of synsets")
  return _numbered([synset_of[line] for line in lines])


def _numbered(synsets: Sequence[str]) -> dict[str, str]:
  return {f"ILSVRC2012_val_{n:08d}": synset for n, synset in enumerate(synsets, 1)}


def _checked(path: pathlib.Path, found: dict[str, str]) -> dict[str, str]:
  for id_, synset in found.items():
    if not _SYNSET.fullmatch(synset):
      raise DataError(f"{path}: {id_} has {synset!r}, should be a synset such as n01440764")
  return found


def _devkit(near: list[pathlib.Path], numbers: pathlib.Path) -> dict[str, str]:
  """The devkit's class number, as text -> synset."""
  near = [numbers.parent, *near]
  path = _first(near, "synsets.txt")
  if path:
    rows = [line.split()[:2] for line in layout.read_lines(path, "lines '1 n02119789'")]
    found = {row[0]: row[-1] for row in rows}
    return _checked(path, found)
  path = _first(near, "meta.mat")
  if not path:
    raise DataError(f"imagenet: {numbers} gives numbers of the devkit, but neither its meta.mat "
                    "nor a synsets.txt (lines '1 n02119789') lies near it")
  try:
    # Reads numbers and text only: nothing of the file is executed.
    synsets = np.atleast_1d(scipy.io.loadmat(path, squeeze_me=True)["synsets"])
    found = {str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in synsets}
  except Exception as e:  # whatever a damaged file makes of the parser
    raise DataError(f"{path}: can't read the devkit's synsets ({type(e).__name__}: {e}); unpack "
                    "the devkit again") from e
  return _checked(path, found)


def _words(place: pathlib.Path) -> dict[str, str]:
  """Synset -> its words, where the list is there."""
  path = _first(_near(place), "LOC_synset_mapping.txt")
  lines = layout.read_lines(path, "lines 'n01440764 tench, Tinca tinca'") if path else []
  return {synset: words for synset, _, words in (line.partition(" ") for line in lines)}


def _near(place: pathlib.Path) -> list[pathlib.Path]:
  """Where lists may lie, nearest first; Kaggle's lie four folders above the pictures."""
  return [p / name for p in (place, *list(place.parents)[:4]) for name in (".", *_DEVKIT)]


def _first(places: Iterable[pathlib.Path], name: str) -> pathlib.Path | None:
  return next((place / name for place in places if (place / name).is_file()), None)
