"""NetVLAD and NeXtVLAD: what a video's frames have in common with learned clusters (tca spec 5)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.linear import linear
from vssl_jax.models.norm import BatchNorm
from vssl_jax.ops.normalise import l2


class Head(nn.Module):
  """Cluster descriptors to one vector: a linear layer between norms, and a gate on its output.

  Attributes:
    output: size of the vector; the gate's hidden layer has `output // reduction` units.
    dropout: rate before the linear layer.
  """

  output: int
  dropout: float
  reduction: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, clusters, *, train: bool):
    """`clusters` [B, K, D] -> [B, output] unit vectors."""
    batch, k, dim = clusters.shape
    hidden = self.output // self.reduction
    if not hidden:
      raise ValueError(f"reduction={self.reduction} leaves nothing of output={self.output}")
    y = BatchNorm(name="bn2")(clusters.reshape(batch, k * dim), train=train)
    y = nn.Dropout(self.dropout, deterministic=not train)(y)
    y = linear(self.output, k * dim, dtype=self.dtype, name="fc1")(y)
    y = BatchNorm(name="bn3")(y.astype(jnp.float32), train=train)
    gate = linear(hidden, self.output, dtype=self.dtype, name="fc2")(y)
    gate = nn.relu(BatchNorm(name="bn4")(gate.astype(jnp.float32), train=train))
    gate = linear(self.output, hidden, dtype=self.dtype, name="fc3")(gate)
    return l2(y * nn.sigmoid(gate.astype(jnp.float32)))


class NetVLAD(nn.Module):
  """Sums of the frames' offsets from each cluster's centroid, weighted by soft assignment.

  In training the norms' statistics include padding, as zero frames (tca spec 5).

  Attributes:
    clusters: number K of clusters.
    output, dropout, reduction: see `Head`.
    dtype: of the matrix products; parameters, norms, softmax and sums stay float32.
  """

  clusters: int = 256
  output: int = 1024
  dropout: float = 0.5
  reduction: int = 8
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, length, *, train: bool = False):
    """Describes videos by clusters; `x` [B, T, D] and `length` [B] as in `TransformerEncoder`.

    Returns:
      dict: `video` [B, output] unit vectors; `frames` [B, K, D] unit vectors, one a cluster and
      none a frame; `length` [B] int32, K everywhere.
    """
    x, mask = _valid(x, length)
    x = l2(BatchNorm(name="bn1")(x, train=train))
    shape = (self.clusters, x.shape[-1])
    centroids = self.param("centroids", nn.initializers.uniform(1.0), shape)
    # The nearest centroid's logit is the largest, but for the norm where its square belongs: that
    # is how the reference begins (tca spec 5). Afterwards the three are independent.
    assign = nn.Dense(self.clusters, kernel_init=lambda *_: 2 * centroids.T,
                      bias_init=lambda *_: -jnp.linalg.norm(centroids, axis=1),
                      dtype=self.dtype, name="conv")
    weights = nn.softmax(assign(x).astype(jnp.float32), axis=-1) * mask[..., None]
    sums = jnp.einsum("btk,btd->bkd", weights.astype(self.dtype), x.astype(self.dtype),
                      preferred_element_type=jnp.float32)
    clusters = l2(sums - jnp.sum(weights, axis=1)[..., None] * centroids)
    head = Head(self.output, self.dropout, self.reduction, self.dtype, name="head")
    return _described(head(clusters, train=train), clusters)


class NeXtVLAD(nn.Module):
  """NetVLAD on widened frames that are cut into groups, each with an attention of its own.

  In training the norms' statistics include padding, as zero frames (tca spec 5).

  Attributes:
    clusters: number K of clusters.
    expansion: how many times wider frames become.
    groups: number of parts; must divide `expansion` times D.
    output, dropout, reduction: see `Head`.
    dtype: of the matrix products; parameters, norms, softmax and sums stay float32.
  """

  clusters: int = 64
  expansion: int = 2
  groups: int = 8
  output: int = 1024
  dropout: float = 0.5
  reduction: int = 8
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, length, *, train: bool = False):
    """As `NetVLAD`; `frames` is [B, K, expansion * D / groups]."""
    x, mask = _valid(x, length)
    dim, k, g = x.shape[-1], self.clusters, self.groups
    wide = self.expansion * dim
    if wide % g:
      raise ValueError(f"groups={g} does not divide the {wide} features of expansion="
                       f"{self.expansion} times {dim}")
    y = linear(wide, dim, dtype=self.dtype, name="conv1")(l2(x))
    attention = linear(g, wide, dtype=self.dtype, name="conv2")(y).astype(jnp.float32)
    attention = nn.sigmoid(attention) * mask[..., None]
    logits = linear(k * g, wide, dtype=self.dtype, name="conv3", bias=False)(y)
    logits = BatchNorm(name="bn1")(logits.astype(jnp.float32), train=train)
    weights = nn.softmax(logits.reshape(*y.shape[:2], k, g), axis=2) * attention[:, :, None]
    parts = y.reshape(*y.shape[:2], wide // g, g)
    sums = jnp.einsum("btkg,btrg->bkr", weights.astype(self.dtype), parts,
                      preferred_element_type=jnp.float32)
    centroids = self.param("centroids", nn.initializers.uniform(1.0), (k, wide // g))
    clusters = l2(sums - jnp.sum(weights, axis=(1, 3))[..., None] * centroids)
    head = Head(self.output, self.dropout, self.reduction, self.dtype, name="head")
    return _described(head(clusters, train=train), clusters)


def _valid(x: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
  """`x` [B, T, D] with zeros after `length` [B], and which frames are valid [B, T]."""
  mask = jnp.arange(x.shape[1])[None, :] < length[:, None]
  return jnp.where(mask[..., None], x, 0), mask  # a weight of 0 does not stop a NaN


def _described(video: jax.Array, clusters: jax.Array) -> dict[str, jax.Array]:
  length = jnp.full(clusters.shape[:1], clusters.shape[1], jnp.int32)
  return {"video": video, "frames": clusters, "length": length}
