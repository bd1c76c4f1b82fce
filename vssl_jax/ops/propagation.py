"""One frame of label propagation: copying labels from earlier frames (corrflow spec 10, 16).

What the published protocols differ in is one `Protocol`: which earlier frames are references,
where in them each cell looks, how scores become weights, and in what form a result becomes a
reference itself. h w cells, H W pixels, D features, C classes (background and objects), R
references.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.ops import displaced, normalise, resample, window_attention

MISSING, FEEDBACK, BORDERS = ("repeat", "leave_out"), ("hard", "soft"), ("mask", "zero", "released")
SAME = "same"
_ABSENT = -1e9  # added to the scores of a reference that isn't there


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How labels are propagated.

  Attributes:
    stride: pixels between cells.
    fixed: numbers of frames that stay references, as soon as they are past.
    recent: ages of the other references: 1 for the previous frame, 2 for the one before, ...
    missing: what stands for a recent frame before the first: "repeat" the first, or "leave_out".
      With the latter a frame that is both fixed and recent counts once.
    shape: of windows, "square" or "disk".
    radius: of windows, in cells; None for the whole map.
    fixed_radius: of windows in fixed frames; "same" for `radius`.
    temperature: scores are divided by it.
    top_k: only this many best cells of all references together have a weight; None for all.
    normalise: compare by cosine.
    border: cells beyond the map: "mask" leaves them out, "zero" gives them score and labels 0,
      "released" see `window_attention.attend`.
    feedback: a result becomes a reference as "soft" labels of cells, or as "hard" labels of
      pixels, reduced to cells anew.
    rule: how pixels become cells, see `resample.labels_to_cells`.
    align: where cells lie, see `resample`.
    search_age: fixed frames older than this are searched with a displaced window, found in one
      dilated by min(4, 1 + age // search_age); None for never.
    search_radius: of the dilated window, in its steps.
  """

  stride: int = 8
  fixed: tuple[int, ...] = ()
  recent: tuple[int, ...] = (1,)
  missing: str = "repeat"
  shape: str = "square"
  radius: float | None = 6
  fixed_radius: float | str | None = SAME
  temperature: float = 1.0
  top_k: int | None = None
  normalise: bool = False
  border: str = "mask"
  feedback: str = "soft"
  rule: str = "area"
  align: str = "cell"
  search_age: int | None = None
  search_radius: int = 12

  def __post_init__(self):
    for name, known in [("missing", MISSING), ("feedback", FEEDBACK), ("border", BORDERS),
                        ("shape", window_attention.SHAPES), ("rule", resample.RULES),
                        ("align", resample.ALIGNMENTS)]:
      if getattr(self, name) not in known:
        raise ValueError(f"protocol: {name}={getattr(self, name)!r} is not one of "
                         f"{', '.join(known)}")
    for name, least in [("fixed", 0), ("recent", 1)]:
      # A config holds lists and numbers that a string stood for; what is hashed is this.
      frames = tuple(sorted({int(n) for n in getattr(self, name)}))
      if frames and frames[0] < least:
        raise ValueError(f"protocol: {name}={frames} should be at least {least}")
      object.__setattr__(self, name, frames)
    if 0 not in self.fixed and 1 not in self.recent:
      raise ValueError(f"protocol: fixed={self.fixed}, recent={self.recent}: frame 0 has to be "
                       "fixed or age 1 recent, else the second frame has no reference")
    if self.stride < 1 or not self.temperature > 0:
      raise ValueError(f"protocol: stride={self.stride}, temperature={self.temperature} should be "
                       "at least 1 and above 0")
    if self.border == "zero":
      plain = self.shape == "square" and self.top_k is None and self.fixed_radius == SAME
      if not plain or self.radius is None:
        raise ValueError("protocol: border='zero' goes with square windows of one radius and "
                         "without top_k; use border='mask'")
    elif self.search_age is not None:
      raise ValueError("protocol: search_age needs border='zero'")

  @property
  def radii(self) -> tuple:
    """One per reference, fixed ones first."""
    fixed = self.radius if self.fixed_radius == SAME else self.fixed_radius
    return (fixed,) * len(self.fixed) + (self.radius,) * len(self.recent)


