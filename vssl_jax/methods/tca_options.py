"""What TCA can do beyond its paper: see `tca.make` for the options."""

import jax
import jax.numpy as jnp

from vssl_jax.ops import similarity, windows
from vssl_jax.types import ConfigError

LEVELS = ("video", "frame", "both")


def check(*, aggregator: str, level: str, loss: str, bank_size: int, dropout: float,
          self_similarity: float, hard_negative: float, self_keep: float,
          frame_weights: bool) -> None:
  """Raises ConfigError where options are out of range or don't go together."""
  for name, value in (("self_similarity", self_similarity), ("hard_negative", hard_negative)):
    if value < 0:
      raise ConfigError(f"method.args.{name}={value} must be at least 0")
  if not 0 < self_keep <= 1:
    raise ConfigError(f"method.args.self_keep={self_keep} must be above 0 and at most 1")
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
  if self_similarity and not dropout and self_keep == 1:
    raise ConfigError("method.args.self_similarity compares two encodings of a video, which "
                      "self_keep=1 and dropout=0 make equal; set self_keep below 1")


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
