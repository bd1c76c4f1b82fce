"""One record as it is stored in shards: small videos that can be sought in, small pictures.

What stays as it is is named by path and copied byte for byte; what is re-encoded becomes H.264 of
the wanted size, upright, with a key frame every 32 frames at most, and no sound.
"""

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from data_pipelines import sample
from data_pipelines.container import UNKNOWN_FPS
from data_pipelines.decode import VideoReader, open_video
from data_pipelines.errors import DataError, VideoError
from data_pipelines.pictures import PictureReader
from data_pipelines.records import Record

ENCODE = ("needed", "all", "none")
KEY_FRAME_EVERY = 32  # frames at most: what seeking to any of them has to decode
LARGEST_KEPT = 2**30  # bytes of a video that is not re-encoded for its size
TICKS = 90_000  # a second; times of frames are rounded to these
JPEG_QUALITY = 90

# As in `encode`, without mbtree, so that the same frames give the same bytes; here on other CPUs,
# too, for clusters have several kinds. "veryfast" at crf 20 is within 1 dB of "fast" at twice the
# speed (short side 256). Captions would be copied into the pictures' stream.
_H264 = {"preset": "veryfast", "threads": "1", "a53cc": "0",
         "x264-params": f"mbtree=0:cpu-independent=1:keyint={KEY_FRAME_EVERY}"}
_EXACTLY = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@dataclasses.dataclass(frozen=True)
class Settings:
  """How records are stored.

  Attributes:
    short_side: videos and pictures whose shorter side is larger are scaled down to it, in pixels,
      even; 0 keeps all sizes.
    encode: which videos are re-encoded: "needed", those that are larger than `short_side`, cut out
      of a longer one, turned, or above 1 GiB; "all"; "none", which leaves pictures alone, too.
    crf: x264's constant rate factor, 0 (lossless) to 51 (worst).
  """

  short_side: int = 256
  encode: str = "needed"
  crf: int = 20

  def __post_init__(self):
    if self.short_side < 0 or self.short_side % 2:
      raise DataError(f"short_side is an even number of pixels, or 0 to keep the size; got "
                      f"{self.short_side}")
    if self.encode not in ENCODE:
      raise DataError(f"encode is one of {', '.join(ENCODE)}; got {self.encode!r}")
    if not 0 <= self.crf <= 51:
      raise DataError(f"crf is 0 (lossless) to 51 (worst); got {self.crf}")


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
  """A record ready to be stored, and what is known of its frames.

  Attributes:
    record: its video, frames and masks are bytes, or paths of files to be copied as they are.
    n_frames: of the stored video (as told by its packets, where it was not re-encoded), or
      pictures.
    height, width: as shown, after rotation; of the first picture.
    rotation: of the stored video, see `VideoReader`; 0 for pictures.
    fps: of the video, or of the pictures where known, else None.
  """

  record: Record
  n_frames: int
  height: int
  width: int
  rotation: int
  fps: float | None


def transcode(record: Record, settings: Settings) -> Stored:
  """Makes one record ready to be stored; opens the video, or each picture, whatever the settings.

  A re-encoded video keeps the time of each frame (from the first one that is stored), its damaged
  frames show what `VideoReader.scan` shows, and `start` and `end` are cut out and None from then
  on. Records with masks, boxes or points keep their pictures, and videos with any `truth` stay as
  they are, since it counts their pixels and frames. Videos and pictures that are small enough are
  never scaled up; pictures become JPEG when they are scaled down.

  Raises:
    VideoError: the video or one of the pictures can't be read, or `start` and `end` leave nothing.
  """
  if record.frames:
    return _pictures(record, settings)
  if not record.video:
    raise VideoError(record.id, "has no video and no pictures")
  with contextlib.closing(_Source(record.video)) as reader:
    first, stop = _part(record, reader)
    whole = (first, stop) == (0, reader.n_frames)
    if not _reencoded(record, reader, settings, whole):
      # Without re-encoding, what is to be used stays marked by its times.
      kept = dataclasses.replace(record, start=None, end=None) if whole else record
      return Stored(kept, *_facts(reader))
    data = _encode(reader, first, stop, settings)
  with open_video(data) as written:
    if written.n_frames != stop - first:
      raise VideoError(reader.name, f"re-encoding gave {written.n_frames} frames, not "
                                    f"{stop - first}")
    return Stored(dataclasses.replace(record, video=data, start=None, end=None), *_facts(written))


def attempt(record: Record, settings: Settings) -> Stored | VideoError:
  """`transcode` for `isolate.run`, which tells no exception from another."""
  try:
    return transcode(record, settings)
  except VideoError as e:
    return e


def even_size(height: int, width: int, short_side: int) -> tuple[int, int]:
  """(height, width), even, with the shorter side at most `short_side` (0: no limit), at least 2."""
  shorter = min(height, width)
  scale = short_side / shorter if 0 < short_side < shorter else 1.0
  # Rounded to the nearest even number, which may stretch a side by one pixel.
  return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


