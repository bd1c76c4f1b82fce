"""Contrast of a frame with its video: directly, and by way of other videos (cycle_contrast spec 4).

Vectors are of unit length. A queue holds frames of the past; which of its rows count for which
query is an argument. One loss a query, in float32 or wider; the caller averages.

Shapes: B queries, D dimensions, K rows of a queue, P positives, S rows drawn as neighbours.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from vssl_jax.ops.normalise import l2


class Neighbour(NamedTuple):
  """A soft nearest neighbour.

  Attributes:
    vector: [B, D] of unit length; zero where no row counts.
    weights: [B, S] of the rows, at least 0. They sum to 1, less what the query itself has.
    own: [B] weight of the query itself; 0 unless it may be chosen.
  """

  vector: jax.Array
  weights: jax.Array
  own: jax.Array


class Scores(NamedTuple):
  """Similarities that were contrasted: `positive` [B, P], `negative` [B, K], `mask` [B, K] bool."""

  positive: jax.Array
  negative: jax.Array
  mask: jax.Array


def contrast(s_p, s_n, mask=None, *, tau: float = 0.07):
  """InfoNCE with one positive or several, each against the negatives alone (equations 1 and 3).

  `mean_p -log exp(s_p/tau) / (exp(s_p/tau) + sum_k exp(s_n_k/tau))`

  Args:
    s_p: [B, P] similarities to the positives.
    s_n: [B, K] to the negatives.
    mask: [B, K] True where a negative counts; None: all do. A row without any has loss 0.

  Returns:
    [B]; `log(1 + K)` where all similarities are equal.
  """
  chex.assert_rank([s_p, s_n], [2, 2])
  chex.assert_equal_shape_prefix([s_p, s_n], 1)
  l_p, l_n = (_wide(s) / tau for s in (s_p, s_n))
  if mask is None:
    mask = jnp.ones(l_n.shape, bool)
  chex.assert_equal_shape([l_n, mask])
  some = jnp.any(mask, axis=1, keepdims=True)
  # A row without negatives keeps them, finite, and is left out at the end: log 0 has no gradient.
  total = jax.nn.logsumexp(jnp.where(mask | ~some, l_n, -jnp.inf), axis=1, keepdims=True)
  # log(1 + exp(total - l_p)): a small loss keeps its digits, and is never below 0.
  return jnp.mean(jnp.where(some, jax.nn.softplus(total - l_p), 0.0), axis=1)


def soft_neighbour(q, rows, mask=None, *, tau: float = 0.07, key=None) -> Neighbour:
  """The mean of rows by their similarity to the query (equation 2).

  `n = unit(sum_j a_j row_j)`, `a = softmax_j(q . row_j / tau)`. The gradient reaches q through the
  weights only.

  Args:
    q: [B, D] queries.
    rows: [S, D] frames that may be neighbours.
    mask: [B, S] True where a row counts for a query; None: all do.
    key: [B, D]; with it the query may be its own neighbour: the softmax has one more term, by
      `q . key`, and its weight multiplies q itself, through which gradient flows too.
  """
  chex.assert_rank([q, rows], 2)
  chex.assert_equal_shape_suffix([q, rows], 1)
  q, rows = _wide(q), _wide(rows)
  logits = q @ rows.T / tau
  if mask is not None:
    chex.assert_equal_shape([logits, mask])
    logits = jnp.where(mask, logits, -jnp.inf)
  if key is None:
    own = jnp.full((len(q), 1), -jnp.inf, logits.dtype)
  else:
    chex.assert_equal_shape([q, key])
    own = jnp.sum(q * _wide(key), axis=1, keepdims=True) / tau
  top = jax.lax.stop_gradient(jnp.maximum(jnp.max(logits, axis=1, keepdims=True), own))
  top = jnp.where(jnp.isfinite(top), top, 0.0)  # no row counts: all weights are 0
  weights, own = jnp.exp(logits - top), jnp.exp(own - top)
  total = jnp.maximum(jnp.sum(weights, axis=1, keepdims=True) + own,
                      jnp.finfo(logits.dtype).tiny)
  weights, own = weights / total, own / total
  return Neighbour(l2(weights @ rows + own * q), weights, own[:, 0])


def intra(q, positives, queue, mask=None, *, tau: float = 0.07) -> tuple[jax.Array, Scores]:
  """Frames of a video against the queue (equation 1).

  Args:
    q: [B, D]; positives: [B, P, D] frames of the same video; queue: [K, D].
    mask: [B, K] True where a row is a negative; None: all are.

  Returns:
    [B] losses, and what was compared.
  """
  scores = _scores(q, positives, queue, mask)
  return contrast(*scores, tau=tau), scores


def cycle(q, positives, queue, mask=None, chosen=None, *, tau: float = 0.07,
          neighbour_tau: float = 0.07, key=None) -> tuple[jax.Array, Scores, Neighbour]:
  """From the query to its soft neighbour among other videos, and back (equations 2 and 3).

  The rows of the queue that aren't `chosen` as possible neighbours are the negatives. Those chosen
  are copied; the others are not: the neighbour is compared with the whole queue, and the chosen
  rows are masked, which is B x S products of D numbers more than with a copy.

  Args:
    q: [B, D]; positives: [B, P, D] frames of the same video; queue: [K, D].
    mask: [B, K] True where a row is of another video; None: all are.
    chosen: [S] int, different rows; None: all rows are both possible neighbours and negatives.
    key: see `soft_neighbour`.

  Returns:
    [B] losses, what was compared, and the neighbours (weights in the order of `chosen`).
  """
  if chosen is None:
    neighbour = soft_neighbour(q, queue, mask, tau=neighbour_tau, key=key)
  else:
    rows = queue[chosen]
    allowed = None if mask is None else mask[:, chosen]
    neighbour = soft_neighbour(q, rows, allowed, tau=neighbour_tau, key=key)
    rest = jnp.ones(len(queue), bool).at[chosen].set(False)
    mask = jnp.broadcast_to(rest, (len(q), len(queue))) if mask is None else mask & rest
  scores = _scores(neighbour.vector, positives, queue, mask)
  return contrast(*scores, tau=tau), scores, neighbour


def _scores(x, positives, queue, mask) -> Scores:
  chex.assert_rank([x, positives, queue], [2, 3, 2])
  chex.assert_equal_shape_prefix([x, positives], 1)
  x = _wide(x)
  negative = x @ _wide(queue).T
  mask = jnp.ones(negative.shape, bool) if mask is None else mask
  return Scores(jnp.einsum("bd,bpd->bp", x, _wide(positives)), negative, mask)


def returned(scores: Scores) -> jax.Array:
  """[B] bool: whether a positive is more similar than every negative.

  Of the cycle's scores: the way to other videos and back ends in the video it began in.
  """
  hardest = jnp.max(jnp.where(scores.mask, scores.negative, -jnp.inf), axis=1)
  return jnp.max(scores.positive, axis=1) > hardest


def effective_neighbours(weights) -> jax.Array:
  """[B]: exp of the entropy of the weights [B, S], scaled to sum to 1; S where they are equal.

  0 where there are no weights.
  """
  total = jnp.sum(weights, axis=1, keepdims=True)
  p = weights / jnp.where(total > 0, total, 1.0)
  entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0), axis=1)
  return jnp.where(total[:, 0] > 0, jnp.exp(entropy), 0.0)


def weighted_mean(weights, values) -> jax.Array:
  """[B] means of the rows' values [S] by the weights [B, S]; 0 where there are no weights."""
  total = jnp.sum(weights, axis=1)
  return weights @ values.astype(weights.dtype) / jnp.where(total > 0, total, 1.0)


def purity(weights, labels, row_labels) -> tuple[jax.Array, jax.Array]:
  """How much of a neighbour is of the query's class, of the part whose class is known.

  Args:
    weights: [B, S]; labels: [B] int, -1 for unknown; row_labels: [S] likewise.

  Returns:
    [B] shares, and [B] bool: whether there is anything known to judge by; 0 where there isn't.
  """
  known = jnp.sum(jnp.where(row_labels >= 0, weights, 0.0), axis=1)
  same = jnp.sum(jnp.where(row_labels == labels[:, None], weights, 0.0), axis=1)
  judged = (known > 0) & (labels >= 0)
  return jnp.where(judged, same / jnp.where(known > 0, known, 1.0), 0.0), judged


def _wide(x):
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
