"""Losses that pull a positive above negatives, on cosine similarities.

Every function takes the similarities of N anchors and returns one loss an anchor; the caller
averages. Everything is computed in float32: with gamma 256 losses exceed 100 at the start, where
bfloat16 has no digits left (tca spec 14.5).

Shapes: `s_p` [N] similarity to the positive, `s_n` [N, M] to the negatives, `mask` [N, M] True
where a negative counts (None: all do). A row without any negative has loss 0.
"""

import chex
import jax
import jax.numpy as jnp


def _cross_entropy(l_p, l_n, mask):
  """`logsumexp([l_p, l_n]) - l_p` a row: target 0 of the logits `[l_p, l_n]`.

  The positive is subtracted first: logits reach hundreds, and afterwards a small loss would lose
  its digits and could come out below 0.
  """
  above = l_n - l_p[:, None]
  if mask is not None:
    above = jnp.where(mask, above, -jnp.inf)
  return jax.nn.logsumexp(jnp.pad(above, ((0, 0), (1, 0))), axis=1)


def _check(s_p, s_n, mask):
  chex.assert_rank([s_p, s_n], [1, 2])
  chex.assert_equal_shape_prefix([s_p, s_n], 1)
  if mask is not None:
    chex.assert_equal_shape([s_n, mask])
  return s_p.astype(jnp.float32), s_n.astype(jnp.float32)


def info_nce(s_p, s_n, mask=None, *, tau: float = 0.07):
  """InfoNCE: `-log exp(s_p/tau) / (exp(s_p/tau) + sum_j exp(s_n_j/tau))`.

  The temperature is in every term, also in the positive's in the denominator; a printed form
  without it there can be negative (tca spec 6.1). `tau=1` is the plain softmax loss.

  Returns:
    [N] float32, at least 0; `log(1 + M)` where all similarities are equal.
  """
  s_p, s_n = _check(s_p, s_n, mask)
  return _cross_entropy(s_p / tau, s_n / tau, mask)


def circle(s_p, s_n, mask=None, *, gamma: float = 256.0, margin: float = 0.25, detach: bool = True):
  """Circle loss of the paper (tca spec 6.2).

  `l_p = gamma a_p (s_p - (1 - m))`, `l_n = gamma a_n (s_n - m)` with the weights
  `a_p = max(0, 1 + m - s_p)`, `a_n = max(0, s_n + m)`, constants for the gradient if `detach`.

  Returns:
    [N] float32, at least 0.
  """
  s_p, s_n = _check(s_p, s_n, mask)
  constant = jax.lax.stop_gradient if detach else lambda a: a
  a_p = constant(jax.nn.relu(1 + margin - s_p))
  a_n = constant(jax.nn.relu(s_n + margin))
  l_p = gamma * a_p * (s_p - (1 - margin))
  l_n = gamma * a_n * (s_n - margin)
  return _cross_entropy(l_p, l_n, mask)


def released_circle(logits, *, gamma: float = 256.0, margin: float = 0.25):
  """The class in the authors' release, kept for parity only: it is not the paper's Circle loss.

  It indexes rows where it means columns, so row 0 of the batch gets the positive's formula in all
  columns and every other row the negative's in all columns, its positive included (tca spec 6.4).

  Args:
    logits: [N, 1 + M] similarities, the positive first.

  Returns:
    [N] float32.
  """
  chex.assert_rank(logits, 2)
  s = logits.astype(jnp.float32)
  first = (jnp.arange(s.shape[0]) == 0)[:, None]
  weight = jnp.where(first, jax.nn.relu(1 + margin - s), jax.nn.relu(s + margin))
  offset = jnp.where(first, 1 - margin, margin)
  logits = gamma * jax.lax.stop_gradient(weight) * (s - offset)
  return _cross_entropy(logits[:, 0], logits[:, 1:], None)


def triplet(s_p, s_n, mask=None, *, margin: float = 0.5, hardest: bool = True):
  """Triplet loss `max(0, s_n - s_p + margin)` (tca spec 6.3, in the form of ViSiL and DnS).

  Args:
    hardest: take the most similar negative of each anchor; otherwise the mean over negatives.

  Returns:
    [N] float32, in [0, 2 + margin].
  """
  s_p, s_n = _check(s_p, s_n, mask)
  mask = jnp.ones(s_n.shape, bool) if mask is None else mask
  terms = jnp.where(mask, jax.nn.relu(s_n - s_p[:, None] + margin), 0.0)
  if hardest:
    return jnp.max(terms, axis=1, initial=0.0)
  return jnp.sum(terms, axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1)


def summary(s_p, s_n, mask) -> dict[str, jax.Array]:
  """How far positives stand above their negatives, without a gradient; arguments as above.

  Returns:
    means of "positive" and "negative" similarities and of each row's "hardest" negative, and
    "top1", the share of positives above it. A row without negatives has -1 for its hardest.
  """
  s_p, s_n = jax.lax.stop_gradient((s_p, s_n))
  hardest = jnp.max(jnp.where(mask, s_n, -1.0), axis=1)
  mean_n = jnp.sum(jnp.where(mask, s_n, 0.0)) / jnp.maximum(jnp.sum(mask), 1)
  return {"positive": jnp.mean(s_p), "negative": mean_n, "hardest": jnp.mean(hardest),
          "top1": jnp.mean(s_p > hardest)}
