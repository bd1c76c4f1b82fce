"""Video files to RGB frames, exactly: a frame got by seeking equals that of a full decode.

`open_video` reads the file's packets once (no decoding) to learn when each frame is shown.
`VideoReader.frames` then seeks to key frames where that is safe, and decodes from the start where
it is not. What FFmpeg can't do is told as a `VideoError` with a short plain reason.
"""

import collections
import contextlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence

import av
import numpy as np

from data_pipelines import picture, sniff
from data_pipelines.container import open_container, seconds
from data_pipelines.errors import VideoError
from data_pipelines.packets import Run, Unreliable, read_index

MAX_PIXELS = 2**28  # a frame of 16384 x 16384
MAX_FRAMES = 10_000_000  # 46 hours at 60 frames a second
KEEP_BYTES = 2**25  # of decoded frames, of files that have to be decoded to know their times


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
    codec: FFmpeg's name of the video codec, for example "h264".
    n_lacking: frames that the file's header states beyond those that are there.
    stated_seconds: how long the file's header says that it lasts; 0.0 where it doesn't say.
  """

  def __init__(self, source: str | os.PathLike | bytes, *, max_frames: int = MAX_FRAMES,
               max_pixels: int = MAX_PIXELS):
    in_memory = isinstance(source, bytes | bytearray | memoryview)
    self.name = f"video in memory ({len(source)} bytes)" if in_memory else os.fspath(source)
    self._source = bytes(source) if in_memory else pathlib.Path(source).absolute()
    self._limits = max_frames, max_pixels
    self._container = self._stream = self._index = self._run = None
    self._kept = {}  # number -> frame, of those decoded while opening
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
    self._kept = {}
    self._release()

  def frames(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None, *,
             crop: int | None = None, interpolation: str = "bilinear") -> np.ndarray:
    """The frames with these numbers. Decoded frames pass through memory one by one.

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
    indices = checked_numbers(self.name, indices, self.n_frames)
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
        first, *others = rows[i]
        picture.copy(out[first], picture.centre_crop(image, crop))
        out[others] = out[first]
        lacking.discard(i)
    if lacking:
      raise VideoError(self.name, "can't be decoded any more (did the file change?)")
    return out

  def stream(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None, *,
             crop: int | None = None, interpolation: str = "bilinear") -> Iterator[np.ndarray]:
    """The same as `frames`, one by one and never more than one in memory, for long videos.

    Nothing else may be read from this reader meanwhile.

    Args:
      indices: int [N] in 0..n_frames-1, not decreasing; repeats give the same array again.
      short_side, crop, interpolation: as for `frames`.

    Yields:
      uint8 [H, W, 3], RGB, N times.

    Raises:
      IndexError, ValueError, VideoError: as `frames` does; ValueError also for indices that
        decrease.
    """
    indices = checked_numbers(self.name, indices, self.n_frames)
    if np.any(np.diff(indices) < 0):
      raise ValueError("stream needs indices that don't decrease")
    numbers, repeats = np.unique(indices, return_counts=True)
    return self._one_by_one(numbers.tolist(), repeats.tolist(), self._output_size(short_side),
                            crop, interpolation)

  def _one_by_one(self, numbers, repeats, size, crop, interpolation) -> Iterator[np.ndarray]:
    given = 0
    with self._plain_errors():
      for i, frame in self._wanted(numbers):
        if numbers[given:given + 1] == [i]:  # else it has been given out before
          image = picture.centre_crop(self._picture.rgb(frame, size, interpolation), crop)
          yield from itertools.repeat(image, repeats[given])
          given += 1
    if given < len(numbers):
      raise VideoError(self.name, "can't be decoded any more (did the file change?)")

  def scan(self, short_side: int | None = None, *,
           interpolation: str = "bilinear") -> Iterator[np.ndarray]:
    """All n_frames frames in order, uint8 [H, W, 3] each; the file is decoded once, no seeking."""
    size = self._output_size(short_side)
    with self._plain_errors():
      for _, frame in self._sequence():
        yield self._picture.rgb(frame, size, interpolation)

  def count_damaged(self) -> int:
    """How many of the n_frames lack a whole picture of their own; decodes and converts them all.

    For these, another frame is shown, or the decoder has mended what it could.
    """
    whole, shown, size = 0, None, self._output_size(None)
    with self._plain_errors():
      for _, frame in self._sequence():
        if frame is not shown:
          self._picture.rgb(frame, size, "bilinear")
          whole, shown = whole + (not frame.is_corrupt), frame
    return self.n_frames - whole

  # Opening.

  def _release(self) -> None:
    if self._container is not None:
      self._container.close()
    self._container = self._stream = self._run = None

  def _open(self) -> None:
    """(Re)opens the file at its beginning."""
    self._release()
    self._container, self._stream = open_container(self.name, self._source)

  def _learn_timeline(self) -> None:
    """Sets the times, from packets, else from all frames; and what needs a decoded frame."""
    rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
    if self.seekable:
      pts = self._index.shown_pts
      self.times = seconds(pts, self._stream.time_base, rate)
      # The decoder must see the first packet before it seeks: in it alone x264 tells its version,
      # by which FFmpeg reads 4:4:4 of old ones. The decoding goes on from here where it can.
      first = next((frame for _, frame in self._wanted([0])), None)
      if self.seekable:
        self._kept[0] = first
    else:
      first, pts = self._decode_all(rate)
    if first is None:
      raise VideoError(self.name, "no frame could be decoded")
    self.times = seconds(pts, self._stream.time_base, rate)
    self.codec = self._stream.codec_context.codec.canonical_name
    stored = self.n_frames if self._index is None else len(self._index.all_pts)
    self.n_lacking = max(0, self._stream.frames - stored)
    self.stated_seconds = (float(self._stream.duration * self._stream.time_base)
                           if self._stream.duration else
                           (self._container.duration or 0) / av.time_base)
    spanned = float(self.times[-1])
    self.fps = rate or ((len(self.times) - 1) / spanned if spanned else 0.0)
    self._picture = picture.Converter(first)
    self.height, self.width = self._picture.height, self._picture.width
    self.rotation = self._picture.rotation
    self._check_pixels(self.height, self.width)

  def _decode_all(self, rate: float) -> tuple[av.VideoFrame | None, list[int | None]]:
    """The first frame and the times of all; keeps the frames of a short video."""
    self._open()
    context = self._stream.codec_context
    n_stated = self._stream.frames or round((self._container.duration or 0) / av.time_base * rate)
    room = KEEP_BYTES
    if n_stated * context.height * context.width * 3 / 2 > room:  # bytes of the usual 4:2:0
      context.options = {"skip_loop_filter": "all"}  # changes neither how many come nor when
      room = 0
    first, pts = None, []
    for frame in self._decode():
      first = frame if first is None else first
      room -= sum(plane.buffer_size for plane in frame.planes)
      if room > 0:
        self._kept[len(pts)] = frame
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
      i = due if self._index is None else self._index.number(frame.pts)
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
    yield from ((i, self._kept[i]) for i in wanted if i in self._kept)
    wanted = [i for i in wanted if i not in self._kept]
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
    among = set(wanted_pts)
    run, self._run = self._run, None  # until it has gone well
    if run is not None and self._index.shown_place[wanted].min() < run.place:
      run = None  # what it has passed can't be had from it any more
    elif run is not None:
      run.wanted_pts = among
    for i, pts, key in zip(wanted, wanted_pts, self._index.keys_before(wanted), strict=True):
      if run is None or self._index.key_place[key] > run.place:
        run = Run(self._container, self._stream, self._index, key, among)
      frame = next((f for f in run.frames if f.pts is None or f.pts >= pts), None)
      if frame is None or frame.pts != pts:
        raise Unreliable
      yield i, frame
    self._run = run


def checked_numbers(name: str, indices: Sequence[int] | np.ndarray, n_frames: int) -> np.ndarray:
  """Frame numbers as int64 [N]; raises IndexError where one is outside 0..n_frames-1."""
  indices = np.asarray(indices, np.int64).reshape(-1)
  if indices.size and not 0 <= indices.min() <= indices.max() < n_frames:
    raise IndexError(f"{name} has frames 0..{n_frames - 1}, "
                     f"asked for {indices.min()}..{indices.max()}")
  return indices


def _decoded(context: av.VideoCodecContext, packet: av.Packet | None) -> list[av.VideoFrame]:
  """The frames that a packet (None: the end) completes; none where it is damaged."""
  try:
    return context.decode(packet)
  except av.FFmpegError:
    return []
