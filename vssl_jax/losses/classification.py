"""Cross-entropy of labelled rows, among rows that may have no label."""

import chex
import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
  """`-log softmax(logits)[label]`, of each row.

  Args:
    logits: [M, C].
    label: [M] int; -1 for none. One of C or more gives NaN.

  Returns:
    [M] float32 or wider; 0 for a row without label.
  """
  chex.assert_rank([logits, label], [2, 1])
  chex.assert_equal_shape_prefix([logits, label], 1)
  wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  known = label >= 0
  log_p = jnp.take_along_axis(jax.nn.log_softmax(wide), jnp.where(known, label, 0)[:, None],
                              axis=1, mode="fill")[:, 0]
  return jnp.where(known, -log_p, 0.0)
