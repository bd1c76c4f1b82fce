"""H.264 in mp4 from uint8 frames, by PyAV with fixed settings: same frames, same bytes.

The encoder is libx264 with one thread, preset "veryfast" and yuv420p, the form that every player
reads. It needs even sizes, so an odd height or width is made even by repeating the last row or
column; a reader who wants the old size crops it off.
"""

import io
import os
import pathlib
import threading
from fractions import Fraction

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


def write_atomic(path: str | os.PathLike, data: bytes) -> None:
  """Writes bytes to a file so that a reader sees the old file or the new one, never a part.

  Raises:
    DataError: the folder can't be written to, or the disk is full; names the file.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
  try:
    try:
      temporary.write_bytes(data)
      os.replace(temporary, path)
    finally:
      temporary.unlink(missing_ok=True)
  except OSError as error:
    raise DataError(f"can't write {path}: {error.strerror or error}") from error


def encode_bytes(frames: np.ndarray, fps: float, crf: int = 23) -> bytes:
  """The mp4 file that `write_mp4` writes, in memory.

  Args:
    frames: uint8 [T, H, W, 3], T >= 1.
    fps: frames per second, > 0.
    crf: x264's constant rate factor, 0 to 51.
  """
  if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
    raise ValueError(f"frames must be uint8 [T, H, W, 3], not {frames.dtype} {frames.shape}")
  rate = _fraction(fps)
  height, width = frames.shape[1:3]
  odd = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
  frames = np.pad(frames, odd, mode="edge") if height % 2 or width % 2 else frames
  buffer = io.BytesIO()
  # "bitexact" leaves the library's version and the time of day out of the file.
  with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
    stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), **_OPTIONS})
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    for frame in np.ascontiguousarray(frames):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    container.mux(stream.encode())
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


def _fraction(fps: float) -> Fraction:
  if not fps > 0:
    raise ValueError(f"fps must be positive, not {fps}")
  return Fraction(fps).limit_denominator(1000)
