"""Cross-video cycle consistency for images (CycleContrast), and MoCo, which it builds on."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vssl_jax.losses import cycle as losses
from vssl_jax.models import resnet, siamfc
from vssl_jax.models.contrast import Encoder, random_variables
from vssl_jax.ops import bank as banks
from vssl_jax.ops import ema
from vssl_jax.ops.colour import to_unit
from vssl_jax.ops.normalise import l2
from vssl_jax.ops.placement import over_devices
from vssl_jax.types import ConfigError, Method

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of R, G and B (spec 3.3)

CHOICES = {"backbone": tuple(resnet.BACKBONES), "head": ("mlp", "linear"),
           "positives": ("random_frame", "all_frames", "same_frame"), "running": ("first", "mean"),
           "dtype": ("float32", "bfloat16")}
LEAST = {"width": 1, "dim": 1, "intra_queue": 1, "cycle_queue": 1, "neighbours": 0, "cycle": 0,
         "groups": 1}


class Draws(NamedTuple):
  """What chance decides in a step.

  Attributes:
    order: [B (1 + F)] order in which keys and candidates are encoded, cut into the groups of the
      batch norms. They are numbered group by group: the keys of its queries, then the candidates.
    neighbours: [groups, S] rows of the cycle's queue that may be neighbours of the queries of a
      group; None: all are.
    intra, cycle: [B] the candidate that is each loss's positive.
  """

  order: jax.Array
  neighbours: jax.Array | None
  intra: jax.Array
  cycle: jax.Array


class Encoded(NamedTuple):
  """By head, unit vectors of a batch: `query` and `key` [B, D], `candidate` [B, F, D]."""

  query: dict[str, jax.Array]
  key: dict[str, jax.Array]
  candidate: dict[str, jax.Array]


def make(*, backbone: str = "resnet50", width: int = 64, dim: int = 128, intra_queue: int = 65_536,
         cycle_queue: int = 81_920, neighbours: int = 16_384, temperature: float = 0.07,
         neighbour_temperature: float = 0.07, momentum: float = 0.999, cycle: float = 0.1,
         groups: int = 8, running: str = "first", shuffle: bool = True,
         positives: str = "random_frame", shared: bool = False, head: str = "mlp",
         mask_same_video: bool = True, filled_only: bool = False, with_self: bool = False,
         dtype: str = "float32") -> Method:
  """CycleContrast as pure functions (cycle_contrast spec 2-4, 6.1). Defaults are the paper's.

  Args:
    backbone, width: of the trunk, see `resnet`.
    dim: of what the heads give.
    intra_queue, cycle_queue: rows of the two queues, multiples of the batch.
    neighbours: rows of the cycle's queue, drawn anew each step for each group of the batch, that
      may be soft neighbours; the other rows are the cycle's negatives. 0 makes all rows both.
    temperature: of both contrasts; neighbour_temperature: of the soft neighbour.
    momentum: of the key encoder.
    cycle: weight of the cycle loss; 0 leaves it and its queue out.
    groups, running: of the batch norms, see `norm.BatchNorm`; one for each of the 8 devices of the
      paper. Queries are cut into as many groups as keys and candidates.
    shuffle: let keys and candidates be normalised in random company, so that a query and its
      positive don't share statistics to tell each other by. Without effect with one group.
    positives: "random_frame" is one candidate, drawn for each loss; "all_frames" the mean over
      all candidates; "same_frame" the key, as MoCo has it: there are no candidates.
    shared: one head and one queue, the intra one, for both losses.
    head: "mlp" (two layers) or "linear".
    mask_same_video: a video's own earlier frames are neither negatives nor neighbours, as the
      paper defines them. The released code leaves them in (spec 9.2).
    filled_only: ignore the queues' random initial rows; off in the released code.
    with_self: the query may be its own neighbour.
    dtype: of the trunk's arithmetic, "float32" or "bfloat16".

  MoCo is `cycle=0, positives="same_frame"`, its linear head `head="linear"`.

  A batch is `{"frames": [B, 2 + F, 1, H, W, 3]}`, uint8 or floating in [0, 1]: two crops of a
  frame, query and key, and F candidates from the same video, as `clips.Reader` gives them with
  `sample.query_and_candidates` and `augment.moco`; `"record"` [B] int, the video's number, -1 for
  none; and perhaps `"label"` [B] int, -1 for none, for the metrics `purity` and `labelled` (the
  share of queries that it is the mean over). `"draws"`, fields of `Draws`, takes the place of
  chance.

  `aux` is `batch_stats` of the query encoder, `key_params` and `key_batch_stats`, `queues` by head,
  `labels` [K] of the rows that neighbours come from, and `pending`: keys that enter the queues at
  the beginning of the next step, see `settled`.
  """
  _check(dict(locals()))
  two, with_cycle = not shared and cycle > 0, cycle > 0
  heads = ("intra", "cycle") if two else ("intra",)
  sizes = dict(zip(heads, (intra_queue, cycle_queue), strict=False))
  source = heads[-1]  # the head and the queue of the cycle
  net = Encoder(backbone, width, heads, dim, head == "mlp", groups, running,
                jnp.bfloat16 if dtype == "bfloat16" else None)

  def init(key, batch):
    crops = _crops(batch, positives, groups)
    for name, size in sizes.items():
      if size % len(crops):
        raise ConfigError(f"method.args.{name}_queue={size} is no multiple of the batch of "
                          f"{len(crops)}; change it, or train.batch")
    variables = random_variables(net, jax.random.fold_in(key, 0))
    aux = {"batch_stats": variables["batch_stats"], "key_params": variables["params"],
           "key_batch_stats": variables["batch_stats"], "queues": {}}
    for i, (name, size) in enumerate(sizes.items(), start=1):
      aux["queues"][name] = banks.init(jax.random.fold_in(key, i), size, dim)
    if with_cycle:
      aux["labels"] = jnp.full((sizes[source],), -1, jnp.int32)
    return variables["params"], unsettled(aux, len(crops))

  def encode(params, stats, x):
    """Unit vectors [N, D] by head of crops [N, H, W, 3], and the running statistics after it."""
    out, moved = net.apply({"params": params, "batch_stats": stats}, _normalised(x), train=True,
                           mutable=["batch_stats"])
    return {name: l2(out[name]) for name in heads}, moved["batch_stats"]

  def encode_all(params, aux, crops, order):
    """`Encoded`, and `aux` with the key encoder moved and both encoders' running statistics."""
    query, stats = encode(params, aux["batch_stats"], crops[:, 0])
    key_params = jax.lax.stop_gradient(ema.update(aux["key_params"], params, momentum))
    x = _by_group(crops[:, 1:], groups)
    x = over_devices(x[order]) if shuffle else x
    out, key_stats = encode(key_params, aux["key_batch_stats"], x)
    back = jnp.argsort(order)
    out = {name: _by_query(v[back] if shuffle else v, groups, crops.shape[1] - 1)
           for name, v in out.items()}
    encoded = Encoded(query, {n: v[:, 0] for n, v in out.items()},
                      {n: v[:, 1:] for n, v in out.items()})
    return encoded, aux | {"batch_stats": stats, "key_params": key_params,
                           "key_batch_stats": key_stats}

  def positive(encoded, name, drawn):
    """[B, P, D]."""
    if positives == "same_frame":
      return encoded.key[name][:, None]
    if positives == "all_frames":
      return encoded.candidate[name]
    return jnp.take_along_axis(encoded.candidate[name], drawn[:, None, None], axis=1)

  def valid(queue, record):
    """[B, K]: which rows of a queue count for which query."""
    record = record if mask_same_video else jnp.full_like(record, -1)
    return banks.valid(queue, record, filled_only=filled_only)

  def intra_term(encoded, queue, record, drawn):
    return losses.intra(encoded.query["intra"], positive(encoded, "intra", drawn), queue.keys,
                        valid(queue, record), tau=temperature)

  def cycle_term(encoded, queue, record, draws):
    q, own = encoded.query[source], encoded.key[source] if with_self else None
    mask, p = valid(queue, record), positive(encoded, source, draws.cycle)

    def one(q, p, mask, own, chosen):
      return losses.cycle(q, p, queue.keys, mask, chosen, tau=temperature,
                          neighbour_tau=neighbour_temperature, key=own)

    if not neighbours:
      return one(q, p, mask, own, None)
    split = jax.tree.map(lambda x: x.reshape(groups, -1, *x.shape[1:]), (q, p, mask, own))
    found = jax.vmap(one)(*split, draws.neighbours)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)

  def neighbour_metrics(neighbour, queue, batch, labels, draws):
    """Of the weights of the neighbours, each group having rows of its own."""
    rows = draws.neighbours if neighbours else jnp.arange(len(labels))[None]
    weights = neighbour.weights.reshape(len(rows), -1, rows.shape[1])
    age = banks.age(queue) / len(batch["record"])
    found = {"neighbours": jax.vmap(losses.effective_neighbours)(weights),
             "neighbour_age": jax.vmap(losses.weighted_mean)(weights, age[rows])}
    found = {name: jnp.mean(x) for name, x in found.items()}
    if "label" in batch:
      label = batch["label"].reshape(len(rows), -1)
      share, judged = jax.vmap(losses.purity)(weights, label, labels[rows])
      found |= {"purity": jnp.sum(share) / jnp.maximum(jnp.sum(judged), 1),
                "labelled": jnp.mean(judged)}
    return found

  def loss_fn(params, aux, batch, key):
    crops, record = _crops(batch, positives, groups), batch["record"]
    draws = _draw(key, crops.shape[:2], groups, sizes[source] if with_cycle else 0, neighbours)
    draws = draws._replace(**batch.get("draws", {}))
    aux = settled(aux)
    before = aux["queues"]  # this step's keys aren't in them
    encoded, aux = encode_all(params, aux, crops, draws.order)
    terms, scores = intra_term(encoded, before["intra"], record, draws.intra)
    value = jnp.mean(terms)
    metrics = {"intra": value, "intra_top1": jnp.mean(losses.returned(scores)),
               "queue_filled": before["intra"].filled / sizes["intra"]}
    label = batch["label"] if "label" in batch else jnp.full_like(record, -1)
    aux["pending"] = {"keys": jax.lax.stop_gradient(encoded.key), "record": record, "label": label}
    if with_cycle:
      queue = before[source]
      terms, scores, neighbour = cycle_term(encoded, queue, record, draws)
      value = value + cycle * jnp.mean(terms)
      seen = jnp.any(~banks.valid(queue, record, filled_only=False), axis=1)
      metrics |= {"cycle": jnp.mean(terms), "cycle_return": jnp.mean(losses.returned(scores)),
                  "own_video": jnp.mean(seen)}
      metrics |= neighbour_metrics(jax.lax.stop_gradient(neighbour), queue, batch, aux["labels"],
                                   draws)
    return value, (aux, metrics | {"loss": value})

  def embed(params, aux, inputs):
    """Images [B, H, W, 3] -> `features` [B, C] of the trunk, `projection` [B, D] of unit length."""
    out = net.apply({"params": params, "batch_stats": aux["batch_stats"]},
                    _normalised(inputs["frames"]))
    return {"features": out["pooled"], "projection": l2(out["intra"])}

  def dense(params, aux, inputs):
    """Images [B, H, W, 3] -> `features` [B, ceil(H / 8), ceil(W / 8), C] of the dilated trunk."""
    trunk = siamfc.trunk(backbone, width=width, dtype=net.dtype)
    x = _normalised(inputs["frames"])
    out = trunk.apply({"params": params["trunk"], "batch_stats": aux["batch_stats"]["trunk"]},
                      x if net.dtype is None else x.astype(net.dtype))["stage4"]
    return {"features": out.astype(jnp.promote_types(out.dtype, jnp.float32))}

  return Method(init, loss_fn, embed, dense=dense)


