"""Temporal Context Aggregation: a Transformer over frame descriptors and a bank of negatives."""

import functools

import jax
import jax.numpy as jnp

from vssl_jax.losses import retrieval
from vssl_jax.losses import self_similarity as absolute
from vssl_jax.methods import tca_options as options
from vssl_jax.models.frame_weights import Weighted
from vssl_jax.models.transformer import TransformerEncoder
from vssl_jax.ops import bank as banks
from vssl_jax.ops import ema
from vssl_jax.types import ConfigError, Method

LOSSES = ("circle", "info_nce", "triplet", "released_circle")


RANGES = {  # argument -> least value, and the first that is too large
    "layers": (1, None), "heads": (1, None), "feed_forward": (1, None), "dropout": (0, 1),
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


def make(*, layers: int = 1, heads: int = 8, feed_forward: int = 2048, dropout: float = 0.2,
         loss: str = "circle", tau: float = 0.07, gamma: float = 256.0, margin: float = 0.25,
         bank_size: int = 4096, momentum: float = 0.0, positive_gradient: bool = False,
         filled_only: bool = False, dtype: str = "float32", level: str = "video",
         self_similarity: float = 0.0, hard_negative: float = 0.0, self_keep: float = 0.7,
         frame_weights: bool = False, suppression: float = 0.0, splice: float = 0.0,
         splice_share: float = 0.5, recurring: float = 0.0) -> Method:
  """TCA as three pure functions. Defaults are the paper's final model (tca spec 13).

  Args:
    layers, heads, feed_forward, dropout: of the encoder.
    loss: "circle" (gamma, margin), "info_nce" (tau), "triplet" (margin), "released_circle".
    bank_size: rows of the memory bank; 0 uses the step's own negatives, with gradient.
    momentum: of the key encoder; 0 encodes keys with the current parameters.
    positive_gradient: let the gradient through the positive too (the paper's Figure 4).
    filled_only: ignore the bank's random initial rows; off in the released code.
    dtype: of the encoder's matrix products, "float32" or "bfloat16".

  Beyond the paper, and off by default:
    level: what the losses compare: "video" descriptors, "frame" descriptors by symmetric Chamfer
      inside the batch, negatives with gradient (bank_size=0), or "both", the two losses' sum.
    self_similarity, hard_negative: weights of S2VS's terms (`losses.self_similarity`). A video is
      compared with itself as encoded a second time, from a random share `self_keep` of its frames.
    frame_weights: learn a weight for each frame of a video; `embed` gives `weights` [B, T] too.
    splice: share of anchors and positives that get a run of frames, at most `splice_share` of the
      window, of one of their negatives.
    suppression: weight of the loss that teaches frame weights to suppress irrelevant frames:
      those spliced in, and those that recur.
    recurring: cosine from which on a frame that the step's negatives show too is irrelevant; 0 for
      none.

  A batch is `{"anchor", "positive", "negative"}`, each `{"x", "length", "group"}`:
  x [B, T, D], length [B], group [B] for anchor and positive; [B, M, T, D], [B, M], [B, M] for the
  negatives. Videos of the same group, unless it is -1, are never each other's negatives.
  """
  _check(layers=layers, heads=heads, feed_forward=feed_forward, dropout=dropout,
         bank_size=bank_size, momentum=momentum, gamma=gamma, margin=margin)
  if tau <= 0:
    raise ConfigError(f"method.args.tau={tau} must be above 0")
  options.check(level=level, loss=loss, bank_size=bank_size, dropout=dropout,
                self_similarity=self_similarity, hard_negative=hard_negative, self_keep=self_keep,
                frame_weights=frame_weights, suppression=suppression, splice=splice,
                splice_share=splice_share, recurring=recurring)
  objective = _loss(loss, tau, gamma, margin)
  model = TransformerEncoder(layers, heads, feed_forward, dropout, jnp.dtype(dtype))
  if frame_weights:
    model = Weighted(model, dtype=jnp.dtype(dtype))

  def init(key, batch):
    key_params, key_bank = jax.random.split(key)
    x, length = batch["anchor"]["x"], batch["anchor"]["length"]
    params = model.init(key_params, x[:1], length[:1])["params"]
    aux = {}
    if bank_size:
      aux["bank"] = banks.init(key_bank, bank_size, x.shape[-1])
    if momentum:
      aux["key_params"] = params
    return params, aux

  def encode(params, videos, key):
    x, length = videos["x"], videos["length"]
    x, length = x.reshape(-1, *x.shape[-2:]), length.reshape(-1)
    rngs = {"dropout": key}
    return model.apply({"params": params}, x, length, train=True, rngs=rngs)

  def loss_fn(params, aux, batch, key):
    keys, spliced = jax.random.split(key, 3), None
    if splice:
      batch, spliced = options.splice(jax.random.fold_in(key, 3), batch, rate=splice,
                                      share=splice_share)
    key_params = params
    if momentum:
      key_params = jax.lax.stop_gradient(ema.update(aux["key_params"], params, momentum))
      aux = {**aux, "key_params": key_params}
    anchor = encode(params, batch["anchor"], keys[0])
    positive = encode(params if positive_gradient else key_params, batch["positive"], keys[1])
    encoded = {"anchor": anchor, "positive": positive}
    if not positive_gradient:
      positive = jax.lax.stop_gradient(positive)
    negative = encode(key_params if bank_size else params, batch["negative"], keys[2])
    group_a, group_n = batch["anchor"]["group"], batch["negative"]["group"].reshape(-1)
    if bank_size:
      bank = aux["bank"]  # as it was before this step's negatives enter
      rows, mask = bank.keys, banks.valid(bank, group_a, filled_only=filled_only)
      aux = {**aux, "bank": banks.push(bank, negative["video"], group_n)}
    else:
      rows = negative["video"]
      mask = (group_n[None, :] != group_a[:, None]) | (group_a[:, None] < 0)
    compared, selves = {}, {}  # level -> similarities
    if level != "frame":
      s_p = jnp.sum(anchor["video"] * positive["video"], axis=-1)
      compared["video"] = s_p, anchor["video"] @ rows.T, mask
    if level != "video":
      compared["frame"] = options.frame_similarities(anchor, positive, negative, group_a, group_n)
    if self_similarity:
      thin, again = jax.random.split(jax.random.fold_in(key, 4))
      part = encode(params, options.thinned(thin, batch["anchor"], self_keep), again)
      selves = {name: options.self_similarities(part, anchor, level=name) for name in compared}
    value, metrics = _value(objective, compared, selves, self_similarity, hard_negative)
    if suppression:
      extra, seen = options.suppression(encoded, options.irrelevant(batch, spliced, recurring))
      value, metrics = value + suppression * extra, metrics | seen
    metrics["loss"] = value
    if bank_size:
      metrics["bank_filled"] = aux["bank"].filled / bank_size
    return value, (aux, metrics)

  def embed(params, aux, inputs):
    del aux
    with jax.default_matmul_precision("highest"):  # scores are compared, and must not depend on GPU
      return model.apply({"params": params}, inputs["x"], inputs["length"])

  return Method(init, loss_fn, embed)


def _value(objective, compared, selves, self_weight, hard_weight):
  """The sum of the levels' losses, and their metrics.

  Args:
    compared: level -> (s_p [B], s_n [B, M], mask [B, M]).
    selves: level -> [B] similarities of videos to themselves, if `self_weight` isn't 0.
  """
  value, metrics = 0.0, {}
  for level, (s_p, s_n, mask) in compared.items():
    losses, seen = objective(s_p, s_n, mask), _metrics(s_p, s_n, mask)
    if self_weight:
      losses += self_weight * absolute.self_similarity(selves[level])
      seen["self"] = jnp.mean(selves[level])
    if hard_weight:
      losses += hard_weight * absolute.hardest_negative(s_n, mask)
    value += jnp.mean(losses)
    prefix = "frame_" if level == "frame" and len(compared) > 1 else ""
    metrics |= {prefix + name: number for name, number in seen.items()}
  return value, metrics


def _metrics(s_p, s_n, mask) -> dict[str, jax.Array]:
  """How far the positive stands above the negatives: means, and the share ranked first."""
  s_p, s_n = jax.lax.stop_gradient((s_p, s_n))
  hardest = jnp.max(jnp.where(mask, s_n, -1.0), axis=1)
  mean_n = jnp.sum(jnp.where(mask, s_n, 0.0)) / jnp.maximum(jnp.sum(mask), 1)
  return {"positive": jnp.mean(s_p), "negative": mean_n, "hardest": jnp.mean(hardest),
          "top1": jnp.mean(s_p > hardest)}
