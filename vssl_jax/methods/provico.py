"""ProViCo: a video is the mixture of its clips' Gaussians, and its samples are what is contrasted.

The paper's text was not to be had: the objective that is called printed here is that of a review,
from whose prose its last formulas were put together. Values that were not found are defaults of our
own (provico spec 0, 9 and 14).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.losses import probabilistic as losses
from vssl_jax.methods import provico_objective as objectives
from vssl_jax.methods import video_clips
from vssl_jax.models.probabilistic import FORMS, Head, Probabilistic
from vssl_jax.ops import gaussian
from vssl_jax.ops.gaussian_pairs import Samples
from vssl_jax.types import ConfigError, Method

SCALES = (0.1, 50.0)  # of the match probability
CHOICES = {"reading": gaussian.READINGS, "mining": ("sampled", "closed_form", "mixture"),
           "pairs": ("mean", "balanced"), "sampling": ("matched", "mixture"),
           "uncertainty": gaussian.KINDS[:3], "kl": ("video", "clip"), "form": FORMS,
           "dtype": ("float32", "bfloat16")}
LEAST = {"width": 1, "dim": 2, "samples": 1, "tau": -1, "lam": 0, "neighbours": 0, "mine_after": 0,
         "hidden": 0, "eps_dist": 0, "beta": 0, "match_scale": SCALES[0]}

# Arguments of `make`. "paper" is the objective as printed; whatever was not found in print is a
# default of ours. It feeds on itself: positives beget positives (spec 9). "robust" holds it back,
# has a positive that is certain for each distribution (`halves`: N is to be even), a layer before
# the variances, and weighs pairs by uncertainty as a total. Either wants gradients clipped, to a
# global norm of 1.
PRESETS = {
  "paper": dict(mining="sampled", reading="mean", neighbours=0, pairs="mean", kl="video",
                beta=1e-4, form="log"),
  "robust": dict(mining="closed_form", reading="mean", neighbours=1, pairs="balanced", kl="video",
                 beta=1e-4, form="log", hidden=64, clamp=(-12.0, 4.0), halves=True,
                 uncertainty="total"),
}


def make(*, backbone: str | nn.Module = "r3d_18", width: int = 64, dim: int = 256,
         samples: int = 8, noise: float = 0.3, form: str = "log", clamp: Sequence[float] = (),
         hidden: int = 0, sampling: str = "matched", mining: str = "sampled", reading: str = "mean",
         tau: float = 1.0, lam: float = 0.25, neighbours: int = 0, mine_after: int = 0,
         halves: bool = False, match_scale: float = 10.0, match_offset: float = 10.0,
         eps_dist: float = 1e-6, self_samples: bool = True, exact: bool = True,
         mean_of_log: bool = False, uncertainty: str = "geometric", stochastic: bool = True,
         log_term: bool = True, pairs: str = "mean", self_pairs: bool = True, kl: str = "video",
         beta: float = 1e-4, dtype: str = "float32") -> Method:
  """ProViCo as three pure functions. See `PRESETS` for arguments that go together.

  Args:
    backbone: name of a network in `models.resnet3d`, or a Flax module that does what those do.
    width: channels of its first stage.
    dim: D, of the distributions.
    samples: K, drawn of each video at each step.
    noise, form, clamp, hidden: of the heads, see `probabilistic.Head`.
    sampling: "matched" draws from the Gaussian with the mixture's moments; "mixture" from the
      mixture itself, first a clip and then its Gaussian.
    mining: the distance by which positives are found: "sampled" is the printed one, between
      samples; "closed_form" is Bhattacharyya's, of the distributions; "mixture" keeps each video's
      clips apart, for videos of several scenes.
    reading, lam: of that distance, see `gaussian.bhattacharyya`.
    tau: pairs nearer than `losses.threshold` of it are positive; -1 for none but the same video.
    neighbours: of these, keep those that are among so many nearest of each other; 0: all.
    mine_after: for so many steps only a video itself is its positive.
    halves: split the clips of each video into two distributions, positives by construction.
    match_scale, match_offset: first values of a and b in the match probability; a stays in
      [0.1, 50].
    eps_dist, self_samples, exact, mean_of_log: of the match probability, see
      `gaussian_pairs.match`.
    uncertainty: of a video in the loss: "geometric" or "arithmetic" mean of its variances; or
      "total", D times the former. The loss settles where this equals the pair's soft loss, about 1
      at first. As a mean that asks for noise sqrt(D) times as long as the means it is added to;
      as the total, for noise of their length.
    stochastic: divide a pair's loss by its deviations and add their logarithms, by which variances
      learn how hard a pair is; without it, they only spread the samples of the match probability.
    log_term: add those logarithms; without them nothing but `beta` and `clamp` bounds variances.
    pairs: "mean" over all pairs, or "balanced": positives and others count half each.
    self_pairs: count pairs of a video with itself.
    kl: to the standard normal, of the "video" or of each "clip"; beta is its weight.
    dtype: of the backbone's arithmetic; everything after it is float32.

  A batch is `{"frames": [B, N, T, H, W, 3]}`, N clips of each video, uint8 or floating in [0, 1].
  With `"record"` [B] int, rows of the same record are positive by construction; `"label"` [B] int
  serves a metric and teaches nothing. `aux` is `step` and what the backbone's norms remember.

  `embed` takes `{"frames"}` of that shape, or [B, T, H, W, 3] for one clip a video. It returns
  `video` [B, C], the mean of the backbone's features, by which the field retrieves; `mean`,
  `logvar` [B, D] and `uncertainty` [B], the mean of logvar; and of the clips `clip_features`
  [B, N, C], `clip_mean`, `clip_logvar` [B, N, D].
  """
  _check(dict(locals()))
  clamp = tuple(map(float, clamp))
  net = Probabilistic(video_clips.make_backbone(backbone, width, dtype),
                      Head(dim, noise, form, clamp, hidden), jnp.dtype(dtype))
  options = objectives.Options(
      tau=losses.threshold(tau, lam=lam, reading=reading, dim=dim, sampled=mining == "sampled"),
      lam=lam, reading=reading, mining=mining, neighbours=neighbours,
      balanced=pairs == "balanced", self_pairs=self_pairs, self_samples=self_samples,
      eps_dist=eps_dist, exact=exact, mean_of_log=mean_of_log, uncertainty=uncertainty,
      stochastic=stochastic, log_term=log_term, kl=kl, beta=beta)

  def init(key, batch):
    clips, _ = _clips(batch["frames"], halves)
    variables = video_clips.random_variables(net, key, clips)
    raw = jnp.log(jnp.expm1(jnp.float32(match_scale)))  # softplus gives the scale back
    match = {"a": raw, "b": jnp.float32(match_offset)}
    aux = {"batch_stats": variables.get("batch_stats", {}), "step": jnp.zeros((), jnp.int32)}
    return {"net": variables["params"], "match": match}, aux

  def distributions(params, aux, clips, train):
    """What `net` gives for clips [B, T, H, W, 3], and its next statistics."""
    variables = {"params": params["net"], "batch_stats": aux["batch_stats"]}
    x = video_clips.normalise(clips)
    if not train:
      return net.apply(variables, x), aux["batch_stats"]
    out, moved = net.apply(variables, x, train=True, mutable=["batch_stats"])
    return out, moved.get("batch_stats", {})

  def draw(key, mean, logvar):
    """Samples of videos, from mean and logvar [B, N, D] of their clips."""
    key_eps, key_clip = jax.random.split(key)
    matched = gaussian.moment_match(mean, logvar)
    eps = jax.random.normal(key_eps, (len(mean), samples, dim), mean.dtype)
    if sampling == "matched":
      return Samples(*matched, gaussian.deviations(matched[1], eps))
    clip = jax.random.randint(key_clip, eps.shape[:2], 0, mean.shape[1])
    return Samples(*matched, gaussian.mixture_deviations(mean, logvar, eps, clip))

  def loss_fn(params, aux, batch, key):
    clips, size = _clips(batch["frames"], halves)
    out, statistics = distributions(params, aux, clips, train=True)
    rows = size[0] * (2 if halves else 1)
    mean, logvar = (out[k].reshape(rows, -1, dim) for k in ("mean", "logvar"))
    x = draw(key, mean, logvar)
    a = losses.bounded(jax.nn.softplus(params["match"]["a"]), *SCALES)
    owner, label = _owners(batch, rows)
    same = owner[:, None] == owner
    value, parts = objectives.objective(mean, logvar, x, a, params["match"]["b"], options,
                                        same=same, mine=aux["step"] >= mine_after)
    loss = jnp.mean(value)
    metrics = {"loss": loss, "uncertainty": jnp.mean(parts["u"]), "kl": jnp.mean(parts["kl"]),
               "scale": a, "offset": params["match"]["b"],
               "soft_positive": _mean(parts["soft"], parts["mask"]),
               "soft_negative": _mean(parts["soft"], ~parts["mask"]),
               **losses.summary(parts["mask"], same, label)}
    return loss, ({"batch_stats": statistics, "step": aux["step"] + 1}, metrics)

  def embed(params, aux, inputs):
    frames = inputs["frames"]
    clips, size = _clips(frames[:, None] if frames.ndim == 5 else frames, False)
    out, _ = distributions(params, aux, clips, train=False)
    out = {k: v.reshape(*size, -1) for k, v in out.items()}
    mean, logvar = gaussian.moment_match(out["mean"], out["logvar"])
    return {"video": jnp.mean(out["feature"], axis=1), "mean": mean, "logvar": logvar,
            "uncertainty": gaussian.uncertainty(logvar), "clip_features": out["feature"],
            "clip_mean": out["mean"], "clip_logvar": out["logvar"]}

  return Method(init, loss_fn, embed)


def _clips(frames, halves: bool) -> tuple[jax.Array, tuple[int, int]]:
  """[B N, T, H, W, 3], and (B, N)."""
  clips, size = video_clips.flatten(frames)
  if halves and frames.shape[1] % 2:
    raise ValueError(f"frames {frames.shape}: method.args.halves needs an even number of clips a "
                     f"video, not {frames.shape[1]}")
  return clips, size


def _owners(batch, rows: int) -> tuple[jax.Array, jax.Array | None]:
  """Which record each of the distributions is of, [rows] int, and its label if that is known."""
  owner, label = video_clips.owners(batch), batch.get("label")
  times = rows // len(owner)
  return jnp.repeat(owner, times), None if label is None else jnp.repeat(label, times)


def _mean(x, mask):
  return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def _check(args: dict) -> None:
  for name, choices in CHOICES.items():
    if args[name] not in choices:
      raise ConfigError(f"method.args.{name}={args[name]!r} is unknown; choose one of "
                        f"{', '.join(choices)}")
  for name, low in LEAST.items():
    if args[name] < low:
      raise ConfigError(f"method.args.{name}={args[name]} must be at least {low}")
  if args["noise"] <= 0:
    raise ConfigError(f"method.args.noise={args['noise']} must be above 0")
  if args["match_scale"] > SCALES[1]:
    raise ConfigError(f"method.args.match_scale={args['match_scale']} must be at most {SCALES[1]}")
  clamp = tuple(args["clamp"])
  if clamp and not (len(clamp) == 2 and clamp[0] < clamp[1]):
    raise ConfigError(f"method.args.clamp={clamp} must be two numbers (low, high), or empty")
