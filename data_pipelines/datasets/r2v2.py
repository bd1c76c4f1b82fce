"""R2V2: four pictures each of 700,000 videos, as published in lists of `YouTubeID,f1,f2,f3,f4`.

  [train/]oH/oHg5SJYRHA0_000150.jpg     first two characters of the id / id _ frame number
  r2v2_ids_train.txt, r2v2_ids_val.txt  the lists, here or where `ids` says

Which of the 2.8 million pictures are there is found out once and kept in `r2v2_index.parquet`.
Later starts only ask the folders for their times of change, and list again those that changed.
"""

import concurrent.futures
import hashlib
import json
import logging
import os
import pathlib
import time
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from tqdm import tqdm

from data_pipelines.datasets import completeness, layout
from data_pipelines.datasets.numbered import LazyRecords
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {
  "train": {"videos": 696_082, "frames": 2_784_328},
  "val": {"videos": 55_631, "frames": 222_524},
  "train_s": {"videos": 109_500},
}
PREPARED = ("train", "val")
N_SMALL = SPLITS["train_s"]["videos"]  # R2V2-S, whose own list was never published

# A picture a row, sorted; ids in the order of their characters.
_SCHEMA = pa.schema([("id", pa.string()), ("number", pa.int32())])
_ID = "[A-Za-z0-9_-]{11}"
_NAME = rf"(?:^|/)(?P<id>{_ID})_(?P<number>[0-9]{{6,}})\.jpg$"
_LIST = "lines 'YouTubeID,f1,f2,f3,f4'"
_INDEX = "r2v2_index.parquet"
_SETTLED = 2 * 10**9  # ns: a folder that changed later than this before it was listed may have
# changed again in the same tick of its file system's clock
_RIGHT = "oH/oHg5SJYRHA0_000150.jpg, ... or train/oH/oHg5SJYRHA0_000150.jpg, ..."

logger = logging.getLogger(__name__)


def read(root: str, split: str = "train", *, allow_missing: bool = False, ids: str | None = None,
         subset: int | None = None, seed: int = 0, index: str | None = None) -> Dataset:
  """Reads R2V2; see the module for its layout.

  Records are made when asked for: id, `frames` by path in ascending order, `truth["numbers"]`
  int64 [T], and "train_s" in `splits` for those of this subset. A video of which some pictures are
  missing keeps the others.

  Args:
    root: the folder of the pictures, or the one that holds `train` and `val`.
    split: one of `SPLITS`; "train_s" are 109,500 videos of "train", drawn by `seed`.
    allow_missing: go on, with a warning, where videos or pictures are missing, or without a list.
    ids: the split's list; the default is `r2v2_ids_train.txt` or `r2v2_ids_val.txt` in `root`.
    subset: use so many videos only, drawn by `seed` from the list, so that they are the same
      wherever some of them are missing.
    seed: of `subset` and "train_s".
    index: where to keep what was found on disk; the default is `r2v2_index.parquet` in the folder
      of the pictures.

  Raises:
    DataError: not this layout, no such split, a damaged list, or something is missing.
  """
  layout.check_split("r2v2", split, SPLITS)
  folder = layout.root_folder("r2v2", root)
  part = split.removesuffix("_s")
  source = layout.first_folder("r2v2", folder, (part, "."), _RIGHT)
  path = pathlib.Path(ids).expanduser() if ids else folder / f"r2v2_ids_{part}.txt"
  listed = read_ids(path) if ids or path.is_file() else None
  if listed is None and not allow_missing:
    raise DataError(f"r2v2: no {path}, so it can't be known what is missing; put the list there, "
                    "or set ids=..., or pass allow_missing=True (--allow_missing) to use all "
                    "pictures that are there")
  found = _on_disk(source, pathlib.Path(index).expanduser() if index else source / _INDEX)
  wanted = found if listed is None else listed
  small = choose(wanted, N_SMALL, seed)["id"] if part == "train" else pa.array([], pa.string())
  if split == "train_s":
    wanted = wanted.filter(pc.is_in(wanted["id"], pc.unique(small)))
  wanted = choose(wanted, subset, seed)
  kept = wanted.join(found, ["id", "number"], join_type="left semi").sort_by(_ORDER)
  missing, partly = _missing(wanted, kept)
  columns = _Columns(str(source), kept, small)
  completeness.check("r2v2", split, {"videos": len(columns), "frames": len(kept)},
                     {} if subset else SPLITS[split], missing + partly, allow_missing)
  if not len(kept):
    raise DataError(f"r2v2: no pictures of {split} in {source}; give the folder that holds "
                    f"{_RIGHT}")
  return Dataset("r2v2", split, LazyRecords(_record, columns), missing=tuple(missing))


