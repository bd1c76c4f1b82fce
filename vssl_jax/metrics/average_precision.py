"""Average precision of one ranked list, in the forms that retrieval benchmarks use (tca spec 11).

`ranks` are the 0-based places of the relevant items, ascending; P counts the relevant items that
could have been found, so that those the system failed to return add 0.
"""

import numpy as np


def ranking(scores: np.ndarray) -> np.ndarray:
  """Positions [N] by descending score [N]; equal scores keep their order.

  Raises:
    ValueError: scores aren't one row of finite numbers.
  """
  scores = _checked(scores)
  if scores.dtype.kind != "f":
    scores = scores.astype(np.int64)  # negating unsigned numbers would wrap around
  return np.argsort(-scores, kind="stable")


def _checked(scores: np.ndarray) -> np.ndarray:
  scores = np.asarray(scores)
  if scores.ndim != 1 or scores.dtype.kind not in "iuf":
    raise ValueError(f"scores should be one row of numbers, not {scores.dtype} {scores.shape}")
  finite = np.isfinite(scores)
  if not finite.all():
    bad = int(np.argmin(finite))
    raise ValueError(f"score {scores[bad]} at position {bad}: every score must be finite")
  return scores


def relevant_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
  """0-based ranks [R], ascending, of the items with `relevant` [N] bool under `scores` [N]."""
  relevant = np.asarray(relevant)
  if relevant.dtype != bool or relevant.shape != np.shape(scores):
    raise ValueError(f"relevant should be bool {np.shape(scores)} as the scores, "
                     f"not {relevant.dtype} {relevant.shape}")
  return np.flatnonzero(relevant[ranking(scores)])


def average_precision(ranks: np.ndarray, n_relevant: int | None = None) -> float:
  """`1/P sum over relevant items of (relevant so far / rank)`.

  Args:
    ranks: [R] as above.
    n_relevant: P; default R.

  Returns:
    A number in [0, 1].

  Raises:
    ValueError: P is 0, or smaller than R.
  """
  n = _count(ranks, n_relevant)
  return float(np.sum(np.arange(1, len(ranks) + 1) / (ranks + 1.0))) / n


def trapezoid_average_precision(ranks: np.ndarray, n_relevant: int | None = None) -> float:
  """Area under the precision-recall steps by the trapezoid rule, as EVVE defines it.

  The k-th relevant item (k from 0) at rank r adds `(k/r + (k+1)/(r+1)) / 2P`, where k/r is 1 at
  r = 0. Arguments and errors as in `average_precision`.
  """
  n = _count(ranks, n_relevant)
  k = np.arange(len(ranks))
  before = np.where(ranks == 0, 1.0, k / np.maximum(ranks, 1))
  return float(np.sum(before + (k + 1) / (ranks + 1.0))) / (2 * n)


def interpolated_precision(scores: np.ndarray, relevant: np.ndarray, points: int = 21,
                           n_relevant: int | None = None) -> np.ndarray:
  """Largest precision at recall >= 0, ..., 1, as the script of FIVR-200K computes it.

  Equal scores are one point of the curve, and nothing retrieved counts as precision 1.

  Args:
    scores: [N] finite.
    relevant: [N] bool.
    points: number of evenly spaced recalls.
    n_relevant: P, where not all relevant items are in the list; default those that are.

  Returns:
    [points] precisions, not increasing; 0 where the recall isn't reached.

  Raises:
    ValueError: as `ranking` and `average_precision`.
  """
  scores, relevant = _checked(scores), np.asarray(relevant, bool)
  n = _count(range(int(relevant.sum())), n_relevant)
  # The curve only rises at relevant items, which are few: no need to sort all the others.
  levels, hits = np.unique(scores[relevant], return_counts=True)
  within = np.bincount(np.searchsorted(levels, scores, side="right"), minlength=len(levels) + 1)
  hits, shown = (np.cumsum(x[::-1]) for x in (hits, within[1:]))  # at each level or above
  precision = np.append(1.0, hits / shown)
  recall = np.append(0.0, hits / n)
  best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
  # The script multiplies, so that 3 of 20 relevant videos don't reach recall 3 * 0.05.
  return best[np.searchsorted(recall, np.arange(points) * (1 / (points - 1)))]


def _count(ranks: np.ndarray, n_relevant: int | None) -> int:
  n = len(ranks) if n_relevant is None else n_relevant
  if n < 1:
    raise ValueError("there is no relevant item: average precision isn't defined, skip the query")
  if n < len(ranks):
    raise ValueError(f"{len(ranks)} relevant items are ranked, but n_relevant is {n}")
  return n
