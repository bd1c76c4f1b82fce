"""The crossed bootstrap of a difference, one draw and one pair at a time."""

import numpy as np


def difference(a, b, samples, level, seed):
  """As `vssl_jax.metrics.paired.difference`, drawing indices instead of counts."""
  rng, means = np.random.default_rng(seed), []
  rows, columns = len(a), len(a[0])
  for _ in range(samples):
    drawn_rows, drawn_columns = rng.integers(rows, size=rows), rng.integers(columns, size=columns)
    total = 0.0
    for i in drawn_rows:
      for j in drawn_columns:
        total += a[i][j] - b[i][j]
    means.append(total / (rows * columns))
  means.sort()
  skip = round(samples * (1 - level) / 2)
  mean = sum(x - y for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True))
  return mean / (rows * columns), means[skip], means[-1 - skip]