def group(files: Iterable[str]) -> list[tuple[str, list[int]]]:
  """The index of pictures by their names, `XX/<id>_<frame number>.jpg` or without a folder.

  Returns:
    (id, its frame numbers in ascending order), by id. Names of another form are passed over.
  """
  columns = _Columns("", _parse(list(files)).sort_by(_ORDER), pa.array([], pa.string()))
  return [(id_, numbers.tolist()) for _, id_, numbers, _ in columns]


def read_ids(path: str | os.PathLike) -> pa.Table:
  """The list of a split: a row a picture, columns `id` string and `number` int32, sorted.

  Raises:
    DataError: it can't be read, has a line of another form, or an id twice.
  """
  names = ["id", "f1", "f2", "f3", "f4"]
  try:
    table = pa.csv.read_csv(
      path, pa.csv.ReadOptions(column_names=names), pa.csv.ParseOptions(quote_char=False),
      pa.csv.ConvertOptions(column_types=dict(zip(names, [pa.string()] + 4 * [pa.int32()],
                                                  strict=True))))
  except (OSError, pa.ArrowException) as e:
    raise DataError(f"{path}: can't read this list ({e}); it should have {_LIST}") from e
  ids = table["id"]
  bad = ids.filter(pc.invert(pc.match_substring_regex(ids, f"^{_ID}$")))
  if len(bad):
    raise DataError(f"{path}: {bad[0].as_py()!r} is no id of YouTube; it should have {_LIST}")
  if pc.count_distinct(ids).as_py() < len(ids):
    counts = pc.value_counts(ids)
    twice = next(entry["values"] for entry in counts.to_pylist() if entry["counts"] > 1)
    raise DataError(f"{path}: has the id {twice!r} more than once; remove the other lines")
  return pa.concat_tables(
    pa.table([ids, table[name]], schema=_SCHEMA) for name in names[1:]).sort_by(_ORDER)


def choose(pictures: pa.Table, size: int | None, seed: int) -> pa.Table:
  """The pictures of `size` videos, drawn by `seed`; all where `size` is None.

  Whether a video is drawn hardly depends on which others there are.
  """
  if size is None:
    return pictures
  if size < 1:
    raise DataError(f"r2v2: subset must be at least 1, got {size}")
  videos = pc.unique(pictures["id"]).to_pylist()
  rank = {id_: hashlib.sha256(f"{seed}\0{id_}".encode()).digest() for id_ in videos}
  drawn = pa.array(sorted(videos, key=rank.__getitem__)[:size], pa.string())
  return pictures.filter(pc.is_in(pictures["id"], drawn))


_ORDER = [("id", "ascending"), ("number", "ascending")]


def _parse(names: list[str]) -> pa.Table:
  """A row for each of the names that are of the right form."""
  found = pc.extract_regex(pa.array(names, pa.string()), _NAME).drop_null()
  return pa.table([pc.struct_field(found, "id"),
                   pc.struct_field(found, "number").cast(pa.int32())], schema=_SCHEMA)


