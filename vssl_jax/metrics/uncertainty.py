"""Does uncertainty tell which queries fail (provico spec 11.5).

Here `u` [Q] is the uncertainty of each query, larger is less certain, and `hit` [Q] whether its
retrieval was right; any number in [0, 1], as an average precision, does as well.
"""

import numpy as np


def of_video(logvar: np.ndarray, kind: str = "geometric") -> np.ndarray:
  """Uncertainty of videos (or clips) from their log variances [..., D]: [...], float64.

  `kind`: "geometric" or "arithmetic" mean of the variances, or the Gaussian's "entropy".
  """
  logvar = np.asarray(logvar, np.float64)
  if kind == "geometric":
    return np.exp(logvar.mean(axis=-1))
  if kind == "arithmetic":
    return np.exp(logvar).mean(axis=-1)
  if kind == "entropy":
    return np.sum(np.log(2 * np.pi * np.e) + logvar, axis=-1) / 2
  raise ValueError(f"uncertainty {kind!r} is unknown; choose geometric, arithmetic or entropy")


def levels(u: np.ndarray, hit: np.ndarray, bins: int = 10) -> dict[str, np.ndarray]:
  """R@1 by level of uncertainty: queries in order of u, cut into `bins` of equal count.

  The first bins have one more where it doesn't divide. Equal u keep their order.

  Returns:
    "size", "recall", "uncertainty" (mean), [bins] each, the most certain first.
  """
  u, hit = _checked(u, hit)
  if not 1 <= bins <= len(u):
    raise ValueError(f"{bins} bins of {len(u)} queries: use 1 to {len(u)}")
  parts = np.array_split(np.argsort(u, kind="stable"), bins)
  return {"size": np.array([len(p) for p in parts]),
          "recall": np.array([hit[p].mean() for p in parts]),
          "uncertainty": np.array([u[p].mean() for p in parts])}


def pearson(x: np.ndarray, y: np.ndarray) -> float:
  """Correlation of two rows of numbers; nan where one of them is constant."""
  x, y = _checked(x, y)
  if (x == x[0]).all() or (y == y[0]).all():
    return float("nan")
  x, y = x - x.mean(), y - y.mean()
  return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def ranks(x: np.ndarray) -> np.ndarray:
  """Ranks from 0; equal numbers share the mean of theirs."""
  _, inverse, count = np.unique(np.asarray(x), return_inverse=True, return_counts=True)
  return (np.cumsum(count) - (count + 1) / 2)[inverse]


def spearman(x: np.ndarray, y: np.ndarray) -> float:
  """Correlation of ranks; of u and hit, -1 would be failing exactly where uncertain."""
  x, y = _checked(x, y)
  return pearson(ranks(x), ranks(y))


def risk_coverage(u: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Share of queries answered against the share of those that fails, the most certain first.

  Queries of equal u are answered together: each counts as the mean of those.

  Returns:
    coverage [Q] = 1/Q, ..., 1; risk [Q], of which the last is 1 - mean(hit).
  """
  u, hit = _checked(u, hit)
  _, inverse = np.unique(u, return_inverse=True)
  mean = np.bincount(inverse, 1 - hit) / np.bincount(inverse)
  failed = mean[np.sort(inverse)]
  number = np.arange(1, len(u) + 1)
  return number / len(u), np.cumsum(failed) / number


def area(u: np.ndarray, hit: np.ndarray) -> dict[str, float]:
  """Area under the curve of risk and coverage: the mean of the risks.

  Returns:
    "aurc"; "best", that of the same hits with every failure less certain than every success;
    "random", that of an order without meaning, 1 - mean(hit).
  """
  _, risk = risk_coverage(u, hit)
  _, best = risk_coverage(-np.asarray(hit, np.float64), hit)
  return {"aurc": float(risk.mean()), "best": float(best.mean()), "random": float(risk[-1])}


def _checked(x, y):
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if x.ndim != 1 or x.shape != y.shape or not len(x):
    raise ValueError(f"{x.shape} and {y.shape}: should be two rows of as many numbers")
  if not (np.isfinite(x).all() and np.isfinite(y).all()):
    raise ValueError("a number isn't finite")
  return x, y
