"""Tracking scores as the GOT-10k toolkit computes them: OTB's and GOT-10k's (cycle_contrast 6.4).

Boxes are [T, 4]: left, top, width, height in pixels, where a box of width w covers the w pixels
from its left one on. Where pixels are counted from makes no difference but for GOT-10k's clipping,
which takes the files' numbers as they are: counted from 1.

A frame whose true box has NaN, because the object is absent or was not annotated, is left out. A
prediction must be finite in every frame. A box without area overlaps nothing, not even itself.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

OVERLAPS = np.linspace(0, 1, 21)  # of OTB's success curve
DISTANCES = np.arange(51)  # of OTB's precision curve, in pixels
PRECISION_AT = 20
GOT10K_OVERLAPS = np.linspace(0, 1, 101)
EPSILON = np.finfo(np.float64).eps


@dataclasses.dataclass(frozen=True)
class Curves:
  """OTB's curves of one track, or their mean over tracks.

  Attributes:
    success: [21], share of the frames whose overlap exceeds each of `OVERLAPS`.
    precision: [51], share whose centre is at most each of `DISTANCES` away.
  """

  success: np.ndarray
  precision: np.ndarray

  @property
  def success_score(self) -> float:
    """Mean of the success curve, known as the area under it."""
    return float(self.success.mean())

  @property
  def precision_score(self) -> float:
    """Share of the frames whose centre is at most 20 pixels away."""
    return float(self.precision[PRECISION_AT])

  @property
  def success_rate(self) -> float:
    """Share of the frames whose overlap exceeds one half."""
    return float(self.success[len(OVERLAPS) // 2])


@dataclasses.dataclass(frozen=True)
class Overlaps:
  """GOT-10k's scores of one sequence, or of all of them.

  Attributes:
    values: [n] overlaps, of all frames that count in all repetitions.
  """

  values: np.ndarray

  @property
  def ao(self) -> float:
    """Average overlap; NaN where no frame counts, as all shares are."""
    return float(self.values.mean()) if len(self.values) else float("nan")

  @property
  def sr50(self) -> float:
    """Share of the frames whose overlap exceeds 0.5."""
    return self._share(0.5)

  @property
  def sr75(self) -> float:
    """Share of the frames whose overlap exceeds 0.75."""
    return self._share(0.75)

  @property
  def curve(self) -> np.ndarray:
    """[101], share of the frames whose overlap exceeds each of `GOT10K_OVERLAPS`."""
    return np.array([self._share(t) for t in GOT10K_OVERLAPS])

  def _share(self, threshold: float) -> float:
    return float((self.values > threshold).mean()) if len(self.values) else float("nan")


def overlaps(a: np.ndarray, b: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
  """Intersection over union.

  Args:
    a, b: [T, 4] boxes.
    size: (width, height) of the pictures, to which boxes are clipped first; None for not.

  Returns:
    float64 [T], 0 to 1.
  """
  a, b = _pair(a, b)
  if size is not None:
    a, b = clip(a, size), clip(b, size)
  low = np.maximum(a[:, :2], b[:, :2])
  high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
  both = np.maximum(high - low, 0).prod(1)
  union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - both
  return np.clip(both / (union + EPSILON), 0, 1)


def clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """[T, 4] boxes cut to a picture of (width, height); the toolkit's way.

  A corner left or above of the picture moves to its edge and the width stays, so a box loses on
  the far sides only.
  """
  size = np.asarray(size, np.float64)
  corners = np.clip(boxes[:, :2], 0, size)
  return np.concatenate([corners, np.clip(boxes[:, 2:], 0, size - corners)], 1)


def distances(truth: np.ndarray, predicted: np.ndarray, *, relative: bool = False) -> np.ndarray:
  """float64 [T], how far the centres of the boxes [T, 4] are apart.

  `relative` measures in widths and heights of the true box instead of pixels.
  """
  truth, predicted = _pair(truth, predicted)
  centres = (boxes[:, :2] + (boxes[:, 2:] - 1) / 2 for boxes in (truth, predicted))
  apart = np.subtract(*centres)
  if relative:
    apart = apart / np.maximum(truth[:, 2:], EPSILON)
  return np.sqrt(np.square(apart).sum(1))


def otb(truth: np.ndarray, predicted: np.ndarray) -> Curves:
  """OTB's curves of one track, in which the first frame counts as a hit.

  Args:
    truth, predicted: [T, 4] boxes. The tracker is given the first true box, which replaces the
      first prediction.

  Raises:
    ValueError: other shapes, a prediction that isn't finite, or no frame with a true box.
  """
  truth, predicted = _checked(truth, predicted)
  predicted = np.concatenate([truth[:1], predicted[1:]])
  known = np.isfinite(truth).all(1)
  if not known.any():
    raise ValueError("no frame has a true box; leave the track out")
  truth, predicted = truth[known], predicted[known]
  success = overlaps(predicted, truth)[:, None] > OVERLAPS
  precision = distances(truth, predicted)[:, None] <= DISTANCES
  return Curves(success.mean(0), precision.mean(0))


def otb_total(tracks: Iterable[Curves]) -> Curves:
  """The mean over tracks of their curves, long or short."""
  tracks = list(tracks)
  if not tracks:
    raise ValueError("no track to average over")
  return Curves(np.mean([t.success for t in tracks], 0), np.mean([t.precision for t in tracks], 0))


def got10k(truth: np.ndarray, predicted: np.ndarray, size: tuple[int, int],
           cover: np.ndarray | None = None) -> Overlaps:
  """GOT-10k's overlaps of one sequence, in which the first frame doesn't count.

  Args:
    truth: [T, 4] boxes, counted from 1.
    predicted: [T, 4], or [R, T, 4] of R repetitions, which are pooled.
    size: (width, height) of the pictures; boxes are clipped to it.
    cover: [T] how much of the object is to be seen, 0 to 8; frames with 0 don't count. None where
      it isn't known.

  Raises:
    ValueError: other shapes, or a prediction that isn't finite.
  """
  predicted = np.asarray(predicted, np.float64)
  runs = predicted[None] if predicted.ndim == 2 else predicted
  if runs.ndim != 3 or not len(runs):
    raise ValueError(f"predictions {predicted.shape} should be [T, 4] or [R, T, 4]")
  pairs = [_checked(truth, run) for run in runs]
  seen = np.isfinite(pairs[0][0]).all(1)
  if cover is not None:
    cover = np.asarray(cover)
    if cover.shape != seen.shape:
      raise ValueError(f"cover {cover.shape} should be [{len(seen)}], one a frame")
    seen = seen & (cover > 0)
  found = [overlaps(p[1:][seen[1:]], t[1:][seen[1:]], size) for t, p in pairs]
  return Overlaps(np.concatenate(found))


def got10k_total(sequences: Iterable[Overlaps]) -> Overlaps:
  """All frames of all sequences together, so that long sequences weigh more."""
  values = [s.values for s in sequences]
  if not values:
    raise ValueError("no sequence to average over")
  return Overlaps(np.concatenate(values))


def _pair(a, b) -> tuple[np.ndarray, np.ndarray]:
  a, b = (np.asarray(x, np.float64) for x in (a, b))
  if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 4:
    raise ValueError(f"boxes {a.shape} and {b.shape} should be the same [T, 4]")
  return a, b


def _checked(truth, predicted) -> tuple[np.ndarray, np.ndarray]:
  truth, predicted = _pair(truth, predicted)
  bad = np.flatnonzero(~np.isfinite(predicted).all(1))
  if len(bad):
    raise ValueError(f"frame {bad[0]}: the prediction {predicted[bad[0]]} isn't finite; a tracker "
                     "has to give a box in every frame")
  if (predicted[:, 2:] < 0).any() or (truth[:, 2:] < 0).any():
    raise ValueError("a box has a negative width or height")
  return truth, predicted
