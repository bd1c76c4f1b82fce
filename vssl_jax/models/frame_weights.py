"""How much every frame of a video counts: learnt weights.

As in VVS (video-to-video suppression) a frame is judged by what it shows and by how it relates to
what the whole video is about. No label says which frames matter: weights are learnt through the
loss of the video descriptors that they average.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.ops.normalise import l2


class FrameWeights(nn.Module):
  """A two-layer network from a frame, the video's topic and their product to one logit a frame.

  The topic is the mean of the frames. The last layer starts at zero, so all frames count the same
  at first and training starts from the plain mean.

  Attributes:
    hidden: units of the hidden layer.
    dtype: of the matrix products.
  """

  hidden: int = 128
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, length):
    """`x` [B, T, D] unit frame descriptors, `length` [B] -> logits [B, T] float32."""
    mask = valid(x, length)[..., None]
    x = jnp.where(mask, x, 0).astype(jnp.float32)
    count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
    topic = l2(jnp.sum(x, axis=1, keepdims=True) / count)
    # Entries of unit vectors are about D ** -0.5, and their products' 1 / D: brought to about 1.
    scale = x.shape[-1] ** 0.5
    topic = jnp.broadcast_to(topic, x.shape)
    seen = jnp.concatenate([scale * x, scale * topic, scale**2 * x * topic], axis=-1)
    hidden = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="hidden")(seen))
    zeros = nn.initializers.zeros
    logits = nn.Dense(1, kernel_init=zeros, dtype=self.dtype, name="logit")(hidden)
    return logits[..., 0].astype(jnp.float32)


class Weighted(nn.Module):
  """An aggregator of frames, its `video` replaced by an average by learnt weights.

  Attributes:
    aggregator: `(x, length, train=) -> {"video", "frames", "length"}`, one descriptor a frame.
    hidden, dtype: of `FrameWeights`.
  """

  aggregator: nn.Module
  hidden: int = 128
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, length, *, train: bool = False):
    """As the aggregator, and `weights` [B, T]."""
    encoded = self.aggregator(x, length, train=train)
    logits = FrameWeights(self.hidden, self.dtype, name="weights")(x, length)
    return weigh(encoded, logits)


def valid(x: jax.Array, length: jax.Array) -> jax.Array:
  """Which of the frames of `x` [B, T, ...] are no padding: [B, T] bool."""
  return jnp.arange(x.shape[1]) < length[:, None]


def weigh(encoded: dict[str, jax.Array], logits: jax.Array) -> dict[str, jax.Array]:
  """Frame descriptors averaged by weight.

  Args:
    encoded: `video` [B, D], `frames` [B, T, D] unit vectors, `length` [B].
    logits: [B, T].

  Returns:
    `encoded` with `video` now the unit vector of the weighted mean of `frames`, and `weights`
    [B, T] in [0, 1], 0 at padding.
  """
  frames = encoded["frames"]
  mask = valid(frames, encoded["length"])
  weights = jnp.where(mask, nn.sigmoid(logits), 0.0)
  # Only proportions count for the mean, and these can't underflow.
  log_weights = jnp.where(mask, nn.log_sigmoid(logits), -jnp.inf)
  top = jnp.max(log_weights, axis=1, keepdims=True)
  share = jnp.exp(log_weights - jnp.where(jnp.isfinite(top), top, 0.0))
  video = l2(jnp.einsum("bt,btd->bd", share, frames))
  return encoded | {"video": video, "weights": weights}
