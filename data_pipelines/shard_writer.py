"""One shard, from plan to file. The same function serves the local pool and Beam's workers."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import tempfile
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from array_record.python import array_record_module

from data_pipelines import examples, isolate, plan, storage, transcode
from data_pipelines.errors import DataError, VideoError
from data_pipelines.plan import ShardPlan
from data_pipelines.records import Record
from data_pipelines.transcode import Stored

# A record can be read without its neighbours; encoded videos don't get smaller by compression.
OPTIONS = "group_size:1,uncompressed"
_CHUNK = 2**20


@dataclasses.dataclass(frozen=True)
class ShardReport:
  """What became of a shard's records; kept beside the shards, as the sign that it is finished.

  Attributes:
    key, file: as in the plan.
    n_bytes, sha256: of the shard.
    rows: a dict for each example, in order: "place" in the plan, "id", "kind" ("video" or
      "frames"), "label", "text", "splits", "start", "end", "fps", "n_frames", "height", "width",
      "rotation", "reencoded".
    rejected: a dict for each record that isn't in the shard: "place", "id", "path", "reason",
      "splits".
  """

  key: str
  file: str
  n_bytes: int
  sha256: str
  rows: list[dict[str, Any]]
  rejected: list[dict[str, Any]]


def write_shard(work: ShardPlan | str, tell: Callable[[str, str], None] = lambda *_: None,
                decoders: int = 1) -> str:
  """Writes a shard, unless it is there and finished.

  Records are transcoded in processes of their own, so that one that crashes, hangs or needs too
  much memory costs no more than itself. The shard appears whole or not at all, its report after it.

  Args:
    work: the plan, or the address that `plan.stage` gave.
    tell: called with each record's id, and "" or why it was rejected, as it is done. What it raises
      ends the work.
    decoders: processes that transcode at a time; they don't change the shard.

  Returns:
    the shard's name.

  Raises:
    DataError: the output can't be written, or a record can't be stored because of what it is.
  """
  shard = plan.load(work) if isinstance(work, str) else work
  if report(shard):
    return shard.file
  rows, rejected = [], []
  with _temporary(shard) as path:
    with _writer(path, shard.address) as write:
      for place, record, result in _transcoded(shard, decoders):
        try:
          if isinstance(result, VideoError):
            raise result
          write(examples.encode(result))
          rows.append({"place": place} | _row(record, result))
          reason = ""
        except VideoError as e:
          reason = e.reason
          rejected.append({"place": place, "id": record.id, "path": _path(e, record),
                           "reason": reason, "splits": record.splits})
        tell(record.id, reason)
    _check(path, len(rows), shard.address)
    found = ShardReport(shard.key, shard.file, os.path.getsize(path), sha256(str(path)), rows,
                        rejected)
    storage.move(path, shard.address)
  storage.write(shard.sidecar, json.dumps(dataclasses.asdict(found)).encode())
  return shard.file


def report(shard: ShardPlan) -> ShardReport | None:
  """The report of a shard that was finished by this very plan, else None."""
  data = storage.read(shard.sidecar)
  try:
    found = ShardReport(**json.loads(data)) if data else None
  except (ValueError, TypeError):  # of another version, or damaged
    return None
  if not found or found.key != shard.key or storage.size(shard.address) != found.n_bytes:
    return None
  return found


def sha256(address: str) -> str:
  """Of a file, in hexadecimal."""
  digest = hashlib.sha256()
  with storage.open_file(address) as file:
    while data := file.read(_CHUNK):
      digest.update(data)
  return digest.hexdigest()


def _transcoded(shard: ShardPlan,
                decoders: int) -> Iterator[tuple[int, Record, Stored | VideoError]]:
  """(place, record, what became of it), in order."""
  records = list(shard.records)
  work = functools.partial(transcode.attempt, settings=shard.settings)
  outcomes = isolate.run(work, records, workers=decoders, time_limit=shard.time_limit)
  early, due = {}, 0  # done before its turn; whose turn it is
  with contextlib.closing(outcomes):
    for done, outcome in outcomes:
      early[done] = outcome
      while (place := due) in early:
        record, ready = records[place], early.pop(place)
        due += 1
        yield place, record, ready.value or VideoError(record.id, ready.reason)


@contextlib.contextmanager
def _temporary(shard: ShardPlan) -> Iterator[pathlib.Path]:
  """Where to write first: beside a local shard, so that it can be moved; a leftover is deleted."""
  folder = tempfile.gettempdir() if storage.is_remote(shard.output) else os.path.dirname(
      shard.sidecar)
  path = pathlib.Path(folder, f"{shard.file}.{uuid.uuid4().hex}.tmp")
  try:
    yield path
  finally:
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writer(path: pathlib.Path, address: str) -> Iterator[Callable[[bytes], None]]:
  """Appends examples to a new file."""
  writer = array_record_module.ArrayRecordWriter(str(path), OPTIONS)

  def call(method: Callable, *arguments: bytes) -> None:
    try:
      method(*arguments)
    except RuntimeError as e:  # the writer's only error
      raise DataError(f"{address}: can't be written ({str(e).split(';')[0]}); free some space or "
                      "choose another output, and run again to continue") from e

  try:
    yield functools.partial(call, writer.write)
    call(writer.close)
  finally:
    if writer.is_open():
      with contextlib.suppress(RuntimeError):  # what went wrong was told
        writer.close()


def _check(path: pathlib.Path, n_examples: int, address: str) -> None:
  reader = array_record_module.ArrayRecordReader(str(path))
  found = reader.num_records() if reader.ok() else None
  reader.close()
  if found != n_examples:
    raise DataError(f"{address}: holds {found} examples after writing {n_examples}; is the disk "
                    "full or failing?")


def _row(record: Record, stored: Stored) -> dict[str, Any]:
  kept = stored.record
  return {"id": record.id, "kind": "frames" if record.frames else "video", "label": record.label,
          "text": record.text, "splits": record.splits, "start": kept.start, "end": kept.end,
          "fps": stored.fps, "n_frames": stored.n_frames, "height": stored.height,
          "width": stored.width, "rotation": stored.rotation,
          "reencoded": kept.video != record.video or kept.frames != record.frames}


def _path(error: VideoError, record: Record) -> str:
  """Of the file that is to blame, printable whatever bytes it has."""
  sources = [s for s in (record.video, *record.frames, *record.masks) if isinstance(s, str) and s]
  path = error.name if error.name in sources else sources[0] if sources else ""
  return os.fsencode(path).decode("utf-8", "backslashreplace")

