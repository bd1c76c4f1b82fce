"""The tiled form of window attention, for any platform of XLA.

A tile of `th x tw` query cells needs the patch of `(th + 2M) x (tw + 2M)` keys around it: one
product gives its scores, of which a mask keeps the windows. Scores lie as [tiles, keys, queries],
so that maximum, exponential and sum run along queries, which vectorises. A run is some tiles side
by side, at most a row of them; a step handles as many runs, of any frame, as fit the budget. The
backward pass computes a step again instead of keeping its scores.

On a CPU, XLA runs a batch of small products on all cores only where the first operand's contracted
axis is its last: why values lie with their channels first, and last in the backward pass.
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

  On a CPU small tiles, whose patch is not much larger than the window; on others larger ones, whose
  products fill the device.
  """
  th, tw = (8, 8) if platform == "cpu" else (8, 16)
  return min(th, grid[0]), min(tw, grid[1])


def budgets(platform: str) -> tuple[int, int]:
  """Numbers of a step, forward and backward, where more arrays are alive at a time.

  On a CPU they should stay in the cache, on others fill the device.
  """
  return (2**21, 2**19) if platform == "cpu" else (2**24, 2**24)


def attend(query, key, value, *, window: Window, tile=None, platform: str = "cpu") -> jax.Array:
  """`window_attention.attend` for checked arguments; key and value have the axis R."""
  b, h, w, _ = query.shape
  d = window.dilation
  tile = tile or choose_tile(tuple(-(-n // d) for n in (h, w)), platform)
  how = plan(window, b, tile, key.shape[-1] + value.shape[-1], budgets(platform))
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
  return _forward(q, ks, vs, how)[0]


def _forward(q, ks, vs, how):
  soft = how.window.top_k is None
  values = [jnp.moveaxis(v, -1, 1) for v in vs] if soft else vs

  def step(given):
    i, q = given
    at = _places(i, how)
    return _attend(q, _patches(ks, at, how), _patches(values, at, how, 3 if soft else 2), at, how)

  cut = _steps(q, how)
  if len(cut) == 1:
    out = jax.tree.map(lambda x: x[None], step((0, cut[0])))
  else:
    out = lax.map(step, (jnp.arange(len(cut)), cut))
  copied, norm = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:len(q)], out)
  return copied, (q, ks, vs, copied, norm)


def _backward(how, saved, ct):
  q, ks, vs, out, norm = saved
  how = how._replace(runs=how.back)
  zeros = [[jnp.zeros(x.shape, wide(x)) for x in xs] for xs in (ks, vs)]

  def step(sums, given):
    i, *given = given
    at = _places(i, how)
    patches = [_patches(xs, at, how) for xs in (ks, vs)]
    dq, *d = _pull(*patches, *given, at, how)
    return [_give(total, x, at, how) for total, x in zip(sums, d, strict=True)], dq

  slope = jnp.sum(out * ct, axis=-1)
  given = jax.tree.map(lambda x: _steps(x, how), (q, ct, slope, norm))
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


def _patches(xs, at, how: Plan, axis: int = 2) -> list[jax.Array]:
  """Padded maps of each part -> [runs, run, ...]; a whole map serves a run.

  One gather: put together from slices, XLA on a CPU takes twice as long.

  Args:
    axis: of the maps' rows, followed by that of columns; frames come first.
  """
  taken = []
  b, row, column = at
  for x, part in zip(xs, how.parts, strict=True):
    size = 1, *x.shape[1:axis], *how.patch(part), *x.shape[axis + 2:]

    def take(b, row, column, x=x, size=size):
      corner = b, *[0] * (axis - 1), row, column, *[0] * (x.ndim - axis - 2)
      return lax.dynamic_slice(x, corner, size)[0]

    tiles = np.arange(how.run) * how.tile[1]
    whole = part.reach is None
    where = (0 * row, 0 * column[:, None] + tiles[:1]) if whole else (row, column[:, None] + tiles)
    taken.append(jax.vmap(jax.vmap(take, (None, None, 0)))(b, *where))
  return taken


def _give(totals, ds, at, how: Plan) -> list[jax.Array]:
  """The transpose of `_patches`: adds each patch where it came from."""
  given = []
  for total, d, part in zip(totals, ds, how.parts, strict=True):
    columns, tw = how.patch(part)[1], how.tile[1]
    width = (d.shape[1] - 1) * tw + columns  # patches of a run overlap
    runs = sum(jnp.pad(d[:, n], [(0, 0)] * 3 + [(n * tw, width - columns - n * tw), (0, 0)])
               for n in range(d.shape[1]))
    for x, b, row, column in zip(runs, *at, strict=True):
      corner = (b, 0, 0, 0, 0) if part.reach is None else (b, 0, row, column, 0)
      old = lax.dynamic_slice(total, corner, (1, *x.shape))
      total = lax.dynamic_update_slice(total, old + x[None], corner)
    given.append(total)
  return given


def _attend(q, ks, vs, at, how: Plan):
  """[runs, run, queries, D], `_patches` -> [runs, run, queries, C], what `_pull` needs besides.

  Patches of values have their channels first where a softmax runs over all keys, else last.
  """
  scores = [_mask(_scores(q, k), part, at, how) for part, k in zip(how.parts, ks, strict=True)]
  if how.window.top_k is None:
    out, norm = window_copy.softmax(scores, [v.reshape(*v.shape[:3], -1) for v in vs])
  else:
    rows = tuple(how.patch(part)[1] for part in how.parts)
    out, norm = window_copy.top_k(scores, [_row(v) for v in vs], how.window.top_k, rows), ()
  return jax.tree.map(lambda x: x.reshape(*q.shape[:3], *x.shape[2:]), (out, norm))


def _pull(ks, vs, q, ct, slope, norm, at, how: Plan):
  """Gradients of `_attend` with respect to q, ks and vs, whose channels come last."""
  if how.window.top_k is not None:
    return jax.vjp(lambda *x: _attend(*x, at, how)[0], q, ks, vs)[1](ct)
  dq, dks, dvs = 0.0, [], []
  for part, k, v in zip(how.parts, ks, vs, strict=True):
    def own(x, n=k.shape[1]):
      return x.reshape(x.shape[0], n, -1, *x.shape[3:])

    s, unmask = jax.vjp(functools.partial(_mask, part=part, at=at, how=how), _scores(q, k))
    ds, dv = window_copy.softmax_pull(s, _row(v), jax.tree.map(own, norm), own(ct), own(slope))
    ds = unmask(ds)[0].astype(k.dtype)
    dq = dq + product("gnkq,gnkd->gnqd", ds, _row(k)).reshape(q.shape)
    dks.append(product("gnkq,gnqd->gnkd", ds, own(q)).reshape(k.shape))
    dvs.append(dv.reshape(v.shape))
  return dq.astype(q.dtype), dks, dvs


def _scores(q, k) -> jax.Array:
  """[runs, tiles, keys, queries]."""
  return product("gnqd,gnkd->gnkq", q.reshape(*k.shape[:2], -1, q.shape[-1]), _row(k))


def _row(x) -> jax.Array:
  """A patch's cells, one after another: [runs, tiles, R, rows, columns, D] -> [., ., keys, D]."""
  return x.reshape(*x.shape[:2], -1, x.shape[-1])


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
