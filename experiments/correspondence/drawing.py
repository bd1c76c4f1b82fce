"""Points drawn over a frame, with short trails of where they were."""

import colorsys
from collections.abc import Sequence

import numpy as np

GOLDEN = 0.61803398875  # hues this far apart stay apart however many there are


def colours(count: int) -> np.ndarray:
  """Distinct bright colours, uint8 [count, 3]."""
  return np.array([[round(255 * c) for c in colorsys.hsv_to_rgb(
      GOLDEN * i % 1, (0.95, 0.55, 0.75)[i % 3], (1.0, 0.95, 0.8)[i // 3 % 3])]
      for i in range(count)], np.uint8).reshape(-1, 3)


def points(frame: np.ndarray, places: Sequence[np.ndarray], tints: np.ndarray) -> np.ndarray:
  """A frame with a disc at each point and a line along its last places.

  Args:
    frame: uint8 [H, W, 3].
    places: [J, 2] pixels (x, y) of this frame, the last, and of those before; NaN where lost.
    tints: uint8 [J, 3], as of `colours`.

  Returns:
    uint8 [H, W, 3].
  """
  out, radius = frame.copy(), max(2, min(frame.shape[:2]) // 80)
  for age in range(len(places) - 1, 0, -1):
    strength = 0.8 * (1 - age / len(places))
    for a, b, tint in zip(places[-1 - age], places[-age], tints, strict=True):
      _line(out, a, b, max(1, radius // 2), tint, strength)
  for place, tint in zip(places[-1], tints, strict=True):
    _disc(out, place, radius + 1.5, np.uint8([255, 255, 255]), 1)
    _disc(out, place, radius, tint, 1)
  return out


def _line(image, a, b, radius, tint, strength) -> None:
  if np.isfinite(a).all() and np.isfinite(b).all():
    steps = max(1, int(np.abs(b - a).max() / radius))
    for share in np.arange(steps) / steps:
      _disc(image, a + share * (b - a), radius, tint, strength)


def _disc(image: np.ndarray, place: np.ndarray, radius: float, tint: np.ndarray,
          strength: float) -> None:
  if not np.isfinite(place).all():
    return
  low = np.maximum(0, np.floor(place - radius)).astype(int)
  high = np.maximum(0, np.ceil(place + radius) + 1).astype(int)
  part = image[low[1]:high[1], low[0]:high[0]]
  y, x = np.ogrid[low[1]:low[1] + part.shape[0], low[0]:low[0] + part.shape[1]]
  inside = (x - place[0]) ** 2 + (y - place[1]) ** 2 <= radius ** 2
  part[inside] = ((1 - strength) * part[inside] + strength * tint).round()
