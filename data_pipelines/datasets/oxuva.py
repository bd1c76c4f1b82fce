"""OxUvA: 337 long videos as pictures, 30 a second.

  images/dev/vid0000/000000.jpeg      the official layout; `images` may be left out,
  vid0000/000000.jpeg                 and so may the split, where all videos lie together

Records are whole videos. The sparse tracks that the benchmark has for some of them are not read.
"""

import concurrent.futures
import pathlib

from data_pipelines.datasets import completeness, layout, numbered
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {"dev": {"videos": 185}, "test": {"videos": 152}, "all": {"videos": 337}}
PREPARED = ("all",)
FPS = 30.0

_PARTS = ("dev", "test")
_RIGHT = "images/dev/vid0000/000000.jpeg, ..."


def read(root: str, split: str = "all", *, allow_missing: bool = False,
         index: str | None = None) -> Dataset:
  """Reads a folder of OxUvA; see the module for its layout.

  Records are made when asked for; ids are "vid0000", ...; `splits` is ("dev",) or ("test",), or ()
  where all videos lie together.

  Args:
    root: the folder that holds `images`, or `dev` and `test`, or the videos' folders.
    split: one of `SPLITS`.
    allow_missing: go on, with a warning, where videos or pictures are missing.
    index: a text file with lines `vid0000,frame_count`: the videos to use, and how many pictures
      of each, counted from the first.

  Raises:
    DataError: not this layout, no such split, a damaged index, or something is missing.
  """
  layout.check_split("oxuva", split, SPLITS)
  folder = layout.root_folder("oxuva", root)
  folders = _videos(folder, split)
  counts = _counts(pathlib.Path(index).expanduser()) if index else {}
  names = sorted(name for name in folders if not counts or name in counts)
  missing = [] if split != "all" else sorted(counts.keys() - folders.keys())
  with concurrent.futures.ThreadPoolExecutor(16) as pool:  # for folders on another machine
    scanned = pool.map(lambda name: numbered.scan(folders[name][1]), names)
  entries, short = [], []
  for name, pictures in zip(names, scanned, strict=True):
    wanted = counts.get(name, int(pictures.numbers[-1]) + 1 if len(pictures) else 1)
    pictures = pictures[pictures.numbers < wanted]
    if not len(pictures):
      missing.append(name)
      continue
    if len(pictures) < wanted:
      short.append(f"{wanted - len(pictures)} picture(s) of {name}")
    entries.append((name, folders[name][0], pictures))
  completeness.check("oxuva", split, {"videos": len(entries)}, {} if counts else SPLITS[split],
                     missing + short, allow_missing)
  return Dataset("oxuva", split, numbered.LazyRecords(_record, entries),
                 missing=tuple(sorted(missing)))


def _record(entry: tuple[str, tuple[str, ...], numbered.Pictures]) -> Record:
  name, splits, pictures = entry
  return Record(name, frames=pictures.paths, fps=FPS, splits=splits,
                truth={"numbers": pictures.numbers.astype("int64")})


def _videos(root: pathlib.Path, split: str) -> dict[str, tuple[tuple[str, ...], pathlib.Path]]:
  """Name -> splits and folder."""
  base = layout.first_folder("oxuva", root, ("images", "."), _RIGHT)
  parts = [part for part in _PARTS if (base / part).is_dir()]
  if not parts and split == "all":
    places = [((), base)]
  elif split == "all":
    places = [((part,), base / part) for part in parts]
  else:
    places = [((split,), layout.first_folder("oxuva", base, (split,), _RIGHT))]
  found = {p.name: (splits, p) for splits, place in places for p in place.iterdir()
           if p.name.startswith("vid") and p.is_dir()}
  if not found:
    raise DataError(f"oxuva: no folders vid0000, vid0001, ... in "
                    f"{', '.join(str(place) for _, place in places)}; give the folder that holds "
                    f"{_RIGHT}")
  return found


def _counts(path: pathlib.Path) -> dict[str, int]:
  counts = {}
  for line in layout.read_lines(path, "lines 'vid0000,frame_count'"):
    name, _, count = line.partition(",")
    if not count.strip().isdigit() or not int(count) or name in counts:
      raise DataError(f"{path}: {line[:60]!r} should be the name of a video, a comma and its "
                      "number of pictures, each video once")
    counts[name.strip()] = int(count)
  return counts
