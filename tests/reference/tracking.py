"""Tracking scores, losses, labels, correlation and crops, cell by cell in float64."""

import math

import numpy as np


def overlap(a, b):
  """Of two boxes."""
  w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
  h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
  both = max(w, 0.0) * max(h, 0.0)
  union = a[2] * a[3] + b[2] * b[3] - both
  return min(both / union, 1.0) if union else 0.0


def distance(a, b):
  """Between the centres of two boxes."""
  centres = [[box[k] + (box[2 + k] - 1) / 2 for k in (0, 1)] for box in (a, b)]
  return math.dist(*centres)


def clipped(box, size):
  x, y = (min(max(box[k], 0.0), float(size[k])) for k in (0, 1))
  return [x, y, min(box[2], size[0] - x), min(box[3], size[1] - y)]


def otb(truth, predicted):
  """(success curve, precision curve)."""
  pairs = [(t, t if i == 0 else p) for i, (t, p) in enumerate(zip(truth, predicted, strict=True))]
  pairs = [(t, p) for t, p in pairs if not any(math.isnan(v) for v in t)]
  success = [sum(overlap(t, p) > k / 20 for t, p in pairs) / len(pairs) for k in range(21)]
  precision = [sum(distance(t, p) <= k for t, p in pairs) / len(pairs) for k in range(51)]
  return success, precision


def got10k(truth, runs, size, cover):
  """Overlaps of all frames that count."""
  return [overlap(clipped(t, size), clipped(p, size)) for run in runs
          for i, (t, p, c) in enumerate(zip(truth, run, cover, strict=True))
          if i and c > 0 and not any(math.isnan(v) for v in t)]


def label_map(size, stride=8, positive=16, negative=0, offset=(0, 0)):
  out = np.zeros(size)
  for y, x in np.ndindex(*size):
    d = sum(abs(place - (n - 1) / 2 - o / stride)
            for place, n, o in zip((y, x), size, offset, strict=True))
    out[y, x] = 1 if d <= positive / stride else 0.5 if d < negative / stride else 0
  return out


def _chance(x):
  return 1 / (1 + math.exp(-x))


def focal(response, labels, gamma=2.0):
  """The loss of the whole batch, [B, H, W] each."""
  loss, weight = [], []
  for x, y in zip(response.ravel().tolist(), labels.ravel().tolist(), strict=True):
    p = _chance(x)
    loss.append(-(y * (1 - p)**gamma * math.log(p) + (1 - y) * p**gamma * math.log(1 - p)))
    weight.append(y * (1 - p)**gamma + (1 - y) * p**gamma)
  return float(np.mean(loss) / np.mean(weight))


def balanced(response, labels, negatives=1.0):
  counts = {k: int((labels == k).sum()) for k in (0, 1)}
  shares = {k: s for k, s in ((1, 1.0), (0, negatives)) if counts[k]}
  total = 0.0
  for x, y in zip(response.ravel().tolist(), labels.ravel().tolist(), strict=True):
    if y in shares:
      p = _chance(x)
      total -= shares[y] / counts[y] * math.log(p if y == 1 else 1 - p)
  return total / sum(shares.values())


def cross_correlate(exemplar, search):
  """[h, w, D] and [H, W, D] to [H - h + 1, W - w + 1]."""
  h, w = exemplar.shape[:2]
  rows, columns = search.shape[0] - h + 1, search.shape[1] - w + 1
  out = np.zeros((rows, columns))
  for i, j in np.ndindex(rows, columns):
    out[i, j] = np.sum(np.float64(search[i:i + h, j:j + w]) * exemplar)
  return out


def square(image, centre, side, size):
  """A crop pixel by pixel; [size, size, 3] before rounding."""
  low = [round(c - side / 2) for c in centre]
  high = [round(c + side / 2) for c in centre]
  mean = image.reshape(-1, 3).mean(0)
  inside = [(max(lo, 0), min(hi, n)) for lo, hi, n in zip(low, high, image.shape, strict=False)]
  if any(b <= a for a, b in inside):
    return np.zeros((size, size, 3))
  shape = [max(1, round(size * (b - a) / (hi - lo)))
           for (a, b), lo, hi in zip(inside, low, high, strict=True)]
  start = [min(math.floor(max(0, -lo) * size / (hi - lo)), size - n)
           for lo, hi, n in zip(low, high, shape, strict=True)]
  out = np.empty((size, size, 3))
  for y, x in np.ndindex(size, size):
    at = (y - start[0], x - start[1])
    if not all(0 <= v < n for v, n in zip(at, shape, strict=True)):
      out[y, x] = mean
      continue
    taps = []
    for v, n, (a, b) in zip(at, shape, inside, strict=True):
      place = min(max((v + 0.5) * (b - a) / n - 0.5, 0), b - a - 1)
      k = min(int(place), b - a - 1)
      taps.append([(a + k, 1 - place + k), (a + min(k + 1, b - a - 1), place - k)])
    out[y, x] = sum(u * v * image[i, j].astype(float) for i, u in taps[0] for j, v in taps[1])
  return out


def ridge_responses(first, later, wanted, strength):
  """The filter in closed form by solving its normal equations, and its responses.

  Circular correlation of [h, w, D]; the response to `first` is as near to `wanted` as can be.

  Args:
    strength: lambda, in the units of `sum_d |X_d|^2`.
  """
  h, w, d = first.shape

  def shifts(x):
    return np.stack([np.roll(x, (-i, -j), (0, 1)).ravel() for i in range(h) for j in range(w)])

  a = shifts(np.float64(first))
  weights = np.linalg.solve(a.T @ a + strength * np.eye(h * w * d), a.T @ wanted.ravel())
  return (shifts(np.float64(later)) @ weights).reshape(h, w)
