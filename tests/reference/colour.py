"""Colours and their losses in float64, one pixel at a time."""

import math

import numpy as np


def lab(rgb):
  """One pixel of sRGB in [0, 1] to CIE Lab, by the definition; D65."""
  linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in map(float, rgb)]
  rows = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169),
          (0.019334, 0.119193, 0.950227))
  white = (0.950456, 1.0, 1.088754)
  f = []
  for row, w in zip(rows, white, strict=True):
    t = sum(m * c for m, c in zip(row, linear, strict=True)) / w
    f.append(t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116)
  return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(ab, centroids):
  """Number of the nearest centroid, of equally near ones the first."""
  best = 0
  for k in range(1, len(centroids)):
    if math.dist(ab, centroids[k]) < math.dist(ab, centroids[best]):
      best = k
  return best


def cross_entropy(p, classes, eps=1e-8):
  """p [H, W, C], classes [H, W] of one example."""
  h, w = classes.shape
  return -sum(math.log(float(p[y, x, classes[y, x]]) + eps)
              for y in range(h) for x in range(w)) / (h * w)


def regression(x, target, channels, scale=20.0):
  """x, target [H, W, C], channels [C] of one example."""
  total, count = 0.0, 0
  for i in np.ndindex(*x.shape):
    if channels[i[-1]]:
      d = abs(scale * (float(x[i]) - float(target[i])))
      total, count = total + (d * d / 2 if d < 1 else d - 0.5), count + 1
  return total / count
