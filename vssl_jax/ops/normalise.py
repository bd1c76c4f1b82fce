"""L2 normalisation whose gradient is finite at the zero vector."""
import jax
import jax.numpy as jnp


def l2(x: jax.Array, axis: int = -1, eps: float = 1e-12) -> jax.Array:
  """Scales vectors to unit length: `x / max(||x||_2, eps)`.

  `sqrt` has an infinite slope at zero, and `0 * inf` in the backward pass is nan; the guard is
  therefore inside the root. A vector shorter than `eps` has no direction: its gradient is zero,
  where the formula's 1 / eps would overflow after two or three normalisations in a row.

  Args:
    x: [...] any shape; the vectors lie along `axis`. Half precision is normalised in float32.
    axis: axis or axes of the vector.
    eps: smallest norm to divide by.

  Returns:
    Array of the shape and dtype of `x`; norms are 1 (or ||x|| / eps below `eps`).
  """
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  square = jnp.sum(wide * wide, axis=axis, keepdims=True)
  wide = jnp.where(square > eps * eps, wide, jax.lax.stop_gradient(wide))
  return (wide / jnp.sqrt(jnp.maximum(square, eps * eps))).astype(x.dtype)
