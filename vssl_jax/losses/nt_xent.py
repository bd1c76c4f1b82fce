"""NT-Xent, SimCLR's loss, with any number of positives an anchor."""

import chex
import jax
import jax.numpy as jnp

from vssl_jax.ops.gaussian import widen
from vssl_jax.ops.normalise import l2


def nt_xent(z, owner, *, tau: float = 0.1):
  """`-mean_p log(exp(s_ip / tau) / sum_{a != i} exp(s_ia / tau))` with cosines s, p of i's owner.

  With two views an owner it is SimCLR's; with more, each anchor's mean over its positives, which
  stay in the denominator (the outer form of supervised contrast).

  Args:
    z: [M, D] features of the whole batch, of any length.
    owner: [M] int; rows of the same owner are each other's positives.

  Returns:
    [M]; 0 for a row without positives, `log(M - 1)` where all features are equal.
  """
  chex.assert_rank([z, owner], [2, 1])
  chex.assert_equal_shape_prefix([z, owner], 1)
  z, = widen(z)
  unit = l2(z)
  s = jnp.matmul(unit, unit.T, precision=jax.lax.Precision.HIGHEST) / tau
  other = ~jnp.eye(len(z), dtype=bool)
  positive = (owner[:, None] == owner) & other
  # A finite number for the row itself: with one row alone, logsumexp of -inf has no gradient.
  log_p = jax.nn.log_softmax(jnp.where(other, s, -1e9), axis=1)
  count = jnp.sum(positive, axis=1)
  return -jnp.sum(jnp.where(positive, log_p, 0.0), axis=1) / jnp.maximum(count, 1)
