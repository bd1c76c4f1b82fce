"""All pairs of videos that are Gaussians or mixtures of them: matrices [R, C] (provico spec 7, 9).

Columns are done a block at a time, also in the backward pass, which computes a block again. What is
held beside the result doesn't grow with the number of columns, and rows may lie on several devices.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vssl_jax.ops import gaussian

NUMBERS = 2**22  # of a block's largest array, which a CPU should find in its cache


class Samples(NamedTuple):
  """K samples of each of B videos: `mean[:, None] + deviation`.

  Attributes:
    mean, logvar: [B, D] of the video.
    deviation: [B, K, D], see `gaussian.deviations`.
  """

  mean: jax.Array
  logvar: jax.Array
  deviation: jax.Array


def by_columns(pairs: Callable, columns, size: int, block: int | None = None):
  """`pairs(columns)`, computed from `block` columns at a time.

  Args:
    pairs: from a tree of arrays [C, ...] to a tree of matrices [R, C].
    columns: that tree.
    size: numbers that `pairs` lays out for a column.
    block: None for so many columns that these come to `NUMBERS`.
  """
  n = jax.tree.leaves(columns)[0].shape[0]
  block = block or max(1, NUMBERS // size)
  if n <= block:
    return pairs(columns)
  missing = -n % block

  def split(x):
    return jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, block, *x.shape[1:])

  out = jax.lax.map(jax.checkpoint(pairs), jax.tree.map(split, columns))
  return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :n], out)


def closed_form(x: tuple[jax.Array, jax.Array], y: tuple[jax.Array, jax.Array], *,
                lam: float = 0.25, reading: str = "sum", block: int | None = None) -> jax.Array:
  """Bhattacharyya distance of every Gaussian of x to every one of y, see `gaussian.bhattacharyya`.

  Args:
    x: mean and logvar [R, D].
    y: mean and logvar [C, D].
    block: columns at a time, see `by_columns`.

  Returns:
    [R, C].
  """
  rows = [a[:, None] for a in x]

  def pairs(columns):
    return gaussian.bhattacharyya(*rows, *columns, lam=lam, reading=reading)

  return by_columns(pairs, tuple(y), x[0].size, block)


def sampled(x: Samples, y: Samples, *, lam: float = 0.25, reading: str = "mean",
            block: int | None = None) -> jax.Array:
  """Mean over all K^2 pairs of samples of the printed distance (spec 7.4): [R, C].

  In O(K): the mean of `(z_k - z'_k')^2` is the squared difference of the samples' means and the two
  variances of the samples. Of a video to itself it is lam (1 - 1/K) in expectation, of others lam
  more than `closed_form` with the same lam and `reading`; for "sum" and "iso", D times lam.
  """
  rows, columns = _moments(x), _moments(y)
  centre, logvar, spread = (a[:, None] for a in rows[:3])
  origin = rows[3][:, None]

  def pairs(part):
    centre_y, logvar_y, spread_y, origin_y = part
    # Means of videos and of deviations are subtracted apart, so that equal ones give exactly 0.
    apart = (origin - origin_y) + (centre - centre_y)
    return gaussian.bhattacharyya(apart, logvar, jnp.zeros_like(apart), logvar_y, lam=lam,
                                  reading=reading, spread=(spread, spread_y))

  return by_columns(pairs, columns, x.mean.size, block)


def _moments(x: Samples) -> tuple[jax.Array, ...]:
  """Mean deviation, logvar, variance of the samples over the distribution's, mean: [B, D] each."""
  mean, logvar, deviation = gaussian.widen(*x)
  standard = deviation * jnp.exp(-logvar / 2)[:, None]
  return jnp.mean(deviation, axis=1), logvar, jnp.var(standard, axis=1), mean


