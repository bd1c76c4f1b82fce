"""What lies beside finished shards: index, manifest, list of what was left out, TFDS's metadata.

- `index.parquet`: a row for each example, in the reader's order, not the shards'; see `SCHEMA`;
- `manifest.json`: how the data set was made, its classes, counts and the shards' checksums;
- `rejected.csv`: split, id, path, reason and official splits of what is listed and not in a shard;
- `dataset_info.json`, `features.json`: for `tfds.builder_from_directory`.

The same input gives the same bytes: there is no time and no place of files in them, but for the
paths in `rejected.csv`.
"""

import collections
import csv
import io
import json
import pathlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_datasets as tfds
from PIL import __version__ as pillow_version
from pyarrow import parquet

from data_pipelines import examples, plan, shard_writer, storage
from data_pipelines.errors import DataError
from data_pipelines.plan import INDEX, MANIFEST, REJECTED, SplitPlan

TFDS_FILES = ("dataset_info.json", "features.json")
COLUMNS = ("split", "id", "path", "reason", "splits")  # of the rejected
NOT_THERE = "listed in the data set, not on disk"

_NAME = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema([
    ("split", _NAME),  # one that was prepared
    ("id", pa.string()),
    ("shard", pa.int32()),  # number of the shard within its split
    ("row", pa.int32()),  # in the shard
    ("kind", _NAME),  # "video" or "frames"
    ("label", pa.int64()),
    ("text", _NAME),
    ("splits", pa.list_(pa.string())),  # official ones
    ("start", pa.float64()),  # null where nothing was marked, or all was cut out
    ("end", pa.float64()),
    ("fps", pa.float64()),
    ("n_frames", pa.int64()),
    ("height", pa.int64()),
    ("width", pa.int64()),
    ("rotation", pa.int64()),
    ("reencoded", pa.bool_()),
])


def write(output: str, made: Mapping[str, Any], splits: Sequence[SplitPlan]) -> None:
  """Writes everything beside the shards of a data set, the manifest last.

  Args:
    output: address of the folder.
    made: "dataset", its name, and how it was made, for the manifest.
    splits: all of whose shards are finished.

  Raises:
    DataError: a shard is not finished, nothing is left, or splits number their classes differently.
  """
  tables, left_out, counts, files = [], [], {}, []
  for split in splits:
    dataset = split.dataset
    table, rejected, shards = _gather(split)
    missing = [{"split": dataset.split, "id": i, "path": "", "reason": NOT_THERE, "splits": []}
               for i in sorted(dataset.missing)]
    tables.append(table)
    left_out += [*rejected, *missing]
    files += shards
    counts[dataset.split] = {
        "examples": len(table), "rejected": len(rejected), "missing": len(missing),
        "frames": pc.sum(table["n_frames"]).as_py() or 0,
        "bytes": sum(shard["bytes"] for shard in shards), "note": dataset.note}
  table = pa.concat_tables(tables)
  if not len(table):
    raise DataError(f"{output}: none of the records can be used:\n" + listing(left_out))
  tags = collections.Counter(tag for tags in table["splits"].to_pylist() for tag in tags)
  manifest = {
      "format": plan.FORMAT, **made, "classes": _classes(splits), "splits": counts,
      "tags": dict(sorted(tags.items())), "shards": files,
      "versions": {"av": av.__version__, "pillow": pillow_version, **{
          lib: ".".join(map(str, v)) for lib, v in sorted(av.library_versions.items())}}}
  sink = pa.BufferOutputStream()
  parquet.write_table(table, sink, compression="zstd")
  storage.write(storage.join(output, INDEX), sink.getvalue().to_pybytes())
  storage.write(storage.join(output, REJECTED), _csv(left_out))
  for file, data in _tfds_files(made["dataset"], files, counts).items():
    storage.write(storage.join(output, file), data)
  storage.write(storage.join(output, MANIFEST),
                json.dumps(manifest, indent=1, ensure_ascii=False).encode())


def remove(output: str) -> None:
  """Deletes what `write` wrote, the manifest first: the data set counts as unfinished from then."""
  for file in (MANIFEST, INDEX, REJECTED, *TFDS_FILES):
    storage.remove(storage.join(output, file))


def listing(rows: Sequence[Mapping[str, Any]], most: int = 20) -> str:
  """A line for each of the first rejected records: path or id, and why."""
  names = [row["path"] or row["id"] for row in rows[:most]]
  width = min(60, max(map(len, names), default=0))
  lines = [f"  {name:{width}}  {row['reason']}" for name, row in zip(names, rows, strict=False)]
  if len(rows) > most:
    lines.append(f"  and {len(rows) - most:,} more")
  return "\n".join(lines)


def _gather(split: SplitPlan) -> tuple[pa.Table, list[dict], list[dict]]:
  """Of one split: its rows of the index in the order of its records, the rejected, the shards."""
  name, tables, order, rejected, shards = split.dataset.split, [], [], [], []
  for number, (shard, places) in enumerate(zip(split.shards, split.places, strict=True)):
    report = shard_writer.report(shard)
    if report is None:
      raise DataError(f"{shard.address}: was not written, or was changed meanwhile; run again to "
                      "continue")
    rows = [row | {"split": name, "shard": number, "row": k} for k, row in enumerate(report.rows)]
    tables.append(pa.Table.from_pylist(rows, SCHEMA))
    order.append(places[np.array([row["place"] for row in rows], np.int64)])
    rejected += [row | {"split": name} for row in report.rejected]
    shards.append({"split": name, "file": report.file, "examples": len(rows),
                   "bytes": report.n_bytes, "sha256": report.sha256})
  table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
  table = table.take(np.argsort(np.concatenate(order), kind="stable"))
  return table, sorted(rejected, key=lambda row: row["id"]), shards


def _classes(splits: Sequence[SplitPlan]) -> tuple[str, ...]:
  found = {split.dataset.classes for split in splits if split.dataset.classes}
  if len(found) > 1:
    raise DataError("the splits number their classes differently; prepare them one by one, with "
                    "--split, to folders of their own")
  return found.pop() if found else ()


def _csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
  text = io.StringIO(newline="")
  writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
  writer.writeheader()
  writer.writerows({**row, "splits": ";".join(row["splits"])} for row in rows)
  return text.getvalue().encode()


def _tfds_files(name: str, shards: Sequence[Mapping[str, Any]],
                counts: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
  """TFDS's metadata, by file name."""
  with tempfile.TemporaryDirectory() as folder:
    infos = []
    for split, count in counts.items():
      stored = plan.stored_split(split)
      template = tfds.core.ShardedFileTemplate(
          data_dir=folder, dataset_name=name, split=stored, filetype_suffix="array_record")
      infos.append(tfds.core.SplitInfo(
          name=stored, num_bytes=count["bytes"], filename_template=template,
          shard_lengths=[s["examples"] for s in shards if s["split"] == split]))
    # It looks for the names of data set and splits in the names of files; the rest it is told.
    for shard in shards:
      pathlib.Path(folder, shard["file"]).touch()
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=examples.features(), split_infos=infos, check_data=False,
        description=" ".join(filter(None, (c["note"] for c in counts.values()))) or name)
    return {file: pathlib.Path(folder, file).read_bytes() for file in TFDS_FILES}
