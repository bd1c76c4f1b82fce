"""SimCLR on clips: a video's clips are each other's positives, and each clip is one point.

The deterministic baseline of `provico`, on the same batches and with the same embedding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.losses.nt_xent import nt_xent
from vssl_jax.methods import video_clips
from vssl_jax.models.contrast import Head
from vssl_jax.ops import gaussian
from vssl_jax.ops.normalise import l2
from vssl_jax.types import ConfigError, Method

DTYPES = ("float32", "bfloat16")


class Projected(nn.Module):
  """A video network and SimCLR's head: two layers with a ReLU between them, in float32."""

  backbone: nn.Module
  head: nn.Module
  dtype: jnp.dtype

  def __call__(self, clips: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    """Normalised clips [B, T, H, W, 3] to `feature` [B, C] and `projection` [B, D]."""
    feature = self.backbone(clips.astype(self.dtype), train=train)["pooled"]
    feature, = gaussian.widen(feature)
    return {"feature": feature, "projection": self.head(feature)}


def make(*, backbone: str | nn.Module = "r3d_18", width: int = 64, dim: int = 128,
         temperature: float = 0.1, dtype: str = "float32") -> Method:
  """SimCLR as three pure functions.

  Args:
    backbone: name of a network in `models.resnet3d`, or a Flax module that does what those do.
    width: channels of its first stage.
    dim: D, of the projection.
    temperature: of the loss.
    dtype: of the backbone's arithmetic; everything after it is float32.

  A batch is `{"frames": [B, N, T, H, W, 3]}`, N >= 2 clips of each video, uint8 or floating in
  [0, 1]. With `"record"` [B] int, rows of the same record are one video. Negatives are all clips of
  other videos in the batch. `aux` is what the backbone's norms remember.

  `embed` takes `{"frames"}` of that shape, or [B, T, H, W, 3] for one clip a video. It returns
  `video` [B, C], the mean of the backbone's features; `projection` [B, D], the mean of the clips'
  projections, each of length 1; and `clip_features` [B, N, C].
  """
  _check(width, dim, temperature, dtype)
  net = Projected(video_clips.make_backbone(backbone, width, dtype), Head(dim), jnp.dtype(dtype))

  def init(key, batch):
    clips, _ = video_clips.flatten(batch["frames"])
    variables = video_clips.random_variables(net, key, clips)
    return variables["params"], {"batch_stats": variables.get("batch_stats", {})}

  def loss_fn(params, aux, batch, key):
    del key
    clips, (_, number) = video_clips.flatten(batch["frames"])
    if number < 2:
      raise ValueError(f"frames {batch['frames'].shape}: SimCLR needs two clips or more of each "
                       "video, or a clip has no positive")
    out, moved = net.apply({"params": params, **aux}, video_clips.normalise(clips), train=True,
                           mutable=["batch_stats"])
    owner = jnp.repeat(video_clips.owners(batch), number)
    loss = jnp.mean(nt_xent(out["projection"], owner, tau=temperature))
    metrics = {"loss": loss} | _summary(jax.lax.stop_gradient(out["projection"]), owner)
    return loss, ({"batch_stats": moved.get("batch_stats", {})}, metrics)

  def embed(params, aux, inputs):
    frames = inputs["frames"]
    clips, size = video_clips.flatten(frames[:, None] if frames.ndim == 5 else frames)
    out = net.apply({"params": params, **aux}, video_clips.normalise(clips))
    feature, projection = (out[k].reshape(*size, -1) for k in ("feature", "projection"))
    return {"video": jnp.mean(feature, axis=1), "projection": jnp.mean(l2(projection), axis=1),
            "clip_features": feature}

  return Method(init, loss_fn, embed)


def _summary(z, owner) -> dict[str, jax.Array]:
  """Mean cosines of positive and of negative pairs; share of clips whose nearest is a positive."""
  s = jnp.matmul(l2(z), l2(z).T, precision=jax.lax.Precision.HIGHEST)
  other = ~jnp.eye(len(z), dtype=bool)
  same = owner[:, None] == owner
  nearest = jnp.argmax(jnp.where(other, s, -2.0), axis=1)

  def mean(mask):
    return jnp.sum(jnp.where(mask, s, 0.0)) / jnp.maximum(jnp.sum(mask), 1)

  return {"positive": mean(same & other), "negative": mean(~same),
          "top1": jnp.mean(owner[nearest] == owner)}


def _check(width: int, dim: int, temperature: float, dtype: str) -> None:
  for name, value in (("width", width), ("dim", dim)):
    if value < 1:
      raise ConfigError(f"method.args.{name}={value} must be at least 1")
  if temperature <= 0:
    raise ConfigError(f"method.args.temperature={temperature} must be above 0")
  if dtype not in DTYPES:
    raise ConfigError(f"method.args.dtype={dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
