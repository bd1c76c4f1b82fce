"""A Triton kernel, through Pallas, for the forward pass of window attention.

One program a tile of queries: it walks over the rows of the patch around the tile, of every
reference in turn, and keeps a running maximum, sum and copy (Milakov and Gimelshein's online
softmax), so that no score ever reaches the device's memory. The backward pass is that of
`window_tiles`, which computes the scores again.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from vssl_jax.ops import window_tiles as tiles

QUERIES = 64  # of a tile
LEAST = 16  # smallest side of a product on the tensor cores
FAR = -1e30


def check(window: tiles.Window) -> None:
  """Raises ValueError for what the kernel doesn't do."""
  for name, value, only in [("top_k or hard", window.top_k, None), ("dilation", window.dilation, 1),
                            ("border", window.border, "mask")]:
    if value != only:
      raise ValueError(f"implementation='pallas' knows no {name}={value!r}; leave implementation "
                       "out")
  if None in window.radii or len(set(window.radii)) > 1:
    raise ValueError(f"implementation='pallas' needs one radius for all references, got "
                     f"{window.radii}; leave implementation out")


def choose_tile(reach: int, features: int) -> tuple[int, int]:
  """Rows and columns of a tile: the fewest keys read, their columns rounded up to a power of 2."""
  queries = QUERIES if features <= 128 else QUERIES // 2
  shapes = [(queries // tw, tw) for tw in (4, 8, 16, 32) if tw <= queries]
  return min(shapes, key=lambda s: (s[0] + 2 * reach) * _power(s[1] + 2 * reach))


def _power(n: int, least: int = 1) -> int:
  return max(least, 1 << (n - 1).bit_length())


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def attend(query, key, value, window: tiles.Window, interpret: bool = False) -> jax.Array:
  """`window_attention.attend` for checked arguments; key and value have the axis R."""
  b, h, w, d = query.shape
  c, radius = value.shape[-1], window.radii[0]
  reach = int(radius) if window.shape == "square" else math.ceil(radius) - 1
  reach = min(reach, max(h, w) - 1)
  th, tw = choose_tile(reach, d)
  width = _power(tw + 2 * reach, LEAST)
  step = max(1, 64 // width)  # rows of keys at a time
  walk = -(-(th + 2 * reach) // step)
  down, across = -(-h // th), -(-w // tw)
  rows = (down - 1) * th + walk * step - reach - h  # to add below, so that no read leaves the map
  columns = (across - 1) * tw + width - reach - w
  dims = _power(d, LEAST), _power(c, LEAST)

  def pad(x, top, bottom, right, channels):
    pads = [(top, bottom), (top, right), (0, channels - x.shape[-1])]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + pads)

  q = pad(query, 0, down * th - h, across * tw - w, dims[0])
  k, v = (pad(x, reach, max(rows, 0), max(columns, 0), n)
          for x, n in zip((key, value), dims, strict=True))
  kernel = functools.partial(_kernel, size=(h, w), radius=radius, disk=window.shape == "disk",
                             reach=reach, tile=(th, tw), rows=step, width=width, walk=walk)
  whole = [pl.BlockSpec((None, *x.shape[1:]), lambda i, y, x: (i, 0, 0, 0, 0)) for x in (k, v)]
  tile = [pl.BlockSpec((None, th, tw, n), lambda i, y, x: (i, y, x, 0)) for n in dims]
  out = pl.pallas_call(
      kernel, grid=(b, down, across), in_specs=[tile[0], *whole], out_specs=tile[1],
      out_shape=jax.ShapeDtypeStruct((*q.shape[:3], dims[1]), value.dtype),
      compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
      interpret=interpret, name="window_attention")(q, k, v)
  return out[:, :h, :w, :c]


def _kernel(q_ref, k_ref, v_ref, out_ref, *, size, radius, disk, reach, tile, rows, width, walk):
  th, tw = tile
  top, left = pl.program_id(1) * th, pl.program_id(2) * tw
  q = q_ref[...].reshape(th * tw, -1)

  def divide(i, by):  # of numbers >= 0; the lowering has no floor division
    return lax.div(i, jnp.int32(by)), lax.rem(i, jnp.int32(by))

  def index(n, inner):  # row and column of each of n cells
    i = lax.broadcasted_iota(jnp.int32, (n,), 0)
    return divide(i, inner)

  qy, qx = index(th * tw, tw)
  ky, kx = index(rows * width, width)
  dx = (kx - reach)[None, :] - qx[:, None]
  in_map = (kx + left >= reach) & (kx + left < size[1] + reach)
  ky = ky - reach

  def step(i, carry):
    best, norm, copied = carry
    r, y = divide(i, walk)
    y = y * rows
    at = (r, pl.ds(top + y, rows), pl.ds(left, width), slice(None))
    k, v = (ref[at].reshape(rows * width, -1) for ref in (k_ref, v_ref))
    s = _product(q, k, 1)
    dy = (ky + y)[None, :] - qy[:, None]
    near = (dy * dy + dx * dx < radius * radius if disk
            else (jnp.abs(dy) <= radius) & (jnp.abs(dx) <= radius))
    row = ky + y + top
    s = jnp.where(near & (in_map & (row >= 0) & (row < size[0]))[None, :], s, FAR)
    # No maximum below FAR / 2: a step without any valid key adds nothing.
    new = jnp.maximum(best, jnp.max(s, axis=1))
    weights = jnp.exp(s - new[:, None])
    old = jnp.exp(best - new)
    copied = copied * old[:, None] + _product(weights.astype(v.dtype), v, 0)
    return new, norm * old + jnp.sum(weights, axis=1), copied

  n = th * tw
  carry = (jnp.full((n,), FAR / 2, jnp.float32), jnp.zeros((n,), jnp.float32),
           jnp.zeros((n, v_ref.shape[-1]), jnp.float32))
  _, norm, copied = lax.fori_loop(0, k_ref.shape[0] * walk, step, carry)
  # Queries beyond the map may see no key.
  out = copied / jnp.maximum(norm, 1e-30)[:, None]
  out_ref[...] = out.reshape(th, tw, -1).astype(out_ref.dtype)


def _product(x, y, axis):
  return lax.dot_general(x, y, (((1,), (axis,)), ((), ())), precision=lax.Precision.HIGHEST,
                         preferred_element_type=jnp.float32)


def _forward(query, key, value, window, interpret):
  return attend(query, key, value, window, interpret), (query, key, value)


def _backward(window, interpret, saved, ct):
  xla = functools.partial(tiles.attend, window=window, platform="cpu" if interpret else "gpu")
  return jax.vjp(xla, *saved)[1](ct)


attend.defvjp(_forward, _backward)
