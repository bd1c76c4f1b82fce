"""Losses between videos that are distributions, soft and stochastic contrastive (provico 8, 9).

Functions take matrices over the pairs of B videos and return one loss a pair or a video; the caller
averages. Everything is computed in float32 or wider, from log probabilities.
"""

import functools

import chex
import jax
import jax.numpy as jnp

from vssl_jax.ops.gaussian import widen


def threshold(tau: float, *, lam: float, reading: str, dim: int, sampled: bool) -> float:
  """The distance below which videos are taken for positive: `lam (1 + tau)` (spec 8).

  Samples of two videos are lam apart (D times lam where dimensions are summed) beside what their
  distributions are; without samples that is left out. So one `tau` bounds, in expectation, the same
  thing for either: the distance of the distributions over lam, a dimension.

  Args:
    lam, reading: as of the distance, see `gaussian.bhattacharyya`.
    dim: D.
    sampled: whether the distance is between samples.
  """
  return lam * (tau + sampled) * (1 if reading == "mean" else dim)


def positives(distance, tau, same=None, *, neighbours: int = 0):
  """Which pairs of videos are positive: those nearer than tau, and a video with itself.

  As printed, positives beget positives until all are (spec 9); `neighbours` stops that.

  Args:
    distance: [B, B].
    tau: scalar.
    same: [B, B] bool, pairs that are positive by construction, such as two halves of a video; the
      diagonal always is. They take no one's place as a neighbour.
    neighbours: keep only pairs of which each is among so many nearest of the other; 0 keeps all.

  Returns:
    [B, B] bool, symmetric if `distance` and `same` are. No gradient flows.
  """
  size = len(distance)
  chex.assert_shape(distance, (size, size))
  itself = jnp.eye(size, dtype=bool)
  if same is not None:
    chex.assert_equal_shape([distance, same])
    itself |= same
  distance = jax.lax.stop_gradient(widen(distance)[0])
  near = distance < tau
  if neighbours:
    others = jnp.where(itself, jnp.inf, distance)
    _, nearest = jax.lax.top_k(-others, min(neighbours, size))
    among = jnp.zeros((size, size), bool).at[jnp.arange(size)[:, None], nearest].set(True)
    near &= among & among.T
  return near | itself


def soft_contrastive(log_p, log_not_p, mask):
  """`-log p` of positive pairs, `-log(1 - p)` of the others.

  Args:
    log_p, log_not_p: [B, B], see `gaussian_pairs.match`.
    mask: [B, B] bool.

  Returns:
    [B, B], at least 0.
  """
  chex.assert_equal_shape([log_p, log_not_p, mask])
  log_p, log_not_p = widen(log_p, log_not_p)
  return -jnp.where(mask, log_p, log_not_p)


def stochastic_contrastive(soft, u, *, log_term: bool = True):
  """`soft / (s_i s_j) + (log s_i^2 + log s_j^2) / 2`, s_i the deviation of video i as a whole.

  Least, at `1 + log soft`, where s_i s_j is `soft` itself: uncertainty learns to be the pair's own
  loss. It has no lower bound: negative values are normal.

  Args:
    soft: [B, B].
    u: [B] log s_i^2, see `gaussian.uncertainty`.
    log_term: False leaves out the second part, which alone keeps deviations from growing.

  Returns:
    [B, B].
  """
  chex.assert_shape(soft, (len(u), len(u)))
  soft, u = widen(soft, u)
  half = (u[:, None] + u) / 2
  return jnp.exp(-half) * soft + (half if log_term else 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def bounded(x, low: float, high: float):
  """`clip(x, low, high)`; beyond its ends a gradient that leads back inwards gets through.

  So a scale that a step has carried out of its range, or that begins at an end of it, isn't lost.
  """
  return jnp.clip(x, low, high)


def _bounded_back(low: float, high: float, x, pull):
  """A step goes against the gradient."""
  outwards = ((x <= low) & (pull > 0)) | ((x >= high) & (pull < 0))
  return (jnp.where(outwards, 0.0, pull),)


bounded.defvjp(lambda x, low, high: (bounded(x, low, high), x), _bounded_back)


def pair_weights(mask, *, balanced: bool = False, self_pairs: bool = True):
  """Weights of a mean over ordered pairs.

  Args:
    mask: [B, B] bool, the positives.
    balanced: half the mean over positive pairs and half that over the others, however few there
      are; if a kind is missing its half is 0.
    self_pairs: count the diagonal.

  Returns:
    [B, B], the same for all pairs, or all of a kind.
  """
  size = len(mask)
  chex.assert_shape(mask, (size, size))
  counted = jnp.ones((size, size), bool) if self_pairs else ~jnp.eye(size, dtype=bool)
  if not balanced:
    return _mean_over(counted)
  return (_mean_over(mask & counted) + _mean_over(~mask & counted)) / 2


def _mean_over(pairs):
  return pairs / jnp.maximum(jnp.sum(pairs), 1)


def per_video(losses, weights, kl, *, beta: float = 1e-4):
  """Each video's part of the objective: its mean is the weighted mean of pairs + beta mean(kl).

  Args:
    losses, weights: [B, B].
    kl: [B] or, of each of N clips, [B, N].

  Returns:
    [B].
  """
  chex.assert_equal_shape([losses, weights])
  size = len(losses)
  losses, kl = widen(losses, kl)
  return size * jnp.sum(weights * losses, axis=1) + beta * jnp.mean(kl.reshape(size, -1), axis=1)


def summary(mask, same=None, label=None):
  """How many positives were mined, beside those by construction.

  Args:
    mask: [B, B] bool.
    same: [B, B] bool, positives by construction beside the diagonal.
    label: [B] int classes, -1 for unknown: they are for this number only, nothing learns from them.

  Returns:
    "positives": mean number a video; "positive_precision" with labels: the share that has the same
    class, 0 where there is none.
  """
  mined = mask & ~jnp.eye(len(mask), dtype=bool)
  mined = mined if same is None else mined & ~same
  found = {"positives": jnp.mean(jnp.sum(mined, axis=1, dtype=jnp.float32))}
  if label is not None:
    known = mined & (label[:, None] >= 0) & (label >= 0)
    right = jnp.sum(known & (label[:, None] == label), dtype=jnp.float32)
    found["positive_precision"] = right / jnp.maximum(jnp.sum(known, dtype=jnp.float32), 1.0)
  return found
