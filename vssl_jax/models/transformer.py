"""The TCA encoder: a post-norm Transformer over time, without positions (tca spec 4)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.linear import linear, uniform
from vssl_jax.ops.normalise import l2


class SelfAttention(nn.Module):
  """Multi-head self-attention whose keys are masked; scores are scaled by sqrt(D / heads).

  Attributes:
    heads: number of heads; must divide D.
    dropout: rate on the attention probabilities.
  """

  heads: int
  dropout: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, mask, *, train: bool):
    """`x` [B, T, D], `mask` [B, T] bool -> [B, T, D], probabilities [B, heads, T, T]."""
    dim = x.shape[-1]
    if dim % self.heads:
      raise ValueError(f"heads={self.heads} does not divide the feature size {dim}")
    xavier = uniform(math.sqrt(6 / (3 * dim + dim)))
    qkv = nn.Dense(3 * dim, kernel_init=xavier, dtype=self.dtype, name="in_proj")(x)
    q, k, v = jnp.split(qkv.reshape(*x.shape[:2], 3 * self.heads, dim // self.heads), 3, axis=2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32) * (dim // self.heads) ** -0.5
    # A large finite number, not -inf: a row without any valid frame, as batch padding has, would
    # become NaN.
    scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(jnp.float32).min)
    weights = nn.softmax(scores, axis=-1)
    self.sow("intermediates", "attention", weights)
    kept = nn.Dropout(self.dropout, deterministic=not train)(weights).astype(self.dtype)
    out = jnp.einsum("bhqk,bkhd->bqhd", kept, v).reshape(x.shape)
    out_init = uniform(dim**-0.5)
    out = nn.Dense(dim, kernel_init=out_init, dtype=self.dtype, name="out_proj")(out)
    return out, weights


class EncoderLayer(nn.Module):
  """Attention and a two-layer ReLU network, each with a residual and a LayerNorm after it."""

  heads: int
  feed_forward: int
  dropout: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, mask, *, train: bool):
    """`x` [B, T, D], `mask` [B, T] bool -> [B, T, D], probabilities [B, heads, T, T]."""
    dim = x.shape[-1]

    def drop(a):
      return nn.Dropout(self.dropout, deterministic=not train)(a)

    attend = SelfAttention(self.heads, self.dropout, self.dtype, name="self_attn")
    attended, weights = attend(x, mask, train=train)
    x = nn.LayerNorm(epsilon=1e-5, name="norm1")(x + drop(attended))
    first = linear(self.feed_forward, dim, dtype=self.dtype, name="linear1")
    second = linear(dim, self.feed_forward, dtype=self.dtype, name="linear2")
    out = second(drop(nn.relu(first(x))))
    return nn.LayerNorm(epsilon=1e-5, name="norm2")(x + drop(out)), weights


class TransformerEncoder(nn.Module):
  """`layers` encoder layers on whitened frame descriptors; equivariant to frame order.

  Attributes:
    dtype: of the matrix products; parameters, softmax and LayerNorm stay float32.
  """

  layers: int = 1
  heads: int = 8
  feed_forward: int = 2048
  dropout: float = 0.2
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, length, *, train: bool = False):
    """Refines frames and pools them.

    Args:
      x: [B, T, D] frame descriptors, anything after `length`.
      length: [B] int, true number of frames; may exceed T after a crop.

    Returns:
      dict: `video` [B, D] unit vectors, the mean over valid frames of the encoder's output;
      `frames` [B, T, D] unit vectors, zero at padding; `length` [B] int32, how many are valid;
      `attention` [B, T], what the last layer attends to, see `received`.
    """
    mask = jnp.arange(x.shape[1])[None, :] < length[:, None]
    y = jnp.where(mask[..., None], x, 0)  # a weight of 0 does not stop a NaN
    for i in range(self.layers):
      layer = EncoderLayer(self.heads, self.feed_forward, self.dropout, self.dtype,
                           name=f"layers_{i}")
      y, weights = layer(y, mask, train=train)
    return pool(y, mask) | {"attention": received(weights, mask)}


def received(weights: jax.Array, mask: jax.Array) -> jax.Array:
  """The attention that each frame receives, the mean over heads and valid queries (tca spec 12.3).

  Args:
    weights: [B, heads, T, T], probabilities over the last axis, zero at padded keys.
    mask: [B, T] bool.

  Returns:
    [B, T] float32: sums to 1 over valid frames, zero at padding and where no frame is valid.
  """
  queries = mask[:, None, :, None]
  total = jnp.sum(jnp.where(queries, weights, 0.0), axis=(1, 2))
  count = jnp.maximum(jnp.sum(mask, axis=1), 1) * weights.shape[1]
  return jnp.where(mask, total / count[:, None], 0.0)


def pool(y: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
  """Video and frame descriptors of `y` [B, T, D] under `mask` [B, T]; see `TransformerEncoder`.

  Frames are not normalised before they are averaged, and the divisor is the number of valid
  frames inside the window (tca spec 4).
  """
  y = jnp.where(mask[..., None], y.astype(jnp.float32), 0.0)
  length = jnp.sum(mask, axis=1, dtype=jnp.int32)
  mean = jnp.sum(y, axis=1) / jnp.maximum(length, 1)[:, None]
  return {"video": l2(mean), "frames": l2(y), "length": length}
