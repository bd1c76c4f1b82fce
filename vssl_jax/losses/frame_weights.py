"""Teaching frame weights which frames to suppress."""

import chex
import jax
import jax.numpy as jnp


def suppression(logits, irrelevant, mask):
  """Cross-entropy of weights `sigmoid(logits)`: 0 for irrelevant frames, 1 for the others.

  `(mean_irrelevant log(1 + e^l) + mean_others log(1 + e^-l)) / 2`: each kind counts as much,
  however few frames are of it. A video without irrelevant frames, or with nothing else, teaches
  nothing.

  Args:
    logits: [N, T].
    irrelevant: [N, T] bool.
    mask: [N, T] bool, False at padding.

  Returns:
    [N] float32, at least 0; log 2 for logits of 0 where both kinds are present.
  """
  chex.assert_rank(logits, 2)
  chex.assert_equal_shape([logits, irrelevant, mask])
  logits = logits.astype(jnp.float32)
  low, high = mask & irrelevant, mask & ~irrelevant
  n_low, n_high = jnp.sum(low, axis=1), jnp.sum(high, axis=1)
  above = jnp.sum(jnp.where(low, jax.nn.softplus(logits), 0.0), axis=1) / jnp.maximum(n_low, 1)
  below = jnp.sum(jnp.where(high, jax.nn.softplus(-logits), 0.0), axis=1) / jnp.maximum(n_high, 1)
  return jnp.where((n_low > 0) & (n_high > 0), (above + below) / 2, 0.0)
