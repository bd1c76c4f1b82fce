"""Square crops around a target, on the host (cycle_contrast spec 6.3)."""

from collections.abc import Sequence

import numpy as np


def squares(image: np.ndarray, centre: Sequence[float], sides: Sequence[float],
            size: int) -> np.ndarray:
  """Square crops of several sides around one place, each resized to `size` pixels.

  A square's edges are rounded to whole pixels. What lies inside the image is resized to its share
  of the crop (bilinear, half-pixel centres, no antialias), and the rest is filled with the image's
  mean colour. A square that lies outside altogether gives zeros.

  Args:
    image: uint8 [H, W, 3].
    centre: (y, x); a square reaches from `centre - side / 2` to `centre + side / 2`, and pixel i
      from i to i + 1.
    sides: S sides in pixels; below 2 counts as 2.
    size: pixels a side of the result.

  Returns:
    uint8 [S, size, size, 3].
  """
  image = np.asarray(image)
  if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
    raise ValueError(f"image {image.dtype} {image.shape} should be uint8 [H, W, 3]")
  centre, sides = np.asarray(centre, np.float64), np.maximum(np.asarray(sides, np.float64), 2)
  if not (np.isfinite(centre).all() and np.isfinite(sides).all()):
    raise ValueError(f"centre {centre} and sides {sides} should be finite")
  mean = np.rint(image.mean((0, 1))).astype(np.uint8)
  out = np.empty((len(sides), size, size, 3), np.uint8)
  for crop, side in zip(out, sides, strict=True):
    _fill(crop, image, mean, np.rint(centre - side / 2).astype(int),
          np.rint(centre + side / 2).astype(int))
  return out


def _fill(crop: np.ndarray, image: np.ndarray, mean: np.ndarray, low: np.ndarray,
          high: np.ndarray) -> None:
  """Writes the square between the corners `low` and `high` (y, x) into `crop`."""
  inside = np.clip([low, high], 0, image.shape[:2])
  extent = inside[1] - inside[0]
  if not extent.all():
    crop[:] = 0
    return
  size = len(crop)
  shape = np.maximum(np.rint(size * extent / (high - low)), 1).astype(int)
  # Rounding may have made the part a pixel too large for where it begins.
  start = np.minimum((np.maximum(-low, 0) * size / (high - low)).astype(int), size - shape)
  part = image[inside[0, 0]:inside[1, 0], inside[0, 1]:inside[1, 1]]
  crop[:] = mean
  crop[start[0]:start[0] + shape[0], start[1]:start[1] + shape[1]] = bilinear(part, tuple(shape))


def bilinear(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """uint8 [H, W, C] resized to [H', W', C], half-pixel centres, edges clamped, no antialias.

  In OpenCV's fixed-point arithmetic, whose levels are a fraction below the rounded ones: that
  alone would change the released tracker's responses by 0.2 %.
  """
  x = image.astype(np.int32)
  low, high, near, far = _weights(x.shape[1], shape[1])
  x = (x[:, low] * near[:, None] + x[:, high] * far[:, None]) >> 4
  low, high, near, far = _weights(x.shape[0], shape[0])
  x = (x[low] * near[:, None, None] >> 16) + (x[high] * far[:, None, None] >> 16)
  return ((x + 2) >> 2).astype(np.uint8)


def _weights(n: int, m: int) -> tuple[np.ndarray, ...]:
  """Two pixels of n for each of m, and their weights in units of 1 / 2048."""
  at = ((np.arange(m) + 0.5) * (n / m) - 0.5).astype(np.float32).clip(0, n - 1)
  low = at.astype(int)
  far = np.float64(at - low)
  near, far = (np.rint(w * 2048).astype(np.int32) for w in (1 - far, far))
  return low, np.minimum(low + 1, n - 1), near, far
