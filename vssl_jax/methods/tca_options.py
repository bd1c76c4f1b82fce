"""What TCA can do beyond its paper: see `tca.make` for the options."""

import jax
import jax.numpy as jnp

from vssl_jax.losses import frame_weights as weight_losses
from vssl_jax.ops import similarity, windows
from vssl_jax.types import ConfigError

LEVELS = ("video", "frame", "both")
SHARES = {  # name -> which values it may have
    "self_keep": ("above 0 and at most 1", lambda v: 0 < v <= 1),
    "splice": ("from 0 to 1", lambda v: 0 <= v <= 1),
    "recurring": ("from 0 to 1", lambda v: 0 <= v <= 1),
    "splice_share": ("above 0 and below 1", lambda v: 0 < v < 1)}


def check(*, aggregator: str, level: str, loss: str, bank_size: int, dropout: float,
          frame_weights: bool, **numbers: float) -> None:
  """Raises ConfigError where options are out of range or don't go together."""
  for name, value in numbers.items():
    limits, fits = SHARES.get(name, ("at least 0", lambda v: v >= 0))
    if not fits(value):
      raise ConfigError(f"method.args.{name}={value} must be {limits}")
  if frame_weights and aggregator in ("netvlad", "nextvlad"):
    raise ConfigError(f"method.args.frame_weights weighs frames, and method.args.aggregator="
                      f"{aggregator!r} keeps none; choose another aggregator")
  if level not in LEVELS:
    raise ConfigError(f"method.args.level={level!r} is unknown; choose one of {', '.join(LEVELS)}")
  if level != "video" and loss == "released_circle":
    raise ConfigError(f"method.args.level={level!r} leaves out related videos, which "
                      "loss='released_circle' can't; use another loss, or level='video'")
  if level == "frame" and bank_size:
    raise ConfigError(f"method.args.level='frame' compares the step's own videos only, and the "
                      f"bank of {bank_size} would lie idle; set bank_size=0, or level='both'")
  if numbers["self_similarity"] and not dropout and numbers["self_keep"] == 1:
    raise ConfigError("method.args.self_similarity compares two encodings of a video, which "
                      "self_keep=1 and dropout=0 make equal; set self_keep below 1")
  known = numbers["splice"] or numbers["recurring"]
  if numbers["suppression"] and not (frame_weights and known):
    raise ConfigError(f"method.args.suppression={numbers['suppression']} teaches frame weights "
                      "which frames are irrelevant; set frame_weights=True, and splice or "
                      "recurring above 0")
  if numbers["recurring"] and not numbers["suppression"]:
    raise ConfigError(f"method.args.recurring={numbers['recurring']} is for the loss of frame "
                      "weights; set suppression above 0, or recurring=0")


def splice(key: jax.Array, batch, *, rate: float, share: float):
  """Frames of a pair's first negative in its anchor, and of its last in its positive.

  Not of the same video in both, which would make spliced frames a reason to be alike.

  Returns:
    the batch, and which frames are spliced: {"anchor", "positive"}, [B, T] bool.
  """
  negative, spliced = batch["negative"], {}
  if negative["length"].shape[1] < 2:
    raise ConfigError("method.args.splice needs two negatives a pair, one for its anchor and one "
                      "for its positive; set pairs.negatives to at least 2")
  for side, row, k in (("anchor", 0, 0), ("positive", -1, 1)):
    x, length, spliced[side] = windows.splice(
        jax.random.fold_in(key, k), batch[side]["x"], batch[side]["length"],
        negative["x"][:, row], negative["length"][:, row], rate=rate, share=share)
    batch = {**batch, side: {**batch[side], "x": x, "length": length}}
  return batch, spliced


def irrelevant(batch, spliced, threshold: float):
  """Frames that teach frame weights what to suppress, {"anchor", "positive"}, [B, T] bool.

  They are those in `spliced` (None: none were), and with a `threshold` those that the step's
  unrelated negatives show too: whatever recurs in unrelated videos, such as a title or a black
  frame, says nothing about this one. It takes no label to see that.
  """
  found, negative = {}, batch["negative"]
  others = negative["x"].reshape(-1, *negative["x"].shape[-2:])
  for side in ("anchor", "positive"):
    x, length, group = (batch[side][k] for k in ("x", "length", "group"))
    found[side] = jnp.zeros(x.shape[:2], bool) if spliced is None else spliced[side]
    if threshold:
      unrelated = (negative["group"].reshape(-1) != group[:, None]) | (group[:, None] < 0)
      found[side] |= windows.recurring(x, length, others, negative["length"].reshape(-1),
                                       unrelated, threshold)
  return found


def thinned(key: jax.Array, videos, keep: float):
  """The same videos without some of their frames: what they are compared with as themselves."""
  x, length = windows.thin(key, videos["x"], videos["length"], keep)
  return {**videos, "x": x, "length": length}


def frame_similarities(anchor, positive, negative, group_a, group_n):
  """Symmetric Chamfer similarities of frame descriptors inside the batch.

  All other rows' positives are negatives too, if they are of another group.

  Args:
    anchor, positive: encoded, "frames" [B, T, D] and "length" [B]; negative: [C, T, D], [C].
    group_a: [B]; group_n: [C].

  Returns:
    s_p [B], s_n [B, B + C], mask [B, B + C].
  """
  frames = jnp.concatenate([positive["frames"], negative["frames"]])
  length = jnp.concatenate([positive["length"], negative["length"]])
  s = similarity.symmetric_chamfer(anchor["frames"], anchor["length"], frames, length)
  groups = jnp.concatenate([group_a, group_n])
  mask = (groups[None, :] != group_a[:, None]) | (group_a[:, None] < 0)
  own = jnp.arange(s.shape[1]) == jnp.arange(s.shape[0])[:, None]
  return jnp.diagonal(s), s, mask & ~own


def self_similarities(part, whole, *, level: str) -> jax.Array:
  """[B] similarities of videos to themselves, `part` having been encoded from fewer frames.

  At the level of frames it is the Chamfer similarity from the part to the whole: frames that the
  part lacks have nothing to be recognised in.
  """
  if level == "video":
    return jnp.sum(part["video"] * whole["video"], axis=-1)

  def one(x, x_length, y, y_length):
    return similarity.chamfer(x[None], x_length[None], y[None], y_length[None])[0, 0]

  return jax.vmap(one)(part["frames"], part["length"], whole["frames"], whole["length"])


def suppression(encoded, low) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The mean of `losses.frame_weights.suppression` over both sides, and what the weights are.

  Args:
    encoded: {"anchor", "positive"}, each with "weight_logits" [B, T] and "length".
    low: of `irrelevant`.
  """
  sides = ("anchor", "positive")
  logits = jnp.concatenate([encoded[s]["weight_logits"] for s in sides])
  length = jnp.concatenate([encoded[s]["length"] for s in sides])
  inside = jnp.arange(logits.shape[1]) < length[:, None]
  low = jnp.concatenate([low[s] for s in sides])
  value = jnp.mean(weight_losses.suppression(logits, low, inside))
  weights = jax.nn.sigmoid(logits)

  def mean(mask):
    return jnp.sum(jnp.where(mask, weights, 0.0)) / jnp.maximum(jnp.sum(mask), 1)

  return value, {"suppression": value, "weight_irrelevant": mean(low & inside),
                 "weight_own": mean(~low & inside)}
