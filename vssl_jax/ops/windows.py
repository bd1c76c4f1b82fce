"""Changes to windows of frames inside a jitted loss; all randomness comes from a key.

A window is `x` [B, T, D] and `length` [B], of which min(length, T) frames count. Results have the
same T.
"""

import jax
import jax.numpy as jnp


def thin(key: jax.Array, x: jax.Array, length: jax.Array,
         keep: float) -> tuple[jax.Array, jax.Array]:
  """Keeps each frame with probability `keep`, in order; at least one.

  Returns:
    x [B, T, D] with the frames kept in front and zeros after them, length [B] int32.
  """
  frames = jnp.arange(x.shape[1])
  inside = frames < length[:, None]
  draw = jax.random.uniform(key, inside.shape)
  # The frame with the smallest draw always stays.
  first = jnp.argmin(jnp.where(inside, draw, 2.0), axis=1)
  stay = inside & ((draw < keep) | (frames == first[:, None]))
  order = jnp.argsort(~stay, axis=1, stable=True)
  count = jnp.sum(stay, axis=1, dtype=jnp.int32)
  return _take(x, order, frames < count[:, None]), count


def _take(x: jax.Array, index: jax.Array, mask: jax.Array) -> jax.Array:
  """Frames `index` [B, T'] of `x` [B, T, D], and zeros where `mask` [B, T'] is False."""
  taken = jnp.take_along_axis(x, index[..., None], axis=1)
  return jnp.where(mask[..., None], taken, 0)
