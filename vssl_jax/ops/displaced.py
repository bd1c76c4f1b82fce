"""Window attention whose windows are displaced: MAST's search in old frames (corrflow spec 16.1).

Far back in time an object may have left the window. A coarse search in a dilated window finds the
expected displacement of each cell; the fine window is then laid around the displaced cell, between
the cells of the reference. A score there is a bilinear mean of four products, so no feature is
interpolated: the products of one patch of whole cells give them all.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

FAR = -1e30  # score of a reference that isn't there


def expected_offset(query: jax.Array, key: jax.Array, radius: int, dilation, most: int,
                    temperature: float = 1.0) -> jax.Array:
  """Mean displacement under the softmax over a dilated window; cells beyond the map score 0.

  Args:
    query, key: [H, W, D].
    radius: M of the window of (2M + 1)^2 cells.
    dilation: step between them, at most `most`; may be traced.
    most: static.
    temperature: the scores are divided by it.

  Returns:
    [H, W, 2] float32, (y, x) in cells.
  """
  h, w, _ = query.shape
  query = query.astype(jnp.float32) / temperature
  reach = radius * most
  padded = jnp.pad(key.astype(jnp.float32), [(reach, reach), (reach, reach), (0, 0)])
  side = 2 * radius + 1

  def visit(carry, n):
    top, total, mean = carry
    shift = (jnp.stack([n // side, n % side]) - radius) * dilation
    keys = lax.dynamic_slice(padded, (reach + shift[0], reach + shift[1], 0), key.shape)
    score = jnp.sum(query * keys, axis=-1)
    new = jnp.maximum(top, score)
    old, weight = jnp.exp(top - new), jnp.exp(score - new)
    mean = mean * old[..., None] + weight[..., None] * shift
    return (new, total * old + weight, mean), None

  start = jnp.full((h, w), FAR), jnp.zeros((h, w)), jnp.zeros((h, w, 2))
  (_, total, mean), _ = lax.scan(visit, start, jnp.arange(side * side))
  return mean / total[..., None]


def attend(query: jax.Array, keys: jax.Array, values: jax.Array, offsets: jax.Array,
           valid: jax.Array, radius: int,
           temperature: float = 1.0) -> tuple[jax.Array, jax.Array]:
  """Copies values by one softmax over displaced windows of all references.

  Between cells, keys and values are bilinear; beyond the map both are 0, and count.

  Args:
    query: [H, W, D].
    keys, values: [R, H, W, D], [R, H, W, C].
    offsets: [R, H, W, 2], (y, x): where each cell's window lies, from the cell.
    valid: [R] bool, references that are there; at least one.
    radius: M of windows of (2M + 1)^2 cells.
    temperature: the scores are divided by it.

  Returns:
    [H, W, C] float32, and the logarithm of the softmax's denominator, [H, W].
  """
  r, h, w, _ = keys.shape
  side = 2 * radius + 2  # whole cells that a window between cells touches
  pads = [(0, 0), (side, side), (side, side), (0, 0)]
  keys, values = (jnp.pad(x.astype(jnp.float32), pads) for x in (keys, values))
  query = query.astype(jnp.float32) / temperature
  whole = jnp.floor(offsets)
  part = offsets - whole
  # Windows that are wholly outside see zeros wherever they are.
  cells = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"), -1)
  corners = cells + whole.astype(jnp.int32) - radius + side
  corners = jnp.clip(corners, 0, jnp.array([h, w]) + side)

  def patches(x, corner):  # [H', W', C], [W, 2] -> [W, side, side, C]
    size = side, side, x.shape[-1]
    return jax.vmap(lambda c: lax.dynamic_slice(x, (c[0], c[1], 0), size))(corner)

  def row(given):
    q, corner, between = given  # [W, D], [R, W, 2], [R, W, 2]
    scores = [_mean(jnp.einsum("wd,wijd->wij", q, patches(keys[i], corner[i]),
                               precision=lax.Precision.HIGHEST), between[i]) for i in range(r)]
    scores = jnp.stack([jnp.where(valid[i], s, FAR) for i, s in enumerate(scores)], 1)
    weights = jax.nn.softmax(scores.reshape(w, -1), axis=-1).reshape(scores.shape)
    out = 0.0
    for i in range(r):
      spread = _spread(weights[:, i], between[i])
      out += jnp.einsum("wij,wijc->wc", spread, patches(values[i], corner[i]),
                        precision=lax.Precision.HIGHEST)
    return out, jax.nn.logsumexp(scores.reshape(w, -1), axis=-1)

  return lax.map(row, (query, corners.swapaxes(0, 1), part.swapaxes(0, 1)))


def _mean(x: jax.Array, part: jax.Array) -> jax.Array:
  """[W, n + 1, n + 1], [W, 2] -> [W, n, n]: bilinear between cells."""
  y, x_part = part[:, 0, None, None], part[:, 1, None, None]
  x = (1 - y) * x[:, :-1] + y * x[:, 1:]
  return (1 - x_part) * x[..., :-1] + x_part * x[..., 1:]


def _spread(weights: jax.Array, part: jax.Array) -> jax.Array:
  """The transpose of `_mean`: [W, n, n], [W, 2] -> [W, n + 1, n + 1]."""
  w, n, _ = weights.shape
  transpose = jax.linear_transpose(functools.partial(_mean, part=part),
                                   jax.ShapeDtypeStruct((w, n + 1, n + 1), jnp.float32))
  return transpose(weights)[0]
