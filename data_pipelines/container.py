"""Opening a video file's container, choosing its video stream, and times of frames."""

import io
import os
import pathlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.stream import Discard, Disposition

from data_pipelines import sniff
from data_pipelines.errors import VideoError

UNKNOWN_FPS = 25.0  # where a file states neither times nor a rate


def open_container(name: str, source: pathlib.Path | bytes
                   ) -> tuple[av.container.InputContainer, av.VideoStream]:
  """A file at its beginning, and the video stream that a player would show.

  Raises:
    VideoError: FFmpeg can't open it, it has no video stream, or none that can be decoded.
  """
  file = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
  try:  # a title that is not UTF-8 is no reason to refuse a video
    container = av.open(file, metadata_errors="replace")
  except (av.FFmpegError, ValueError) as e:
    raise VideoError(name, sniff.why_not_opened(source)) from e
  try:
    return container, _chosen(name, container)
  except BaseException:
    container.close()
    raise


def _chosen(name: str, container: av.container.InputContainer) -> av.VideoStream:
  """The default stream, else the first; packets of all others are thrown away."""
  real = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
  if not real:
    raise VideoError(name, "no video stream")
  decodable = [s for s in real if s.codec_context is not None]
  if not decodable:
    raise VideoError(name, "no decoder for its video codec")
  chosen = max(decodable, key=lambda s: bool(s.disposition & Disposition.default))
  for stream in container.streams:
    if stream is not chosen:
      stream.discard = Discard.all
  # Many readers share the machine, and frame threads deadlock on an early close.
  chosen.thread_type = "NONE"
  chosen.codec_context.thread_count = 1
  return chosen


def seconds(pts: Sequence[int | None], time_base: Fraction, rate: float) -> np.ndarray:
  """Times from the first frame; evenly spaced where the file's own don't increase throughout.

  Args:
    pts: [n] in units of `time_base`.
    rate: frames per second as the file states it; 0 where it doesn't.

  Returns:
    float64 [n], increasing from 0.
  """
  if any(p is None for p in pts) or np.any(np.diff(np.asarray(pts, np.int64)) <= 0):
    return np.arange(len(pts)) / (rate or UNKNOWN_FPS)
  since_first = np.asarray(pts, np.int64) - pts[0]
  return since_first * time_base.numerator / time_base.denominator
