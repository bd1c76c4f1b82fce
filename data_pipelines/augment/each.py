"""One function over all frames of a clip."""

from collections.abc import Callable

import numpy as np


def each_frame(frames: np.ndarray, function: Callable, *parameters) -> np.ndarray:
  """`function(frame, *values)` of every frame, stacked.

  Frame by frame, since a frame that stays in the processor's cache from the first step of a
  function to its last is worth more than few calls on whole clips.

  Args:
    frames: uint8 [T, H, W, 3].
    function: `(uint8 [H, W, 3], *values)` -> a picture or an array, of one shape for all frames.
    parameters: a number, or an array [T] with a value for each frame.

  Raises:
    ValueError: `frames` is something else, or a parameter has another length.
  """
  check(frames)
  out = None
  rows = zip(*(np.broadcast_to(p, len(frames)).tolist() for p in parameters), strict=True)
  for t, row in enumerate(rows if parameters else ((),) * len(frames)):
    made = np.asarray(function(frames[t], *row))
    if out is None:
      out = np.empty((len(frames), *made.shape), made.dtype)
    out[t] = made
  return out


def check(frames: np.ndarray, dtypes: tuple[type, ...] = (np.uint8,)) -> None:
  """Raises ValueError if `frames` is not [T, H, W, 3] of these types, with T, H, W >= 1."""
  shape, dtype = np.shape(frames), getattr(frames, "dtype", None)
  if dtype not in dtypes or len(shape) != 4 or shape[3] != 3 or not min(shape):
    names = " or ".join(np.dtype(d).name for d in dtypes)
    raise ValueError(f"frames must be {names} [T, H, W, 3] with at least one frame and pixel, "
                     f"got {type(frames).__name__ if dtype is None else dtype} {list(shape)}")