class _Source(VideoReader):
  """Gives frames as H.264 takes them: planes of luma and colour, upright, of even size."""

  def pictures(self, first: int, stop: int, size: tuple[int, int]) -> Iterator[av.VideoFrame]:
    """Frames first, ..., stop - 1, resized to (height, width), one at a time."""
    whole = (first, stop) == (0, self.n_frames)
    due, converter = first, VideoReformatter()
    with self._plain_errors():
      for i, frame in self._sequence() if whole else self._wanted(list(range(first, stop))):
        if i == due:  # else it has been given out before
          due += 1
          yield self._picture_of(frame, size, converter)
    if due < stop:
      raise VideoError(self.name, "can't be decoded any more (did the file change?)")

  def _picture_of(self, frame: av.VideoFrame, size: tuple[int, int],
                  converter: VideoReformatter) -> av.VideoFrame:
    upright = frame.side_data.get("DISPLAYMATRIX") is None
    if not (upright and frame.format.name.startswith("yuv")):
      # As others see it. For all the rest going over RGB would take half as long again.
      image = self._picture.rgb(frame, size, "bicubic")
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame = converter.reformat(frame, width=size[1], height=size[0], format="yuv420p",
                               interpolation=_EXACTLY, threads=1)
    frame.pict_type = PictureType.NONE  # the encoder would make key frames where these were
    return frame


def _part(record: Record, reader: VideoReader) -> tuple[int, int]:
  """Frames first, ..., stop - 1 are those between `start` and `end`."""
  start, end = record.start or 0.0, record.end
  lasts = reader.times[-1] + 1 / (reader.fps or 1.0)
  if start > lasts or (end is not None and end < start):
    raise VideoError(reader.name, f"nothing between start={record.start} s and end={end} s: the "
                                  f"video lasts {lasts:.2f} s")
  return sample.part(reader.times, record.start, end)


def _reencoded(record: Record, reader: VideoReader, settings: Settings, whole: bool) -> bool:
  if record.truth or record.masks or settings.encode == "none":
    return False
  if settings.encode == "all" or not whole or reader.rotation:
    return True
  large = 0 < settings.short_side < min(reader.height, reader.width)
  return large or _n_bytes(record.video) > LARGEST_KEPT


def _n_bytes(source: str | bytes) -> int:
  return len(source) if isinstance(source, bytes) else os.stat(source).st_size


def _facts(reader: VideoReader) -> tuple[int, int, int, int, float | None]:
  return reader.n_frames, reader.height, reader.width, reader.rotation, reader.fps or None


# Videos.


def _encode(reader: _Source, first: int, stop: int, settings: Settings) -> bytes:
  """An mp4 file of frames first, ..., stop - 1; holds one frame at a time and the result."""
  size = even_size(reader.height, reader.width, settings.short_side)
  fps = min(max(reader.fps or UNKNOWN_FPS, 1.0), 1000.0)  # a hint; the times of frames are exact
  ticks = _ticks(reader.times[first:stop])
  durations = np.diff(ticks, append=ticks[-1] + round(TICKS / fps))
  buffer = io.BytesIO()
  try:
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as file:
      stream = file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001),
                               options={"crf": str(settings.crf), **_H264})
      stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
      stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
      times = zip(ticks.tolist(), durations.tolist(), strict=True)
      for packet in _packets(stream, reader.pictures(first, stop, size), times):
        file.mux(packet)
  except av.FFmpegError as e:
    raise VideoError(reader.name, f"can't be re-encoded ({e.strerror})") from e
  return buffer.getvalue()


def _packets(stream: av.VideoStream, frames: Iterable[av.VideoFrame],
             times: Iterable[tuple[int, int]]) -> Iterator[av.Packet]:
  context = stream.codec_context
  for frame, (pts, duration) in zip(frames, times, strict=True):
    if not context.is_open:  # what the numbers mean stays as it was
      context.colorspace, context.color_range = frame.colorspace, frame.color_range
      context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
    frame.pts, frame.duration, frame.time_base = pts, duration, Fraction(1, TICKS)
    yield from stream.encode(frame)
  yield from stream.encode()


def _ticks(times: np.ndarray) -> np.ndarray:
  """Times from the first, int64 in ticks, increasing even where they are closer than a tick."""
  ticks = np.round((times - times[0]) * TICKS).astype(np.int64)
  steps = np.arange(len(ticks))
  return np.maximum.accumulate(ticks - steps) + steps


# Pictures.


def _pictures(record: Record, settings: Settings) -> Stored:
  annotated = bool(record.masks) or not {"boxes", "points"}.isdisjoint(record.truth)
  short_side = 0 if annotated or settings.encode == "none" else settings.short_side
  whole = settings.encode != "none"  # else a look at the header is enough
  found = [_picture(record.id, source, short_side, whole) for source in record.frames]
  for mask in filter(None, record.masks):
    _picture(record.id, mask, 0, whole)
  frames, (height, width) = tuple(source for source, _ in found), found[0][1]
  return Stored(dataclasses.replace(record, frames=frames), len(frames), height, width, 0,
                record.fps)


def _picture(record_id: str, source: str | bytes, short_side: int,
             whole: bool) -> tuple[str | bytes, tuple[int, int]]:
  """The picture, scaled down where it is larger, and its (height, width) as shown."""
  reader = PictureReader([source], name=record_id)
  height, width = reader.height, reader.width
  if not 0 < short_side < min(height, width):
    if whole:
      reader.frames([0])  # finds damage
    return source, (height, width)
  image = reader.frames([0], short_side, interpolation="bicubic")[0]
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
  return buffer.getvalue(), image.shape[:2]