def settled(aux: dict[str, Any]) -> dict[str, Any]:
  """`aux` with the pending keys in the queues.

  They enter when a step begins, not when it ends: XLA copies a queue that is written to while the
  loss and its gradient may still read it, however the step is donated.
  """
  new, rest = aux["pending"], {k: v for k, v in aux.items() if k != "pending"}
  if "labels" in aux:
    rows = banks.rows(_neighbours_queue(aux), len(new["label"]))
    rest["labels"] = aux["labels"].at[rows].set(new["label"])
  return rest | {"queues": {name: banks.push(queue, new["keys"][name], new["record"])
                            for name, queue in aux["queues"].items()}}


def unsettled(aux: dict[str, Any], count: int) -> dict[str, Any]:
  """The inverse of `settled`: the newest `count` rows of the queues become pending."""
  before, _, record = banks.take_back(_neighbours_queue(aux), count)
  label = aux["labels"][banks.rows(before, count)] if "labels" in aux else record
  taken = {name: banks.take_back(queue, count) for name, queue in aux["queues"].items()}
  return aux | {"queues": {name: queue for name, (queue, _, _) in taken.items()},
                "pending": {"keys": {name: keys for name, (_, keys, _) in taken.items()},
                            "record": record, "label": label}}


def _neighbours_queue(aux) -> banks.Bank:
  return aux["queues"].get("cycle", aux["queues"]["intra"])


