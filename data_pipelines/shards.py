"""Prepared shards as a data set: see `catalogue` for what lies in the folder.

`read` gives records that say where their example lies (`SHARD#ROW`); `resolve` fetches it.
"""

import collections
import csv
import dataclasses
import difflib
import io
import json
import os
import re
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from array_record.python import array_record_module
from pyarrow import parquet

from data_pipelines import storage
from data_pipelines.errors import DataError, VideoError
from data_pipelines.plan import FORMAT, INDEX, MANIFEST, REJECTED
from data_pipelines.records import Dataset, Record

MAX_OPEN = 64  # shards at a time in a process

_ADDRESS = re.compile(r"(?P<shard>.+\.array_record-\d{5,}-of-\d{5,})#(?P<row>\d+)")
_COLUMNS = ("split", "id", "shard", "row", "kind", "label", "text", "splits", "start", "end", "fps")


def is_prepared(folder: str | os.PathLike) -> bool:
  """Whether `data_pipelines.prepare` has finished a data set in this folder."""
  return bool(folder) and _manifest(storage.normal(folder)) is not None


def manifest(folder: str | os.PathLike) -> dict:
  """How the data set in this folder was made, its counts and checksums (`manifest.json`).

  Raises:
    DataError: there is none, or one of another version.
  """
  folder = storage.normal(folder)
  found = _manifest(folder)
  if found is None:
    raise DataError(f"{folder}: holds no finished data set (no manifest.json); write one with "
                    "python -m data_pipelines.prepare")
  if found["format"] != FORMAT:
    raise DataError(f"{folder}: its shards are of the form {found['format']}, this program reads "
                    f"{FORMAT}; prepare the data set again")
  return found


def read(folder: str | os.PathLike, split: str) -> Dataset:
  """One split of a prepared data set; reads the index alone.

  Records come in the order of the data set's own reader. Their `video` is an address for `resolve`,
  `frames`, `masks` and `truth` are empty until then. `missing` are the ids that are listed for the
  split and not in the shards, on disk or not; which official splits (see below) those on no disk
  belong to isn't known.

  Args:
    folder: a local folder that `data_pipelines.prepare` wrote.
    split: one that was prepared, or one of the official ones in `Record.splits`.

  Raises:
    DataError: no such folder or split, or the folder is remote.
  """
  folder = storage.normal(folder)
  about = manifest(folder)
  if storage.is_remote(folder):
    raise DataError(f"{folder}: shards are read from local disks only; copy the folder first "
                    "(gcloud storage cp -r, aws s3 cp --recursive), or mount it")
  known = [*about["splits"], *(tag for tag in about["tags"] if tag not in about["splits"])]
  if split not in known:
    close = difflib.get_close_matches(split, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise DataError(f"{folder}: has no split {split!r}{hint} (it has {', '.join(known)})")
  records = Records(folder, split)
  note = about["splits"].get(split, {}).get("note", "")
  return Dataset(about["dataset"], split, records, tuple(about["classes"]),
                 _missing(folder, split, split in about["splits"]), note)


class Records(Sequence[Record]):
  """The light records of a split, made from the index when they are asked for."""

  def __init__(self, folder: str, split: str):
    self._folder, self._split = folder, split
    self._shards, prepared = {}, manifest(folder)["shards"]
    for shard in prepared:
      self._shards.setdefault(shard["split"], []).append(os.path.join(folder, shard["file"]))
    path = os.path.join(folder, INDEX)
    try:
      with parquet.ParquetFile(path) as file:
        # Threads would be no faster, and need twice the memory.
        table = file.read(columns=list(_COLUMNS), use_threads=False)
    except (OSError, pa.ArrowException) as e:
      raise DataError(f"{path}: can't be read ({e}); prepare the data set again") from e
    if self._shards.keys() != {split}:
      table = _of_split(table, split, split in self._shards)
    self._length = len(table)
    self._columns = [_array(table[name]) for name in _COLUMNS]
    self._by_id = None
    del table
    pa.default_memory_pool().release_unused()

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int | slice) -> "Record | list[Record]":
    if isinstance(index, slice):
      return [self[i] for i in range(*index.indices(len(self)))]
    if not -len(self) <= index < len(self):
      raise IndexError(f"{self._folder} {self._split} has {len(self)} records, asked for {index}")
    row = [None if column is None else column[int(index)].as_py() for column in self._columns]
    split, id_, shard, number, kind, label, text, splits, start, end, fps = row
    return Record(id_, f"{self._shards[split][shard]}#{number}", start=start, end=end,
                  fps=fps if kind == "frames" else None, label=label, text=text,
                  splits=tuple(splits))

  def find(self, record_id: str) -> int:
    """The place of the record with this id; raises KeyError."""
    ids = self._columns[_COLUMNS.index("id")]
    if self._by_id is None:
      self._by_id = pc.sort_indices(ids)
    low, high = 0, len(self)
    while low < high:  # arrow's order of strings is that of their UTF-8
      middle = (low + high) // 2
      if ids[self._by_id[middle].as_py()].as_py().encode() < record_id.encode():
        low = middle + 1
      else:
        high = middle
    place = self._by_id[low].as_py() if low < len(self) else None
    if place is None or ids[place].as_py() != record_id:
      raise KeyError(record_id)
    return place

  def __reduce__(self):
    return type(self), (self._folder, self._split)


