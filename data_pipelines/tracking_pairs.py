"""Which pictures of a tracking sequence a tracker is trained with (CycleContrast, section 6.2).

`sample.pair(times, (1, 99), among=usable(...), rng=rng)` draws a pair of them.
"""

import numpy as np

MIN_AREA = 20
SIDES = (20, 500)  # pixels
SHARES = (0.01, 0.5)  # of the picture's side
ASPECTS = (0.25, 4)  # width / height


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


def _within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
  return (values >= limits[0]) & (values <= limits[1])