PROTOCOLS = {
  # The previous frame alone, as hard labels; values are reduced without inventing classes.
  "corrflow": Protocol(stride=4, feedback="hard"),
  "corrflow_released": Protocol(stride=4, feedback="hard", rule="id_average", align="half_pixel",
                                border="released"),
  "mast": Protocol(stride=4, fixed=(0, 5), recent=(1, 3, 5), missing="leave_out", radius=12,
                   border="zero", feedback="hard", rule="slice", align="half_pixel",
                   search_age=15),
  "crw": Protocol(stride=8, fixed=(0,), recent=tuple(range(1, 21)), shape="disk", radius=12,
                  fixed_radius=None, temperature=0.05, top_k=10, normalise=True,
                  align="half_pixel"),
}
PROTOCOLS["jhmdb"] = dataclasses.replace(PROTOCOLS["crw"], recent=tuple(range(1, 8)))
# The same with CorrFlow's features, the first frame within a window too: large frames fit.
PROTOCOLS["later"] = dataclasses.replace(PROTOCOLS["jhmdb"], stride=4, fixed_radius=SAME,
                                         align="cell")


def protocol(name: str, **changes) -> Protocol:
  """One of `PROTOCOLS`, with changes."""
  if name not in PROTOCOLS:
    raise ValueError(f"protocol={name!r} is not one of {', '.join(PROTOCOLS)}")
  known = {f.name for f in dataclasses.fields(Protocol)}
  if unknown := set(changes) - known:
    raise ValueError(f"protocol has no {', '.join(sorted(unknown))}; it has "
                     f"{', '.join(sorted(known))}")
  return dataclasses.replace(PROTOCOLS[name], **changes)


def references(protocol: Protocol, target: int) -> tuple[list[int], np.ndarray]:
  """Frame numbers of the R references of frame `target` (> 0), and which of them count.

  There are always as many, so that one compiled step serves every frame.
  """
  frames = [*protocol.fixed, *(target - age for age in reversed(protocol.recent))]
  valid = [0 <= n < target for n in frames]
  if protocol.missing == "repeat":
    for i in range(len(protocol.fixed), len(frames)):
      frames[i], valid[i] = max(0, frames[i]), True
  else:
    valid = [v and n not in frames[:i] for i, (n, v) in enumerate(zip(frames, valid, strict=True))]
  return [n if 0 <= n < target else 0 for n in frames], np.array(valid)


def place(cells) -> jax.Array:
  """Soft labels that were made on the host, as those that `step` makes."""
  return jnp.asarray(cells, jnp.float32)


@functools.partial(jax.jit, static_argnames="protocol")
def prepare(features: jax.Array, protocol: Protocol) -> jax.Array:
  """Features [h, w, D] of a frame as they are compared and cached."""
  return normalise.l2(features) if protocol.normalise else features


@functools.partial(jax.jit, static_argnames=("protocol", "classes"))
def cells_of(labels: jax.Array, protocol: Protocol, classes: int) -> jax.Array:
  """Label map [h stride, w stride] -> [h, w, C]."""
  return resample.labels_to_cells(labels, classes, protocol.stride, rule=protocol.rule,
                                  align=protocol.align)


@functools.partial(jax.jit, static_argnames="protocol")
def labels_of(cells: jax.Array, protocol: Protocol) -> jax.Array:
  """Soft labels [h, w, C] -> label map [h stride, w stride] int32; equal shares to the lowest."""
  size = tuple(n * protocol.stride for n in cells.shape[:2])
  return resample.to_pixels(cells, size, protocol.stride, align=protocol.align).argmax(-1)


