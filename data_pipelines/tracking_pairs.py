"""Which pictures of a tracking sequence make training pairs (CycleContrast, section 6.2)."""

import numpy as np

MIN_AREA = 20
SIDES = (20, 500)  # pixels
SHARES = (0.01, 0.5)  # of the picture's side
ASPECTS = (0.25, 4)  # width / height
MAX_APART = 100  # pictures
_TRIES = 100


def usable(boxes: np.ndarray, image_size: tuple[int, int],
           cover: np.ndarray | None = None) -> np.ndarray:
  """Numbers of the pictures whose boxes are neither tiny, huge, oblong nor hidden.

  Args:
    boxes: [T, 4] x, y, width, height in pixels; rows with NaN are not usable.
    image_size: (height, width) of the pictures.
    cover: [T], 0 (hidden) to 8; kept is what exceeds 1 and 0.3 of the sequence's largest. None
      where it isn't known.

  Returns:
    int64 [K], ascending.
  """
  sides = np.asarray(boxes, np.float64)[:, 2:]
  shares = sides / (image_size[1], image_size[0])
  with np.errstate(divide="ignore", invalid="ignore"):  # boxes without height
    aspect = sides[:, 0] / sides[:, 1]
  kept = (sides.prod(1) >= MIN_AREA) & _within(aspect, ASPECTS)
  kept &= _within(sides, SIDES).all(1) & _within(shares, SHARES).all(1)
  if cover is not None and len(cover):
    kept &= cover > max(1.0, 0.3 * np.max(cover))
  return np.flatnonzero(kept)


def pair(frames: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
  """Two of the usable pictures, the earlier one first; None where there are fewer than two.

  They are distinct and less than `MAX_APART` apart, except that the only two are taken as they
  are, and that one picture is taken twice where 100 draws find no pair.
  """
  if len(frames) < 2:
    return None
  if len(frames) == 2:
    return int(frames[0]), int(frames[1])
  for _ in range(_TRIES):
    a, b = sorted(rng.choice(frames, 2, replace=False).tolist())
    if b - a < MAX_APART:
      return a, b
  a = int(rng.choice(frames))
  return a, a


def _within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
  return (values >= limits[0]) & (values <= limits[1])
