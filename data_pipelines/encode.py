"""H.264 in mp4 from uint8 frames, by PyAV with fixed settings: same frames, same bytes.

The encoder is libx264 with one thread, preset "veryfast" and yuv420p, the form that every player
reads. It needs even sizes, so an odd height or width is made even by repeating the last row or
column; a reader who wants the old size crops it off.
"""

import contextlib
import io
import os
import pathlib
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from data_pipelines.errors import DataError, VideoError

# Without mbtree, whose AVX-512 code makes files differ from run to run at sizes that are not
# multiples of 64. The rest is a quick search for motion, a third faster than the preset's own.
_OPTIONS = {
  "preset": "veryfast",
  "threads": "1",
  "x264-params": "mbtree=0:ref=1:subme=1:me=dia:trellis=0:mixed-refs=0:weightp=0",
}


def write_mp4(path: str | os.PathLike, frames: np.ndarray, fps: float, crf: int = 23) -> None:
  """Writes frames as an mp4 file, all or nothing (a temporary file beside it is renamed).

  Args:
    path: the file to write or replace; its folder exists.
    frames: uint8 [T, H, W, 3], T >= 1.
    fps: frames per second, > 0.
    crf: x264's constant rate factor, 0 (lossless) to 51 (worst).

  Raises:
    DataError: the folder can't be written to, or the disk is full.
  """
  write_atomic(path, encode_bytes(frames, fps, crf))


@contextlib.contextmanager
def mp4_writer(path: str | os.PathLike, fps: float,
               crf: int = 23) -> Iterator[Callable[[np.ndarray], None]]:
  """For videos that don't fit into memory: gives a function that takes one frame after the other.

  The file appears at the end of the `with` block, whole; not at all where the block raises.

  Args:
    path: the file to write or replace; its folder exists.
    fps, crf: as for `write_mp4`.

  Yields:
    A function of a frame, uint8 [H, W, 3], all of one size.

  Raises:
    DataError: the folder can't be written to, or the disk is full.
    ValueError: no frame was written, or one isn't like the first.
  """
  path = pathlib.Path(path)
  temporary = _temporary(path)
  try:
    with contextlib.ExitStack() as stack:
      with _told(path):
        file = open(temporary, "wb")
      stack.callback(_quietly, file.close)
      encoder = _Encoder(file, fps, crf)
      stack.callback(_quietly, encoder.close)

      def write(frame: np.ndarray) -> None:
        with _told(path):
          encoder.write(frame)

      yield write
      with _told(path):
        encoder.finish()
        file.close()
        os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike, data: bytes) -> None:
  """Writes bytes to a file so that a reader sees the old file or the new one, never a part.

  Raises:
    DataError: the folder can't be written to, or the disk is full; names the file.
  """
  path = pathlib.Path(path)
  temporary = _temporary(path)
  with _told(path):
    try:
      temporary.write_bytes(data)
      os.replace(temporary, path)
    finally:
      temporary.unlink(missing_ok=True)


def encode_bytes(frames: np.ndarray, fps: float, crf: int = 23) -> bytes:
  """The mp4 file that `write_mp4` writes, in memory.

  Args:
    frames: uint8 [T, H, W, 3], T >= 1.
    fps: frames per second, > 0.
    crf: x264's constant rate factor, 0 to 51.
  """
  if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
    raise ValueError(f"frames must be uint8 [T, H, W, 3], not {frames.dtype} {frames.shape}")
  buffer = io.BytesIO()
  with contextlib.closing(_Encoder(buffer, fps, crf)) as encoder:
    for frame in frames:
      encoder.write(frame)
    encoder.finish()
  return buffer.getvalue()


def decode_bytes(data: bytes) -> np.ndarray:
  """All frames of an encoded video in memory, uint8 [T, H, W, 3], H and W even (see above).

  Raises:
    VideoError: the bytes are not a video with frames.
  """
  try:
    with av.open(io.BytesIO(data)) as container:
      if not container.streams.video:
        raise VideoError("video in memory", "no video stream")
      # One converter for all frames; `to_ndarray(format=...)` would set up one for each.
      convert = VideoReformatter().reformat
      frames = [convert(f, format="rgb24").to_ndarray() for f in container.decode(video=0)]
  except av.error.FFmpegError as error:
    raise VideoError("video in memory", f"can't be decoded ({error.strerror})") from error
  if not frames:
    raise VideoError("video in memory", "no frames")
  return np.stack(frames)


class _Encoder:
  """H.264 in mp4 into a file that can be sought in; the first frame gives the size.

  To be closed even where `finish` wasn't reached.
  """

  def __init__(self, file: BinaryIO, fps: float, crf: int):
    self._rate, self._size = _fraction(fps), None
    # "bitexact" leaves the library's version and the time of day out of the file.
    self._container = av.open(file, "w", format="mp4", options={"fflags": "+bitexact"})
    self._stream = self._container.add_stream("libx264", rate=self._rate,
                                              options={"crf": str(crf), **_OPTIONS})
    self._stream.pix_fmt = "yuv420p"

  def write(self, frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
      raise ValueError(f"a frame must be uint8 [H, W, 3], not {frame.dtype} {frame.shape}")
    height, width = frame.shape[:2]
    if self._size is None:
      self._size = height, width
      self._stream.height, self._stream.width = height + height % 2, width + width % 2
    if self._size != (height, width):
      raise ValueError(f"a frame has {width}x{height} pixels, the first "
                       f"{self._size[1]}x{self._size[0]}")
    if height % 2 or width % 2:
      frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    self._container.mux(self._stream.encode(picture))

  def finish(self) -> None:
    if self._size is None:
      raise ValueError("a video needs at least one frame")
    self._container.mux(self._stream.encode())
    self._container.close()

  def close(self) -> None:
    self._container.close()


def _temporary(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")


def _quietly(close: Callable[[], None]) -> None:
  """Closes what failed before or was closed already: the first failure is the one to tell."""
  with contextlib.suppress(OSError):
    close()


@contextlib.contextmanager
def _told(path: pathlib.Path) -> Iterator[None]:
  """A failed write as a `DataError` that names the file."""
  try:
    yield
  except OSError as error:
    raise DataError(f"can't write {path}: {error.strerror or error}") from error


def _fraction(fps: float) -> Fraction:
  if not fps > 0:
    raise ValueError(f"fps must be positive, not {fps}")
  return Fraction(fps).limit_denominator(1000)
