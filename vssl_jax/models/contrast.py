"""The encoder of MoCo and CycleContrast: a residual network and projection heads (spec 2)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models import resnet
from vssl_jax.models.linear import linear


class Head(nn.Module):
  """Projection to `dim`: two linear layers with a ReLU between them, or one. No norms."""

  dim: int
  hidden: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, D] -> [B, dim], not normalised."""
    size = x.shape[-1]
    if self.hidden:
      x = nn.relu(linear(size, size, dtype=None, name="hidden")(x))
    return linear(self.dim, size, dtype=None, name="out")(x)


class Encoder(nn.Module):
  """A trunk, and heads on its pooled features.

  Attributes:
    backbone, width: of the trunk, see `resnet`.
    heads: their names.
    dim: of what they give.
    hidden: whether the heads have a hidden layer.
    groups, running: of the batch norms, see `norm.BatchNorm`.
    dtype: of the trunk's arithmetic; pooled features are widened to float32 for the heads.

  Submodules are `trunk`, in the names of `resnet`, and one of each name of `heads`.
  """

  backbone: str = "resnet50"
  width: int = 64
  heads: tuple[str, ...] = ("intra", "cycle")
  dim: int = 128
  hidden: bool = True
  groups: int = 1
  running: str = "first"
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    """[B, H, W, 3] normalised images -> `pooled` [B, C], and [B, dim] by each head's name."""
    if self.dtype is not None:
      x = x.astype(self.dtype)
    pooled = trunk(self, "trunk")(x, train=train)["pooled"]
    pooled = pooled.astype(jnp.promote_types(pooled.dtype, jnp.float32))
    return {"pooled": pooled} | {
      name: Head(self.dim, self.hidden, name=name)(pooled) for name in self.heads}


def trunk(net: Encoder, name: str | None = None) -> resnet.ResNet:
  """The residual network by itself."""
  return resnet.make(net.backbone, width=net.width, groups=net.groups, running=net.running,
                     dtype=net.dtype, name=name)


def random_variables(net: Encoder, key: jax.Array) -> dict[str, Any]:
  """Variables distributed as those of `net.init`, in a tenth of the time; see `resnet`."""
  network = trunk(net)
  keys = jax.random.split(key, 1 + len(net.heads))
  found = resnet.random_variables(network, keys[0])
  feature = jnp.zeros((1, network.stage_widths[-1]))
  init = jax.jit(Head(net.dim, net.hidden).init)
  heads = {name: init(k, feature)["params"] for name, k in zip(net.heads, keys[1:], strict=True)}
  return {"params": {"trunk": found["params"], **heads},
          "batch_stats": {"trunk": found["batch_stats"]}}
