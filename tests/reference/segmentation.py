"""J, F and their statistics pixel by pixel in float64."""

import math

import numpy as np


def region(truth, predicted):
  union = sum(bool(t or p) for t, p in zip(truth.flat, predicted.flat, strict=True))
  both = sum(bool(t and p) for t, p in zip(truth.flat, predicted.flat, strict=True))
  return both / union if union else 1.0


def boundary(mask):
  """Pixels (y, x) that differ from one of three neighbours."""
  h, w = mask.shape
  found = set()
  for y, x in np.ndindex(h, w):
    down, right = min(y + 1, h - 1), min(x + 1, w - 1)
    if any(mask[y, x] != mask[p] for p in ((y, right), (down, x), (down, right))):
      found.add((y, x))
  return found


def contour(truth, predicted, bound=0.008):
  radius = math.ceil(bound * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
  if bound >= 1:
    radius = bound
  t, p = boundary(truth), boundary(predicted)
  if not t or not p:
    return 1.0 if not t and not p else 0.0

  def near(some, others):
    return sum(any((y - v) ** 2 + (x - u) ** 2 <= radius ** 2 for v, u in others)
               for y, x in some) / len(some)

  precision, recall = near(p, t), near(t, p)
  return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def statistics(values):
  n = len(values)
  ends = [int(np.round(1 + (n - 1) * i / 4 + 1e-10)) - 1 for i in range(5)]

  def mean(some):
    some = [v for v in some if not math.isnan(v)]
    return sum(some) / len(some) if some else math.nan

  bins = [values[ends[i]:ends[i + 1] + 1] for i in range(4)]
  return mean(values), sum(v > 0.5 for v in values) / n, mean(bins[0]) - mean(bins[3])
