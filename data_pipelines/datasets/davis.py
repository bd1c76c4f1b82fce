"""DAVIS-2017 and DAVIS-2016: short sequences with a label map for every picture.

  JPEGImages/480p/blackswan/00000.jpg     pictures, 24 a second
  Annotations/480p/blackswan/00000.png    label maps: 0 background, 1 ... objects
  ImageSets/2017/val.txt                  names of sequences

DAVIS-2016 has one object a sequence, drawn in grey (0 and 255), and lists of another form
(`ImageSets/480p/val.txt`, two paths a line). Its splits can be read from both downloads; with the
label maps of 2017 an object of 2016 is `label > 0`.
"""

import pathlib

import numpy as np

from data_pipelines.datasets import completeness, layout, numbered
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {
  "train": {"sequences": 60}, "val": {"sequences": 30}, "trainval": {"sequences": 90},
  "test-dev": {"sequences": 30}, "test-challenge": {"sequences": 30},
  "2016-train": {"sequences": 30}, "2016-val": {"sequences": 20},
  "2016-trainval": {"sequences": 50}, "all": {},
}
PREPARED = ("all",)
FPS = 24.0

_PARTS = {"trainval": ("train", "val"), "2016-trainval": ("2016-train", "2016-val")}
_LISTED = tuple(name for name in SPLITS if name not in _PARTS and name != "all")
_FIRST_ONLY = ("test-dev", "test-challenge")  # their other label maps were never published
_RIGHT = "JPEGImages/480p/SEQUENCE/00000.jpg and ImageSets/2017/val.txt"


def read(root: str, split: str = "val", *, allow_missing: bool = False,
         resolution: str = "480p") -> Dataset:
  """Reads a folder of DAVIS; see the module for its layout.

  Ids are names of sequences. `masks` has a path for each picture, "" where there is none (in the
  test splits all but the first).

  Args:
    root: the folder that holds `JPEGImages`, `Annotations` and `ImageSets`.
    split: one of `SPLITS`; "all" is every sequence that is listed or there, and needs no list.
    allow_missing: go on, with a warning, where sequences or label maps are missing.
    resolution: the folder below `JPEGImages`, "480p" or "Full-Resolution"; where neither this nor
      another resolution is there, sequences lie directly in `JPEGImages`.

  Raises:
    DataError: not this layout, no such split, or something is missing.
  """
  layout.check_split("davis", split, SPLITS)
  folder = layout.root_folder("davis", root)
  layout.first_folder("davis", folder, ("JPEGImages",), _RIGHT)
  pictures, masks = (_resolution(folder / kind, resolution)
                     for kind in ("JPEGImages", "Annotations"))
  members = {name: _members(folder, name) for name in _LISTED}
  wanted = _wanted(folder, split, members, pictures)
  records, missing, unmasked = [], [], []
  for name in sorted(wanted):
    splits = tuple(s for s in _LISTED if name in (members[s] or ()))
    splits += tuple(s for s, parts in _PARTS.items() if set(parts) & set(splits))
    record = _record(name, splits, pictures / name, masks / name)
    if record is None:
      missing.append(name)
      continue
    records.append(record)
    n_expected = 1 if splits and set(splits) <= set(_FIRST_ONLY) else len(record.frames)
    if not record.masks or "" in record.masks[:n_expected]:
      unmasked.append(f"label maps of {name}")
  completeness.check("davis", split, {"sequences": len(records)}, SPLITS[split],
                     missing + unmasked, allow_missing)
  return Dataset("davis", split, records, missing=tuple(missing))


def palette() -> np.ndarray:
  """Colours of the labels in DAVIS and PASCAL VOC results, uint8 [256, 3] RGB.

  The lowest three bits of a label are the highest bits of red, green and blue, the next three the
  next ones. `PIL.Image.putpalette(palette().ravel())` gives a label map these colours.
  """
  labels = np.arange(256)[:, None]
  channel = np.arange(3)
  bits = [((labels >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)]
  return np.sum(bits, 0).astype(np.uint8)


def _wanted(root: pathlib.Path, split: str, members: dict[str, set[str] | None],
            pictures: pathlib.Path) -> set[str]:
  """Names of the sequences of a split."""
  if split == "all":
    on_disk = {p.name for p in pictures.iterdir() if p.is_dir() and not p.name.startswith(".")}
    return on_disk.union(*(names for names in members.values() if names))
  parts = _PARTS.get(split, (split,))
  for part in parts:
    if members[part] is None:
      raise DataError(f"davis: no {' or '.join(_list_paths(part))} in {root}; copy it there from "
                      "the official download, or read the split 'all'")
  return set().union(*(members[part] for part in parts))


def _record(name: str, splits: tuple[str, ...], pictures: pathlib.Path,
            masks: pathlib.Path) -> Record | None:
  if not pictures.is_dir():
    return None
  frames = numbered.scan(pictures)
  if not len(frames):
    return None
  labelled = numbered.scan(masks) if masks.is_dir() else frames[:0]
  path_of = dict(zip(labelled.numbers.tolist(), labelled.paths, strict=True))
  paths = tuple(path_of.get(n, "") for n in frames.numbers.tolist())
  return Record(name, frames=frames.paths, fps=FPS, splits=splits,
                masks=paths if any(paths) else ())


def _resolution(folder: pathlib.Path, resolution: str) -> pathlib.Path:
  if (folder / resolution).is_dir() or not folder.is_dir():
    return folder / resolution
  others = [name for name in ("480p", "1080p", "Full-Resolution") if (folder / name).is_dir()]
  if others:
    raise DataError(f"davis: no {resolution!r} in {folder}; it has {', '.join(others)}: set "
                    f"resolution={others[0]!r}")
  return folder


def _list_paths(split: str) -> tuple[str, ...]:
  year, _, name = split.rpartition("-") if split.startswith("2016-") else ("2017", "", split)
  paths = (f"ImageSets/{year}/{name}.txt",)
  return paths + (f"ImageSets/480p/{name}.txt", f"ImageSets/1080p/{name}.txt") * (year == "2016")


def _members(root: pathlib.Path, split: str) -> set[str] | None:
  """Names in the split's list; None without a list."""
  for path in _list_paths(split):
    if (root / path).is_file():
      lines = layout.read_lines(root / path, "names of sequences, one a line")
      return {_sequence(line) for line in lines}
  return None


def _sequence(line: str) -> str:
  """Of "blackswan" and of "/JPEGImages/480p/blackswan/00000.jpg /Annotations/..."."""
  first = line.split()[0]
  return first.split("/")[-2] if "/" in first else first
