"""Crops of a target for training a tracker (CycleContrast, section 6.2)."""

import functools

import numpy as np

INTERPOLATIONS = ("linear", "cubic", "area", "nearest", "lanczos")  # OpenCV's, no antialias
SEARCH, EXEMPLAR = 255, 120
STRETCH, SHIFTED, KEPT = 0.05, 247, 239
MOST_SHIFT, MOST_ZOOM = 0.5, 0.4  # of the noise: the centre stays in the box


def square(image: np.ndarray, box: np.ndarray, rng: np.random.Generator, *, out: int = SEARCH,
           exemplar: int = EXEMPLAR) -> np.ndarray:
  """The target in the middle of its surroundings, in a size that follows its own.

  The square's side is `sqrt((w + p) (h + p)) out / exemplar` with p = (w + h) / 2, so that an
  exemplar of the middle `exemplar` pixels shows the target and a margin of half of its sides.
  Outside of the image is its mean colour.

  Args:
    image: uint8 [H, W, 3].
    box: [4] left, top, width, height, counted from 0.
    rng: draws the interpolation.

  Returns:
    uint8 [out, out, 3].
  """
  side = _side(box, out, exemplar)
  corner = np.rint(_centre(box) - (side - 1) / 2).astype(int)
  cut = padded(image, corner, side, image.mean((0, 1)))
  return resize(cut, out, str(rng.choice(INTERPOLATIONS)))


def _side(box: np.ndarray, out: int, exemplar: int) -> int:
  w, h = np.asarray(box, np.float64)[2:]
  margin = (w + h) / 2
  return max(round(np.sqrt((w + margin) * (h + margin)) * out / exemplar), 2)


def _centre(box: np.ndarray) -> np.ndarray:
  """(y, x)."""
  left, top, w, h = np.asarray(box, np.float64)
  return np.array([top + (h - 1) / 2, left + (w - 1) / 2])


def jittered(box: np.ndarray, rng: np.random.Generator, shift: float, zoom: float) -> np.ndarray:
  """A box beside the target's, as a tracker's guess is: moved and scaled by Laplace noise.

  The centre moves by up to half of the box's sides, and each side is multiplied by 0.6 to 1.4;
  beyond that the noise is clipped.

  Args:
    box: [4] left, top, width, height.
    shift: scale of the noise of the centre, in sides.
    zoom: scale of the noise that is added to 1 and multiplies the sides.

  Returns:
    float64 [4].
  """
  sides = np.asarray(box, np.float64)[2:]
  moved = np.clip(rng.laplace(0, shift, 2), -MOST_SHIFT, MOST_SHIFT) * sides
  larger = (1 + np.clip(rng.laplace(0, zoom, 2), -MOST_ZOOM, MOST_ZOOM)) * sides
  centre = _centre(box)[::-1] + moved
  return np.concatenate([centre - (larger - 1) / 2, larger])


def offset(target: np.ndarray, box: np.ndarray, *, out: int = SEARCH,
           exemplar: int = EXEMPLAR) -> np.ndarray:
  """Where the target is in `square(image, box)`: float32 [2] (y, x), pixels from the middle."""
  shift = _centre(target) - _centre(box)
  return (shift * out / _side(box, out, exemplar)).astype(np.float32)


def augmented(crop: np.ndarray, rng: np.random.Generator, keep: int | None = None) -> np.ndarray:
  """A crop [255, 255, 3] stretched by up to 5 % and shifted by up to 4 pixels.

  Args:
    rng: draws the stretch, its interpolation and the shift.
    keep: pixels a side that are kept in the middle, an exemplar's; None for all of the 239.

  Returns:
    uint8 [keep, keep, 3] or [239, 239, 3].
  """
  stretched = resize(crop, round(len(crop) * (1 + rng.uniform(-STRETCH, STRETCH))),
                     str(rng.choice(INTERPOLATIONS)))
  corner = np.full(2, (len(stretched) - SHIFTED) // 2) + rng.integers(SHIFTED - KEPT + 1, size=2)
  size = KEPT
  if keep is not None:
    corner, size = corner + (KEPT - keep) // 2, keep
  return padded(stretched, corner, size, stretched.mean((0, 1)))


def padded(image: np.ndarray, corner: np.ndarray, side: int, colour: np.ndarray) -> np.ndarray:
  """The square of `side` pixels from `corner` (y, x) on, uint8, `colour` beyond the image."""
  out = np.empty((side, side, 3), np.uint8)
  out[:] = np.rint(colour)
  low = np.clip(corner, 0, image.shape[:2])
  high = np.clip(corner + side, 0, image.shape[:2])
  to = low - corner
  part = image[low[0]:high[0], low[1]:high[1]]
  out[to[0]:to[0] + part.shape[0], to[1]:to[1] + part.shape[1]] = part
  return out


def resize(image: np.ndarray, size: int, interpolation: str) -> np.ndarray:
  """uint8 [n, n, 3] resized to [size, size, 3] as OpenCV does, but for rounding.

  Args:
    interpolation: one of `INTERPOLATIONS`.
  """
  weights = taps(len(image), size, interpolation)
  x = np.tensordot(weights, image.astype(np.float32), (1, 0))
  x = np.tensordot(weights, x, (1, 1)).swapaxes(0, 1)
  return np.clip(np.rint(x), 0, 255).astype(np.uint8)


@functools.lru_cache(64)
def taps(n: int, m: int, interpolation: str) -> np.ndarray:
  """float32 [m, n] weights of n pixels in each of m; rows sum to 1."""
  if interpolation == "area":  # how much of each pixel a new one covers
    edges = np.arange(m + 1) * n / m
    low, high = edges[:-1, None], edges[1:, None]
    weights = np.clip(np.minimum(high, np.arange(n) + 1) - np.maximum(low, np.arange(n)), 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
  if interpolation == "nearest":
    weights = np.zeros((m, n), np.float32)
    weights[np.arange(m), np.arange(m) * n // m] = 1
    return weights
  reach, kernel = {"linear": (1, _linear), "cubic": (2, _cubic), "lanczos": (4, _lanczos)}[
      interpolation]
  at = (np.arange(m) + 0.5) * n / m - 0.5
  low = np.floor(at).astype(int)
  near = low[:, None] + np.arange(1 - reach, reach + 1)
  value = kernel(np.abs(at[:, None] - near))
  weights = np.zeros((m, n))
  np.add.at(weights, (np.arange(m)[:, None], np.clip(near, 0, n - 1)),
            value / value.sum(1, keepdims=True))
  return weights.astype(np.float32)


def _linear(d):
  return np.maximum(1 - d, 0)


def _cubic(d, a=-0.75):
  near = (a + 2) * d**3 - (a + 3) * d**2 + 1
  return np.where(d <= 1, near, np.where(d < 2, a * (d**3 - 5 * d**2 + 8 * d - 4), 0))


def _lanczos(d):
  return np.where(d < 4, np.sinc(d) * np.sinc(d / 4), 0)
