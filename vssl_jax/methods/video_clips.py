"""What methods on clips of videos begin with: a network, and clips as it wants them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.ops import colour
from vssl_jax.types import ConfigError

MEAN, DEVIATION = 0.45, 0.225  # of pixels in [0, 1], all channels (provico spec 2)


def make_backbone(backbone: str | nn.Module, width: int, dtype: str) -> nn.Module:
  """The network of `models.resnet3d` by that name; a module is taken as it is."""
  if not isinstance(backbone, str):
    return backbone
  from vssl_jax.models import resnet3d
  try:
    return resnet3d.make(backbone, width=width, dtype=jnp.dtype(dtype))
  except ValueError as e:
    raise ConfigError(f"method.args.backbone={e}") from e


def random_variables(net: nn.Module, key: jax.Array, clips: jax.Array) -> dict:
  """Variables distributed as those of `net.init`, sooner; see `resnet.random_variables`.

  Args:
    net: of a `backbone` and a `head`.
    clips: [B, T, H, W, 3], any.
  """
  from vssl_jax.models import resnet3d
  if not isinstance(net.backbone, resnet3d.ResNet3d):
    return net.init(key, normalise(clips[:1]))
  key_net, key_head = jax.random.split(key)
  found = resnet3d.random_variables(net.backbone, key_net)
  head = net.head.init(key_head, jnp.zeros((1, net.backbone.dim)))["params"]
  return {"params": {"backbone": found["params"], "head": head},
          "batch_stats": {"backbone": found["batch_stats"]}}


def flatten(frames) -> tuple[jax.Array, tuple[int, int]]:
  """[B N, T, H, W, 3] of [B, N, T, H, W, 3], and (B, N)."""
  if frames.ndim != 6 or frames.shape[-1] != 3:
    raise ValueError(f"frames {frames.shape}: expected [B, N, T, H, W, 3], N clips of each video, "
                     "as a `clips.Reader` gives them")
  return frames.reshape(-1, *frames.shape[2:]), frames.shape[:2]


def normalise(clips) -> jax.Array:
  """uint8 or floating pixels in [0, 1] to those that networks see."""
  return (colour.to_unit(clips) - MEAN) / DEVIATION


def owners(batch) -> jax.Array:
  """[B] int, which record each row is of; rows of equal "record" show the same video."""
  return jnp.asarray(batch.get("record", jnp.arange(len(batch["frames"]))))
