"""Correspondence flow: frames copy colours from each other through a window (CorrFlow, MAST)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vssl_jax.losses import colour as losses
from vssl_jax.methods import corrflow_chains as chains
from vssl_jax.models.corrflow import Encoder, random_variables
from vssl_jax.ops import colour as colours
from vssl_jax.ops import resample, window_attention
from vssl_jax.types import ConfigError, Method

STRIDE = 4
CHOICES = {"colour": ("quantised", "lab"), "rule": resample.RULES, "align": resample.ALIGNMENTS,
           "border": window_attention.BORDERS, "running": ("first", "mean"),
           "dtype": ("float32", "bfloat16")}
LEAST = {"width": 1, "blocks": 1, "dim": 1, "radius": 1, "groups": 1, "cycle": 0, "total_steps": 1}


def p_ground_truth(fraction, first: float, last: float):
  """Chance that a pair starts from the truth, at a fraction of the training (spec 7)."""
  return first - (first - last) * jnp.clip(fraction, 0.0, 1.0)


def make(*, width: int = 64, dim: int = 64, blocks: int = 2, radius: int = 6,
         restricted: bool = True, colour: str = "quantised",
         centroids: Sequence[Sequence[float]] = (), rule: str = "area", align: str = "cell",
         border: str = "mask", bottleneck: bool = True, drop: float = 0.7,
         drop_per_clip: bool = False, scheduled_sampling: Sequence[float] = (0.9, 0.6),
         total_steps: int = 191_330, cycle: float = 0.1, groups: int = 1, running: str = "first",
         parity_statistics: bool = False, dtype: str = "float32") -> Method:
  """CorrFlow as three pure functions (corrflow spec 3-7), or MAST's training (16.1).

  Args:
    width, dim: channels of the encoder's first stage and of its features.
    blocks: of each of the encoder's stages.
    radius: of the window, in cells of 4 pixels.
    restricted: False lets each cell see the whole map instead of a window.
    colour: "quantised" copies the classes of colours; "lab" copies a and b and regresses the one
      that the encoder doesn't see, as MAST does, between consecutive frames and always from the
      truth.
    centroids: (a, b) of each class; the 16 published ones if empty.
    rule: from pixels to cells, see `resample.labels_to_cells`: "area", "id_average" (CorrFlow's
      code) or "slice" (MAST's).
    align: "cell" keeps predictions as cells where they are copied on; "half_pixel" is the
      released way, which spreads them over the pixels and takes samples again (spec 13).
    border: see `window_attention.attend`.
    bottleneck: False shows the encoder the clean frames and all of their channels.
    drop: probability that one or two of R, G and B are taken away; "lab" always takes a or b.
    drop_per_clip: draw that for each clip instead of once a batch.
    scheduled_sampling: chance that pairs after the first start from the truth, at the beginning
      and at the end of the training, linear between them; (1, 1) for always.
    total_steps: of the training, for that.
    cycle: weight of the cycles; 0 leaves them out.
    groups, running: of the batch norms, see `norm.BatchNorm`. Each frame of the clips, the first,
      the second, .., has statistics of its own.
    parity_statistics: move the running statistics as the released code does, which encodes the
      frames of a clip 16 times a step; by default each frame moves them once.
    dtype: of the encoder's arithmetic, "float32" or "bfloat16".

  A batch is `{"frames": [B, N, 2, T, H, W, 3]}`, N clips of each video, the clean frames and those
  that the encoder sees, floating in [0, 1] or uint8; with `"classes"` [B, N, T, H, W] int, colour
  classes of the clean frames that are known already. `aux` is `batch_stats`, `step` and `centroids`
  [K, 2], so that they can be those of a data set.
  """
  _check(dict(locals()))
  centroids = centroids if len(centroids) else colours.CENTROIDS
  net = Encoder(width, dim, groups, running, blocks=blocks,
                dtype=jnp.bfloat16 if dtype == "bfloat16" else None)
  attend = functools.partial(window_attention.attend, radius=radius if restricted else None,
                             border=border)
  with_cycles = cycle > 0 and colour == "quantised"

  def init(key, batch):
    _views(batch, align)
    variables = random_variables(net, key)
    return variables["params"], {"batch_stats": variables["batch_stats"],
                                 "step": jnp.zeros((), jnp.int32),
                                 "centroids": jnp.asarray(centroids, jnp.float32)}

  def encode(params, aux, x):
    """Features [B, T, h, w, dim] of x [B, T, H, W, 3], and the running statistics after it."""
    b, t = x.shape[:2]
    order = chains.passes(t, with_cycles) if parity_statistics else ()
    out, moved = net.clone(frames=t, order=order).apply(
        {"params": params, "batch_stats": aux["batch_stats"]}, x.reshape(-1, *x.shape[2:]),
        train=True, mutable=["batch_stats"])
    features = out["features"]
    return features.reshape(b, t, *features.shape[1:]), moved["batch_stats"]

  def seen_colours(frames, key):
    """What the encoder gets [B, T, H, W, 3], and which of its channels are hidden [B or 1, 3]."""
    x = colours.to_unit(frames)
    x = colours.scaled_lab(x) if colour == "lab" else x
    if not bottleneck:
      return x, jnp.zeros((1, 3))
    shape = (x.shape[0] if drop_per_clip else 1,)
    factors = (colours.chroma_factors(key, shape) if colour == "lab"
               else colours.channel_factors(key, drop, shape))
    return x * factors[:, None, None, None], factors == 0

  def copies(features):
    """`corrflow_chains.Step` on these features."""
    return lambda r, t, values: attend(features[:, t], features[:, r], values)

  def classified(features, ids, sampling):
    """Terms of the pairs and of the cycles, [B] each, and the share of pixels got right."""
    size = ids.shape[2:]
    to_pixels = functools.partial(resample.to_pixels, size=size, stride=STRIDE, align=align)
    values = resample.labels_to_cells(ids, len(centroids), STRIDE, rule=rule, align=align)

    def feed(x):
      if align == "cell":
        return x
      return resample.to_cells(to_pixels(x), STRIDE, align=align)

    if with_cycles:
      short, back = chains.copy(copies(features), values, sampling, feed)
    else:
      short, back = chains.short_term(copies(features), values, sampling, feed), []
    short = [to_pixels(p) for p in short]
    pairs = [losses.cross_entropy(p, ids[:, t]) for t, p in enumerate(short, start=1)]
    cycles = [losses.cross_entropy(to_pixels(p), ids[:, 0]) for p in back]
    right = jnp.stack([p.argmax(-1) for p in short], axis=1) == ids[:, 1:]
    return pairs, cycles, jnp.mean(right)

  def regressed(features, ab, hidden):
    """Terms of the pairs, [B] each."""
    values = ab[:, :, ::STRIDE, ::STRIDE] if rule == "slice" else resample.to_cells(
        ab, STRIDE, align=align)
    channels = hidden[:, 1:] if bottleneck else jnp.ones((1, 2))
    channels = jnp.broadcast_to(channels.astype(jnp.float32), (len(ab), 2))
    step, terms = copies(features), []
    for t in range(1, ab.shape[1]):
      p = resample.to_pixels(step(t - 1, t, values[:, t - 1]), ab.shape[2:4], STRIDE, align=align)
      terms.append(losses.regression(p, ab[:, t], channels))
    return terms

  def loss_fn(params, aux, batch, key):
    key_drop, key_truth = jax.random.split(key)
    clean, seen = _views(batch, align)
    x, hidden = seen_colours(seen if bottleneck else clean, key_drop)
    features, stats = encode(params, aux, x)
    aux = aux | {"batch_stats": stats, "step": aux["step"] + 1}
    if colour == "lab":
      ab = colours.scaled_lab(colours.to_unit(clean))[..., 1:]
      terms = regressed(features, ab, hidden)
      value = sum(jnp.mean(x) for x in terms) / len(terms)
      return value, (aux, {"loss": value})
    p = p_ground_truth((aux["step"] - 1) / total_steps, *scheduled_sampling)
    truth = jax.random.uniform(key_truth, (clean.shape[1] - 1,)) < p
    terms, cycles, right = classified(features, _classes(batch, clean, aux["centroids"]), truth)
    short, long = (sum((jnp.mean(x) for x in part), jnp.zeros(())) for part in (terms, cycles))
    value = short + cycle * long
    metrics = {"loss": value, "short": short, "cycle": long, "accuracy": right,
               "p_ground_truth": jnp.asarray(p)}
    metrics |= {f"short_{t}": jnp.mean(x) for t, x in enumerate(terms, start=1)}
    metrics |= {f"cycle_{n}": jnp.mean(x) for n, x in enumerate(cycles, start=1)}
    return value, (aux, metrics)

  def embed(params, aux, inputs):
    x = colours.to_unit(inputs["frames"])
    x = colours.scaled_lab(x) if colour == "lab" else x
    out = net.apply({"params": params, "batch_stats": aux["batch_stats"]}, x)["features"]
    return {"features": out.astype(jnp.promote_types(out.dtype, jnp.float32))}

  return Method(init, loss_fn, embed)


def _views(batch, align: str) -> tuple[jax.Array, jax.Array]:
  """Clean frames and those that the encoder sees, [B N, T, H, W, 3] each."""
  frames = batch["frames"]
  if frames.ndim != 7 or frames.shape[2] != 2 or frames.shape[3] < 2 or frames.shape[-1] != 3:
    raise ValueError(f"frames {frames.shape}: expected [B, N, 2, T, H, W, 3] with T of at least 2, "
                     "clean frames and those seen, as the transform `recipes.corrflow` gives them")
  if align == "half_pixel" and any(n % STRIDE for n in frames.shape[4:6]):
    raise ValueError(f"frames of {frames.shape[4]} x {frames.shape[5]}: align='half_pixel' needs "
                     f"multiples of {STRIDE}; use align='cell' or another size")
  frames = frames.reshape(-1, *frames.shape[2:])
  return frames[:, 0], frames[:, 1]


def _classes(batch, clean: jax.Array, centroids) -> jax.Array:
  """[B N, T, H, W] int."""
  if "classes" in batch:
    return batch["classes"].reshape(clean.shape[:-1])
  return colours.classes(colours.lab(colours.to_unit(clean))[..., 1:], centroids)


def _check(args: dict) -> None:
  for name, choices in CHOICES.items():
    if args[name] not in choices:
      raise ConfigError(f"method.args.{name}={args[name]!r} is unknown; choose one of "
                        f"{', '.join(choices)}")
  for name, low in LEAST.items():
    if args[name] < low:
      raise ConfigError(f"method.args.{name}={args[name]} must be at least {low}")
  if not 0 <= args["drop"] <= 1:
    raise ConfigError(f"method.args.drop={args['drop']} must be from 0 to 1")
  chances = tuple(args["scheduled_sampling"])
  if len(chances) != 2 or not all(0 <= p <= 1 for p in chances):
    raise ConfigError(f"method.args.scheduled_sampling={chances} must be two chances from 0 to 1")
  if args["colour"] == "lab" and args["rule"] == "id_average":
    raise ConfigError("method.args.rule='id_average' is for classes; use 'area' or 'slice' with "
                      "method.args.colour='lab'")
  for k, centroid in enumerate(args["centroids"]):
    if len(centroid) != 2:
      raise ConfigError(f"method.args.centroids must be pairs (a, b), got {centroid} at {k}")
