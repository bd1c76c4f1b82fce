"""Video files to RGB frames, exactly: a frame got by seeking equals that of a full decode.

`open_video` reads the file's packets once (no decoding) to learn when each frame is shown.
`VideoReader.frames` then seeks to key frames where that is safe, and decodes from the start where
it is not. What FFmpeg can't do is told as a `VideoError` with a short plain reason.
"""

import collections
import contextlib
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from av.stream import Discard, Disposition

from data_pipelines import picture, sniff
from data_pipelines.errors import VideoError
from data_pipelines.packets import Run, Unreliable, read_index

MAX_PIXELS = 2**28  # a frame of 16384 x 16384
MAX_FRAMES = 10_000_000  # 46 hours at 60 frames a second
UNKNOWN_FPS = 25.0  # where a file states neither times nor a rate


@contextlib.contextmanager
def open_video(source: str | os.PathLike | bytes, *, max_frames: int = MAX_FRAMES,
               max_pixels: int = MAX_PIXELS) -> Iterator["VideoReader"]:
  """Opens a video for reading; closes it at the end of the `with` block.

  Args:
    source: a path, or the bytes of a whole file.
    max_frames, max_pixels: refuse videos with more frames, or more pixels in one frame, read or
      asked for.

  Raises:
    VideoError: the file is missing, empty, not a video, has no video stream, no frame of it can be
      decoded, ...
  """
  reader = VideoReader(source, max_frames=max_frames, max_pixels=max_pixels)
  try:
    yield reader
  finally:
    reader.close()


