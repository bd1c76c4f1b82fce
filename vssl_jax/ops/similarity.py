"""How alike two videos are, from their descriptors (tca spec 10).

Frame descriptors are unit vectors. Products run at full float32 precision: at the accelerators'
default of about three digits, near ties would change places.
"""

import jax
import jax.numpy as jnp

from vssl_jax.ops.normalise import l2


@jax.jit
def cosine(x: jax.Array, y: jax.Array) -> jax.Array:
  """Cosine of every pair of video descriptors.

  Args:
    x: [Q, D], of any length; so is y.
    y: [N, D].

  Returns:
    [Q, N] float32 in [-1, 1]; 0 where a vector is zero.
  """
  return frame_matrix(l2(x.astype(jnp.float32)), l2(y.astype(jnp.float32)))


def frame_matrix(x: jax.Array, y: jax.Array) -> jax.Array:
  """Inner products of every frame of x with every frame of y.

  Args:
    x: [..., D]: [T, D] for one video, [Q, T, D] for several.
    y: [..., D] likewise.

  Returns:
    float32; the leading axes of x, then those of y: [T, S], or [Q, T, N, S].
  """
  return jnp.tensordot(x.astype(jnp.float32), y.astype(jnp.float32), axes=(-1, -1),
                       precision=jax.lax.Precision.HIGHEST)


def region_matrix(x: jax.Array, y: jax.Array, x_mask: jax.Array | None = None,
                  y_mask: jax.Array | None = None) -> jax.Array:
  """Similarities of frames that are described by regions: `mean_r max_u x_tr . y_su`.

  Chamfer similarity over the regions of two frames, the mean being over those of x (ViSiL; tca
  spec 2.5). With one region a frame this is `frame_matrix`. The regions of x come one after the
  other, so what is held beside the result is its size times the regions of y.

  Args:
    x: [..., R, D] unit vectors: [T, R, D] for one video, [Q, T, R, D] for several.
    y: [..., R', D] likewise.
    x_mask: [...] bool, frames that are valid; None: all. What the others hold changes nothing.
    y_mask: likewise for y.

  Returns:
    float32; the leading axes of x, then those of y: [T, S], or [Q, T, N, S]; 0 outside the masks.
  """
  frames, regions = x.shape[:-2], x.shape[-2]
  x, y = _masked_frames(x, x_mask), _masked_frames(y, y_mask)

  def add(total, region):
    return total + jnp.max(frame_matrix(region, y), axis=-1), None

  total, _ = jax.lax.scan(add, jnp.zeros(frames + y.shape[:-2]), jnp.moveaxis(x, -2, 0))
  return total / regions


def _masked_frames(x: jax.Array, mask: jax.Array | None) -> jax.Array:
  x = x.astype(jnp.float32)
  return x if mask is None else jnp.where(mask[..., None, None], x, 0.0)


@jax.jit
def both_chamfers(q: jax.Array, q_len: jax.Array, t: jax.Array,
                  t_len: jax.Array) -> tuple[jax.Array, jax.Array]:
  """`chamfer(q, t)` and `chamfer(t, q)` transposed, from one product of the frames.

  Arguments as in `chamfer`. The product, [Q, T, N, S] float32, is what fills the memory.

  Returns:
    Two [Q, N] float32 arrays.
  """
  s = frame_matrix(q, t)
  q_valid = (jnp.arange(q.shape[1]) < q_len[:, None])[:, :, None]
  t_valid = (jnp.arange(t.shape[1]) < t_len[:, None])[None]
  # Not zero: a cosine of 0 in the padding may beat every true, negative one.
  s = jnp.where(q_valid[..., None] & t_valid, s, -jnp.inf)
  forward = _masked_mean(jnp.max(s, axis=3), q_valid, axis=1)
  backward = _masked_mean(jnp.max(s, axis=1), t_valid, axis=2)
  return forward, backward


@jax.jit
def chamfer(q: jax.Array, q_len: jax.Array, t: jax.Array, t_len: jax.Array) -> jax.Array:
  """`mean_i max_j q_i . t_j`: the mean over query frames of the best database frame.

  Args:
    q: [Q, T, D] unit vectors; what lies beyond the length, NaN included, changes nothing.
    q_len: [Q] int; min(length, T) frames are valid.
    t: [N, S, D].
    t_len: [N] int.

  Returns:
    [Q, N] float32 in [-1, 1]; not finite for a video without frames.
  """
  return both_chamfers(q, q_len, t, t_len)[0]


@jax.jit
def symmetric_chamfer(q: jax.Array, q_len: jax.Array, t: jax.Array, t_len: jax.Array) -> jax.Array:
  """`(chamfer(q, t) + chamfer(t, q)) / 2`; arguments and result as in `chamfer`."""
  forward, backward = both_chamfers(q, q_len, t, t_len)
  return (forward + backward) / 2


def _masked_mean(x: jax.Array, valid: jax.Array, axis: int) -> jax.Array:
  count = jnp.sum(valid, axis=axis, dtype=jnp.float32)
  return jnp.sum(jnp.where(valid, x, 0.0), axis=axis) / count
