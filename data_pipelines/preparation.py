"""A data set from its raw files to shards: planning, writing on all cores or by Beam, finishing.

What was written by a run that was interrupted is kept: the same call goes on from there, and ends
with the same bytes.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psutil

from data_pipelines import catalogue, isolate, lock, plan, shard_writer, shards, source, storage
from data_pipelines.errors import DataError
from data_pipelines.plan import ShardPlan, SplitPlan
from data_pipelines.transcode import Settings

_STATE = "preparation"  # how the data set is made, known from the start
_THREADS = 16  # for remote output, where each look takes its time
_SHARD = re.compile(r"\.array_record-\d{5,}-of-\d{5,}$")


@dataclasses.dataclass(frozen=True)
class Job:
  """What to prepare, and how.

  Attributes:
    dataset: name of a reader in `data_pipelines.datasets`.
    input: folder in that data set's own layout.
    output: address of the folder to write to; may be remote.
    splits: those to prepare; () for all of the reader's `PREPARED`.
    options: for the reader.
    settings: of the stored videos and pictures.
    shard_mb: megabytes (10^6 bytes) of input a shard, about.
    n_shards: instead, so many shards a split.
    workers: processes that decode at a time.
    time_limit: seconds for one video.
    max_bad_fraction: of the records that can't be used; more of them end the work.
    overwrite: whether what is in the output may be replaced.
    retry_rejected: write shards again that lack records.
    runner, runner_flags: "" for this machine, else see `beam_runner.write`.
  """

  dataset: str
  input: str
  output: str
  splits: tuple[str, ...] = ()
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  settings: Settings = dataclasses.field(default_factory=Settings)
  shard_mb: float = 256.0
  n_shards: int | None = None
  workers: int = dataclasses.field(default_factory=isolate.default_workers)
  time_limit: float = 3600.0
  max_bad_fraction: float = 0.05
  overwrite: bool = False
  retry_rejected: bool = False
  runner: str = ""
  runner_flags: tuple[str, ...] = ()


@dataclasses.dataclass
class Progress:
  """How far the work is.

  Attributes:
    show: called with this after every change, by one thread at a time.
    total: records in all; 0 until that is known.
    done: of them, those that are in shards or rejected.
    kept: of these, those that an earlier run has done.
    rejected: dicts with "id", "path" and "reason".
    bytes_in: of all input files.
  """

  show: Callable[["Progress"], None] = lambda _: None
  total: int = 0
  done: int = 0
  kept: int = 0
  rejected: list[dict[str, str]] = dataclasses.field(default_factory=list)
  bytes_in: int = 0


class Stopped(Exception):
  """Raised in the threads of the pool when the work is to end."""


def prepare(job: Job, progress: Progress | None = None, *, alone: bool = False) -> bool:
  """Writes a data set's shards and what lies beside them, see `catalogue`.

  Args:
    progress: gets to know how far the work is.
    alone: whether all processes that this one has started are the work's own. Then an interruption
      ends them at once, else when they are done with their videos.

  Returns:
    False where all was there before.

  Raises:
    DataError: wrong input or settings, too many bad videos, output that can't be written, or that
      holds something else.
  """
  progress = progress or Progress()
  output = storage.normal(job.output)
  _check(job, output)
  splits = _plan(job, output)
  storage.make_folder(storage.join(output, plan.PARTS))
  with _only_one(output):
    plans = [shard for split in splits for shard in split.shards]
    made = _made(job, splits)
    state = {"made": made, "keys": [shard.key for shard in plans]}
    finished = _take_over(output, state, job.overwrite)
    waiting = _survey(plans, progress, job.retry_rejected)
    progress.kept = progress.done
    progress.total = sum(len(split.dataset.records) for split in splits)
    progress.bytes_in = sum(split.n_bytes for split in splits)
    progress.show(progress)
    if finished and not waiting:
      return False
    _check_bad(progress, job.max_bad_fraction)
    catalogue.remove(output)
    storage.write(_state_file(output), json.dumps(state).encode())
    _clean(output, plans, job.overwrite)
    if job.runner:
      from data_pipelines import beam_runner
      beam_runner.write(waiting, job.runner, job.runner_flags)
    else:
      _in_threads(waiting, job, progress, alone)
    _survey(plans, progress)
    _check_bad(progress, job.max_bad_fraction)
    catalogue.write(output, made, splits)
  return True


def _check(job: Job, output: str) -> None:
  if job.shard_mb <= 0 or (job.n_shards is not None and job.n_shards < 1) or job.workers < 1:
    raise DataError("shard_mb, shards and workers must be positive")
  if not 0 <= job.max_bad_fraction <= 1:
    raise DataError(f"max_bad_fraction is a share from 0 to 1, got {job.max_bad_fraction}")
  if storage.normal(job.input) == output:
    raise DataError(f"{output}: input and output are the same folder; choose another output")
  if shards.is_prepared(job.input):
    raise DataError(f"{job.input}: holds prepared shards; give the data set as it was downloaded")


@contextlib.contextmanager
def _only_one(output: str) -> Iterator[None]:
  """One run at a time in a local folder."""
  if storage.is_remote(output):
    yield
    return
  path = storage.join(storage.join(output, plan.PARTS), "lock")
  try:
    held = lock.hold(path, wait=False)
  except BlockingIOError:
    raise DataError(f"{output}: another process is writing here; wait for it, or choose another "
                    "output") from None
  except OSError as e:
    raise DataError(f"{path}: can't be written ({e.strerror}); choose another output") from e
  with held:
    yield


def _plan(job: Job, output: str) -> list[SplitPlan]:
  reader = source.module(job.dataset)
  planned = []
  for name in job.splits or reader.PREPARED:
    dataset = source.load(job.dataset, job.input, name, **job.options)
    planned.append(plan.plan_split(
        job.dataset, dataset, output, job.settings, shard_bytes=int(job.shard_mb * 1e6),
        n_shards=job.n_shards, time_limit=job.time_limit))
  return planned


def _made(job: Job, splits: Sequence[SplitPlan]) -> dict[str, Any]:
  """How the data set is made, but for the input's files."""
  return {"dataset": job.dataset,
          "options": {k: v for k, v in sorted(job.options.items()) if k != "allow_missing"},
          "settings": dataclasses.asdict(job.settings),
          "n_shards": {split.dataset.split: len(split.shards) for split in splits}}


