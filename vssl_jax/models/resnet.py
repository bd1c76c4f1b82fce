"""Residual networks 18, 34 and 50 in torchvision's form (v1.5), on NHWC images."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.norm import BatchNorm

# Blocks of each stage, and whether they are bottlenecks.
BACKBONES = {
  "resnet18": ((2, 2, 2, 2), False),
  "resnet34": ((3, 4, 6, 3), False),
  "resnet50": ((3, 4, 6, 3), True),
}

fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet(nn.Module):
  """Stem and four stages; no classifier.

  The stride of a bottleneck is on its 3x3 convolution. Paddings are those of torch: symmetric,
  where "SAME" would pad a strided convolution at the end only.

  Attributes:
    stage_sizes: blocks of each stage.
    bottleneck: 1x1, 3x3, 1x1 blocks with four times the channels at the end, else two 3x3.
    width: channels of the stem and base channels of the first stage; they double from stage to
      stage.
    strides, dilations: of each stage. The first block of a dilated stage has half of its dilation,
      and only the first 3x3 convolution of a block is dilated (cycle_contrast 6.1).
    groups, running: of the batch norms, see `norm.BatchNorm`.
    dtype: of the arithmetic (parameters and statistics stay float32); that of the input if None.

  Submodules carry torchvision's names with `_` between stage and block: `layer1_0/conv1`.
  """

  stage_sizes: tuple[int, ...]
  bottleneck: bool
  width: int = 64
  groups: int = 1
  running: str = "first"
  dtype: Any = None
  strides: tuple[int, ...] = (1, 2, 2, 2)
  dilations: tuple[int, ...] = (1, 1, 1, 1)

  @property
  def stage_widths(self) -> tuple[int, ...]:
    """Channels of the map of each stage."""
    expansion = 4 if self.bottleneck else 1
    return tuple(self.width * 2**i * expansion for i in range(len(self.stage_sizes)))

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    """Maps normalised images to features.

    Args:
      x: `[B, H, W, 3]` floating.
      train: batch norms use the statistics of the batch and move the running ones (make
        `batch_stats` mutable), else the running ones.

    Returns:
      `stage1` .. `stage4`: maps after the final ReLU of each stage, of stride 4, 8, 16, 32 in the
      usual form; `pooled` `[B, C]`: mean of the last map over space, in float32 or wider.
    """
    norm = {"groups": self.groups, "running": self.running, "dtype": self.dtype}
    x = conv(self.width, 7, 2, self.dtype, "conv1")(x)
    x = nn.relu(BatchNorm(**norm, name="bn1")(x, train=train))
    x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    features = {}
    for i, blocks in enumerate(self.stage_sizes):
      for j in range(blocks):
        x = Block(
          width=self.width * 2**i, stride=1 if j else self.strides[i], bottleneck=self.bottleneck,
          dtype=self.dtype, norm=norm, name=f"layer{i + 1}_{j}",
          dilation=self.dilations[i] if j else max(1, self.dilations[i] // 2),
        )(x, train=train)
      features[f"stage{i + 1}"] = x
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    features["pooled"] = wide.mean(axis=(1, 2))
    return features


class Block(nn.Module):
  """A residual block: convolutions, shortcut, ReLU after the sum."""

  width: int
  stride: int
  bottleneck: bool
  dtype: Any
  norm: dict[str, Any]
  kernel_init: Any = fan_out_normal
  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    if self.bottleneck:
      layers = ((self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1))
    else:
      layers = ((self.width, 3, self.stride), (self.width, 3, 1))
    y, dilated = x, 2 if self.bottleneck else 1
    for k, (channels, size, stride) in enumerate(layers, start=1):
      dilation = self.dilation if k == dilated else 1
      y = conv(channels, size, stride, self.dtype, f"conv{k}", self.kernel_init, dilation)(y)
      y = BatchNorm(**self.norm, name=f"bn{k}")(y, train=train)
      if k < len(layers):
        y = nn.relu(y)
    if self.stride != 1 or x.shape[-1] != y.shape[-1]:
      x = conv(y.shape[-1], 1, self.stride, self.dtype, "downsample_conv", self.kernel_init)(x)
      x = BatchNorm(**self.norm, name="downsample_bn")(x, train=train)
    return nn.relu(x + y)


def conv(channels: int, size: int, stride: int, dtype: Any, name: str,
         kernel_init: Any = fan_out_normal, dilation: int = 1) -> nn.Conv:
  """A convolution as all of these networks have: torch's padding, no bias."""
  pad = size // 2 * dilation
  return nn.Conv(
    channels, (size, size), (stride, stride), padding=(pad, pad), use_bias=False, dtype=dtype,
    kernel_init=kernel_init, name=name, kernel_dilation=(dilation, dilation),
  )


def make(backbone: str, **kwargs) -> ResNet:
  """The ResNet of that name; further arguments are its attributes.

  Raises:
    ValueError: unknown name.
  """
  if backbone not in BACKBONES:
    raise ValueError(f"unknown backbone {backbone!r}; choose from {', '.join(BACKBONES)}")
  stage_sizes, bottleneck = BACKBONES[backbone]
  return ResNet(stage_sizes=stage_sizes, bottleneck=bottleneck, **kwargs)


def random_variables(net: nn.Module, key: jax.Array,
                     shape: tuple[int, ...] = (1, 32, 32, 3)) -> dict[str, Any]:
  """Variables distributed as those of `net.init`, in a tenth of the time.

  XLA compiles a generator for every kernel of `init`, some ten seconds; here one draw is cut up.

  Args:
    net: a network of convolutions and norms as here, over images or clips.
    shape: of an input.
  """
  image = jax.ShapeDtypeStruct(shape, jnp.float32)
  shapes, tree = jax.tree_util.tree_flatten_with_path(jax.eval_shape(net.init, key, image))

  @jax.jit
  def draw(key):
    numbers = jax.random.normal(key, (sum(v.size for _, v in shapes if v.ndim > 1),))
    leaves, start = [], 0
    for path, v in shapes:
      if v.ndim > 1:
        fan_out = v.size // v.shape[-2]
        kernel = numbers[start:start + v.size].reshape(v.shape) * (2 / fan_out) ** 0.5
        leaves, start = [*leaves, kernel], start + v.size
      else:
        leaves.append(jnp.full(v.shape, path[-1].key in ("scale", "var"), jnp.float32))
    return jax.tree.unflatten(tree, leaves)

  return draw(key)
