"""Terms that hold similarities to an absolute scale, in the manner of S2VS.

A contrastive loss only ranks: it is as content with similarities of 0.9 and 0.8 as with 0.9 and
-0.5. S2VS (Self-supervised video similarity learning) adds two terms with p = (1 + s) / 2 in [0, 1]
for a similarity s in [-1, 1]: `-log p` for a video and itself, `-log(1 - max p)` for its hardest
negative.

Both return one loss an anchor, computed in float32, from 0 to `-log eps`: p is moved into
[eps, 1] before the logarithm, so that at the very worst similarity neither the loss nor its slope,
at most 1 / (2 eps), is infinite, and the slope isn't zero either, as after clipping.
"""

import chex
import jax.numpy as jnp


def self_similarity(s, *, eps: float = 1e-3):
  """`-log(eps + (1 - eps) (1 + s) / 2)`: 0 where a video is recognised as itself.

  Args:
    s: [N] similarities of videos to themselves, in [-1, 1]. For a cosine or Chamfer similarity of
      one and the same encoding they are 1 whatever the parameters: compare two encodings.

  Returns:
    [N] float32, at least 0.
  """
  chex.assert_rank(s, 1)
  return -_log_share(s.astype(jnp.float32), eps)


def hardest_negative(s_n, mask=None, *, eps: float = 1e-3):
  """`-log(eps + (1 - eps) (1 - max_j s_n_j) / 2)`: 0 where all negatives are opposite.

  Args:
    s_n: [N, M] similarities to negatives, in [-1, 1].
    mask: [N, M], True where a negative counts; None: all do.

  Returns:
    [N] float32, at least 0; 0 for a row without any negative.
  """
  chex.assert_rank(s_n, 2)
  s_n = s_n.astype(jnp.float32)
  if mask is not None:
    chex.assert_equal_shape([s_n, mask])
    s_n = jnp.where(mask, s_n, -1.0)
  return -_log_share(-jnp.max(s_n, axis=1, initial=-1.0), eps)


def _log_share(s, eps):
  """`log(eps + (1 - eps) (1 + s) / 2)`, exactly 0 at 1; not above it if rounding put s there."""
  return jnp.log1p((1 - eps) * (jnp.minimum(s, 1.0) - 1) / 2)
