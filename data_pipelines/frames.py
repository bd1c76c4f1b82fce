"""Videos to frame sequences for feature extraction, in order; bad videos are told, not dropped."""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from data_pipelines import edits, picture, sample
from data_pipelines.errors import DataError, VideoError
from data_pipelines.media import open_media
from data_pipelines.records import Record

logger = logging.getLogger(__name__)


def frame_sequences(videos: Sequence[Record], *, short_side: int, crop: int, fps: float = 1.0,
                    max_frames: int | None = None, parity: bool = False, threads: int = 2,
                    buffer: int = 4) -> Iterator[dict[str, Any]]:
  """Decodes videos one after the other, some ahead of time in threads.

  Resized (bicubic) so that the shorter side is `short_side`, then the middle `crop` x `crop`.
  Records with an `edit_seed` are edited at size `short_side`, and resized again.

  Args:
    videos: what to read; `start` and `end` are honoured.
    short_side, crop: in pixels, crop <= short_side.
    fps: frames taken per second (`sample.per_second`).
    max_frames: at most so many, evenly spread over those that `fps` gives; None for all.
    parity: instead of `fps`, the frames that the TCA authors take (`sample.tca_parity`).
    threads: decoding at a time; 0 decodes when the next one is asked for.
    buffer: sequences decoded ahead of time.

  Yields:
    One dict a video, in order: {"index": its place, "id", "ok": whether it could be read,
    "reason": "" or why not, "frames": uint8 [T, crop, crop, 3], T = 0 where not ok}.

  Raises:
    ValueError: a setting makes no sense. A video never raises.
  """
  if not 0 < crop <= short_side or not fps > 0 or (max_frames is not None and max_frames < 1):
    raise ValueError(f"needs 0 < crop <= short_side, fps > 0 and max_frames >= 1, got {crop=}, "
                     f"{short_side=}, {fps=}, {max_frames=}")
  choose = functools.partial(choose_frames, fps=fps, max_frames=max_frames, parity=parity)

  def read(i: int) -> dict[str, Any]:
    video, frames, reason = videos[i], np.zeros((0, crop, crop, 3), np.uint8), ""
    try:
      frames = read_frames(video, choose, short_side, crop)
    except VideoError as e:
      reason = e.reason
    except Exception as e:  # one video must not end the run; the reason is counted and reported
      logger.debug("%s", video.id, exc_info=True)
      reason = f"unexpected {type(e).__name__}: {e}"
    return {"index": i, "id": video.id, "ok": not reason, "reason": reason, "frames": frames}

  return in_threads(len(videos), read, threads, buffer)


def read_frames(video: Record, choose: Callable[..., np.ndarray], short_side: int,
                crop: int) -> np.ndarray:
  """The frames of one record, uint8 [T, crop, crop, 3].

  Args:
    choose: (times, fps, start, end) -> frame numbers.

  Raises:
    VideoError: it can't be read, or `start` and `end` leave nothing of it.
  """
  with open_media(video) as reader:
    lasts = reader.times[-1] + 1 / (reader.fps or 1.0)
    start, end = video.start or 0.0, video.end
    if start > lasts or (end is not None and end < start):
      raise VideoError(video.video, f"nothing between start={video.start} s and end={end} s: "
                                   f"the video lasts {lasts:.2f} s")
    indices = choose(reader.times, reader.fps, video.start, end)
    if video.edit_seed is None:
      return reader.frames(indices, short_side, crop=crop, interpolation="bicubic")
    frames = reader.frames(indices, short_side, interpolation="bicubic")
  frames = edits.random_edit(frames, video.edit_seed, **edits.STRENGTHS[video.edit_strength])
  return np.array(picture.centre_crop(picture.resize(frames, short_side, "bicubic"), crop))


def choose_frames(times: np.ndarray, video_fps: float, start: float | None, end: float | None, *,
                  fps: float = 1.0, max_frames: int | None = None,
                  parity: bool = False) -> np.ndarray:
  """int64 [m] frame numbers, m >= 1: see `frame_sequences`."""
  if parity:
    first = min(int(np.searchsorted(times, start or 0.0)), len(times) - 1)
    stop = len(times) if end is None else int(np.searchsorted(times, end))
    indices = first + sample.tca_parity(max(1, stop - first), video_fps)
  else:
    indices = sample.per_second(times, fps, start, end)
  if max_frames is not None and len(indices) > max_frames:
    indices = indices[np.arange(max_frames) * len(indices) // max_frames]
  return indices


def in_threads(count: int, read: Callable[[int], dict], threads: int,
                buffer: int) -> Iterator[dict[str, Any]]:
  """read(0), read(1), ..., each soon after it was read; the threads end with the iterator."""
  if not count:
    return
  # Grain's own defaults would hold 500 videos in memory.
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer if threads else 0)
  iterator = iter(grain.MapDataset.range(count).map(read).to_iter_dataset(options))
  try:
    yield from iterator
  finally:
    iterator.close()


class BadVideos:
  """Remembers which videos can't be read, reports each once, and knows when there are too many.

  Args:
    report: called with one line for each bad video when it is first met; the default logs it as
      a warning.
  """

  def __init__(self, report: Callable[[str], None] = logger.warning):
    self.reasons: dict[str, str] = {}  # id -> reason
    self._report = report
    self._met: set[str] = set()

  def __len__(self) -> int:
    return len(self.reasons)

  @property
  def n_videos(self) -> int:
    """How many different videos were met, good or bad."""
    return len(self._met)

  def add(self, item: Mapping[str, Any]) -> bool:
    """Takes note of one of `frame_sequences`' dicts ("id", "ok", "reason"); returns its "ok"."""
    self._met.add(item["id"])
    if not item["ok"] and item["id"] not in self.reasons:
      self.reasons[item["id"]] = item["reason"]
      self._report(f"can't use {item['id']}: {item['reason']}")
    return bool(item["ok"])

  def check(self, max_fraction: float, n_videos: int | None = None) -> None:
    """Raises `DataError` where more than `max_fraction` of the videos are bad.

    Args:
      max_fraction: 0 for none, 1 for any number.
      n_videos: how many there are in all, where some were not met yet: a bad one among the first
        few is no reason to stop.
    """
    total = max(n_videos or 0, self.n_videos)
    if len(self) <= max_fraction * total:
      return
    first = "".join(f"\n  {i}: {reason}" for i, reason in list(self.reasons.items())[:5])
    more = f"\n  and {len(self) - 5} more" if len(self) > 5 else ""
    raise DataError(
        f"{len(self)} of {total} videos ({len(self) / total:.1%}) can't be used, more than "
        f"data.max_bad_fraction={max_fraction:g} allows:{first}{more}\n"
        "Mend or remove them, or raise data.max_bad_fraction to go on without them.")