def is_address(video: str | bytes) -> bool:
  """Whether a record's `video` is the address of an example in shards."""
  return isinstance(video, str) and "#" in video and bool(_ADDRESS.fullmatch(video))


def resolve(record: Record) -> Record:
  """A light record with all that it has in the shards, as bytes; others are returned as they are.

  What the light record itself says wins: id, start, end, fps, label, text, splits, edit_seed.

  Raises:
    VideoError: the example is damaged; names shard and row.
    DataError: the shard is missing or damaged as a whole; names it.
  """
  found = _ADDRESS.fullmatch(record.video) if is_address(record.video) else None
  if not found:
    return record
  from data_pipelines import examples  # here, since TFDS takes a second to import

  shard, row = found["shard"], int(found["row"])
  try:
    stored = examples.decode(_READERS.get(shard).read([row])[0])
  except (RuntimeError, ValueError) as e:  # of the shard's format, of the example's
    raise VideoError(record.video, f"damaged in its shard ({_first_line(e)}); check the folder "
                                   "with python -m data_pipelines.prepare --verify") from e
  return dataclasses.replace(record, video=stored.video, frames=stored.frames, masks=stored.masks,
                             truth=stored.truth)


def verify(folder: str | os.PathLike,
           tell: Callable[[str], None] = lambda _: None) -> dict[str, str]:
  """Reads all shards again and compares their checksums with the manifest.

  Args:
    tell: called with each shard's name as it is done.

  Returns:
    name of a shard -> what is wrong with it, for those that are not as they were written.

  Raises:
    DataError: no finished data set in this folder.
  """
  from data_pipelines import shard_writer

  folder, wrong = storage.normal(folder), {}
  for shard in manifest(folder)["shards"]:
    address = storage.join(folder, shard["file"])
    size = storage.size(address)
    if size is None:
      wrong[shard["file"]] = "is missing"
    elif size != shard["bytes"]:
      wrong[shard["file"]] = f"has {size:,} bytes, had {shard['bytes']:,} when it was written"
    elif shard_writer.sha256(address) != shard["sha256"]:
      wrong[shard["file"]] = "was changed or damaged since it was written (its checksum differs)"
    tell(shard["file"])
  return wrong


class _Readers:
  """Open shards of this process, those used last."""

  def __init__(self):
    self._lock, self._open = threading.Lock(), collections.OrderedDict()

  def get(self, shard: str) -> array_record_module.ArrayRecordReader:
    """A reader, which several threads may use at a time."""
    with self._lock:
      reader = self._open.get(shard)
      if reader is None:
        reader = self._open[shard] = _reader(shard)
      self._open.move_to_end(shard)
      while len(self._open) > MAX_OPEN:
        self._open.popitem(last=False)  # closed when the last thread is done with it
      return reader


_READERS = _Readers()
# A forked process would have the parent's readers without their threads.
os.register_at_fork(after_in_child=_READERS.__init__)


def _reader(shard: str) -> array_record_module.ArrayRecordReader:
  # Reading ahead would fetch neighbours that nobody wants.
  reader = array_record_module.ArrayRecordReader(shard, options="readahead_buffer_size:0",
                                                 file_reader_buffer_size=2**15)
  if reader.ok():
    return reader
  try:
    reader.read([0])
    reason = "damaged"
  except RuntimeError as e:
    reason = _first_line(e)
  hint = ("delete this file and run the preparation again, or copy it again" if
          os.path.exists(shard) else "was the folder moved or only partly copied?")
  raise DataError(f"{shard}: this shard can't be opened ({reason}); {hint}")


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0].split(";")[0]


def _manifest(folder: str) -> dict | None:
  data = storage.read(storage.join(folder, MANIFEST))
  try:
    found = json.loads(data) if data else None
  except ValueError:
    return None
  # Other programs call files manifest.json, too.
  ours = isinstance(found, dict) and str(found.get("format", "")).startswith("vssl_shards/")
  return found if ours else None


def _array(column: pa.ChunkedArray) -> pa.Array | None:
  """In one piece; None where there are nothing but nulls."""
  if column.null_count == len(column):
    return None
  return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _of_split(table: pa.Table, split: str, prepared: bool) -> pa.Table:
  if prepared:
    return table.filter(pc.equal(table["split"].cast(pa.string()), split))
  splits = table["splits"].combine_chunks()
  rows = pc.list_parent_indices(splits)
  chosen = np.unique(rows.filter(pc.equal(splits.flatten(), split)).to_numpy())
  return table.take(chosen)


def _missing(folder: str, split: str, prepared: bool) -> tuple[str, ...]:
  data = storage.read(os.path.join(folder, REJECTED))
  if data is None:
    raise DataError(f"{folder}: its {REJECTED} is gone; prepare the data set again")
  rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
  return tuple(sorted(row["id"] for row in rows if
                      (row["split"] == split if prepared else split in row["splits"].split(";"))))
