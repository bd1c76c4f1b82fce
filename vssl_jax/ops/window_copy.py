"""From scores to copied values: by a softmax over all keys of a tile, or over the best of them.

g n: runs and tiles of a step of `window_tiles`. Scores of a part are [g, n, keys, queries], its
values [g, n, keys, C]; where all tiles see the same keys they are one, so n queries, not n, is the
same for all parts.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


def wide(*arrays: jax.Array):
  """The type of sums and scores: float32, or what is wider among those of the arrays."""
  return jnp.result_type(jnp.float32, *(x.dtype for x in arrays))


def product(formula: str, x: jax.Array, y: jax.Array) -> jax.Array:
  return jnp.einsum(formula, x, y, precision=lax.Precision.HIGHEST,
                    preferred_element_type=wide(x, y))


def softmax(scores: list[jax.Array], values: list[jax.Array]):
  """One softmax over the keys of all parts; values with channels first, [g, n, C, keys].

  Returns:
    [g, all queries, C]; what `softmax_pull` needs, the highest score and one over the sum of
    exponentials, [g, all queries] each.
  """
  g = len(scores[0])
  top = functools.reduce(jnp.maximum, (s.max(axis=2).reshape(g, -1) for s in scores))
  weights = [jnp.exp(s - top.reshape(g, s.shape[1], 1, s.shape[3])) for s in scores]
  share = 1 / sum(w.sum(axis=2).reshape(g, -1) for w in weights)
  out = 0.0
  for w, v in zip(weights, values, strict=True):
    # Scaled before it is transposed: a bare transpose XLA on a CPU would put into the product,
    # which would then run on one core.
    copied = product("gnkq,gnck->gncq", w, v) * share.reshape(g, w.shape[1], 1, w.shape[3])
    out = out + copied.swapaxes(2, 3).reshape(g, -1, v.shape[2])
  return out, (top, share)


def softmax_pull(scores: jax.Array, value: jax.Array, given, ct: jax.Array, slope: jax.Array):
  """Gradients of `softmax` with respect to the scores and values of one part.

  Args:
    value: [g, n, keys, C].
    given: what `softmax` returned with the copies, [g, n, queries] each.
    ct: of the copies, [g, n, queries, C].
    slope: product of the copies and `ct`, [g, n, queries].
  """
  top, share = (x[:, :, None] for x in given)
  weights = jnp.exp(scores - top) * share
  pull = product("gnkc,gnqc->gnkq", value, ct)
  return weights * (pull - slope[:, :, None]), product("gnkq,gnqc->gnkc", weights, ct)


def top_k(scores: list[jax.Array], values: list[jax.Array], k: int,
          rows: tuple[int, ...]) -> jax.Array:
  """As `softmax`, over the k best keys of all parts; of equal ones the first.

  `rows`: consecutive keys of each part, a divisor of them all, that are compared as a group.
  """
  g, found = len(scores[0]), []
  for s, v, row in zip(scores, values, rows, strict=True):
    best, index = _best(s, k, row)
    chosen = jax.vmap(jax.vmap(lambda v, i: v[i]))(v.astype(wide(v)), index)
    found.append((best.reshape(g, -1, best.shape[3]), chosen.reshape(g, -1, *chosen.shape[3:])))
  best, chosen = (jnp.concatenate(x, axis=2) for x in zip(*found, strict=True))
  if len(found) > 1:
    best, index = lax.top_k(best, min(k, best.shape[2]))
    chosen = jnp.take_along_axis(chosen, index[..., None], axis=2)
  return jnp.sum(jax.nn.softmax(best, axis=-1)[..., None] * chosen, axis=2)


def _best(scores: jax.Array, k: int, row: int) -> tuple[jax.Array, jax.Array]:
  """The k highest scores of each query and their keys, [g, n, queries, k].

  They lie in the k rows whose highest scores are the highest, of equal ones the first: a key
  outside of these has k better ones or equal ones before it. So a sort over rows and one over the
  keys of k rows replace one over all keys.
  """
  g, n, keys, queries = scores.shape
  if keys <= 2 * k * row:
    return lax.top_k(scores.swapaxes(2, 3), min(k, keys))
  scores = scores.reshape(g, n, keys // row, row, queries)
  highest = lax.stop_gradient(scores.max(axis=3).swapaxes(2, 3))
  rows = jnp.sort(lax.top_k(highest, k)[1], axis=-1)  # [g, n, queries, k], first ones first
  few = jnp.take_along_axis(scores, rows.swapaxes(2, 3)[:, :, :, None], axis=2)
  few = few.reshape(g, n, k * row, queries).swapaxes(2, 3)
  best, index = lax.top_k(few, k)
  return best, jnp.take_along_axis(rows, index // row, axis=3) * row + index % row
