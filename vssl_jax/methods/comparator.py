"""Learned video similarity: a CNN on frame-to-frame matrices, trained with triplets (ViSiL)."""

import functools

import jax
import jax.numpy as jnp

from vssl_jax.losses import retrieval
from vssl_jax.models.comparator import Comparator, chamfer
from vssl_jax.models.transformer import pool
from vssl_jax.ops import similarity
from vssl_jax.ops.normalise import l2
from vssl_jax.types import ConfigError, Method

# Entries of the matrices that are compared at once; the network's first layer makes 32 numbers of
# each, so this bounds the memory at some 130 MB.
ENTRIES = 2**20


def make(*, regions: int = 1, margin: float = 0.5, regulariser: float = 1.0, rescale: bool = False,
         hardest: bool = True, symmetric: bool = False, attention: bool = False) -> Method:
  """ViSiL's comparator as three pure functions and a score (tca spec 6.3, 10).

  Args:
    regions: R, vectors that describe a frame, one after the other in its descriptor.
    margin: of the triplet loss.
    regulariser: weight of the sum of the amounts by which the network's outputs leave [-1, 1].
    rescale: map the outputs to [0, 1], as TCA does; ViSiL leaves them in [-1, 1].
    hardest: of a pair's negatives only the most similar one counts; otherwise all do.
    symmetric: train the mean of both directions, not that from the anchor.
    attention: weigh region vectors r by (u . r + 1) / 2 with a learned unit vector u.

  A batch is that of `methods.tca`, x [B, T, R * D]; negatives are those of their own anchor.
  """
  for name, value, low in (("regions", regions, 1), ("margin", margin, 0),
                           ("regulariser", regulariser, 0)):
    if value < low:
      raise ConfigError(f"method.args.{name}={value} must be at least {low}")
  model = Comparator(rescale)
  compare = functools.partial(_compare, model, regions)

  def init(key, batch):
    x = batch["anchor"]["x"]
    dim = _split(x, regions).shape[-1]
    key_model, key_context = jax.random.split(key)
    one = jnp.ones(1, jnp.int32)
    params = {"comparator": model.init(key_model, jnp.zeros((1, 4, 4)), one, one)["params"]}
    if attention:
      params["context"] = l2(jax.random.normal(key_context, (dim,)))
    return params, {}

  def directed(params, x, y):
    """Similarity and excess, [B] each, of pairs of videos."""
    forward = compare(params, x, y)
    if not symmetric:
      return forward["comparator"], forward["excess"]
    backward = compare(params, y, x)
    return jax.tree.map(lambda a, b: (a + b) / 2, (forward["comparator"], forward["excess"]),
                        (backward["comparator"], backward["excess"]))

  def loss_fn(params, aux, batch, key):
    del key
    anchor, positive, negative = (_frames(batch[side]["x"], batch[side]["length"], regions)
                                  for side in ("anchor", "positive", "negative"))
    others = jax.tree.map(lambda p, n: jnp.concatenate([p[:, None], n], 1), positive, negative)
    shape = others[1].shape  # [B, 1 + M]
    pairs = (jax.tree.map(lambda a: jnp.repeat(a, shape[1], axis=0), anchor),
             jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), others))
    s, excess = (a.reshape(shape) for a in directed(params, *pairs))
    s_p, s_n, excess_p, excess_n = s[:, 0], s[:, 1:], excess[:, 0], excess[:, 1:]
    group_a, group_n = batch["anchor"]["group"][:, None], batch["negative"]["group"]
    mask = (group_n != group_a) | (group_a < 0)
    triplets = jnp.mean(retrieval.triplet(s_p, s_n, mask, margin=margin, hardest=hardest))
    excess_n = jnp.sum(jnp.where(mask, excess_n, 0.0), 1) / jnp.maximum(jnp.sum(mask, 1), 1)
    excess = jnp.mean(excess_p + excess_n)
    value = triplets + regulariser * excess
    metrics = retrieval.summary(s_p, s_n, mask)
    return value, (aux, metrics | {"loss": value, "triplet": triplets, "excess": excess})

  def embed(params, aux, inputs):
    del params, aux
    frames, length = _frames(inputs["x"], inputs["length"], regions)
    mask = jnp.arange(frames.shape[1]) < length[:, None]
    return {"video": pool(frames, mask)["video"], "frames": frames, "length": length}

  def score(params, aux, query, target):
    """`comparator`, `symmetric_comparator` and, where there are regions, `region_chamfer`."""
    del aux
    frames, longest = target["frames"], query["frames"].shape[1]
    at_once = _at_once(frames.shape[0], longest * frames.shape[1])

    def pair(x, y):
      x, y = jax.tree.map(lambda a: a[None], (x, y))
      forward, backward = compare(params, x, y), compare(params, y, x)
      mean = (forward["comparator"] + backward["comparator"]) / 2
      found = {"comparator": forward["comparator"], "symmetric_comparator": mean}
      if regions > 1:
        found["region_chamfer"] = forward["region_chamfer"]
      return jax.tree.map(lambda a: a[0], found)

    def row(x):
      targets = frames, target["length"]
      return jax.lax.map(lambda y: pair(x, y), targets, batch_size=at_once if at_once > 1 else None)

    with jax.default_matmul_precision("highest"):
      return jax.lax.map(row, (query["frames"], query["length"]))

  return Method(init, loss_fn, embed, score)


def _at_once(targets, entries) -> int:
  """Targets that are compared at once; one where sizes are only known to the exported function."""
  if isinstance(targets, int) and isinstance(entries, int):
    return max(1, min(targets, ENTRIES // entries))
  return 1


def _split(x: jax.Array, regions: int) -> jax.Array:
  """[..., R * D] -> [..., R, D]."""
  if x.shape[-1] % regions:
    raise ValueError(f"descriptors of {x.shape[-1]} numbers can't be regions={regions} vectors")
  return x.reshape(*x.shape[:-1], regions, x.shape[-1] // regions)


def _frames(x: jax.Array, length: jax.Array, regions: int) -> tuple[jax.Array, jax.Array]:
  """Unit frame vectors [..., T, R * D], 0 in the padding, and how many are valid [...].

  Each region has length 1 / sqrt(R), so an inner product of frames is a mean over regions.
  """
  length = jnp.minimum(length, x.shape[-2]).astype(jnp.int32)
  valid = jnp.arange(x.shape[-2]) < length[..., None]
  x = jnp.where(valid[..., None], x.astype(jnp.float32), 0.0)
  return (l2(_split(x, regions)) * regions**-0.5).reshape(x.shape), length


def _compare(model: Comparator, regions: int, params, x, y) -> dict[str, jax.Array]:
  """Compares pairs of videos, each `(frames [B, T, R * D], length [B])` as `_frames` gives them.

  Returns:
    [B] each: `comparator`, `excess`, and `region_chamfer`, Chamfer similarity without the network.
  """
  def split(frames):
    vectors = _split(frames, regions) * regions**0.5
    if "context" not in params:
      return vectors
    return vectors * (vectors @ l2(params["context"]) / 2 + 0.5)[..., None]

  (x, rows), (y, columns) = x, y
  matrix = jax.vmap(similarity.region_matrix)(split(x), split(y))
  out = model.apply({"params": params["comparator"]}, matrix, rows, columns)
  return {"comparator": chamfer(out["matrix"], out["rows"], out["columns"]),
          "excess": out["excess"], "region_chamfer": chamfer(matrix, rows, columns)}
