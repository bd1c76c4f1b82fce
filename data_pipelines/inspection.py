"""What a video is like, and whether it can be read: each in a process that may hang or crash."""

import contextlib
import os
from collections.abc import Iterator, Sequence

import pyarrow as pa

from data_pipelines import isolate, shards
from data_pipelines.decode import VideoReader
from data_pipelines.errors import DataError, VideoError
from data_pipelines.media import open_media, read_masks
from data_pipelines.pictures import PictureReader
from data_pipelines.records import Record

SCHEMA = pa.schema([
    ("path", pa.string()),  # of the video, or of the folder of its pictures
    ("id", pa.string()),
    ("ok", pa.bool_()),
    ("reason", pa.string()),  # why not
    ("warning", pa.string()),
    ("n_frames", pa.int64()),
    ("damaged_frames", pa.int64()),  # with --full: see VideoReader.count_damaged
    ("seconds", pa.float64()),  # from the first frame to the end of the last
    ("fps", pa.float64()),
    ("height", pa.int64()),  # as shown
    ("width", pa.int64()),
    ("rotation", pa.int64()),
    ("codec", pa.string()),
    ("seekable", pa.bool_()),  # False: frames are reached by decoding from the start
    ("bytes", pa.int64()),
    ("seconds_taken", pa.float64()),
])


def inspect(record: Record, full: bool = False) -> dict:
  """Facts about one record, by the names in `SCHEMA`; where it can't be read, "reason" says why.

  Args:
    full: decode all frames, not the first, middle and last one alone.
  """
  facts = {"ok": False, "reason": "", "warning": ""}
  whole = record
  try:
    whole = shards.resolve(record)
    with open_media(whole) as media:
      _describe(media, facts)
      _check_part(record, media)
      decode = _decode_video if isinstance(media, VideoReader) else _decode_pictures
      warnings = decode(whole, media, full, facts)
    facts |= {"ok": True, "warning": "; ".join(warnings)}
  except VideoError as e:  # of many pictures, it may be any one
    facts["reason"] = f"{os.path.basename(e.name)}: {e.reason}" if whole.frames else e.reason
  except DataError as e:
    facts["reason"] = str(e)
  return facts


def inspect_full(record: Record) -> dict:
  """`inspect` by decoding all frames."""
  return inspect(record, full=True)


def _describe(media: VideoReader | PictureReader, facts: dict) -> None:
  last = 1 / media.fps if media.fps else 0.0
  facts |= {"n_frames": media.n_frames, "seconds": round(float(media.times[-1]) + last, 3),
            "fps": round(media.fps, 4), "height": media.height, "width": media.width,
            "rotation": media.rotation}


def _check_part(record: Record, media: VideoReader | PictureReader) -> None:
  """Raises VideoError where `start` and `end` leave nothing."""
  start, end = record.start or 0.0, record.end
  last = float(media.times[-1]) + (1 / media.fps if media.fps else 1.0)
  if start > last or (end is not None and end < start):
    raise VideoError(media.name, f"nothing between start={record.start} s and end={end} s: it "
                                 f"lasts {last:.2f} s")


def _decode_video(record: Record, video: VideoReader, full: bool, facts: dict) -> list[str]:
  """Decodes frames; what is odd about them."""
  del record
  warnings, n, sought = [], video.n_frames, video.seekable
  # The frames are converted whole, but one pixel of each is kept: the rest needs no memory.
  video.frames([0, n // 2, n - 1], crop=1)
  facts |= {"codec": video.codec, "seekable": video.seekable}
  if sought and not video.seekable:
    warnings.append("damaged: seeking fails, so frames are decoded from the start")
  if video.n_lacking:
    warnings.append(f"{video.n_lacking} of the {n + video.n_lacking} frames that its header "
                    "states are not there")
  if facts["seconds"] < 0.9 * video.stated_seconds - 1:
    warnings.append(f"cut off: lasts {facts['seconds']:.1f} s, its header says "
                    f"{video.stated_seconds:.1f} s")
  if full:
    damaged = facts["damaged_frames"] = video.count_damaged()
    if damaged:
      warnings.append(f"{damaged} of {n} frames are damaged")
  return warnings


def _decode_pictures(record: Record, pictures: PictureReader, full: bool,
                     facts: dict) -> list[str]:
  """Decodes pictures and their masks; what is odd about them."""
  n, sizes = pictures.n_frames, set()
  for i in range(n) if full else sorted({0, n // 2, n - 1}):
    size = pictures.frames([i]).shape[1:3]
    sizes.add(size)
    if i < len(record.masks) and record.masks[i]:
      mask = read_masks(record, [i]).shape[1:]
      if mask != size:
        raise VideoError(pictures.name, f"picture {i} has {size[1]}x{size[0]} pixels, its mask "
                                        f"{mask[1]}x{mask[0]}")
  facts["damaged_frames"] = 0 if full else None
  return ["pictures of several sizes"] if len(sizes) > 1 else []


def inspect_all(records: Sequence[Record], *, full: bool = False, workers: int, time_limit: float,
                memory_limit: int = 4 * 2**30) -> Iterator[tuple[int, dict]]:
  """(place in `records`, row of `SCHEMA`) in the order in which they get ready.

  Args:
    full: decode all frames.
    workers, time_limit, memory_limit: see `isolate.run`.
  """
  outcomes = isolate.run(inspect_full if full else inspect, records, workers=workers,
                         time_limit=time_limit, memory_limit=memory_limit)
  with contextlib.closing(outcomes):
    for i, outcome in outcomes:
      facts = outcome.value or {"ok": False, "reason": outcome.reason, "warning": ""}
      yield i, _known(records[i]) | facts | {"seconds_taken": round(outcome.seconds, 3)}


def _known(record: Record) -> dict:
  """What is known of a record without opening it."""
  sources, size = record.frames or (record.video,), None
  with contextlib.suppress(OSError):  # that it isn't there is told by whoever opens it
    size = sum(len(s) if isinstance(s, bytes) else os.stat(s).st_size for s in sources)
  path = sources[0]
  if isinstance(path, bytes):
    path = record.id
  elif record.frames:
    path = os.path.dirname(path)
  return names(path, record.id) | {"bytes": size}


def names(path: str, record_id: str) -> dict:
  """"path" and "id" of a row, printable whatever bytes the path has."""
  return {"path": os.fsencode(path).decode("utf-8", "backslashreplace"), "id": record_id}
