"""Points as maps that can be copied like labels, and back (corrflow spec 12)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def draw(points: np.ndarray, size: tuple[int, int], sigma: float = 0.5) -> np.ndarray:
  """Soft labels of points: background first, then one small Gaussian a point.

  As the usual evaluation draws them: the samples lie at whole distances from the peak's cell,
  which is the point's, rounded towards zero at a corner 3 sigma before it, and are cut 3 sigma
  away. A point beyond the map draws what of its patch lies inside, often nothing.

  Args:
    points: [J, 2], (x, y) in cells.
    size: H, W of the map.
    sigma: of the Gaussian, in cells.

  Returns:
    [H, W, 1 + J] float32; the background is 1 where no point is, else 0.
  """
  points = np.asarray(points, np.float64)
  if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
    raise ValueError(f"points {points.shape} should be finite [J, 2]")
  maps = np.zeros((*size, 1 + len(points)), np.float32)
  reach = 3 * sigma
  count = int(2 * reach + 1)
  distance = np.arange(count) - count // 2
  patch = np.exp(-(distance[:, None] ** 2 + distance ** 2) / (2 * sigma ** 2))
  for j, point in enumerate(points):
    corner = np.trunc(point - reach).astype(int)
    end = np.trunc(point + reach + 1).astype(int)
    if (corner >= size[::-1]).any() or (end < 0).any():
      continue
    (x, y), (x2, y2) = np.maximum(0, corner), np.minimum(size[::-1], end)
    part = patch[max(0, -corner[1]):y2 - corner[1], max(0, -corner[0]):x2 - corner[0]]
    maps[y:y + part.shape[0], x:x + part.shape[1], 1 + j] = part
  maps[..., 0] = ~maps.any(axis=-1)
  return maps


@functools.partial(jax.jit, static_argnames="top")
def decode(maps: jax.Array, top: int = 3) -> jax.Array:
  """Where each point is: the mean of the cells of its `top` largest weights.

  Args:
    maps: [..., H, W, J], without background, at least 0.
    top: how many cells.

  Returns:
    [..., J, 2] float32, (x, y) in cells; (-1, -1) where a map is 0 everywhere.
  """
  maps = maps.astype(jnp.float32)
  *_, h, w, _ = maps.shape
  flat = jnp.swapaxes(maps.reshape(*maps.shape[:-3], h * w, -1), -1, -2)
  best, index = lax.top_k(flat, min(top, h * w))
  total = best.sum(-1, keepdims=True)
  cells = jnp.stack([index % w, index // w], -1).astype(jnp.float32)
  mean = (best[..., None] / jnp.where(total > 0, total, 1)[..., None] * cells).sum(-2)
  return jnp.where(total > 0, mean, -1.0)
