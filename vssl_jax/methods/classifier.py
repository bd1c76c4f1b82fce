"""Actions or objects by labels: a backbone and one linear layer (cycle_contrast spec 7, 8.1;
provico spec 11.1 to 11.3).

All of it is trained, which is fine-tuning where it begins with the weights of another run; or the
last layer alone, on a frozen backbone: linear evaluation with views that change from step to step.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.losses.classification import cross_entropy
from vssl_jax.methods import video_clips
from vssl_jax.methods.cycle_contrast import MEAN, STD
from vssl_jax.models import resnet, resnet3d
from vssl_jax.ops.colour import to_unit
from vssl_jax.types import ConfigError, Method

DTYPES = ("float32", "bfloat16")
LEAST = {"classes": 1, "width": 1, "head_first": 0, "groups": 1}
EXACT = jax.lax.Precision.HIGHEST


def make(*, classes: int, backbone: str | nn.Module = "r3d_18", width: int = 64,
         dropout: float = 0.0, frozen: bool = False, eval_norms: bool = True, head_first: int = 0,
         groups: int = 1, dtype: str = "float32") -> Method:
  """A classifier as three pure functions.

  Args:
    classes: C.
    backbone: name of a network in `models.resnet3d` or, applied to each frame of a clip with the
      mean of their features, in `models.resnet`; or a Flax module that does what the former do.
    width: channels of its first stage.
    dropout: share of the features that the last layer does not see in a step.
    frozen: only the two tensors of the last layer change.
    eval_norms: the batch norms of a frozen backbone use the running statistics, and leave them as
      they are; else those of the batch, by which the running ones move, as some code has it.
    head_first: for so many first steps the backbone gets no gradient, though its norms' statistics
      move (cycle_contrast spec 8.1). Weight decay takes no note of it.
    groups: of the batch norms, see `norm.BatchNorm`.
    dtype: of the backbone's arithmetic; everything after it is float32.

  A batch is `{"frames": [B, N, T, H, W, 3], "label": [B]}`, N clips of each video, with T = 1 for
  pictures, uint8 or floating in [0, 1]; each clip counts for itself. Rows of label -1 are left out
  of the loss. `aux` is `step`, the norms' statistics, and a frozen backbone's parameters,
  `frozen`: an optimiser that decays all of `params` can't reach them there.

  `embed` takes `{"frames"}` [B, T, H, W, 3], or [B, H, W, 3] where the backbone is one of pictures.
  It returns `logits` [B, C] and the backbone's features [B, D], as `video` or `features`.
  """
  _check(dict(locals()))
  pictures, net = _network(backbone, width, groups, dtype)

  def describe(trunk, statistics, clips, train: bool):
    """Features [M, D] of clips [M, T, H, W, 3], float32, and the next statistics."""
    x = clips.reshape(-1, *clips.shape[2:]) if pictures else clips
    x = _normalise(x) if pictures else video_clips.normalise(x)
    variables, x = {"params": trunk, "batch_stats": statistics}, x.astype(dtype)
    if train:
      out, moved = net.apply(variables, x, train=True, mutable=["batch_stats"])
      statistics = moved.get("batch_stats", {})
    else:
      out = net.apply(variables, x)
    pooled = out["pooled"].astype(jnp.promote_types(out["pooled"].dtype, jnp.float32))
    if pictures:
      pooled = pooled.reshape(*clips.shape[:2], pooled.shape[-1]).mean(axis=1)
    return pooled, statistics

  def init(key, batch):
    clips, _ = video_clips.flatten(batch["frames"])
    key_trunk, key_last = jax.random.split(key)
    variables = _random_variables(net, key_trunk, clips)
    trunk, statistics = variables["params"], variables.get("batch_stats", {})
    last = {"kernel": 0.01 * jax.random.normal(key_last, (_size(net, variables), classes)),
            "bias": jnp.zeros((classes,))}
    aux = {"batch_stats": {"trunk": statistics}, "step": jnp.zeros((), jnp.int32)}
    if frozen:
      return {"fc": last}, aux | {"frozen": {"trunk": trunk}}
    return {"fc": last, "trunk": trunk}, aux

  def trunk_of(params, aux):
    return aux["frozen"]["trunk"] if frozen else params["trunk"]

  def loss_fn(params, aux, batch, key):
    clips, (_, number) = video_clips.flatten(batch["frames"])
    label, trunk = jnp.repeat(batch["label"], number), trunk_of(params, aux)
    if head_first:
      learns = aux["step"] >= head_first
      trunk = jax.tree.map(lambda p: jnp.where(learns, p, jax.lax.stop_gradient(p)), trunk)
    x, statistics = describe(trunk, aux["batch_stats"]["trunk"], clips,
                             train=not (frozen and eval_norms))
    logits = _linear(params["fc"], _drop(key, x, dropout))
    count = jnp.maximum(jnp.sum(label >= 0), 1)
    loss = jnp.sum(cross_entropy(logits, label)) / count
    metrics = {"loss": loss, "top1": jnp.sum(jnp.argmax(logits, axis=1) == label) / count,
               "labelled": jnp.mean(label >= 0)}
    moved = {"batch_stats": {"trunk": jax.lax.stop_gradient(statistics)}, "step": aux["step"] + 1}
    return loss, (aux | moved, metrics)

  def embed(params, aux, inputs):
    frames = inputs["frames"]
    if frames.ndim not in ((4, 5) if pictures else (5,)) or frames.shape[-1] != 3:
      raise ValueError(f"frames {frames.shape}: expected [B, T, H, W, 3]"
                       + (" or [B, H, W, 3]" if pictures else ""))
    clips = frames[:, None] if frames.ndim == 4 else frames
    x, _ = describe(trunk_of(params, aux), aux["batch_stats"]["trunk"], clips, False)
    return {"logits": _linear(params["fc"], x), "features" if frames.ndim == 4 else "video": x}

  return Method(init, loss_fn, embed)


def _network(backbone: str | nn.Module, width: int, groups: int,
             dtype: str) -> tuple[bool, nn.Module]:
  """Whether it is one of pictures; and the network."""
  if not isinstance(backbone, str):
    return False, backbone
  known = resnet.BACKBONES | resnet3d.BACKBONES
  if backbone not in known:
    raise ConfigError(f"method.args.backbone={backbone!r} is unknown; choose one of "
                      f"{', '.join(known)}")
  pictures = backbone in resnet.BACKBONES
  of = resnet if pictures else resnet3d
  return pictures, of.make(backbone, width=width, groups=groups, dtype=jnp.dtype(dtype))


def _random_variables(net: nn.Module, key: jax.Array, clips: jax.Array) -> dict:
  if isinstance(net, resnet3d.ResNet3d):
    return resnet3d.random_variables(net, key)
  if isinstance(net, resnet.ResNet):
    return resnet.random_variables(net, key)
  return net.init(key, video_clips.normalise(clips[:1]))


def _size(net: nn.Module, variables: dict) -> int:
  """Of the features."""
  if isinstance(net, resnet3d.ResNet3d):
    return net.dim
  if isinstance(net, resnet.ResNet):
    return net.stage_widths[-1]
  return jax.eval_shape(net.apply, variables, resnet3d.CLIP)["pooled"].shape[1]


def _normalise(pictures: jax.Array) -> jax.Array:
  x = to_unit(pictures)
  return (x - jnp.asarray(MEAN, x.dtype)) / jnp.asarray(STD, x.dtype)


def _linear(params, x: jax.Array) -> jax.Array:
  return jnp.matmul(x, params["kernel"], precision=EXACT) + params["bias"]


def _drop(key: jax.Array, x: jax.Array, share: float) -> jax.Array:
  if not share:
    return x
  return jnp.where(jax.random.bernoulli(key, 1 - share, x.shape), x / (1 - share), 0)


def _check(args: dict) -> None:
  for name, low in LEAST.items():
    if args[name] < low:
      raise ConfigError(f"method.args.{name}={args[name]} must be at least {low}")
  if not 0 <= args["dropout"] < 1:
    raise ConfigError(f"method.args.dropout={args['dropout']} must be at least 0 and less than 1")
  if args["frozen"] and args["head_first"]:
    raise ConfigError("method.args.head_first is for a backbone that is trained later; set it to 0 "
                      "with method.args.frozen")
  if args["dtype"] not in DTYPES:
    raise ConfigError(f"method.args.dtype={args['dtype']!r} is unknown; choose one of "
                      f"{', '.join(DTYPES)}")
