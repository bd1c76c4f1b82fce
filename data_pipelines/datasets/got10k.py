"""GOT-10k: one object followed through each of 10,000 short sequences, 10 pictures a second.

  train/GOT-10k_Train_000001/00000001.jpg, ...
                             groundtruth.txt    a row a picture: left, top, width, height, from 1
                             cover.label        0 (hidden) to 8 (all to be seen)
                             absence.label      1 where the object is not in the picture
  train/list.txt             names of sequences; val and test alike

The archives as they are downloaded give `full_data/train_data/GOT-10k_Train_split_01/...` in place
of `train/...`; both are read. Of a test sequence only the first box was published.
"""

import concurrent.futures
import functools
import pathlib

import numpy as np

from data_pipelines.datasets import completeness, layout, numbered
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {"train": {"sequences": 9_335}, "val": {"sequences": 180}, "test": {"sequences": 180}}
PREPARED = ("train", "val", "test")
FPS = 10.0

_RIGHT = "train/GOT-10k_Train_000001/00000001.jpg and groundtruth.txt"
_BOX = "left, top, width and height of a box"


def read(root: str, split: str = "train", *, allow_missing: bool = False) -> Dataset:
  """Reads a folder of GOT-10k; see the module for its layout.

  Records are made when asked for; ids are names of sequences. `truth` has "boxes" float32 [T, 4],
  x, y, width and height counted from 0, NaN where the object is absent (and in the test split
  after the first picture), "visible" bool [T], and "cover" int8 [T] (neither in the test split).

  Args:
    root: the folder that holds `train`, `val` and `test`, or `full_data`, or its content.
    split: one of `SPLITS`.
    allow_missing: go on, with a warning, where sequences are missing.

  Raises:
    DataError: not this layout, no such split, something is missing, or an annotation is damaged
      or has another number of rows than there are pictures.
  """
  layout.check_split("got10k", split, SPLITS)
  folder = layout.root_folder("got10k", root)
  names = (split, f"full_data/{split}", f"full_data/{split}_data", f"{split}_data")
  base = layout.first_folder("got10k", folder, names, _RIGHT)
  on_disk = _sequences(base, split)
  path = base / "list.txt"
  listed = layout.read_lines(path, "names of sequences") if path.is_file() else on_disk
  wanted = sorted(set(listed) & set(on_disk))
  with concurrent.futures.ThreadPoolExecutor(16) as pool:  # for folders on another machine
    load = functools.partial(_load, given=split != "test")
    entries = list(pool.map(lambda name: load(on_disk[name]), wanted))
  missing = sorted({*listed} - {entry[0] for entry in entries if entry})
  entries = [entry for entry in entries if entry]
  completeness.check("got10k", split, {"sequences": len(entries)}, SPLITS[split], missing,
                     allow_missing)
  return Dataset("got10k", split, numbered.LazyRecords(_record, entries), missing=tuple(missing))


def _record(entry: tuple[str, numbered.Pictures, dict[str, np.ndarray]]) -> Record:
  name, pictures, truth = entry
  return Record(name, frames=pictures.paths, fps=FPS, truth=truth)


def _sequences(base: pathlib.Path, split: str) -> dict[str, pathlib.Path]:
  """Name -> folder, directly in `base` or below the folders that the archives unpack into."""
  start = f"GOT-10k_{split.capitalize()}_"
  found = {}
  for place in (base, *sorted(base.glob(f"{start}split_*"))):
    if place.is_dir():
      found |= {p.name: p for p in place.iterdir()
                if p.name.startswith(start) and p.name[len(start):].isdigit()}
  if not found:
    raise DataError(f"got10k: no folders {start}000001, ... in {base}; unpack the archives, and "
                    f"give the folder that holds {_RIGHT}")
  return found


def _load(folder: pathlib.Path, given: bool,
          ) -> tuple[str, numbered.Pictures, dict[str, np.ndarray]] | None:
  """(name, pictures, truth); None without pictures. `given`: every picture has a box."""
  pictures = numbered.scan(folder)
  if not len(pictures):
    return None
  path = folder / "groundtruth.txt"
  boxes = layout.read_numbers(path, 4, _BOX) - (1, 1, 0, 0)
  rows = len(pictures) if given else 1
  if len(boxes) != rows:
    raise DataError(f"{path}: {len(boxes)} boxes for {len(pictures)} picture(s), should be {rows}; "
                    "unpack this sequence again, or move its folder away")
  truth = {"boxes": np.full((len(pictures), 4), np.nan, np.float32)}
  truth["boxes"][:rows] = boxes
  if given:
    absent, cover = (_labels(folder / name, rows) for name in ("absence.label", "cover.label"))
    truth["boxes"][absent != 0] = np.nan
    truth |= {"visible": absent == 0, "cover": cover}
  return folder.name, pictures, truth


def _labels(path: pathlib.Path, rows: int) -> np.ndarray:
  values = layout.read_numbers(path, 1, "a number for each picture")[:, 0].astype(np.int8)
  if len(values) != rows:
    raise DataError(f"{path}: {len(values)} rows for {rows} pictures; unpack this sequence again, "
                    "or move its folder away")
  return values
