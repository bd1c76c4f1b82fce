"""The retrieval losses in float64, one anchor and one negative at a time.

`s_p` is the similarity of one anchor to its positive, `s_n` a list of those to its negatives.
"""

import math

import numpy as np


def cross_entropy(l_p: float, l_n: list[float]) -> float:
  """`-log(exp(l_p) / (exp(l_p) + sum_j exp(l_n_j)))`."""
  return math.log1p(sum(math.exp(l - l_p) for l in l_n))


def info_nce(s_p, s_n, *, tau):
  return cross_entropy(s_p / tau, [s / tau for s in s_n])


def circle(s_p, s_n, *, gamma, margin, weights_at=None):
  """tca spec 6.2; `weights_at` (s_p, s_n) freezes the weights at another point."""
  at_p, at_n = (s_p, s_n) if weights_at is None else weights_at
  l_p = gamma * max(0.0, 1 + margin - at_p) * (s_p - (1 - margin))
  l_n = [gamma * max(0.0, a + margin) * (s - margin) for s, a in zip(s_n, at_n, strict=True)]
  return cross_entropy(l_p, l_n)


def released_row(s, *, first_row, gamma, margin, weights_at=None):
  """One row of the released class (tca spec 6.4): one formula for all columns of a row."""
  at = s if weights_at is None else weights_at
  if first_row:
    logits = [gamma * max(0.0, 1 + margin - a) * (v - (1 - margin))
              for v, a in zip(s, at, strict=True)]
  else:
    logits = [gamma * max(0.0, a + margin) * (v - margin) for v, a in zip(s, at, strict=True)]
  return cross_entropy(logits[0], logits[1:])


def triplet(s_p, s_n, *, margin, hardest):
  terms = [max(0.0, s - s_p + margin) for s in s_n]
  if not terms:
    return 0.0
  return max(terms) if hardest else sum(terms) / len(terms)


def rows(loss, s_p, s_n, mask=None):
  """`loss` of every anchor: `s_p` [N], `s_n` [N, M]; a masked negative is left out."""
  mask = np.ones(s_n.shape, bool) if mask is None else mask
  return np.array([loss(float(p), [float(s) for s, keep in zip(n, m, strict=True) if keep])
                   for p, n, m in zip(s_p, s_n, mask, strict=True)])


def gradient(fn, x: np.ndarray, h: float = 1e-6) -> np.ndarray:
  """Central differences of the scalar function `fn` at `x`."""
  x = np.array(x, np.float64)
  grad = np.zeros_like(x)
  for i in np.ndindex(*x.shape):
    for sign in (1, -1):
      moved = x.copy()
      moved[i] += sign * h
      grad[i] += sign * fn(moved) / (2 * h)
  return grad


def unit(x: np.ndarray) -> np.ndarray:
  """Unit vectors along the last axis."""
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def absolute(s, *, eps):
  """`-log p`, p = (1 + s) / 2 moved from [0, 1] into [eps, 1]."""
  return -math.log(eps + (1 - eps) * (1 + s) / 2)


def hardest_negative(s_n, *, eps):
  """`-log(1 - p)` of the most similar negative, likewise."""
  return absolute(-max(s_n), eps=eps) if s_n else 0.0


def nt_xent(z, owner, *, tau):
  """One loss a row of z [M, D]: the mean over its positives, 0 without any."""
  x = [row / math.sqrt(sum(v * v for v in row)) for row in np.asarray(z, np.float64)]
  losses = []
  for i in range(len(x)):
    s = {a: float(x[i] @ x[a]) / tau for a in range(len(x)) if a != i}
    positives = [a for a in s if owner[a] == owner[i]]
    terms = [cross_entropy(s[p], [s[a] for a in s if a != p]) for p in positives]
    losses.append(sum(terms) / len(terms) if terms else 0.0)
  return np.array(losses)
