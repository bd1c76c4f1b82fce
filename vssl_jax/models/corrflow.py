"""CorrFlow's encoder: a ResNet-18 without pooling whose map stays at stride 4 (corrflow spec 5)."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.norm import BatchNorm
from vssl_jax.models.resnet import Block, conv

STAGES = ((1, 1), (2, 2), (4, 1), (4, 1))  # width as a multiple of the stem's, first stride

# Uniform within 1 / sqrt(fan in), PyTorch's default.
fan_in_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Encoder(nn.Module):
  """Stem, four stages of basic blocks, and a 3x3 convolution with bias; not normalised.

  Attributes:
    width: channels of the stem and the first stage.
    dim: channels of the result.
    groups, running, frames, order: of the batch norms, see `norm.BatchNorm`.
    dtype: of the arithmetic (parameters and statistics stay float32); that of the input if None.
    blocks: of each stage: 2 in the published encoder, whose cells see 123 pixels; with 1 they see
      67, which suits small pictures.

  Submodules are named as those of `resnet.ResNet`; the last convolution is `head`.
  """

  width: int = 64
  dim: int = 64
  groups: int = 1
  running: str = "first"
  frames: int = 1
  order: tuple[int, ...] = ()
  dtype: Any = None
  blocks: int = 2

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    """Maps images to features.

    Args:
      x: `[B, H, W, 3]` floating, in [0, 1] or what else the method feeds.
      train: batch norms use the statistics of the batch and move the running ones (make
        `batch_stats` mutable), else the running ones.

    Returns:
      `features` `[B, ceil(H / 4), ceil(W / 4), dim]`; `stem`, of stride 2, and `stage1` ..
      `stage4`: maps after their last ReLU.
    """
    norm = {"groups": self.groups, "running": self.running, "frames": self.frames,
            "order": self.order, "dtype": self.dtype}
    x = conv(self.width, 7, 2, self.dtype, "conv1", fan_in_uniform)(x)
    x = nn.relu(BatchNorm(**norm, name="bn1")(x, train=train))
    maps = {"stem": x}
    for i, (multiple, stride) in enumerate(STAGES, start=1):
      for j in range(self.blocks):
        x = Block(
          width=self.width * multiple, stride=1 if j else stride, bottleneck=False,
          dtype=self.dtype, norm=norm, kernel_init=fan_in_uniform, name=f"layer{i}_{j}",
        )(x, train=train)
      maps[f"stage{i}"] = x
    head = nn.Conv(self.dim, (3, 3), padding=(1, 1), dtype=self.dtype, kernel_init=fan_in_uniform,
                   bias_init=_within(9 * x.shape[-1]), name="head")
    return maps | {"features": head(x)}


def _within(fan_in: int):
  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -1, 1) * fan_in**-0.5

  return init


def random_variables(net: Encoder, key: jax.Array) -> dict[str, Any]:
  """Variables distributed as those of `net.init`, in a tenth of the time.

  XLA compiles a generator for every kernel of `init`; here one draw is cut up.
  """
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  shapes, tree = jax.tree_util.tree_flatten_with_path(jax.eval_shape(net.init, key, image))
  bounds = []  # of each leaf; 0 for those that aren't drawn
  for path, v in shapes:
    fan_in = 9 * STAGES[-1][0] * net.width if path[1].key == "head" else math.prod(v.shape[:3])
    drawn = v.ndim == 4 or path[1].key == "head"
    bounds.append(fan_in**-0.5 if drawn else 0.0)
  total = sum(v.size for (_, v), bound in zip(shapes, bounds, strict=True) if bound)
  numbers = jax.random.uniform(key, (total,), minval=-1, maxval=1)
  leaves, start = [], 0
  for (path, v), bound in zip(shapes, bounds, strict=True):
    if bound:
      leaves.append(numbers[start:start + v.size].reshape(v.shape) * bound)
      start += v.size
    else:
      leaves.append(jnp.full(v.shape, path[-1].key in ("scale", "var"), jnp.float32))
  return jax.tree.unflatten(tree, leaves)
