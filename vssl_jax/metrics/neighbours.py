"""Whether videos of one group lie together: a number for what an embedding's picture shows."""

import numpy as np


def purity(x: np.ndarray, groups: np.ndarray) -> dict[int, float]:
  """Group -> the share of its members' nearest neighbours that are members too.

  Of a member of a group of n, the n - 1 nearest of all others are looked at, so that 1 means that
  each group stands apart from everything else. Equal distances keep the order of the rows.

  Args:
    x: [N, D] unit vectors; near means a large inner product.
    groups: [N] int; rows below 0 belong to none, and only stand in the way.

  Returns:
    For each group of at least two, the mean over its members.

  Raises:
    ValueError: the shapes don't match, or a vector isn't finite.
  """
  x, groups = np.asarray(x, np.float64), np.asarray(groups)
  if x.ndim != 2 or groups.shape != x.shape[:1]:
    raise ValueError(f"{x.shape} vectors and {groups.shape} groups: should be [N, D] and [N]")
  if not np.isfinite(x).all():
    raise ValueError("a vector isn't finite")
  found = {}
  for group in np.unique(groups[groups >= 0]).tolist():
    members = np.flatnonzero(groups == group)
    if len(members) < 2:
      continue
    products = x[members] @ x.T
    products[np.arange(len(members)), members] = -np.inf
    nearest = np.argsort(-products, axis=1, kind="stable")[:, :len(members) - 1]
    found[group] = float(np.mean(groups[nearest] == group))
  return found