def _draw(key, shape: tuple[int, int], groups: int, queue: int, neighbours: int) -> Draws:
  """Draws for `shape` = (B, 2 + F); `queue` rows of the cycle's queue."""
  batch, views = shape
  keys = jax.random.split(key, 4)
  rows = None
  if queue and neighbours:
    rows = jax.vmap(lambda k: jax.random.permutation(k, queue)[:neighbours])(
      jax.random.split(keys[1], groups))
  intra, cycle = (jax.random.randint(k, (batch,), 0, max(1, views - 2)) for k in keys[2:])
  return Draws(jax.random.permutation(keys[0], batch * (views - 1)), rows, intra, cycle)


def _by_group(x: jax.Array, groups: int) -> jax.Array:
  """[B, 1 + F, ...] -> [B (1 + F), ...]: a group's keys, then its candidates; then the next."""
  x = x.reshape(groups, -1, *x.shape[1:])
  candidates = x[:, :, 1:].reshape(groups, -1, *x.shape[3:])
  return jnp.concatenate([x[:, :, 0], candidates], axis=1).reshape(-1, *x.shape[3:])


def _by_query(x: jax.Array, groups: int, views: int) -> jax.Array:
  """The inverse of `_by_group`, with `views` = 1 + F."""
  x = x.reshape(groups, -1, *x.shape[1:])
  n = x.shape[1] // views
  candidates = x[:, n:].reshape(groups, n, views - 1, *x.shape[2:])
  return jnp.concatenate([x[:, :n, None], candidates], axis=2).reshape(-1, views, *x.shape[2:])