def mixture(x: tuple[jax.Array, jax.Array], y: tuple[jax.Array, jax.Array], *, lam: float = 0.25,
            reading: str = "sum", block: int | None = None) -> jax.Array:
  """Distance of mixtures that are kept as mixtures, for videos of several scenes.

  `-log(sum_nm k_nm / sqrt(sum_nn' k_nn' sum_mm' k_mm'))` with Bhattacharyya's coefficients
  `k = exp(-distance)` of the clips: the cosine of the sums of the square roots of the clips'
  densities. For single clips, and for equal ones, it is `closed_form`; where clips don't overlap it
  is the Bhattacharyya distance of the mixtures. Two videos that share one of two scenes are log 2
  apart, however far apart their other scenes are; matched moments would see two other videos whose
  scenes lie around the same middle as nearer.

  Args:
    x: mean and logvar [R, N, D].
    y: mean and logvar [C, M, D].
    reading: "sum", "iso", or "mean", which divides the distance of "sum" by D.

  Returns:
    [R, C].
  """
  x, y = gaussian.widen(*x), gaussian.widen(*y)
  inner = "sum" if reading == "mean" else reading

  def overlap(a, b):
    """Log of the sum over clips of [..., N, D] and [..., M, D]."""
    rows, columns = (v[..., :, None, :] for v in a), (v[..., None, :, :] for v in b)
    return jax.nn.logsumexp(-gaussian.bhattacharyya(*rows, *columns, lam=lam, reading=inner),
                            axis=(-2, -1))

  rows = [v[:, None] for v in x]
  own = overlap(x, x)[:, None]

  def pairs(columns):
    return (own + overlap(columns, columns)) / 2 - overlap(rows, columns)

  distance = by_columns(pairs, tuple(y), x[0].size * y[0].shape[1], block)
  return distance / x[0].shape[-1] if reading == "mean" else distance


def match(x: Samples, a: jax.Array, b: jax.Array, *, eps_dist: float = 1e-6,
          self_samples: bool = True, exact: bool = True, mean_of_log: bool = False,
          block: int | None = None) -> tuple[jax.Array, jax.Array]:
  """Log probabilities that two videos match and that they don't (spec 9).

  `p = mean_kk' sigmoid(b - a |z_k - z'_k'|)` over all K^2 pairs of samples, with
  `|dz| = sqrt(sum(dz^2) + eps_dist)`; both logarithms by logsumexp, so that neither is ever -inf.

  Args:
    a, b: scalars; a > 0.
    eps_dist: 0 gives the norm itself, with gradient 0 where it is 0.
    self_samples: False leaves out the K distances of a sample to itself, where K > 1.
    exact: take differences of samples; otherwise distances come from one matrix product, for which
      samples of different videos that are closer than 1e-3 of their length are as good as equal.
    mean_of_log: in place of the logarithms of means over samples return means of logarithms, which
      are at most those: all samples count alike, where otherwise the nearest ones of two videos
      decide whether they match, and the farthest ones whether they don't.

  Returns:
    log p, log(1 - p): [B, B].
  """
  mean, _, deviation = gaussian.widen(*x)
  # A shift changes no distance, and leaves the product more digits.
  mean = mean - jax.lax.stop_gradient(jnp.mean(mean, axis=0))
  size, k = deviation.shape[:2]
  square = _differences if exact else _product
  keep = self_samples or k == 1
  number = jnp.arange(size)
  apart = jnp.ones((k, k), bool) if keep else ~jnp.eye(k, dtype=bool)
  counts = jnp.where(number[:, None] == number, apart.sum(), k * k)

  def side(mean, deviation):
    return mean, deviation.swapaxes(0, 1)

  def pairs(columns):
    column, *other = columns
    same = number[:, None] == column
    sides = side(mean, deviation), side(*other), same
    found = square(*sides)
    distance = _root(jnp.where(found > _rounding(*sides), found, 0.0) + eps_dist)
    valid = None if keep else ~same[None, :, None] | apart[:, None, :, None]
    logit = b - a * distance
    return _sums_of_logs(logit, valid) if mean_of_log else _log_sums(logit, valid)

  # Two matrices of all samples at a time: with fewer columns two cores gain nothing.
  found = by_columns(pairs, (number, mean, deviation), 2 * size * k * k, block)
  return tuple(x / counts if mean_of_log else x - jnp.log(counts) for x in found)


def _sums_of_logs(logit, valid):
  """Sums of `log sigmoid(logit)` and of `log sigmoid(-logit)`; as of `_log_sums`."""
  outside = jnp.log1p(jnp.exp(-jnp.abs(logit)))
  each = jnp.minimum(logit, 0.0) - outside, -jnp.maximum(logit, 0.0) - outside
  return tuple(jnp.sum(x, axis=(0, 2), where=valid) for x in each)


@jax.custom_vjp
def _log_sums(logit, valid):
  """Logarithms of sums of `sigmoid(logit)` and of `sigmoid(-logit)` over samples, never -inf.

  Where all logits of two videos are negative, all terms of the first sum may underflow, where all
  are positive those of the second: they are scaled by the largest of them. One exponential serves
  both sums.

  Args:
    logit: [K, R, K, C].
    valid: which of them count, of a shape that can be broadcast; None for all.

  Returns:
    [R, C] each.
  """
  return _keep_sums(logit, valid)[0]


