"""The bootstrap written for the eye: one resample and one draw at a time."""

import math

import numpy as np


def bootstrap(values, seed, resamples, level):
  rng = np.random.default_rng(seed)
  means = []
  for _ in range(resamples):
    total = 0.0
    for i in rng.integers(len(values), size=len(values)):
      total += float(values[i])
    means.append(total / len(values))
  means.sort()
  return quantile(means, (1 - level) / 2), quantile(means, (1 + level) / 2)


def quantile(ordered, q):
  """Between the two nearest of the sorted values, linearly."""
  at = q * (len(ordered) - 1)
  low = math.floor(at)
  high = min(low + 1, len(ordered) - 1)
  return ordered[low] + (at - low) * (ordered[high] - ordered[low])
