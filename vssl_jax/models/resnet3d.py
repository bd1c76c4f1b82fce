"""Residual networks for clips: R3D-18, R(2+1)D-18 and the slow-only ResNet-50 (provico spec 3).

Layouts are those of torchvision (the 18-layer ones) and of PySlowFast (`slow_r50`), on
[B, T, H, W, 3]. Paddings are torch's: symmetric, where "SAME" would pad a strided convolution at
the end only.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models import resnet
from vssl_jax.models.norm import BatchNorm
from vssl_jax.ops import video_convolution

# Blocks of each stage, and their form.
BACKBONES = {
  "r3d_18": ((2, 2, 2, 2), "r3d"),
  "r2plus1d_18": ((2, 2, 2, 2), "r2plus1d"),
  "slow_r50": ((3, 4, 6, 3), "slow"),
}
LAST_NORM = {"r3d": "conv2_1", "r2plus1d": "conv2_1", "slow": "branch2_c_bn"}  # of a block


class ResNet3d(nn.Module):
  """Stem and four stages; no classifier.

  Attributes:
    stage_sizes: blocks of each stage.
    form: "r3d", "r2plus1d" or "slow".
    width: channels of the stem and base channels of the first stage; they double from stage to
      stage.
    groups, running: of the batch norms, see `norm.BatchNorm`.
    zero_residual: the last norm of each block begins with scale 0, so that blocks begin as
      identities.
    dtype: of the arithmetic (parameters and statistics stay float32); that of the input if None.

  Submodules carry the names of torch with `_` for ".": `layer1_0/conv1_0`, `s2_res0/branch2_a`.
  """

  stage_sizes: tuple[int, ...]
  form: str
  width: int = 64
  groups: int = 1
  running: str = "first"
  zero_residual: bool = False
  dtype: Any = None

  @property
  def dim(self) -> int:
    """Features of a clip."""
    return self.width * 2 ** (len(self.stage_sizes) - 1) * (4 if self.form == "slow" else 1)

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    """Maps normalised clips to features.

    Args:
      x: `[B, T, H, W, 3]` floating.
      train: batch norms use the statistics of the batch and move the running ones (make
        `batch_stats` mutable), else the running ones.

    Returns:
      `pooled` `[B, D]`: mean of the last map over time and space, in float32 or wider; `map`
      `[B, t, h, w, D]`: that map; `stem`, `stage1` .. `stage4`: maps after the stem and after each
      stage, of which `map` is the last.
    """
    if x.ndim != 5:
      raise ValueError(f"clips should be [B, T, H, W, 3], are {list(x.shape)}")
    layer = Layer({"groups": self.groups, "running": self.running}, self.dtype, train)
    features = {"stem": self._stem(layer, x)}
    x = features["stem"]
    for i, blocks in enumerate(self.stage_sizes):
      for j in range(blocks):
        x = self._block(layer, i, j)(x, train=train)
      features[f"stage{i + 1}"] = x
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return features | {"map": x, "pooled": wide.mean(axis=(1, 2, 3))}

  def _stem(self, layer: "Layer", x: jax.Array) -> jax.Array:
    if self.form == "r3d":
      return nn.relu(layer(x, self.width, (3, 7, 7), (1, 2, 2), "stem_0", "stem_1"))
    if self.form == "r2plus1d":
      # 45 is torchvision's; other widths keep the proportion.
      middle = max(1, 45 * self.width // 64)
      x = nn.relu(layer(x, middle, (1, 7, 7), (1, 2, 2), "stem_0", "stem_1"))
      return nn.relu(layer(x, self.width, (3, 1, 1), (1, 1, 1), "stem_3", "stem_4"))
    x = nn.relu(layer(x, self.width, (1, 7, 7), (1, 2, 2), "s1_stem_conv", "s1_stem_bn"))
    return nn.max_pool(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))

  def _block(self, layer: "Layer", stage: int, block: int) -> nn.Module:
    common = dict(width=self.width * 2**stage, stride=2 if stage and not block else 1,
                  norm=layer.norm, zero_residual=self.zero_residual, dtype=self.dtype)
    if self.form == "slow":
      return Bottleneck(**common, frames=3 if stage > 1 else 1, name=f"s{stage + 2}_res{block}")
    return BasicBlock(**common, factorised=self.form == "r2plus1d",
                      name=f"layer{stage + 1}_{block}")


class BasicBlock(nn.Module):
  """Two 3x3x3 convolutions, or each as 1x3x3 and 3x1x1; strides are over time and space."""

  width: int
  stride: int
  factorised: bool
  norm: dict[str, Any]
  zero_residual: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    layer = Layer(self.norm, self.dtype, train)
    c, s = x.shape[-1], self.stride
    # As many parameters as 3x3x3 has, by the widths of the block: its second convolution, which
    # maps `width` to `width`, takes the same number.
    middle = 27 * c * self.width // (9 * c + 3 * self.width)
    y = x
    for k, stride in ((1, s), (2, 1)):
      last = {"zero": self.zero_residual and k == 2}
      if self.factorised:
        y = layer(y, middle, (1, 3, 3), (1, stride, stride), f"conv{k}_0_0", f"conv{k}_0_1")
        y = layer(nn.relu(y), self.width, (3, 1, 1), (stride, 1, 1), f"conv{k}_0_3", f"conv{k}_1",
                  **last)
      else:
        y = layer(y, self.width, (3, 3, 3), (stride,) * 3, f"conv{k}_0", f"conv{k}_1", **last)
      y = nn.relu(y) if k == 1 else y
    if s != 1 or c != self.width:
      x = layer(x, self.width, (1, 1, 1), (s, s, s), "downsample_0", "downsample_1")
    return nn.relu(x + y)


class Bottleneck(nn.Module):
  """tx1x1, 1x3x3, 1x1x1 with four times the channels at the end; the stride is over space."""

  width: int
  stride: int
  frames: int
  norm: dict[str, Any]
  zero_residual: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    layer = Layer(self.norm, self.dtype, train)
    strides, wide = (1, self.stride, self.stride), 4 * self.width
    y = nn.relu(layer(x, self.width, (self.frames, 1, 1), (1, 1, 1), "branch2_a", "branch2_a_bn"))
    y = nn.relu(layer(y, self.width, (1, 3, 3), strides, "branch2_b", "branch2_b_bn"))
    y = layer(y, wide, (1, 1, 1), (1, 1, 1), "branch2_c", "branch2_c_bn", zero=self.zero_residual)
    if self.stride != 1 or x.shape[-1] != wide:
      x = layer(x, wide, (1, 1, 1), strides, "branch1", "branch1_bn")
    return nn.relu(x + y)


class Layer:
  """A convolution without bias and its batch norm, in the module that calls it.

  No module of its own: names in torch's files have no level for it.
  """

  def __init__(self, norm: dict[str, Any], dtype: Any, train: bool):
    self.norm, self._dtype, self._train = norm, dtype, train

  def __call__(self, x: jax.Array, channels: int, sides: tuple[int, ...],
               strides: tuple[int, ...], conv: str, bn: str, *, zero: bool = False) -> jax.Array:
    x = Conv(channels, sides, strides, self._dtype, name=conv)(x)
    start = nn.initializers.zeros if zero else nn.initializers.ones
    return BatchNorm(**self.norm, dtype=self._dtype, scale_init=start, name=bn)(
        x, train=self._train)


class Conv(nn.Module):
  """See `ops.video_convolution.convolve`; `params` kernel [t, h, w, C, D]."""

  channels: int
  sides: tuple[int, ...]
  strides: tuple[int, ...]
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (*self.sides, x.shape[-1], self.channels)
    kernel = self.param("kernel", resnet.fan_out_normal, shape)
    dtype = self.dtype or jnp.promote_types(x.dtype, kernel.dtype)
    return video_convolution.convolve(x.astype(dtype), kernel.astype(dtype), self.strides)


def make(name: str, **kwargs) -> ResNet3d:
  """The network of that name; further arguments are its attributes (width, groups, dtype, ...).

  Raises:
    ValueError: unknown name.
  """
  if name not in BACKBONES:
    raise ValueError(f"unknown backbone {name!r}; choose from {', '.join(BACKBONES)}")
  stage_sizes, form = BACKBONES[name]
  return ResNet3d(stage_sizes=stage_sizes, form=form, **kwargs)


CLIP = jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32)  # any that every stage has a cell of


def random_variables(net: ResNet3d, key: jax.Array) -> dict[str, Any]:
  """Variables distributed as those of `net.init`, in a fraction of the time."""
  variables = resnet.random_variables(net, key, CLIP.shape)
  if net.zero_residual:
    for name, module in variables["params"].items():
      if LAST_NORM[net.form] in module:
        scale = module[LAST_NORM[net.form]]["scale"]
        variables["params"][name][LAST_NORM[net.form]]["scale"] = jnp.zeros_like(scale)
  return variables
