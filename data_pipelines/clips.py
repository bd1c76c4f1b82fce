"""Records to examples: choose frames, decode them, augment them; for training and in order.

The same three steps serve all systems: `Reader.sample` chooses N rows of T frames of a video (N
clips; or two frames with a gap; or one frame twice and another one), `Reader.transform` augments
each row with random numbers of its own.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import numpy as np

from data_pipelines import pipeline
from data_pipelines.errors import DataError, VideoError
from data_pipelines.frames import BadVideos, in_threads
from data_pipelines.media import open_media
from data_pipelines.records import Dataset, Record

logger = logging.getLogger(__name__)

TRIES = 100  # unreadable records in a row that one example puts up with


WHOLE = 2**24  # bytes of the longest video that is decoded whole to be kept


class Kept:
  """Decoded videos, as many as there is room for: small data sets are decoded once.

  Attributes:
    room: bytes that are left.
  """

  def __init__(self, room: int):
    self.room, self._videos, self._refused = room, {}, set()

  def decoded(self, record: Record, short_side: int | None, interpolation: str):
    """Times [n] and frames [n, H, W, 3] of a short video; None for one that isn't kept.

    Raises:
      VideoError: it can't be opened.
    """
    if record.id in self._videos:
      return self._videos[record.id]
    if record.frames or record.id in self._refused or self.room <= 0:
      return None
    with open_media(record) as media:
      try:
        one = media.frames([0], short_side, interpolation=interpolation)
        size = one.nbytes * media.n_frames
        frames = None if size > min(self.room, WHOLE) else media.frames(
            range(media.n_frames), short_side, interpolation=interpolation)
      except VideoError:  # perhaps where nobody will look
        frames = None
      if frames is None:
        self._refused.add(record.id)
        return None
    self.room -= size  # threads may overdraw it by a video each
    self._videos[record.id] = media.times, frames
    return self._videos[record.id]


@dataclasses.dataclass(frozen=True)
class Reader:
  """`(record, rng) -> {"frames": uint8 [N, T, H, W, 3], "label": int32}`.

  Attributes:
    sample: `(times, rng=, start=, end=)` -> frame numbers int64 [N, T], or [T] for N = 1; see
      `sample`. N and T are the same for every video.
    transform: `(frames uint8 [T, H, W, 3], rng)` -> an array, of the same shape for every video;
      see `augment`.
    short_side: frames are decoded at this size; None for their own.
    interpolation: "bilinear" or "bicubic", for that.
    kept: where decoded videos are kept; None for nowhere. Changes no number.
  """

  sample: Callable[..., np.ndarray]
  transform: Callable[[np.ndarray, np.random.Generator], np.ndarray]
  short_side: int | None = None
  interpolation: str = "bilinear"
  kept: Kept | None = None

  def __call__(self, record: Record, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Raises `VideoError` where the record can't be read, whatever the cause."""
    rows, frames = self._decode(record, rng)
    clips = [self.transform(frames[row], rng) for row in rows]
    return {"frames": np.stack(clips), "label": np.int32(record.label)}

  def _decode(self, record, rng):
    """Places in the frames [N, T], and the frames that are needed, each once."""
    try:
      known = self.kept and self.kept.decoded(record, self.short_side, self.interpolation)
      if known:
        times, frames = known
        chosen = np.atleast_2d(self.sample(times, rng=rng, start=record.start, end=record.end))
        return chosen, frames
      with open_media(record) as media:
        chosen = self.sample(media.times, rng=rng, start=record.start, end=record.end)
        numbers, rows = np.unique(np.atleast_2d(chosen), return_inverse=True)
        frames = media.frames(numbers, self.short_side, interpolation=self.interpolation)
    except VideoError:
      raise
    except Exception as e:  # one video must not end the run; the reason is counted and reported
      logger.debug("%s", record.id, exc_info=True)
      raise VideoError(record.id, f"unexpected {type(e).__name__}: {e}") from e
    return rows.reshape(np.atleast_2d(chosen).shape), frames


def training(dataset: Dataset, read: Callable, *, seed: int, times: int = 1) -> grain.MapDataset:
  """Training examples as an infinite random-access data set, for `batches`.

  Every record comes `times` an epoch, in a new order each; epochs run on into each other. In place
  of a record that can't be read another is drawn, so that example i is a function of seed and i.

  Args:
    read: `(record, rng)` -> dict of arrays, a `Reader` or another function; raises `VideoError`.
    times: that every record comes in an epoch.

  Raises:
    DataError: the data set is empty; when read: a hundred records in a row can't be read.
  """
  records = dataset.records
  if not len(records):
    raise DataError(f"{dataset.name} {dataset.split}: no records")

  def example(i: int, rng: np.random.Generator) -> dict[str, Any]:
    problems, i = [], i % len(records)
    for _ in range(TRIES):
      record = records[i]
      try:
        found = read(record, rng) | {"record": np.int32(i)}
        return {"found": found, "id": record.id, "problems": problems}
      except VideoError as e:
        problems.append((record.id, e.reason))
        i = int(rng.integers(len(records)))
    reasons = "".join(f"\n  {name}: {reason}" for name, reason in problems[:5])
    raise DataError(f"{dataset.name} {dataset.split}: {TRIES} records in a row can't be read, "
                    f"first:{reasons}")

  order = grain.MapDataset.range(times * len(records)).seed(seed).shuffle().repeat(None)
  return order.random_map(example)


def batches(examples: grain.MapDataset, *, batch: int, bad: BadVideos | None = None,
            max_bad_fraction: float = 1.0, n_records: int | None = None,
            **options) -> Iterator[Mapping[str, np.ndarray]]:
  """Endless batches of `training`'s examples; "record" [B] is the record's number, for queues.

  Args:
    batch: global batch size.
    bad: takes note of records that can't be read; each is reported once.
    max_bad_fraction: of the records; more of them stop the run.
    n_records: how many there are.
    options: of `pipeline.batches`: process, first_step, threads, buffer, workers.
  """
  bad = BadVideos() if bad is None else bad

  def take_note(example):
    for name, reason in example["problems"]:
      bad.add({"id": name, "ok": False, "reason": reason})
    if example["problems"]:
      bad.check(max_bad_fraction, n_records)
    return example["found"]

  return pipeline.batches(examples, batch=batch, receive=take_note, **options)


def in_order(dataset: Dataset, read: Callable, *, seed: int = 0, threads: int = 2, buffer: int = 4,
             part: tuple[int, int] = (0, 1)) -> Iterator[dict[str, Any]]:
  """Every record once, in order, for evaluation; one that can't be read is told, not dropped.

  Args:
    read: as for `training`; its random numbers are a function of `seed` and the record's place.
    threads: decoding at a time; 0 decodes when the next one is asked for.
    buffer: records read ahead of time.
    part: (index, count): records index, index + count, ...: a share for each of several processes.

  Yields:
    {"index": its place in the data set, "id", "ok", "reason": "" or why not, "found": what `read`
    gave, None where not ok}.
  """
  places = range(part[0], len(dataset.records), part[1])

  def element(k: int) -> dict[str, Any]:
    i = places[k]
    record, found, reason = dataset.records[i], None, ""
    try:
      found = read(record, np.random.default_rng([seed, i]))
    except VideoError as e:
      reason = e.reason
    return {"index": i, "id": record.id, "ok": not reason, "reason": reason, "found": found}

  return in_threads(len(places), element, threads, buffer)
