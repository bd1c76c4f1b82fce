"""How well copied colours match: classes (CorrFlow) or values (MAST); corrflow spec 7, 16.1.

One loss an example, the mean over its pixels, computed in float32 or wider.
"""

import chex
import jax.numpy as jnp


def cross_entropy(p, classes, *, eps: float = 1e-8):
  """`-log(p[class] + eps)`, mean over the pixels (spec 7).

  The copies are sums of weights, so there are no logits to take the logarithm of; eps bounds the
  loss at 18.4 where no cell of the window has the pixel's class.

  Args:
    p: [B, H, W, C] probabilities.
    classes: [B, H, W] int in 0..C-1.

  Returns:
    [B] float32.
  """
  chex.assert_rank(p, 4)
  chex.assert_shape(classes, p.shape[:3])
  p = p.astype(jnp.promote_types(p.dtype, jnp.float32))
  # A sum over a mask: its gradient is a product, that of a gather would be a scatter.
  hit = classes[..., None] == jnp.arange(p.shape[-1])
  chosen = jnp.sum(jnp.where(hit, p, 0), axis=-1)
  return -jnp.mean(jnp.log(chosen + eps), axis=(1, 2))


def regression(x, target, channels=None, *, scale: float = 20.0):
  """Smooth L1 of `scale (x - target)`, mean over pixels and the channels that count (spec 16.1).

  d^2 / 2 below a distance d of 1, d - 1/2 above.

  Args:
    x, target: [B, H, W, C].
    channels: [B, C], which of them count, 0 or 1; None: all do.

  Returns:
    [B] float32.
  """
  chex.assert_rank(x, 4)
  chex.assert_equal_shape([x, target])
  x, target = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (x, target))
  d = scale * (x - target)
  near = jnp.abs(d) < 1
  loss = jnp.where(near, 0.5 * jnp.square(d), jnp.abs(d) - 0.5).mean(axis=(1, 2))
  if channels is None:
    return loss.mean(axis=1)
  chex.assert_shape(channels, loss.shape)
  return jnp.sum(loss * channels, axis=1) / jnp.maximum(jnp.sum(channels, axis=1), 1)
