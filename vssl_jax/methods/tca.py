"""Temporal Context Aggregation: a Transformer over frame descriptors and a bank of negatives.

The aggregators that the paper compares it with (tca spec 5) take its place by name.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax.losses import retrieval
from vssl_jax.losses import self_similarity as absolute
from vssl_jax.methods import tca_options as options
from vssl_jax.models import aggregators as models
from vssl_jax.models.frame_weights import Weighted
from vssl_jax.ops import bank as banks
from vssl_jax.ops import ema
from vssl_jax.types import ConfigError, Method

LOSSES = ("circle", "info_nce", "triplet", "released_circle")


RANGES = {  # argument -> least value, and the first that is too large
    "bank_size": (0, None), "momentum": (0, 1), "gamma": (0, None), "margin": (0, 2)}


def _check(**values: float) -> None:
  for name, value in values.items():
    low, high = RANGES[name]
    if value < low or (high is not None and value >= high):
      limit = "" if high is None else f" and less than {high}"
      raise ConfigError(f"method.args.{name}={value} must be at least {low}{limit}")


def _loss(name: str, tau: float, gamma: float, margin: float):
  """The named loss as `(s_p [N], s_n [N, M], mask [N, M]) -> [N]`."""
  if name == "info_nce":
    return functools.partial(retrieval.info_nce, tau=tau)
  if name == "circle":
    return functools.partial(retrieval.circle, gamma=gamma, margin=margin)
  if name == "triplet":
    return functools.partial(retrieval.triplet, margin=margin)
  if name == "released_circle":

    def released(s_p, s_n, mask):
      del mask  # the released class knows none
      logits = jnp.concatenate([s_p[:, None], s_n], axis=1)
      return retrieval.released_circle(logits, gamma=gamma, margin=margin)

    return released
  raise ConfigError(f"method.args.loss={name!r} is unknown; choose one of {', '.join(LOSSES)}")


def _aggregator(name: str, settings: Mapping[str, Mapping[str, Any]], dtype):
  """The module `name`; the settings of the others are checked too."""
  try:
    chosen = models.make(name, dtype=dtype)
  except ValueError as e:
    raise ConfigError(f"method.args.aggregator={e}") from e
  try:
    made = {key: models.make(key, dict(value), dtype) for key, value in settings.items()}
  except ValueError as e:
    raise ConfigError(f"method.args.aggregators.{e}") from e
  return made.get(name, chosen)


def make(*, aggregator: str = "transformer",
         aggregators: Mapping[str, Mapping[str, Any]] | None = None, loss: str = "circle",
         tau: float = 0.07, gamma: float = 256.0, margin: float = 0.25, bank_size: int = 4096,
         momentum: float = 0.0, positive_gradient: bool = False, filled_only: bool = False,
         dtype: str = "float32", level: str = "video", self_similarity: float = 0.0,
         hard_negative: float = 0.0, self_keep: float = 0.7, frame_weights: bool = False) -> Method:
  """TCA as three pure functions. Defaults are the paper's final model (tca spec 13).

  Args:
    aggregator: "transformer", "netvlad", "nextvlad", "lstm" or "gru".
    aggregators: settings by aggregator, see the modules; what is left out has its default.
    loss: "circle" (gamma, margin), "info_nce" (tau), "triplet" (margin), "released_circle".
    bank_size: rows of the memory bank; 0 uses the step's own negatives, with gradient.
    momentum: of the key encoder; 0 encodes keys with the current parameters.
    positive_gradient: let the gradient through the positive too (the paper's Figure 4).
    filled_only: ignore the bank's random initial rows; off in the released code.
    dtype: of the aggregator's matrix products, "float32" or "bfloat16".

  Beyond the paper, and off by default:
    level: what the losses compare: "video" descriptors, "frame" descriptors by symmetric Chamfer
      inside the batch, negatives with gradient (bank_size=0), or "both", the two losses' sum.
    self_similarity, hard_negative: weights of S2VS's terms (`losses.self_similarity`). A video is
      compared with itself as encoded a second time, from a random share `self_keep` of its frames.
    frame_weights: average a video's frames by learnt weights, which the loss of video descriptors
      teaches; `embed` gives `weights` [B, T] too, by which Chamfer's means count.

  A batch is `{"anchor", "positive", "negative"}`, each `{"x", "length", "group"}`:
  x [B, T, D], length [B], group [B] for anchor and positive; [B, M, T, D], [B, M], [B, M] for the
  negatives. Videos of the same group, unless it is -1, are never each other's negatives.

  Where the aggregator has batch norms, anchors, positives and negatives are each normalised by
  their own statistics over the global batch. Only those of the anchors move the running ones
  (`aux["batch_stats"]`), which `embed` uses. A momentum encoder averages parameters alone: it
  never embeds, so nothing would read running statistics of its own.
  """
  _check(bank_size=bank_size, momentum=momentum, gamma=gamma, margin=margin)
  if tau <= 0:
    raise ConfigError(f"method.args.tau={tau} must be above 0")
  objective = _loss(loss, tau, gamma, margin)
  model = _aggregator(aggregator, aggregators or {}, jnp.dtype(dtype))
  options.check(aggregator=aggregator, level=level, loss=loss, bank_size=bank_size,
                dropout=model.dropout, self_similarity=self_similarity,
                hard_negative=hard_negative, self_keep=self_keep, frame_weights=frame_weights)
  if frame_weights:
    model = Weighted(model, dtype=jnp.dtype(dtype))

  def init(key, batch):
    key_params, key_bank = jax.random.split(key)
    x, length = batch["anchor"]["x"], batch["anchor"]["length"]
    variables = model.init(key_params, x[:1], length[:1])
    params, aux = variables["params"], _statistics(variables)
    if bank_size:
      video = jax.eval_shape(model.apply, variables, x[:1], length[:1])["video"]
      aux["bank"] = banks.init(key_bank, bank_size, video.shape[-1])
    if momentum:
      aux["key_params"] = params
    return params, aux

  def encode(params, aux, videos, key):
    """What the model gives for N videos, and the running statistics as they would leave them."""
    x, length = videos["x"], videos["length"]
    x, length = x.reshape(-1, *x.shape[-2:]), length.reshape(-1)
    out, moved = model.apply({"params": params, **_statistics(aux)}, x, length, train=True,
                             rngs={"dropout": key}, mutable=["batch_stats"])
    return out, _statistics(moved)

  def against(anchor, positive, negative, groups, aux):
    """Similarities of video descriptors `(s_p, s_n, mask)`, and the bank's next state."""
    group_a, group_n = groups
    if bank_size:
      bank = aux["bank"]  # as it was before this step's negatives enter
      rows, mask = bank.keys, banks.valid(bank, group_a, filled_only=filled_only)
      after = {"bank": banks.push(bank, negative["video"], group_n)}
    else:
      rows, after = negative["video"], {}
      mask = (group_n[None, :] != group_a[:, None]) | (group_a[:, None] < 0)
    s_p = jnp.sum(anchor["video"] * positive["video"], axis=-1)
    return (s_p, anchor["video"] @ rows.T, mask), after

  def loss_fn(params, aux, batch, key):
    keys = jax.random.split(key, 3)
    key_params = params
    if momentum:
      key_params = jax.lax.stop_gradient(ema.update(aux["key_params"], params, momentum))
      aux = {**aux, "key_params": key_params}
    anchor, moved = encode(params, aux, batch["anchor"], keys[0])
    positive, _ = encode(params if positive_gradient else key_params, aux, batch["positive"],
                         keys[1])
    if not positive_gradient:
      positive = jax.lax.stop_gradient(positive)
    negative, _ = encode(key_params if bank_size else params, aux, batch["negative"], keys[2])
    groups = batch["anchor"]["group"], batch["negative"]["group"].reshape(-1)
    by_video, bank = against(anchor, positive, negative, groups, aux)
    compared, selves = {"video": by_video} if level != "frame" else {}, {}  # level -> similarities
    if level != "video":
      compared["frame"] = options.frame_similarities(anchor, positive, negative, *groups)
    if self_similarity:
      thin, again = jax.random.split(jax.random.fold_in(key, 4))
      part, _ = encode(params, aux, options.thinned(thin, batch["anchor"], self_keep), again)
      selves = {name: options.self_similarities(part, anchor, level=name) for name in compared}
    value, metrics = _value(objective, compared, selves, self_similarity, hard_negative)
    metrics["loss"] = value
    if bank_size:
      metrics["bank_filled"] = bank["bank"].filled / bank_size
    return value, ({**aux, **moved, **bank}, metrics)

  def embed(params, aux, inputs):
    variables = {"params": params, **_statistics(aux)}
    with jax.default_matmul_precision("highest"):  # scores are compared, and must not depend on GPU
      return model.apply(variables, inputs["x"], inputs["length"])

  return Method(init, loss_fn, embed)


def _statistics(variables) -> dict[str, Any]:
  """The entry of running statistics, where the aggregator has any."""
  return {"batch_stats": variables["batch_stats"]} if "batch_stats" in variables else {}


def _value(objective, compared, selves, self_weight, hard_weight):
  """The sum of the levels' losses, and their metrics.

  Args:
    compared: level -> (s_p [B], s_n [B, M], mask [B, M]).
    selves: level -> [B] similarities of videos to themselves, if `self_weight` isn't 0.
  """
  value, metrics = 0.0, {}
  for level, (s_p, s_n, mask) in compared.items():
    losses, seen = objective(s_p, s_n, mask), retrieval.summary(s_p, s_n, mask)
    if self_weight:
      losses += self_weight * absolute.self_similarity(selves[level])
      seen["self"] = jnp.mean(selves[level])
    if hard_weight:
      losses += hard_weight * absolute.hardest_negative(s_n, mask)
    value += jnp.mean(losses)
    prefix = "frame_" if level == "frame" and len(compared) > 1 else ""
    metrics |= {prefix + name: number for name, number in seen.items()}
  return value, metrics
