"""How a data set is cut into shards, and each shard described so that any machine can write it.

Records are ordered by a hash of their ids and cut into blocks, a shard each. So shards are alike,
don't depend on the order of the disk, and stay where they are when one of the files is replaced.
"""

import base64
import concurrent.futures
import dataclasses
import gzip
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines import storage
from data_pipelines.datasets.numbered import LazyRecords
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record
from data_pipelines.transcode import Settings

FORMAT = "vssl_shards/1"
# In a folder of shards; see `catalogue`.
INDEX, MANIFEST, REJECTED = "index.parquet", "manifest.json", "rejected.csv"
PARTS = "parts"  # a folder in it, for what is known of each shard
_FULL = "full"
_THREADS = 16  # for network disks, which answer late
_BLOCK = 256  # records a task


@dataclasses.dataclass(frozen=True)
class ShardPlan:
  """One shard to be written; `write_shard` needs nothing else.

  Attributes:
    output: address of the folder.
    file: name of the shard in it.
    key: changes with anything that the shard's bytes depend on: records, sizes of their files,
      settings. Where the files lie has no influence.
    records: in the order in which they are stored.
    settings: how.
    time_limit: seconds for one record.
  """

  output: str
  file: str
  key: str
  records: Sequence[Record]
  settings: Settings
  time_limit: float

  @property
  def address(self) -> str:
    """Of the shard."""
    return storage.join(self.output, self.file)

  @property
  def sidecar(self) -> str:
    """Address of what is known of the shard, once it is written."""
    return storage.join(storage.join(self.output, PARTS), f"{self.file}.json")


@dataclasses.dataclass(frozen=True)
class SplitPlan:
  """The shards of one split.

  Attributes:
    dataset: what is stored.
    shards: in order.
    places: for each shard, the places of its records in `dataset.records`.
    n_bytes: of all files.
  """

  dataset: Dataset
  shards: list[ShardPlan]
  places: list[np.ndarray]
  n_bytes: int


def plan_split(name: str, dataset: Dataset, output: str, settings: Settings, *, shard_bytes: int,
               n_shards: int | None = None, time_limit: float = 3600.0) -> SplitPlan:
  """Cuts a split into shards; looks at the sizes of its files, and opens none.

  Args:
    name: what the shards' names begin with.
    shard_bytes: of files a shard, about; stored videos may be much smaller.
    n_shards: instead of that, so many shards, but no more than records.

  Raises:
    DataError: the split is empty, or two records have one id.
  """
  records = dataset.records
  if not len(records):
    raise DataError(f"{name} {dataset.split}: no records")
  order, prints, sizes = _measure(records)
  ranked = np.argsort(order, kind="stable")
  same = np.flatnonzero(order[ranked[1:]] == order[ranked[:-1]])
  if len(same):
    raise DataError(f"{name} {dataset.split}: two records have the id "
                    f"{records[int(ranked[same[0]])].id!r}")
  count = n_shards or -(-int(sizes.sum()) // shard_bytes)
  count = min(max(count, 1), len(records))
  places = np.array_split(ranked, count)
  shards = []
  for number, block in enumerate(places):
    how = json.dumps([FORMAT, dataclasses.asdict(settings)])
    key = hashlib.sha256(how.encode() + prints[block].tobytes()).hexdigest()
    file = f"{name}-{stored_split(dataset.split)}.array_record-{number:05d}-of-{count:05d}"
    shards.append(ShardPlan(output, file, key, LazyRecords(records.__getitem__, block),
                            settings, time_limit))
  return SplitPlan(dataset, shards, places, int(sizes.sum()))


def stored_split(split: str) -> str:
  """The split's name in names of files and for TFDS, to which "all" is the sum of all splits."""
  return _FULL if split == "all" else split


def stage(plan: ShardPlan) -> str:
  """Writes a plan beside the shards, for workers on other machines; returns its address."""
  address = plan.sidecar.removesuffix(".json") + ".plan"
  fields = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}
  fields |= {"records": [_fields(record) for record in plan.records],
             "settings": dataclasses.asdict(plan.settings)}
  storage.write(address, gzip.compress(json.dumps(fields, default=_plain).encode(), mtime=0))
  return address


def load(address: str) -> ShardPlan:
  """The plan that `stage` wrote."""
  data = storage.read(address)
  if data is None:
    raise DataError(f"{address}: is gone; start the preparation again")
  fields = json.loads(gzip.decompress(data), object_hook=_special)
  return ShardPlan(**fields | {"records": [_record(r) for r in fields["records"]],
                               "settings": Settings(**fields["settings"])})


def _measure(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """For each record: order (a hash of the id), fingerprint and bytes of its files."""
  def block(first: int) -> tuple[np.ndarray, ...]:
    stop = min(first + _BLOCK, len(records))
    order, prints, sizes = zip(*(_described(records[i]) for i in range(first, stop)), strict=True)
    return np.array(order, "S16"), np.array(prints, "S16"), np.array(sizes, np.int64)

  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    blocks = list(pool.map(block, range(0, len(records), _BLOCK)))
  order, prints, sizes = map(np.concatenate, zip(*blocks, strict=True))
  return order, prints, sizes


def _described(record: Record) -> tuple[bytes, bytes, int]:
  sources = [source for source in (record.video, *record.frames, *record.masks) if source]
  sizes = [_n_bytes(source) for source in sources]
  about = [record.id, sizes, bool(record.video), len(record.frames), record.start, record.end,
           record.fps, record.label, record.text, record.splits, len(record.masks),
           record.edit_seed]
  digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
  for name, array in sorted(record.truth.items()):
    digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
  order = hashlib.blake2b(record.id.encode(), digest_size=16)
  return _ending(order), _ending(digest), sum(sizes)


def _ending(digest) -> bytes:
  # NumPy's bytes lose zeros at the end.
  return digest.digest()[:15] + b"."


def _n_bytes(source: str | bytes) -> int:
  if isinstance(source, bytes):
    return len(source)
  try:
    return os.stat(source).st_size
  except OSError:
    return 0  # that it can't be read is told when it is its turn


def _fields(record: Record) -> dict[str, Any]:
  return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)} | {
      "truth": {name: {"dtype": array.dtype.str, "shape": array.shape, "array": array.tobytes()}
                for name, array in record.truth.items()}}


def _record(fields: dict[str, Any]) -> Record:
  truth = {name: np.frombuffer(a["array"], a["dtype"]).reshape(a["shape"])
           for name, a in fields["truth"].items()}
  return Record(**fields | {"truth": truth} | {
      name: tuple(fields[name]) for name in ("frames", "splits", "masks")})


def _plain(value: bytes) -> dict[str, str]:
  return {"base64": base64.b64encode(value).decode()}


def _special(value: dict[str, Any]) -> Any:
  return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value
