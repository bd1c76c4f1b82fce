"""Region (J) and boundary (F) accuracy of video object segmentation (corrflow spec 11).

The numbers are those of the official DAVIS-2017 tool, semi-supervised task. A label map is an
integer array [H, W]: 0 background, 1 ... K objects, 255 void.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

VOID = 255
BOUND = 0.008  # tolerance of a boundary, as a share of the picture's diagonal
NAMES = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


class Statistics(NamedTuple):
  """Of one object's values over time; see `statistics`."""

  mean: float
  recall: float
  decay: float


class Sequence(NamedTuple):
  """One sequence's accuracies: [K, T-2], a row an object, a column a frame from the second on."""

  j: np.ndarray
  f: np.ndarray


def region(truth: np.ndarray, predicted: np.ndarray, void: np.ndarray | None = None) -> float:
  """J: intersection over union, 1 where both masks are empty.

  Args:
    truth, predicted: [H, W] bool.
    void: [H, W] bool, pixels that don't count; None for none.
  """
  truth, predicted = _masks(truth, predicted, void)
  union = np.count_nonzero(truth | predicted)
  return np.count_nonzero(truth & predicted) / union if union else 1.0


def boundary(mask: np.ndarray) -> np.ndarray:
  """[H, W] bool: pixels that differ from the right, the lower or the lower right neighbour.

  Beyond the picture the nearest pixel of it counts as the neighbour.
  """
  mask = np.asarray(mask, bool)
  right = np.zeros_like(mask)
  right[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
  edge = right.copy()
  edge[:-1] |= mask[:-1] ^ mask[1:]
  edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
  return edge


def tolerance(height: int, width: int, bound: float = BOUND) -> int:
  """Pixels that two boundaries may be apart: 8 for 480 x 854. `bound` of 1 or more is pixels."""
  return int(bound) if bound >= 1 else math.ceil(bound * math.hypot(height, width))


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
  """[H, W] bool: pixels with one of `mask` in the disk x^2 + y^2 <= radius^2 about them.

  A row of the disk is a run of pixels, so 2 radius shifts sideways and as many up and down do.
  """
  h, w = mask.shape
  runs = [mask]  # runs[x]: some pixel at most x to the left or to the right
  for x in range(1, radius + 1):
    run = runs[-1].copy()
    if x < w:
      run[:, x:] |= mask[:, :-x]
      run[:, :-x] |= mask[:, x:]
    runs.append(run)
  out = runs[radius].copy()
  for y in range(1, min(radius, h - 1) + 1):
    run = runs[math.isqrt(radius * radius - y * y)]
    out[y:] |= run[:-y]
    out[:-y] |= run[y:]
  return out


def contour(truth: np.ndarray, predicted: np.ndarray, void: np.ndarray | None = None,
            bound: float = BOUND) -> float:
  """F: harmonic mean of the shares of boundary pixels that lie near the other mask's boundary.

  Args:
    truth, predicted: [H, W] bool.
    void: [H, W] bool, pixels taken for background in both; None for none.
    bound: what is near, see `tolerance`.
  """
  truth, predicted = _masks(truth, predicted, void)
  radius = tolerance(*truth.shape, bound)
  truth, predicted = boundary(truth), boundary(predicted)
  counts = np.count_nonzero(truth), np.count_nonzero(predicted)
  if not all(counts):
    # An empty prediction is precise and an empty truth is recalled: F is 1 or 0.
    return 0.0 if any(counts) else 1.0
  # What lies outside of the box around both boundaries is never asked for.
  either = truth | predicted
  rows, columns = (np.flatnonzero(either.any(axis=a)) for a in (1, 0))
  box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
  truth, predicted = truth[box], predicted[box]
  precision = np.count_nonzero(predicted & dilate(truth, radius)) / counts[1]
  recall = np.count_nonzero(truth & dilate(predicted, radius)) / counts[0]
  total = precision + recall
  return 2 * precision * recall / total if total else 0.0


def statistics(values: np.ndarray) -> Statistics:
  """Mean, recall (share above 0.5) and decay (first quarter less last) of one object.

  Quarters share their ends. The official tool keeps these in 8 bits, so that its decay is wrong
  or nan from 256 values on; here it is what it is meant to be.

  Args:
    values: [n]; nan counts in no mean, and as not above 0.5.
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not len(values):
    raise ValueError(f"statistics of {values.shape}: should be one object's values, [n] with n > 0")
  ends = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(int)
  first, last = (_mean(values[ends[i]:ends[i + 1] + 1]) for i in (0, 3))
  return Statistics(_mean(values), float(np.mean(values > 0.5)), first - last)


def sequence(name: str, truth: Iterable[np.ndarray], predicted: Iterable[np.ndarray],
             bound: float = BOUND) -> Sequence:
  """Accuracy of every object of one sequence in all frames but the first and the last.

  The objects are 1 ... K, the largest label of the first annotation; one that is absent from a
  prediction is empty there. Void is background. One frame is held at a time.

  Args:
    name: for messages.
    truth, predicted: T label maps each.
    bound: see `tolerance`.

  Raises:
    ValueError: fewer than three frames, another number or size of predictions, no object in the
      first annotation, or a predicted label above K; names the sequence and the frame.
  """
  objects, columns, waiting = None, [], None
  count = 0
  for i, (t, p) in enumerate(_pairs(name, truth, predicted)):
    count = i + 1
    if objects is None:
      objects = object_count(name, t)
    elif waiting is not None:
      columns.append(_frame(name, i - 1, *waiting, objects, bound))
    waiting = (t, p) if i else None
  if not columns:
    raise ValueError(f"{name}: {count} frame(s); J and F leave out the first and the last frame, "
                     "so at least 3 are needed")
  j, f = np.moveaxis(np.asarray(columns), 0, -1)
  return Sequence(j, f)


def object_count(name: str, first: np.ndarray) -> int:
  """K, the largest label of a first annotation."""
  first = np.asarray(first)
  largest = int(np.max(first, where=first != VOID, initial=0))
  if largest == 0:
    raise ValueError(f"{name}: frame 0: the first annotation shows no object; give a label map "
                     "with 1 ... K, or leave the sequence out")
  return largest


def total(sequences: Mapping[str, Sequence]) -> dict[str, float]:
  """Means over all objects of all sequences, by the official names (`NAMES`)."""
  if not sequences:
    raise ValueError("no sequence to average over")
  j, f = (np.mean([statistics(row) for s in sequences.values() for row in rows(s)], axis=0)
          for rows in (lambda s: s.j, lambda s: s.f))
  values = ((j[0] + f[0]) / 2, *j, *f)
  return {name: float(x) for name, x in zip(NAMES, values, strict=True)}


def _frame(name, i, truth, predicted, objects, bound) -> tuple[list[float], list[float]]:
  """J and F of each object in one frame."""
  truth = np.where(truth == VOID, 0, truth)
  largest = int(predicted.max())
  if largest > objects:
    raise ValueError(f"{name}: frame {i}: predicted label {largest}, but the first annotation "
                     f"has objects up to {objects}")
  masks = [(truth == k, predicted == k) for k in range(1, objects + 1)]
  return [region(*m) for m in masks], [contour(*m, bound=bound) for m in masks]


def _pairs(name: str, truth, predicted):
  """Label maps of the same frame, checked."""
  truth, predicted, end = iter(truth), iter(predicted), object()
  i = 0
  while True:
    t, p = next(truth, end), next(predicted, end)
    if t is end and p is end:
      return
    if t is end or p is end:
      raise ValueError(f"{name}: {'annotations' if t is end else 'predictions'} end after {i} "
                       "frame(s); give one label map a frame for both")
    t, p = np.asarray(t), np.asarray(p)
    if t.shape != p.shape or t.ndim != 2 or not t.size:
      raise ValueError(f"{name}: frame {i}: annotation {t.shape} and prediction {p.shape} should "
                       "be the same [H, W]")
    if t.dtype.kind not in "iub" or p.dtype.kind not in "iub":
      raise ValueError(f"{name}: frame {i}: annotation {t.dtype} and prediction {p.dtype} should "
                       "be integers, the number of the object at each pixel")
    yield t, p
    i += 1


def _masks(truth, predicted, void):
  truth, predicted = np.asarray(truth, bool), np.asarray(predicted, bool)
  if truth.shape != predicted.shape or truth.ndim != 2:
    raise ValueError(f"masks {truth.shape} and {predicted.shape} should be the same [H, W]")
  if void is None:
    return truth, predicted
  keep = ~np.asarray(void, bool)
  return truth & keep, predicted & keep


def _mean(values: np.ndarray) -> float:
  """Without nan; nan where there is nothing else."""
  known = values[~np.isnan(values)]
  return float(known.mean()) if len(known) else math.nan
