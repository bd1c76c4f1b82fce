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


def softmax(scores: list[jax.Array], values: list[jax.Array]) -> jax.Array:
  """[g, all queries, C], by one softmax over the keys of all parts."""
  g = len(scores[0])
  top = functools.reduce(jnp.maximum, (s.max(axis=2).reshape(g, -1) for s in scores))
  top = lax.stop_gradient(top)
  out = norm = 0.0
  for s, v in zip(scores, values, strict=True):
    weights = jnp.exp(s - top.reshape(g, s.shape[1], 1, s.shape[3]))
    norm = norm + weights.sum(axis=2).reshape(g, -1)
    copied = product("gnkq,gnkc->gncq", weights, v.astype(wide(v)))
    out = out + copied.swapaxes(2, 3).reshape(g, -1, v.shape[-1])
  return out / norm[..., None]


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
