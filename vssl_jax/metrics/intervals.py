"""How far a mean over queries may be off: percentile bootstrap over the queries.

It tells what other queries of the same kind would change; another seed or training set may change
more.
"""

from collections.abc import Mapping

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
_BLOCK = 4_000_000  # numbers drawn at a time


def bootstrap(values: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES,
              level: float = LEVEL) -> tuple[float, float]:
  """The interval (low, high) of the mean of `values` [Q].

  As many values as there are, drawn with replacement, have a mean; the interval holds the middle
  `level` of the means of many such draws. One value alone gives an interval of no width.

  Raises:
    ValueError: no value, a value that isn't finite, or impossible settings.
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
    raise ValueError(f"an interval needs one row of finite values, not {values.shape}"
                     f"{'' if np.isfinite(values).all() else ' with values that are not'}")
  if resamples < 1 or not 0 < level < 1:
    raise ValueError(f"resamples={resamples} must be at least 1, and level={level} in (0, 1)")
  rng, n = np.random.default_rng(seed), len(values)
  block = max(1, _BLOCK // n)
  means = [values[rng.integers(n, size=(min(block, resamples - start), n))].mean(axis=1)
           for start in range(0, resamples, block)]
  low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def difference(a: Mapping[str, float], b: Mapping[str, float], **settings,
               ) -> tuple[float, float, float]:
  """Mean of a - b over the same queries, and its interval: (mean, low, high).

  Paired: both are drawn for the same queries, so what makes a query hard for both cancels out.
  An interval without 0 says that the difference isn't owed to the choice of queries.

  Args:
    a, b: query -> average precision, as `Result.per_query`.
    **settings: of `bootstrap`.

  Raises:
    ValueError: they have different queries; or as `bootstrap`.
  """
  if a.keys() != b.keys():
    other = sorted(a.keys() ^ b.keys())
    raise ValueError(f"these are not the same queries: {other[0]!r} and {len(other) - 1} more are "
                     "in one of the two only")
  values = np.array([a[query] - b[query] for query in a], np.float64)
  return (float(values.mean()) if len(values) else float("nan"), *bootstrap(values, **settings))
