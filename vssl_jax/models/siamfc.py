"""SiamFC on a frozen trunk: dilated residual network and two linear heads (cycle_contrast 6.1)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models import resnet
from vssl_jax.models.linear import linear
from vssl_jax.ops.correlation import cross_correlate

STRIDE = 8
STRIDES, DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# Channels of the heads, and what responses are multiplied by.
HEADS = {"resnet18": (512, 1e-3), "resnet34": (512, 1e-3), "resnet50": (1024, 1e-5)}


class SiamFCHead(nn.Module):
  """Projects the maps of exemplar and search and correlates them.

  Attributes:
    channels: of both projections.
    scale: responses are multiplied by it.
  """

  channels: int
  scale: float

  def setup(self):
    self.exemplar, self.search = Projection(self.channels), Projection(self.channels)

  def __call__(self, exemplar: jax.Array, search: jax.Array) -> jax.Array:
    """[B, h, w, D] (or B = 1) and [B, H, W, D] to responses [B, H - h + 1, W - w + 1]."""
    return self.scale * cross_correlate(self.exemplar(exemplar), self.search(search))

  def project(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, h, w, D] to the projections of both branches, [B, h, w, channels]."""
    return self.exemplar(x), self.search(x)


class Projection(nn.Module):
  """A 1x1 convolution with bias."""

  channels: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return linear(self.channels, x.shape[-1], dtype=None, name="linear")(x)


def trunk(backbone: str, **kwargs: Any) -> resnet.ResNet:
  """The ResNet of that name with stride 8, whose parameters are those of the ordinary one.

  Further arguments are its attributes.
  """
  return resnet.make(backbone, strides=STRIDES, dilations=DILATIONS, **kwargs)


def features(net: resnet.ResNet, variables: Any, images: jax.Array) -> jax.Array:
  """The last map of a trunk in evaluation mode, without a gradient.

  Args:
    images: [B, H, W, 3] RGB, 0 to 255, integer or floating.

  Returns:
    [B, ceil(H / 8), ceil(W / 8), D].
  """
  x = (images.astype(jnp.float32) - jnp.array(MEAN)) / jnp.array(STD)
  return jax.lax.stop_gradient(net.apply(variables, x)["stage4"])
