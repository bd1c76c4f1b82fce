"""Frames to descriptors: pixels normalised, a frozen backbone, pooling over its four stages."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax.models import resnet
from vssl_jax.ops import pooling as pool

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

POOLINGS = {
  "l3_irmac": pool.l3_irmac,
  "l3_imac": pool.l3_imac,
  "imac": pool.imac,
  "mac": functools.partial(pool.imac, local_l2=False),
}


@dataclasses.dataclass(frozen=True)
class FrameFeatures:
  """A frozen frame descriptor; build it with `make`.

  Attributes:
    net: the backbone.
    backbone, width, pooling, weights, seed: as given to `make`.
    dim: D, the length of a descriptor.
  """

  net: resnet.ResNet
  backbone: str
  width: int
  pooling: str
  weights: str
  seed: int

  @property
  def dim(self) -> int:
    return sum(self.net.stage_widths)

  def init(self, key: jax.Array | None = None, *, load: Callable | None = None) -> dict[str, Any]:
    """Variables of the backbone: those of the file `weights`, or random ones if it is "".

    Args:
      key: for random variables; made from `seed` if None.
      load: `(path, backbone=, width=) -> variables`, reads the file: `convert.resnet.load`.

    Returns:
      `{"params": ..., "batch_stats": ...}`.

    Raises:
      ValueError: `weights` names a file and `load` is missing.
    """
    if self.weights:
      if load is None:
        raise ValueError(
          f"weights={self.weights!r} needs a reader: pass load=vssl_jax.convert.resnet.load"
        )
      return load(self.weights, backbone=self.backbone, width=self.width)
    key = jax.random.key(self.seed) if key is None else key
    return resnet.random_variables(self.net, key)

  def apply(self, variables: dict[str, Any], frames: jax.Array) -> jax.Array:
    """Descriptors of frames.

    Args:
      variables: from `init`.
      frames: `[N, H, W, 3]` uint8 RGB.

    Returns:
      `[N, D]` float32; `[N, R, D]` for "l3_imac".

    Raises:
      ValueError: frames of another shape or type, or too small for the pooling.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != jnp.uint8:
      raise ValueError(f"frames must be [N, H, W, 3] uint8, got {frames.shape} {frames.dtype}")
    x = (frames.astype(jnp.float32) / 255 - jnp.array(MEAN)) / jnp.array(STD)
    stages = self.net.apply(variables, x)
    maps = [stages[f"stage{i + 1}"] for i in range(len(self.net.stage_sizes))]
    return POOLINGS[self.pooling](maps)


def make(
  *,
  backbone: str = "resnet50",
  width: int = 64,
  pooling: str = "l3_irmac",
  weights: str = "",
  seed: int = 0,
  dtype: str = "float32",
) -> FrameFeatures:
  """A frame descriptor; TCA's is the default with ImageNet weights.

  Args:
    backbone: "resnet18", "resnet34" or "resnet50".
    width: base width of the backbone, 64 in all published weights.
    pooling: "l3_irmac", "l3_imac" (regions kept apart), "imac", or "mac" (without the
      normalisation of locations).
    weights: checkpoint file of the backbone; "" for random weights.
    seed: of the random weights.
    dtype: of the backbone's arithmetic, "float32" or "bfloat16".

  Raises:
    ValueError: unknown backbone, pooling or dtype. Source: TCA specification, section 2.
  """
  if pooling not in POOLINGS:
    raise ValueError(f"unknown pooling {pooling!r}; choose from {', '.join(POOLINGS)}")
  if dtype not in ("float32", "bfloat16"):
    raise ValueError(f"unknown dtype {dtype!r}; choose from float32, bfloat16")
  net = resnet.make(backbone, width=width, dtype=jnp.dtype(dtype))
  return FrameFeatures(net, backbone, width, pooling, weights, seed)