@functools.partial(jax.jit, static_argnames="protocol")
def step(query: jax.Array, keys: tuple[jax.Array, ...], values: tuple[jax.Array, ...],
         valid: jax.Array, ages: jax.Array, protocol: Protocol) -> jax.Array:
  """Soft labels of one frame.

  Args:
    query: [h, w, D], of `prepare`.
    keys, values: [h, w, D] and [h, w, C] of the R references, in the order of `references`.
    valid: [R] bool, references that count.
    ages: [R] int32, frames between reference and target.
    protocol: static.

  Returns:
    [h, w, C] float32.
  """
  keys, values = jnp.stack(keys), jnp.stack(values)
  if protocol.border == "zero":
    return _zero_border(query, keys, values, valid, ages, protocol)
  if protocol.missing == "leave_out" or protocol.fixed not in ((), (0,)):
    query, keys = _bias(query, keys, jnp.where(valid, 0.0, _ABSENT), protocol)
  return _attend(query, keys, values, protocol.radii, protocol)


def _attend(query, keys, values, radii, protocol: Protocol, border: str | None = None):
  return window_attention.attend(
      query[None], keys[None], values[None], radii, shape=protocol.shape,
      temperature=protocol.temperature, top_k=protocol.top_k,
      border=border or protocol.border)[0]


def _bias(query, keys, bias, protocol: Protocol):
  """Adds `bias` [R] to all scores of a reference: one more feature, which is 1 in the query."""
  more = jnp.broadcast_to((bias * protocol.temperature)[:, None, None, None], (*keys.shape[:3], 1))
  return (jnp.concatenate([query, jnp.ones_like(query[..., :1])], -1),
          jnp.concatenate([keys, more.astype(keys.dtype)], -1))


def _zero_border(query, keys, values, valid, ages, protocol: Protocol) -> jax.Array:
  """Windows over a map with a margin of zeros; old references are searched first.

  What the search finds joins the softmax as one more cell: its score is the logarithm of the
  searched cells' sum of exponentials, its value their mean.
  """
  reach, (h, w) = int(protocol.radius), query.shape[:2]
  searched = protocol.search_age is not None and bool(protocol.fixed)
  old = jnp.zeros(len(keys), bool)
  if searched:
    n = len(protocol.fixed)
    old = valid & (ages > protocol.search_age) & (np.arange(len(keys)) < n)
    found, score = jax.lax.cond(
        old.any(),
        lambda: _search(query, keys[:n], values[:n], old[:n], ages[:n], protocol),
        lambda: (jnp.zeros(values.shape[1:], jnp.float32), jnp.full((h, w), _ABSENT)))
  margin = [(reach, reach), (reach, reach), (0, 0)]
  query, keys = jnp.pad(query, margin), jnp.pad(keys, [(0, 0), *margin])
  values = jnp.pad(values, [(0, 0), *margin])
  query, keys = _bias(query, keys, jnp.where(valid & ~old, 0.0, _ABSENT), protocol)
  radii = (protocol.radius,) * len(keys)
  if searched:
    cell = jnp.zeros(keys.shape[1:], keys.dtype).at[..., -1].set(
        jnp.pad(score * protocol.temperature, margin[:2]).astype(keys.dtype))
    keys = jnp.concatenate([keys, cell[None]])
    values = jnp.concatenate([values, jnp.pad(found, margin)[None]])
    radii = (*radii, 0)
  out = _attend(query, keys, values, radii, protocol, border="mask")
  return out[reach:reach + h, reach:reach + w]


def _search(query, keys, values, old, ages, protocol: Protocol):
  """Mean value [h, w, C] and log-sum-exp [h, w] over the displaced windows of old references."""
  offsets = []
  for i in range(len(keys)):
    dilation = jnp.minimum(4, 1 + ages[i] // protocol.search_age)
    find = functools.partial(displaced.expected_offset, radius=protocol.search_radius, most=4,
                             temperature=protocol.temperature)
    offsets.append(jax.lax.cond(
        old[i], lambda k, d, find=find: find(query, k, dilation=d),
        lambda k, d: jnp.zeros((*query.shape[:2], 2), jnp.float32), keys[i], dilation))
  return displaced.attend(query, keys, values, jnp.stack(offsets), old, int(protocol.radius),
                          protocol.temperature)