class VideoReader:
  """One video stream of an open file; get it from `open_video`.

  The frames are numbered 0..n_frames-1 in the order in which they are shown. Where damage leaves
  nothing to show for one of them, the picture before it stays on screen (for the first ones: the
  first that decodes), as in a player. The pixel aspect ratio is ignored.

  Attributes:
    name: the file's path, or a name for bytes in memory.
    times: float64 [n_frames], seconds from the first frame, increasing.
    n_frames: number of frames.
    fps: average frames per second as the file states it, else as `times` gives it; 0.0 where
      neither does.
    height, width: of the frames as shown, in pixels, after rotation.
    rotation: -90, 0, 90 or 180, degrees counterclockwise by which the stored picture is turned.
    seekable: whether `frames` may seek.
  """

  def __init__(self, source: str | os.PathLike | bytes, *, max_frames: int = MAX_FRAMES,
               max_pixels: int = MAX_PIXELS):
    in_memory = isinstance(source, bytes | bytearray | memoryview)
    self.name = f"video in memory ({len(source)} bytes)" if in_memory else os.fspath(source)
    self._source = bytes(source) if in_memory else pathlib.Path(source).absolute()
    self._limits = max_frames, max_pixels
    self._container = self._stream = self._index = None
    self._trusted, self._closed = True, False  # until seeking fails; until close()
    try:
      sniff.check(self.name, self._source)
      self._open()
      self._check_pixels(self._stream.codec_context.height, self._stream.codec_context.width)
      with self._plain_errors():
        self._index = read_index(self._container, self._stream, self.name, max_frames)
        self._learn_timeline()
    except BaseException:
      self.close()
      raise

  @property
  def n_frames(self) -> int:
    return len(self.times)

  @property
  def seekable(self) -> bool:
    return self._index is not None and self._trusted

  def close(self) -> None:
    """Releases the file; more than once does no harm. Nothing can be read after that."""
    self._closed = True
    self._release()

  def frames(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None, *,
             crop: int | None = None, interpolation: str = "bilinear") -> np.ndarray:
    """The frames with these numbers; besides the result, one decoded frame is held at a time.

    Args:
      indices: int [N] in 0..n_frames-1, any order, repeats allowed.
      short_side: resize so that the shorter side has so many pixels; None keeps the size.
      crop: keep the middle crop x crop pixels; None keeps all.
      interpolation: "bilinear" or "bicubic", for resizing.

    Returns:
      uint8 [N, H, W, 3], RGB.

    Raises:
      IndexError: an index outside 0..n_frames-1.
      ValueError: `crop` is larger than a side.
      VideoError: decoding stopped working since the video was opened.
    """
    indices = np.asarray(indices, np.int64).reshape(-1)
    if indices.size and not 0 <= indices.min() <= indices.max() < self.n_frames:
      raise IndexError(f"{self.name} has frames 0..{self.n_frames - 1}, "
                       f"asked for {indices.min()}..{indices.max()}")
    size = self._output_size(short_side)
    cropped = picture.centre_crop(np.broadcast_to(np.uint8(0), (*size, 3)), crop).shape
    out = np.empty((len(indices), *cropped), np.uint8)
    rows = collections.defaultdict(list)
    for row, i in enumerate(indices.tolist()):
      rows[i].append(row)
    lacking = set(rows)
    with self._plain_errors():
      for i, frame in self._wanted(sorted(rows)):
        image = self._picture.rgb(frame, size, interpolation)
        out[rows[i]] = picture.centre_crop(image, crop)
        lacking.discard(i)
    if lacking:
      raise VideoError(self.name, "can't be decoded any more (did the file change?)")
    return out

  def scan(self, short_side: int | None = None, *,
           interpolation: str = "bilinear") -> Iterator[np.ndarray]:
    """All n_frames frames in order, uint8 [H, W, 3] each; the file is decoded once, no seeking."""
    size = self._output_size(short_side)
    with self._plain_errors():
      for _, frame in self._sequence():
        yield self._picture.rgb(frame, size, interpolation)

  # Opening.

  def _release(self) -> None:
    if self._container is not None:
      self._container.close()
    self._container = self._stream = None

  def _open(self) -> None:
    """(Re)opens the file at its beginning and chooses the stream."""
    self._release()
    file = io.BytesIO(self._source) if isinstance(self._source, bytes) else os.fspath(self._source)
    try:  # a title that is not UTF-8 is no reason to refuse a video
      self._container = av.open(file, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as e:
      raise VideoError(self.name, sniff.why_not_opened(self._source)) from e
    real = [s for s in self._container.streams.video
            if not s.disposition & Disposition.attached_pic]
    if not real:
      raise VideoError(self.name, "no video stream")
    decodable = [s for s in real if s.codec_context is not None]
    if not decodable:
      raise VideoError(self.name, "no decoder for its video codec")
    self._stream = max(decodable, key=lambda s: bool(s.disposition & Disposition.default))
    for stream in self._container.streams:
      if stream is not self._stream:
        stream.discard = Discard.all
    # Many readers share the machine, and frame threads deadlock on an early close.
    self._stream.thread_type = "NONE"
    self._stream.codec_context.thread_count = 1

  def _learn_timeline(self) -> None:
    """Sets the times, from packets, else from all frames; and what needs a decoded frame."""
    rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
    if self.seekable:
      pts = self._index.shown_pts
      self.times = _seconds(pts, self._stream.time_base, rate)
      first = next((frame for _, frame in self._wanted([0])), None)
    else:
      first, pts = self._decode_all()
    if first is None:
      raise VideoError(self.name, "no frame could be decoded")
    self.times = _seconds(pts, self._stream.time_base, rate)
    spanned = float(self.times[-1])
    self.fps = rate or ((len(self.times) - 1) / spanned if spanned else 0.0)
    self._picture = picture.Converter(first)
    self.height, self.width = self._picture.height, self._picture.width
    self.rotation = self._picture.rotation
    self._check_pixels(self.height, self.width)

  def _decode_all(self) -> tuple[av.VideoFrame | None, list[int | None]]:
    """The first frame and the times of all."""
    self._open()
    first, pts = None, []
    for frame in self._decode():
      first = frame if first is None else first
      pts.append(frame.pts)
      if len(pts) > self._limits[0]:
        raise VideoError(self.name, f"more than {self._limits[0]} frames")
    return first, pts

  def _check_pixels(self, height: int, width: int) -> None:
    if height * width > self._limits[1]:
      raise VideoError(self.name, f"frames of {width}x{height} pixels are too large")

  def _output_size(self, short_side: int | None) -> tuple[int, int]:
    if self._closed:
      raise ValueError(f"{self.name} is closed")
    size = picture.scaled_size(self.height, self.width, short_side)
    self._check_pixels(*size)  # scaling up a strip one pixel high knows no bounds
    return size

  @contextlib.contextmanager
  def _plain_errors(self) -> Iterator[None]:
    """FFmpeg's errors as a `VideoError`."""
    try:
      yield
    except av.FFmpegError as e:
      raise VideoError(self.name, f"can't be decoded ({e.strerror})") from e

  # Decoding.

  def _decode(self) -> Iterator[av.VideoFrame]:
    """Frames from the present position on; a bad packet costs no more than its own frame."""
    context = self._stream.codec_context
    packets = self._container.demux(self._stream)
    while True:
      try:
        packet = next(packets, None)
      except (av.FFmpegError, IndexError):
        # The file can't be read further (PyAV's IndexError: streams appeared in mid-file, it's the
        # end); the decoder may still hold frames.
        yield from _decoded(context, None)
        return
      if packet is None:
        return
      yield from _decoded(context, packet)

  def _sequence(self) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) for every frame of the video, decoded from the start of the file."""
    self._open()
    due, previous = 0, None
    for frame in self._decode():
      i = due if self._index is None else self._index.number.get(frame.pts, -1)
      if i < due:
        continue  # not in the timeline, or its turn has passed
      for missing in range(due, i):
        yield missing, frame if previous is None else previous
      yield i, frame
      due, previous = i + 1, frame
    for missing in range(due, self.n_frames if due else 0):
      yield missing, previous

  def _wanted(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) for sorted unique numbers; where one comes twice the second is right."""
    if not wanted:
      return
    if self.seekable:
      try:
        yield from self._sought(wanted)
        return
      except Unreliable:
        self._trusted = False
    numbers = set(wanted)
    for i, frame in self._sequence():
      if i in numbers:
        yield i, frame
      if i == wanted[-1]:
        return

  def _sought(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """`_wanted`, each from the nearest key frame; raises `Unreliable` at any doubt."""
    wanted_pts = self._index.shown_pts[wanted].tolist()
    run = None
    for i, pts, key in zip(wanted, wanted_pts, self._index.keys_before(wanted), strict=True):
      if run is None or self._index.key_place[key] > run.place:
        run = Run(self._container, self._stream, self._index, key, set(wanted_pts))
      frame = next((f for f in run.frames if f.pts is None or f.pts >= pts), None)
      if frame is None or frame.pts != pts:
        raise Unreliable
      yield i, frame


def _decoded(context: av.VideoCodecContext, packet: av.Packet | None) -> list[av.VideoFrame]:
  """The frames that a packet (None: the end) completes; none where it is damaged."""
  try:
    return context.decode(packet)
  except av.FFmpegError:
    return []


def _seconds(pts: Sequence[int | None], time_base: Fraction, rate: float) -> np.ndarray:
  """Times from the first frame; evenly spaced where the file's own don't increase throughout."""
  if any(p is None for p in pts) or np.any(np.diff(np.asarray(pts, np.int64)) <= 0):
    return np.arange(len(pts)) / (rate or UNKNOWN_FPS)
  since_first = np.asarray(pts, np.int64) - pts[0]
  return since_first * time_base.numerator / time_base.denominator


