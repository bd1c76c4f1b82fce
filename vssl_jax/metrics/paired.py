"""Whether two systems that were measured on the same queries differ by more than chance."""

import numpy as np


def difference(a: np.ndarray, b: np.ndarray, *, samples: int = 10_000, level: float = 0.95,
               seed: int = 0) -> tuple[float, float, float]:
  """Mean of a - b and its bootstrap interval.

  Queries are drawn with replacement, and so are seeds, each independently of the other: the
  interval tells what to expect of other queries and of other first weights. With few seeds it is
  too narrow on their account; with one it is about the queries alone.

  Args:
    a, b: [S, Q] measurements, a row a seed and a column a query, the same for both.
    samples: draws.
    level: of the interval.

  Returns:
    mean, low, high.

  Raises:
    ValueError: the shapes differ or hold nothing, or a value isn't finite.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.ndim != 2 or a.shape != b.shape or not a.size:
    raise ValueError(f"{a.shape} and {b.shape}: should be the same [seeds, queries]")
  if not (np.isfinite(a).all() and np.isfinite(b).all()):
    raise ValueError("a measurement isn't finite")
  d, rng = a - b, np.random.default_rng(seed)
  # How often each seed and query is drawn; counts, since d itself need not be copied then.
  seeds, queries = (rng.multinomial(n, np.full(n, 1 / n), samples) / n for n in d.shape)
  means = np.einsum("ns,sq,nq->n", seeds, d, queries, optimize=True)
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return float(d.mean()), float(low), float(high)
