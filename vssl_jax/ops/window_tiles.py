"""The tiled form of window attention, for any platform of XLA.

A tile of `th x tw` query cells needs the patch of `(th + 2M) x (tw + 2M)` keys around it: one
product gives its scores, of which a mask keeps the windows. Scores lie as [tiles, keys, queries],
so that maximum, exponential and sum run along queries, which vectorises. A band is a row of tiles;
a step handles as many bands, of any frame, as fit the budget. The backward pass computes a step
again instead of keeping its scores.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FAR = -1e30  # score of a cell outside of the window: no weight, but never nan
ZERO = -1e10  # score that the released code gives to what it takes for padding


class Window(NamedTuple):
  """What is static: hashable, so that it can be an argument of a compiled function."""

  size: tuple[int, int]  # H, W
  radii: tuple  # one per reference, None for the whole map
  shape: str
  dilation: int
  top_k: int | None
  border: str


class Part(NamedTuple):
  """Consecutive references with one radius; `reach` None if each query sees the whole map."""

  references: tuple[int, int]  # first and last + 1
  radius: float | None
  reach: tuple[int, int] | None  # rows and columns that a window extends from its centre


class Plan(NamedTuple):
  """How the work is cut."""

  window: Window
  grid: tuple[int, int]  # of one residue class of the dilation
  tile: tuple[int, int]
  counts: tuple[int, int]  # tiles down and across
  bands: int  # of a step
  parts: tuple[Part, ...]


def wide(*arrays: jax.Array):
  """The type of sums and scores: float32, or what is wider among those of the arrays."""
  return jnp.result_type(jnp.float32, *(x.dtype for x in arrays))


def choose_tile(grid: tuple[int, int], platform: str) -> tuple[int, int]:
  """Rows and columns of a tile, by measurement (benchmarks/attention.py).

  On a CPU small tiles, whose patch is little larger than the window; on others larger ones, whose
  products fill the device.
  """
  th, tw = (8, 8) if platform == "cpu" else (8, 16)
  return min(th, grid[0]), min(tw, grid[1])


def _budget(platform: str) -> int:
  """Scores of a step: on a CPU they should stay in the cache, on others fill the device."""
  return 2**19 if platform == "cpu" else 2**25


def plan(window: Window, batch: int, tile: tuple[int, int] | None, platform: str) -> Plan:
  grid = tuple(-(-n // window.dilation) for n in window.size)
  th, tw = tile or choose_tile(grid, platform)
  counts = -(-grid[0] // th), -(-grid[1] // tw)
  parts = _parts(window, grid)
  keys = sum((p.references[1] - p.references[0]) * math.prod(_patch(p, grid, (th, tw)))
             for p in parts)
  total = batch * window.dilation ** 2 * counts[0]
  most = max(1, _budget(platform) // (keys * th * tw * counts[1]))
  steps = -(-total // most)
  return Plan(window, grid, (th, tw), counts, -(-total // steps), parts)


def _parts(window: Window, grid: tuple[int, int]) -> tuple[Part, ...]:
  parts, first, radii = [], 0, window.radii
  for i in range(1, len(radii) + 1):
    if i == len(radii) or radii[i] != radii[first]:
      parts.append(Part((first, i), radii[first], _reach(window, radii[first], grid)))
      first = i
  return tuple(parts)


def _reach(window: Window, radius, grid) -> tuple[int, int] | None:
  if radius is None:
    return None
  reach = int(radius) if window.shape == "square" else math.ceil(radius) - 1
  if window.border != "mask":  # cells beyond the map count too
    return reach, reach
  farthest = (max(n - 1 for n in grid) if window.shape == "square"
              else math.hypot(*(n - 1 for n in grid)) + 1e-3)
  return None if radius >= farthest else tuple(min(reach, n - 1) for n in grid)


def _patch(part: Part, grid, tile) -> tuple[int, int]:
  return grid if part.reach is None else tuple(
      t + 2 * r for t, r in zip(tile, part.reach, strict=True))


def attend(query, key, value, *, window: Window, tile=None, platform: str = "cpu") -> jax.Array:
  """`window_attention.attend` for checked arguments; key and value have the axis R."""
  b, h, w, _ = query.shape
  how = plan(window, b, tile, platform)
  d, (gh, gw) = window.dilation, how.grid
  rest = tuple(n * t - g for n, t, g in zip(how.counts, how.tile, how.grid, strict=True))
  q = jnp.pad(_split(query[:, None], d)[:, 0], [(0, 0), (0, rest[0]), (0, rest[1]), (0, 0)])
  key, value = _split(key, d), _split(value, d)
  ks, vs = [], []
  for part in how.parts:
    k, v = (x[:, slice(*part.references)] for x in (key, value))
    if part.reach is not None:
      rows, columns = ((r, r + e) for r, e in zip(part.reach, rest, strict=True))
      blocks = -(how.tile[1] + 2 * part.reach[1]) % how.tile[1]  # for `_patches`
      pads = [(0, 0), (0, 0), rows, (columns[0], columns[1] + blocks), (0, 0)]
      k = jnp.pad(k, pads)
      v = jnp.pad(v, pads, mode="edge" if window.border == "released" else "constant")
    ks.append(k)
    vs.append(v)
  out = _run(q, ks, vs, how)[:, :gh, :gw].astype(value.dtype)
  out = out.reshape(b, d, d, gh, gw, -1).transpose(0, 3, 1, 4, 2, 5)
  return out.reshape(b, gh * d, gw * d, -1)[:, :h, :w]


def _split(x: jax.Array, d: int) -> jax.Array:
  """[B, R, H, W, C] -> [B d d, R, H/d, W/d, C]: windows of step d become dense ones."""
  if d == 1:
    return x
  b, r, h, w, c = x.shape
  x = jnp.pad(x, [(0, 0), (0, 0), (0, -h % d), (0, -w % d), (0, 0)])
  x = x.reshape(b, r, -(-h // d), d, -(-w // d), d, c)
  return x.transpose(0, 3, 5, 1, 2, 4, 6).reshape(b * d * d, r, -(-h // d), -(-w // d), c)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _run(q, ks, vs, how: Plan) -> jax.Array:
  """Padded maps of `attend` -> [B, rows of all bands, columns of all tiles, C], wide."""
  total, steps, bands = _steps(q, how)

  def step(i):
    at = _band_ids(i, total, how)
    return _bands(_take(q, at, how.tile[0]), *_keys(ks, vs, at, how), at, how)

  out = step(0)[None] if steps == 1 else lax.map(step, jnp.arange(steps))
  out = out.reshape(steps * bands, *out.shape[2:])[:total]
  return out.reshape(q.shape[0], *q.shape[1:3], -1)


def _forward(q, ks, vs, how):
  return _run(q, ks, vs, how), (q, ks, vs)


def _backward(how, saved, ct):
  q, ks, vs = saved
  total, steps, bands = _steps(q, how)
  th = how.tile[0]
  ct = ct.reshape(total, th, *ct.shape[2:])
  ct = jnp.pad(ct, [(0, steps * bands - total), (0, 0), (0, 0), (0, 0)])
  zeros = [jnp.zeros(x.shape, wide(x)) for x in (*ks, *vs)]
  n = len(ks)

  def step(sums, given):
    i, g = given
    at = _band_ids(i, total, how)
    call = functools.partial(_bands, at=at, how=how)
    _, pull = jax.vjp(call, _take(q, at, th), *_keys(ks, vs, at, how))
    dq, dk, dv = pull(g)
    sums = [_give(s, d, at) for s, d in zip(sums, (*dk, *dv), strict=True)]
    return sums, dq

  given = jnp.arange(steps), ct.reshape(steps, bands, *ct.shape[1:])
  sums, dq = lax.scan(step, zeros, given)
  dq = dq.reshape(steps * bands, *dq.shape[2:])[:total].reshape(q.shape)
  sums = [s.astype(x.dtype) for s, x in zip(sums, (*ks, *vs), strict=True)]
  return dq, sums[:n], sums[n:]


_run.defvjp(_forward, _backward)


def _steps(q, how: Plan) -> tuple[int, int, int]:
  """Bands in all, steps, bands of a step."""
  total = q.shape[0] * how.counts[0]
  return total, -(-total // how.bands), how.bands


def _band_ids(i, total: int, how: Plan):
  """Frame and first row of each band of step i; bands beyond the last repeat it."""
  band = jnp.minimum(i * how.bands + np.arange(how.bands), total - 1)
  return band // how.counts[0], band % how.counts[0] * how.tile[0]


def _keys(ks, vs, at, how: Plan):
  heights = [_patch(p, how.grid, how.tile)[0] for p in how.parts]
  return ([_take(k, at, n) for k, n in zip(ks, heights, strict=True)],
          [_take(v, at, n) for v, n in zip(vs, heights, strict=True)])


def _take(x: jax.Array, at, rows: int) -> jax.Array:
  """[B, ..., H, W, C] -> [bands, ..., rows, W, C]."""
  return jnp.concatenate([
      lax.dynamic_slice(x, _corner(x, b, y, rows), (1, *x.shape[1:-3], rows, *x.shape[-2:]))
      for b, y in zip(*at, strict=True)])


def _corner(x, b, y, rows):
  y = 0 if rows == x.shape[-3] else y  # a whole map
  return (b, *(0,) * (x.ndim - 4), y, 0, 0)


def _give(total: jax.Array, x: jax.Array, at) -> jax.Array:
  """The transpose of `_take`: adds each band where it came from."""
  for part, b, y in zip(x, *at, strict=True):
    corner = _corner(total, b, y, x.shape[-3])
    old = lax.dynamic_slice(total, corner, (1, *x.shape[1:]))
    total = lax.dynamic_update_slice(total, old + part[None], corner)
  return total


def _bands(q, ks, vs, at, how: Plan) -> jax.Array:
  """[bands, th, W, D], [bands, R, rows, W', D] of each part, likewise C -> [bands, th, W, C]."""
  g, (th, tw), across = len(q), how.tile, how.counts[1]
  q = q.reshape(g, th, across, tw, -1).transpose(0, 2, 1, 3, 4)
  q = q.reshape(g, across, th * tw, -1)
  scores, values = [], []
  for part, k, v in zip(how.parts, ks, vs, strict=True):
    k, v = (_patches(x, part, how) for x in (k, v))
    s = _product("gnqd,gnkd->gnkq" if k.ndim == 4 else "gnqd,gkd->gnkq", q, k)
    scores.append(_mask(s, part, at, how))
    values.append(v)
  o = (_softmax_copy if how.window.top_k is None else _top_k_copy)(scores, values, how)
  return o.reshape(g, across, th, tw, -1).transpose(0, 2, 1, 3, 4).reshape(
      g, th, across * tw, -1)


def _product(formula: str, x: jax.Array, y: jax.Array) -> jax.Array:
  return jnp.einsum(formula, x, y, precision=lax.Precision.HIGHEST,
                    preferred_element_type=wide(x, y))


def _patches(x: jax.Array, part: Part, how: Plan) -> jax.Array:
  """[bands, R, rows, W', C] -> [bands, across, R rows columns, C]; whole maps aren't repeated."""
  g, r, rows, _, c = x.shape
  if part.reach is None:
    return x.reshape(g, -1, c)
  tw, across = how.tile[1], how.counts[1]
  width = tw + 2 * part.reach[1]
  # A patch is a run of blocks of tw columns; the j-th blocks of all patches are one slice.
  blocks = []
  for j in range(-(-width // tw)):
    block = x[:, :, :, j * tw:(j + across) * tw].reshape(g, r, rows, across, tw, c)
    blocks.append(block[..., :min(tw, width - j * tw), :])
  x = jnp.concatenate(blocks, axis=4).transpose(0, 3, 1, 2, 4, 5)
  return x.reshape(g, across, r * rows * width, c)


def _mask(s: jax.Array, part: Part, at, how: Plan) -> jax.Array:
  """Scores [bands, across, keys, queries] with those outside of the window or the map at FAR."""
  window = how.window
  if window.border == "released":
    s = jnp.where(s == 0, ZERO, s)
  bias = 0.0
  if part.reach is not None:
    bias = jnp.asarray(_outside_window(part, how))
  if window.border == "mask" and (part.reach is not None or window.dilation > 1):
    bias = bias + _outside_map(part, at, how)[:, :, None, :, None]
  references = part.references[1] - part.references[0]
  g, across, keys, queries = s.shape
  s = s.reshape(g, across, references, keys // references, queries) + bias
  return s.reshape(g, across, keys, queries)


def _outside_window(part: Part, how: Plan) -> np.ndarray:
  """[keys, queries]: FAR where a cell of the patch is outside of a query's window, else 0."""
  (rows, columns), (th, tw) = _patch(part, how.grid, how.tile), how.tile
  dy = np.arange(rows)[:, None] - np.arange(th) - part.reach[0]
  dx = np.arange(columns)[:, None] - np.arange(tw) - part.reach[1]
  dy, dx = dy[:, None, :, None], dx[None, :, None, :]
  inside = (np.maximum(abs(dy), abs(dx)) <= part.radius if how.window.shape == "square"
            else dy ** 2 + dx ** 2 < part.radius ** 2)
  return np.where(inside, 0, FAR).astype(np.float32).reshape(rows * columns, th * tw)


def _outside_map(part: Part, at, how: Plan) -> jax.Array:
  """[bands, across, keys of one reference]: FAR where a cell of the patch is beyond the map."""
  (rows, columns), d = _patch(part, how.grid, how.tile), how.window.dilation
  frame, top = at
  left = np.arange(how.counts[1]) * how.tile[1]
  residue = frame % (d * d)
  h, w = ((n - r + d - 1) // d  # cells of this residue class
          for n, r in zip(how.window.size, (residue // d, residue % d), strict=True))
  if part.reach is None:
    top, left = 0 * top, left * 0
  else:
    top, left = top - part.reach[0], left - part.reach[1]
  y, x = top[:, None] + np.arange(rows), left[:, None] + np.arange(columns)
  inside_y = (y >= 0) & (y < h[:, None])  # [bands, rows]
  inside_x = (x >= 0) & (x < w[:, None, None])  # [bands, across, columns]
  inside = inside_y[:, None, :, None] & inside_x[:, :, None, :]
  return jnp.where(inside, 0.0, FAR).reshape(*inside.shape[:2], rows * columns)


def _softmax_copy(scores, values, how: Plan) -> jax.Array:
  """Scores [g, n, keys, queries], values [g, n, keys, C] or [g, keys, C] -> [g, n, queries, C]."""
  top = functools.reduce(jnp.maximum, (s.max(axis=2, keepdims=True) for s in scores))
  top = lax.stop_gradient(top)
  out = norm = 0.0
  for s, v in zip(scores, values, strict=True):
    weights = jnp.exp(s - top)
    norm = norm + weights.sum(axis=2)
    formula = "gnkq,gnkc->gncq" if v.ndim == 4 else "gnkq,gkc->gncq"
    out = out + _product(formula, weights, v.astype(wide(v)))
  return (out / norm[:, :, None]).swapaxes(2, 3)


def _top_k_copy(scores, values, how: Plan) -> jax.Array:
  """As `_softmax_copy`, over the best cells only."""
  across = scores[0].shape[1]
  scores = jnp.concatenate([s.swapaxes(2, 3) for s in scores], axis=3)
  values = jnp.concatenate([
      v if v.ndim == 4 else jnp.broadcast_to(v[:, None], (len(v), across, *v.shape[1:]))
      for v in values], axis=2)
  values = values.astype(wide(values))
  best, index = lax.top_k(scores, min(how.window.top_k, scores.shape[3]))
  weights = jax.nn.softmax(best, axis=-1)
  chosen = jax.vmap(jax.vmap(lambda v, i: v[i]))(values, index)  # [g, n, queries, k, C]
  return jnp.sum(weights[..., None] * chosen, axis=3)