def _state_file(output: str) -> str:
  return storage.join(storage.join(output, plan.PARTS), f"{_STATE}.json")


def _take_over(output: str, state: dict, overwrite: bool) -> bool:
  """Whether the output holds this data set, finished; refuses to replace another one."""
  finished = storage.size(storage.join(output, plan.MANIFEST)) is not None
  data = storage.read(_state_file(output))
  before = json.loads(data) if data else None
  if before == json.loads(json.dumps(state)):
    return finished
  if overwrite or not (before or finished):
    return False
  if not before:
    raise DataError(f"{output}: holds a {plan.MANIFEST}, and nothing that says how it was made; "
                    "choose another output, or replace what is there with --overwrite")
  changes = list(_changes(before["made"], json.loads(json.dumps(state["made"]))))
  if changes:
    raise DataError(f"{output}: holds a data set made in another way ({'; '.join(changes)}); "
                    "choose another output, or replace it with --overwrite")
  if finished:
    raise DataError(f"{output}: holds a finished data set, and the input has changed since; "
                    "choose another output, or bring it up to date with --overwrite (shards that "
                    "are not concerned are kept)")
  return False


def _changes(before: dict, now: dict, name: str = "") -> Iterator[str]:
  for key in sorted({*before, *now}):
    old, new = before.get(key), now.get(key)
    if isinstance(old, dict) and isinstance(new, dict):
      yield from _changes(old, new, f"{name}{key} ")
    elif old != new:
      yield f"{name}{key} was {old}, is {new}"


def _survey(plans: Sequence[ShardPlan], progress: Progress,
            retry_rejected: bool = False) -> list[ShardPlan]:
  """Shards that are not finished; tells the progress what is in the others."""
  def look(shard: ShardPlan) -> tuple[int, list[dict]] | None:
    report = shard_writer.report(shard)
    if report and report.rejected and retry_rejected:
      storage.remove(shard.sidecar)
      return None
    return report and (len(report.rows), report.rejected)

  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    found = list(pool.map(look, plans))
  progress.rejected = [row for finished in found if finished for row in finished[1]]
  progress.done = sum(finished[0] for finished in found if finished) + len(progress.rejected)
  return [shard for shard, finished in zip(plans, found, strict=True) if not finished]


def _clean(output: str, plans: Sequence[ShardPlan], overwrite: bool) -> None:
  """Deletes what killed runs left, and shards of an older plan."""
  parts = storage.join(output, plan.PARTS)
  wanted = {shard.file for shard in plans}
  known = storage.names(parts)
  for name in known:
    if name.endswith((".tmp", ".plan")):
      storage.remove(storage.join(parts, name))
  ours = {name.removesuffix(".json") for name in known if name.endswith(".json")} - {_STATE}
  if overwrite:  # whoever made them
    ours |= {name for name in storage.names(output) if _SHARD.search(name)}
  for name in ours - wanted:
    storage.remove(storage.join(output, name))
    storage.remove(storage.join(parts, f"{name}.json"))


def _check_bad(progress: Progress, max_fraction: float) -> None:
  n_bad = len(progress.rejected)
  if n_bad > max_fraction * progress.total:
    raise DataError(
        f"{n_bad:,} of {progress.total:,} records ({n_bad / progress.total:.1%}) can't be used, "
        f"more than max_bad_fraction={max_fraction:g} allows:\n"
        f"{catalogue.listing(progress.rejected, 5)}\n"
        "Mend or remove them, or raise --max_bad_fraction; the same command goes on from here")


def _in_threads(plans: Sequence[ShardPlan], job: Job, progress: Progress, alone: bool) -> None:
  """Writes shards, as many at a time as there are workers; a few share their decoders."""
  stop, guard = threading.Event(), threading.Lock()

  def tell(record_id: str, reason: str) -> None:
    if stop.is_set():
      raise Stopped
    with guard:
      progress.done += 1
      if reason:
        progress.rejected.append({"id": record_id, "path": "", "reason": reason})
      progress.show(progress)

  decoders = max(1, job.workers // max(1, len(plans)))
  pool = concurrent.futures.ThreadPoolExecutor(job.workers)
  futures = [pool.submit(shard_writer.write_shard, shard, tell, decoders) for shard in plans]
  try:
    running = set(futures)
    while running:
      done, running = concurrent.futures.wait(running, 0.5, concurrent.futures.FIRST_COMPLETED)
      for future in done:
        future.result()
      _check_bad(progress, job.max_bad_fraction)
  except BaseException:
    stop.set()
    pool.shutdown(wait=False, cancel_futures=True)
    while alone and not all(future.done() for future in futures):
      _kill_decoders()
      time.sleep(0.1)
    raise
  finally:
    pool.shutdown()


def _kill_decoders() -> None:
  """Ends all processes that this one has started to work for it; their videos count as undone."""
  for child in psutil.Process().children():
    with contextlib.suppress(psutil.Error):
      if "spawn_main" in " ".join(child.cmdline()):  # not multiprocessing's own helper
        child.kill()
