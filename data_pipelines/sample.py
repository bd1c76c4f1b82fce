"""Which frames of a video to use: functions of its times alone."""

import math

import numpy as np

# Containers round times to a millisecond; a frame that comes so little late is still on time.
TOLERANCE = 1.5e-3


def per_second(times: np.ndarray, fps: float = 1.0, start: float | None = None,
               end: float | None = None) -> np.ndarray:
  """The frames on screen at start, start + 1/fps, start + 2/fps, ...

  Args:
    times: [n] seconds from the first frame at which each frame appears, increasing, n >= 1.
    fps: frames wanted per second; above the video's own rate frames are repeated.
    start: first moment, in seconds; None for 0. After the last frame has appeared, that one is
      taken to stay on screen.
    end: moments before it only; None for up to the last frame's appearance.

  Returns:
    int64 [m] frame numbers, m >= 1, not decreasing.
  """
  times = np.asarray(times, np.float64)
  if not times.size or not fps > 0:
    raise ValueError(f"needs at least one frame and fps > 0, got {times.size} and {fps}")
  start = max(0.0, start or 0.0)
  last = times[-1] if end is None else min(times[-1], end - 2 * TOLERANCE)
  count = max(1, math.floor((last - start + TOLERANCE) * fps) + 1)
  moments = start + np.arange(count) / fps
  return np.maximum(np.searchsorted(times, moments + TOLERANCE, side="right") - 1, 0)


def tca_parity(n_frames: int, fps: float | None) -> np.ndarray:
  """The frames that the TCA authors' extraction keeps (specs: TCA 2.1).

  With r = round(fps), frame i is kept when i = 0 or (i + 1) mod r = 0; the last one kept comes
  twice. Rates that are missing or above 144 count as 25.

  Args:
    n_frames: number of frames, at least 1.
    fps: frames per second as the file states it; None, 0 or NaN where it doesn't.

  Returns:
    int64 [m] frame numbers, m >= 2.
  """
  if n_frames < 1:
    raise ValueError("needs at least one frame")
  step = max(1, round(fps if fps and 0 < fps <= 144 else 25))
  i = np.arange(n_frames)
  kept = i[(i == 0) | ((i + 1) % step == 0)]
  return np.append(kept, kept[-1])
