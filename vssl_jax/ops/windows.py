"""Changes to windows of frames inside a jitted loss; all randomness comes from a key.

A window is `x` [B, T, D] and `length` [B], of which min(length, T) frames count. Results have the
same T.
"""

import chex
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


def splice(key: jax.Array, x: jax.Array, length: jax.Array, other: jax.Array,
           other_length: jax.Array, *, rate: float,
           share: float) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Inserts a contiguous run of another window's frames.

  The run stands at a uniform place, and what it pushes beyond T is lost.

  Args:
    other: [B, T2, D] windows to take frames from; other_length: [B].
    rate: share of the windows that get a run.
    share: largest length of a run, as a share of T; at least a frame of `x` always stays.

  Returns:
    x [B, T, D], zero at padding; length [B] int32; spliced [B, T] bool, the frames of `other`.
  """
  chex.assert_equal_shape_suffix([x, other], 1)
  size, own = x.shape[1], jnp.minimum(length, x.shape[1])
  longest = jnp.minimum(max(1, min(int(size * share), size - 1)),
                        jnp.minimum(other_length, other.shape[1]))
  keys = jax.random.split(key, 4)

  def below(key, high):  # uniform integers 0 .. high - 1, one a row
    return jnp.minimum((jax.random.uniform(key, own.shape) * high).astype(jnp.int32), high - 1)

  run = jnp.where(jax.random.uniform(keys[0], own.shape) < rate, 1 + below(keys[1], longest), 0)
  at = below(keys[2], jnp.minimum(own, size - run) + 1)[:, None]
  start = below(keys[3], jnp.minimum(other_length, other.shape[1]) - run + 1)[:, None]
  frames, run = jnp.arange(size), run[:, None]
  spliced = (frames >= at) & (frames < at + run)
  new_length = jnp.minimum(own + run[:, 0], size)
  inside = frames < new_length[:, None]
  source = jnp.where(frames < at, frames, frames - run)
  mine = _take(x, jnp.clip(source, 0, size - 1), inside & ~spliced)
  guest = _take(other, jnp.clip(frames - at + start, 0, other.shape[1] - 1), spliced)
  return jnp.where(spliced[..., None], guest, mine), new_length, spliced


def recurring(x: jax.Array, length: jax.Array, others: jax.Array, other_length: jax.Array,
              unrelated: jax.Array, threshold: float) -> jax.Array:
  """Which frames unrelated videos show too: a cosine of at least `threshold` with one of theirs.

  Args:
    x: [B, T, D] unit vectors, as is others [C, S, D]; length: [B], other_length: [C].
    unrelated: [B, C] bool.

  Returns:
    [B, T] bool, False at padding.
  """
  chex.assert_shape(unrelated, (x.shape[0], others.shape[0]))
  inside = jnp.arange(x.shape[1]) < length[:, None]
  known = jnp.arange(others.shape[1]) < other_length[:, None]
  x, others = (jnp.where(m[..., None], a, 0) for m, a in ((inside, x), (known, others)))
  s = jnp.max(jnp.einsum("btd,csd->btcs", x, others), axis=3, where=known, initial=-1.0)
  return inside & (jnp.max(s, axis=2, where=unrelated[:, None], initial=-1.0) >= threshold)


def _take(x: jax.Array, index: jax.Array, mask: jax.Array) -> jax.Array:
  """Frames `index` [B, T'] of `x` [B, T, D], and zeros where `mask` [B, T'] is False."""
  taken = jnp.take_along_axis(x, index[..., None], axis=1)
  return jnp.where(mask[..., None], taken, 0)
