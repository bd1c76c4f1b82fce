"""The tiled form of window attention, for any platform of XLA.

A tile of `th x tw` query cells needs the patch of `(th + 2M) x (tw + 2M)` keys around it: one
product gives its scores, of which a mask keeps the windows. Scores lie as [tiles, keys, queries],
so that maximum, exponential and sum run along queries, which vectorises. A run is some tiles side
by side, at most a row of them; a step handles as many runs, of any frame, as fit the budget. The
backward pass computes a step again instead of keeping its scores.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vssl_jax.ops import window_copy
from vssl_jax.ops.window_copy import product, wide
from vssl_jax.ops.window_plan import Part, Plan, Window, outside_map, outside_window, plan

ZERO = -1e10  # score that the released code gives to what it takes for padding


def choose_tile(grid: tuple[int, int], platform: str) -> tuple[int, int]:
  """Rows and columns of a tile, by measurement (benchmarks/attention.py).

  On a CPU small tiles, whose patch is little larger than the window; on others larger ones, whose
  products fill the device.
  """
  th, tw = (4, 8) if platform == "cpu" else (8, 16)
  return min(th, grid[0]), min(tw, grid[1])


def _budget(platform: str) -> int:
  """Numbers of a step: on a CPU they should stay in the cache, on others fill the device."""
  return 2**19 if platform == "cpu" else 2**24


def attend(query, key, value, *, window: Window, tile=None, platform: str = "cpu") -> jax.Array:
  """`window_attention.attend` for checked arguments; key and value have the axis R."""
  b, h, w, _ = query.shape
  d = window.dilation
  tile = tile or choose_tile(tuple(-(-n // d) for n in (h, w)), platform)
  how = plan(window, b, tile, key.shape[-1] + value.shape[-1], _budget(platform))
  rest = tuple(n * t - g for n, t, g in zip(how.counts, tile, how.grid, strict=True))
  query, key, value = _split(query[:, None], d)[:, 0], _split(key, d), _split(value, d)
  ks, vs = [], []
  for part in how.parts:
    k, v = (x[:, slice(*part.references)] for x in (key, value))
    if part.reach is not None:
      rows, columns = ((r, r + e) for r, e in zip(part.reach, rest, strict=True))
      pads = [(0, 0), (0, 0), rows, columns, (0, 0)]
      k = jnp.pad(k, pads)
      v = jnp.pad(v, pads, mode="edge" if window.border == "released" else "constant")
    ks.append(k)
    vs.append(v)
  q = jnp.pad(query, [(0, 0), (0, rest[0]), (0, rest[1]), (0, 0)])
  out = _join(_run(_cut(q, how), ks, vs, how), how)[:, :how.grid[0], :how.grid[1]]
  out = out.astype(value.dtype).reshape(b, d, d, *out.shape[1:]).transpose(0, 3, 1, 4, 2, 5)
  return out.reshape(b, how.grid[0] * d, how.grid[1] * d, -1)[:, :h, :w]


def _split(x: jax.Array, d: int) -> jax.Array:
  """[B, R, H, W, C] -> [B d d, R, H/d, W/d, C]: windows of step d become dense ones."""
  if d == 1:
    return x
  b, r, h, w, c = x.shape
  x = jnp.pad(x, [(0, 0), (0, 0), (0, -h % d), (0, -w % d), (0, 0)])
  x = x.reshape(b, r, -(-h // d), d, -(-w // d), d, c)
  return x.transpose(0, 3, 5, 1, 2, 4, 6).reshape(b * d * d, r, -(-h // d), -(-w // d), c)


def _cut(x: jax.Array, how: Plan) -> jax.Array:
  """[B, rows of all tiles, columns of all tiles, C] -> [all runs, run, queries, C]."""
  (th, tw), (down, across), run = how.tile, how.counts, how.run
  x = x.reshape(-1, down, th, across // run, run, tw, x.shape[-1])
  return x.transpose(0, 1, 3, 4, 2, 5, 6).reshape(-1, run, th * tw, x.shape[-1])


def _join(x: jax.Array, how: Plan) -> jax.Array:
  """The inverse of `_cut`."""
  (th, tw), (down, across), run = how.tile, how.counts, how.run
  x = x.reshape(-1, down, across // run, run, th, tw, x.shape[-1])
  return x.transpose(0, 1, 4, 2, 3, 5, 6).reshape(-1, down * th, across * tw, x.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _run(q, ks, vs, how: Plan) -> jax.Array:
  """Tiles of `_cut` and padded maps of `attend` -> [all runs, run, queries, C], wide."""

  def step(given):
    i, q = given
    at = _places(i, how)
    return _attend(q, _patches(ks, at, how), _patches(vs, at, how), at, how)

  q, total = _steps(q, how), len(q)
  ids = jnp.arange(len(q))
  out = step((0, q[0]))[None] if len(q) == 1 else lax.map(step, (ids, q))
  return out.reshape(-1, *out.shape[2:])[:total]


def _forward(q, ks, vs, how):
  return _run(q, ks, vs, how), (q, ks, vs)


def _backward(how, saved, ct):
  q, ks, vs = saved
  zeros = [[jnp.zeros(x.shape, wide(x)) for x in xs] for xs in (ks, vs)]

  def step(sums, given):
    i, q, ct = given
    at = _places(i, how)
    _, pull = jax.vjp(functools.partial(_attend, at=at, how=how), q, _patches(ks, at, how),
                      _patches(vs, at, how))
    dq, *d = pull(ct)
    return [_give(total, x, at, how) for total, x in zip(sums, d, strict=True)], dq

  given = _steps(q, how), _steps(ct, how)
  sums, dq = lax.scan(step, zeros, (jnp.arange(len(given[0])), *given))
  dq = dq.reshape(-1, *dq.shape[2:])[:len(q)]
  return dq, *jax.tree.map(lambda s, x: s.astype(x.dtype), sums, [ks, vs])


_run.defvjp(_forward, _backward)


def _steps(x: jax.Array, how: Plan) -> jax.Array:
  """[all runs, ...] -> [steps, runs of a step, ...], zeros where the last step has too few."""
  x = jnp.pad(x, [(0, -len(x) % how.runs)] + [(0, 0)] * (x.ndim - 1))
  return x.reshape(-1, how.runs, *x.shape[1:])


def _places(i, how: Plan):
  """Frame, row and column of the first query of each run of step i."""
  n = i * how.runs + np.arange(how.runs)
  (th, tw), (down, across), run = how.tile, how.counts, how.run
  n, piece = n // (across // run), n % (across // run)
  return n // down, n % down * th, piece * run * tw


def _patches(xs, at, how: Plan) -> list[jax.Array]:
  """Padded maps of each part -> [runs, run, R rows columns, C]; a whole map serves a run.

  One gather: put together from slices, XLA on a CPU takes twice as long.
  """
  taken = []
  for x, part in zip(xs, how.parts, strict=True):
    size = 1, x.shape[1], *how.patch(part), x.shape[-1]

    def take(b, row, column, x=x, size=size):
      return lax.dynamic_slice(x, (b, 0, row, column, 0), size)

    b, row, column = at
    tiles = np.arange(how.run) * how.tile[1]
    if part.reach is None:
      row, column, tiles = 0 * row, 0 * column, tiles[:1]
    patches = jax.vmap(jax.vmap(take, (None, None, 0)))(b, row, column[:, None] + tiles)
    taken.append(patches.reshape(*patches.shape[:2], -1, x.shape[-1]))
  return taken


def _give(totals, ds, at, how: Plan) -> list[jax.Array]:
  """The transpose of `_patches`: adds each patch where it came from."""
  given = []
  for total, d, part in zip(totals, ds, how.parts, strict=True):
    (rows, columns), tw = how.patch(part), how.tile[1]
    d = d.reshape(*d.shape[:2], total.shape[1], rows, columns, -1)
    width = (d.shape[1] - 1) * tw + columns  # patches of a run overlap
    runs = sum(jnp.pad(d[:, n], [(0, 0)] * 3 + [(n * tw, width - columns - n * tw), (0, 0)])
               for n in range(d.shape[1]))
    for x, b, row, column in zip(runs, *at, strict=True):
      corner = (b, 0, 0, 0, 0) if part.reach is None else (b, 0, row, column, 0)
      old = lax.dynamic_slice(total, corner, (1, *x.shape))
      total = lax.dynamic_update_slice(total, old + x[None], corner)
    given.append(total)
  return given


def _attend(q, ks, vs, at, how: Plan) -> jax.Array:
  """[runs, run, queries, D], `_patches` -> [runs, run, queries, C]."""
  scores = []
  for part, k in zip(how.parts, ks, strict=True):
    s = product("gnqd,gnkd->gnkq", q.reshape(*k.shape[:2], -1, q.shape[-1]), k)
    scores.append(_mask(s, part, at, how))
  if how.window.top_k is None:
    out = window_copy.softmax(scores, vs)
  else:
    rows = tuple(how.patch(part)[1] for part in how.parts)
    out = window_copy.top_k(scores, vs, how.window.top_k, rows)
  return out.reshape(*q.shape[:3], -1)


def _mask(s: jax.Array, part: Part, at, how: Plan) -> jax.Array:
  """Scores [runs, tiles, keys, queries] with those outside of the window or the map at FAR."""
  window = how.window
  if window.border == "released":
    s = jnp.where(s == 0, ZERO, s)
  bias = 0.0
  if part.reach is not None:
    bias = jnp.asarray(outside_window(part, how))
  if window.border == "mask" and (part.reach is not None or window.dilation > 1):
    bias = bias + outside_map(part, at, how)[:, :, None, :, None]
  references = part.references[1] - part.references[0]
  shape = s.shape
  s = s.reshape(*shape[:2], references, -1, shape[3]) + bias
  return s.reshape(shape)
