"""Where a small map of features occurs in a larger one (cycle_contrast spec 6.1)."""

import chex
import jax
import jax.numpy as jnp


@jax.jit
def cross_correlate(exemplar: jax.Array, search: jax.Array) -> jax.Array:
  """Valid cross-correlation, summed over features: example b of one map in example b of the other.

  Every cell is compared with every cell in one matrix product, whose diagonals are then summed.
  That is a few times the arithmetic of a convolution with a kernel for each example, which
  compilers run slowly.

  Args:
    exemplar: [B, h, w, D], or [1, h, w, D] for the same in all.
    search: [B, H, W, D], H >= h and W >= w.

  Returns:
    [B, H - h + 1, W - w + 1] float32 or wider.
  """
  chex.assert_rank([exemplar, search], 4)
  (n, h, w, d), (batch, rows, columns, _) = exemplar.shape, search.shape
  if n not in (1, batch) or search.shape[-1] != d or rows < h or columns < w:
    raise ValueError(f"exemplar {exemplar.shape} and search {search.shape} should be [B, h, w, D] "
                     "and [B, H, W, D] with H >= h and W >= w")
  dtype = jnp.promote_types(jnp.promote_types(exemplar.dtype, search.dtype), jnp.float32)
  if n == 1:
    every = jnp.einsum("bijd,uvd->bijuv", search, exemplar[0], preferred_element_type=dtype)
  else:
    every = jnp.einsum("bijd,buvd->bijuv", search, exemplar, preferred_element_type=dtype)
  by_row = sum(every[:, u:u + rows - h + 1, :, u] for u in range(h))
  return sum(by_row[:, :, v:v + columns - w + 1, v] for v in range(w))