def _normalised(x: jax.Array) -> jax.Array:
  x = to_unit(x)
  return (x - jnp.asarray(MEAN, x.dtype)) / jnp.asarray(STD, x.dtype)


def _crops(batch: dict[str, Any], positives: str, groups: int) -> jax.Array:
  """[B, 2 + F, H, W, 3]."""
  frames = batch["frames"]
  fits = frames.ndim == 6 and frames.shape[2] == 1 and frames.shape[-1] == 3
  views = frames.shape[1] if frames.ndim > 1 else 0
  if not fits or views < 2 or (views == 2) != (positives == "same_frame"):
    wanted = "2" if positives == "same_frame" else "2 + F, with F of at least 1"
    raise ValueError(f"frames {frames.shape}: expected [B, N, 1, H, W, 3] with N of {wanted}, for "
                     f"method.args.positives={positives!r}: a frame's two crops and F candidates, "
                     "as `sample.query_and_candidates` chooses them")
  if frames.shape[0] % groups:
    raise ConfigError(f"method.args.groups={groups} don't divide a batch of {frames.shape[0]}; "
                      "change them, or train.batch")
  if "record" not in batch:
    raise ValueError("the batch has no 'record', the number of each example's video, -1 for none")
  return frames[:, :, 0]


def _check(args: dict) -> None:
  for name, choices in CHOICES.items():
    if args[name] not in choices:
      raise ConfigError(f"method.args.{name}={args[name]!r} is unknown; choose one of "
                        f"{', '.join(choices)}")
  for name, low in LEAST.items():
    if args[name] < low:
      raise ConfigError(f"method.args.{name}={args[name]} must be at least {low}")
  for name in ("temperature", "neighbour_temperature"):
    if args[name] <= 0:
      raise ConfigError(f"method.args.{name}={args[name]} must be above 0")
  if not 0 <= args["momentum"] < 1:
    raise ConfigError(f"method.args.momentum={args['momentum']} must be at least 0 and less than 1")
  queue = "intra_queue" if args["shared"] else "cycle_queue"
  if args["cycle"] and args["neighbours"] >= args[queue]:
    raise ConfigError(f"method.args.neighbours={args['neighbours']} leaves no negatives of "
                      f"method.args.{queue}={args[queue]}; take fewer, or 0 for all rows as both")