def _missing(wanted: pa.Table, kept: pa.Table) -> tuple[list[str], list[str]]:
  """Sorted ids of the videos that aren't there, and of those of which pictures are missing."""
  lost = pc.unique(wanted.join(kept, ["id", "number"], join_type="left anti")["id"])
  in_part = pc.is_in(lost, pc.unique(kept["id"]))
  return (sorted(lost.filter(pc.invert(in_part)).to_pylist()),
          sorted(lost.filter(in_part).to_pylist()))


class _Columns(Sequence):
  """(folder, id, numbers, whether in `small`) of each video: 36 bytes each in place of 1,000."""

  def __init__(self, folder: str, pictures: pa.Table, small: pa.Array | pa.ChunkedArray):
    counts = pictures.group_by("id", use_threads=False).aggregate([("number", "count")])
    self._folder = folder
    self._small = pc.is_in(counts["id"], pc.unique(small)).to_numpy()
    self._ids = np.array(counts["id"].to_pylist(), "S11")
    self._starts = np.concatenate([[0], np.cumsum(counts["number_count"].to_numpy())])
    self._numbers = pictures["number"].to_numpy()

  def __len__(self) -> int:
    return len(self._ids)

  def __getitem__(self, i):
    if isinstance(i, slice):
      return [self[k] for k in range(*i.indices(len(self)))]
    i = range(len(self))[i]
    return (self._folder, self._ids[i].decode(),
            self._numbers[self._starts[i]:self._starts[i + 1]].astype(np.int64),
            bool(self._small[i]))


def _record(entry: tuple[str, str, np.ndarray, bool]) -> Record:
  folder, id_, numbers, small = entry
  paths = tuple(os.path.join(folder, id_[:2], f"{id_}_{n:06d}.jpg") for n in numbers.tolist())
  return Record(id_, frames=paths, splits=("train_s",) * small, truth={"numbers": numbers})


def _on_disk(source: pathlib.Path, path: pathlib.Path) -> pa.Table:
  """The pictures below `source`, by way of the file `path` that remembers them."""
  known, times = _load(path)
  now = time.time_ns()
  changed = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(source)
             if len(entry.name) == 2 and entry.is_dir()}
  stale = sorted(name for name, at in changed.items() if times.get(name) != at)
  if not stale and times.keys() == changed.keys():
    return known
  with concurrent.futures.ThreadPoolExecutor(16) as pool:  # for folders on another machine
    names = pool.map(lambda name: _names(source / name), stale)
    names = tqdm(names, "listing R2V2", len(stale), disable=None)
    fresh = _parse([name for found in names for name in found])
  unchanged = pa.array(sorted(changed.keys() - set(stale)), pa.string())
  kept = known.filter(pc.is_in(pc.utf8_slice_codeunits(known["id"], 0, 2), unchanged))
  found = pa.concat_tables([kept, fresh]).sort_by(_ORDER)
  _save(path, found, {name: at for name, at in changed.items()
                      if name not in stale or at < now - _SETTLED})
  return found


def _names(folder: pathlib.Path) -> list[str]:
  return [name for name in os.listdir(folder) if name.startswith(folder.name)]


def _load(path: pathlib.Path) -> tuple[pa.Table, dict[str, int]]:
  """What `_save` wrote; nothing where it didn't."""
  empty = _SCHEMA.empty_table(), {}
  if not path.is_file():
    return empty
  try:
    table = pq.read_table(path)
    times = json.loads(table.schema.metadata[b"changed"])
    return table.replace_schema_metadata().cast(_SCHEMA), times
  except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as e:
    logger.warning("%s is damaged (%s: %s); it is made again", path, type(e).__name__, e)
    return empty


def _save(path: pathlib.Path, pictures: pa.Table, times: dict[str, int]) -> None:
  table = pictures.replace_schema_metadata({"changed": json.dumps(times, sort_keys=True)})
  temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
  try:
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, path)
  except OSError as e:
    logger.warning("can't keep what was found in %s (%s), so the next start lists all pictures "
                   "again; set index=... to a file that can be written", path, e.strerror or e)