def _keep_sums(logit, valid):
  every = dict(axis=(0, 2), keepdims=True)
  inside = {} if valid is None else {"where": valid}
  low = jnp.maximum(jnp.min(logit, **every, initial=jnp.inf, **inside), 0.0)
  high = jnp.maximum(-jnp.max(logit, **every, initial=-jnp.inf, **inside), 0.0)
  near, far, _ = _sigmoids(logit, low, high)
  positive = logit >= 0
  sums = [jnp.sum(jnp.where(p, near, far), **every, **inside) for p in (positive, ~positive)]
  logs = tuple((jnp.log(s) - shift)[0, :, 0] for s, shift in zip(sums, (high, low), strict=True))
  return logs, (logit, valid, low, high, sums)


def _sigmoids(logit, low, high):
  """Sigmoids of the logits' absolute values, those of the negated ones and their products.

  The latter two times `exp(low + high)`, of which one is 0.
  """
  scaled = jnp.exp(low + high - jnp.abs(logit))
  near = 1 / (1 + scaled * jnp.exp(-low - high))
  return near, scaled * near, scaled * near * near


def _pull_sums(kept, pulls):
  logit, valid, low, high, sums = kept
  to_match, to_differ = (p[None, :, None] for p in pulls)
  slope = _sigmoids(logit, low, high)[2]
  given = slope * (to_match * jnp.exp(-low) / sums[0] - to_differ * jnp.exp(-high) / sums[1])
  return given if valid is None else jnp.where(valid, given, 0.0), None


_log_sums.defvjp(_keep_sums, _pull_sums)


def _rounding(x, y, same):
  """As much as equal samples may seem apart: [K, R, K, C], squared.

  A compiler may compute a sample twice, once rounded to be stored and once within a larger
  expression. The norm's slope would be that of the remainder.
  """
  (mean, deviation), (mean_y, deviation_y) = (
      [jnp.sum(jnp.square(4 * jnp.finfo(v.dtype).eps * v), axis=-1) for v in side]
      for side in (x, y))
  means = jnp.where(same, 0.0, mean[:, None] + mean_y)[:, None]
  return means + (deviation[:, :, None, None] + deviation_y)


@jax.custom_vjp
def _differences(x, y, same):
  """Squared distances of samples [K, R, K, C].

  Args:
    x, y: mean [R, D] and deviation [K, R, D], and those of the columns.
    same: [R, C], whether they are the same video.
  """
  means = _apart(x, y, same)[:, None]
  return jnp.sum(jnp.square(means + (x[1][:, :, None, None] - y[1])), axis=-1)


def _apart(x, y, same):
  return jnp.where(same[..., None], 0.0, x[0][:, None] - y[0])


def _keep(x, y, same):
  return _differences(x, y, same), (x, y, same)


def _pull_back(kept, pull):
  """Their gradient by products: written out, it would lay out the differences [K, R, K, C, D]."""
  x, y, same = kept
  # By the mean of a video and itself it is 0, of which sums over samples would leave a remainder.
  other = jnp.where(same[:, None], 0.0, pull)
  apart = _apart(x, y, same)
  rows, by_mean = (_pulled(apart, x[1], y[1], v) for v in (pull, other))
  columns, by_mean_y = (_pulled(-apart.swapaxes(0, 1), y[1], x[1], v.transpose(2, 3, 0, 1))
                        for v in (pull, other))
  return (by_mean.sum(axis=0), rows), (by_mean_y.sum(axis=0), columns), None


def _pulled(apart, deviation, deviation_y, pull):
  """`2 sum_lc pull_krlc (z_kr - w_lc)`: [K, R, D], from differences of means [R, C, D]."""
  own = pull.sum(axis=(2, 3))[..., None] * deviation
  return 2 * (_sums("krc,rcd->krd", pull.sum(axis=2), apart)
              + (own - _sums("krlc,lcd->krd", pull, deviation_y)))


_sums = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
_differences.defvjp(_keep, _pull_back)


def _product(x, y, same):
  """Likewise from a product of matrices; those of a video to itself from differences."""
  z, w = (m + d for m, d in (x, y))
  norms = [jnp.sum(jnp.square(v), axis=-1) for v in (z, w)]
  inner = _sums("krd,lcd->krlc", z, w)
  found = jnp.maximum(norms[0][:, :, None, None] + norms[1] - 2 * inner, 0.0)
  own = jnp.sum(jnp.square(y[1][:, None] - y[1]), axis=-1)
  return jnp.where(same[:, None], own[:, None], found)


def _root(x):
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
