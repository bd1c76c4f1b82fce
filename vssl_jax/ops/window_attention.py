"""Attention restricted to a window: copying values between frames (corrflow spec 6, 16).

For every cell of a query map the cells of one or several reference maps that lie within `radius`
are compared by dot product; one softmax over all of them gives the weights of the copy. The work
is done by tiles of query cells against the patch of keys that covers their windows, a few tiles
at a time, so that memory doesn't grow with the size of the map times that of the window. B
frames, R references, H W cells, D features, C value channels, M radius.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vssl_jax.ops import window_attention_gpu as gpu
from vssl_jax.ops import window_tiles as tiles

BORDERS = ("mask", "zero", "released")
SHAPES = ("square", "disk")
IMPLEMENTATIONS = ("xla", "pallas")


def attend(query: jax.Array, key: jax.Array, value: jax.Array,
           radius: float | Sequence[float | None] | None, *, shape: str = "square",
           dilation: int = 1, temperature: float | jax.Array = 1.0, top_k: int | None = None,
           hard: bool = False, border: str = "mask", implementation: str | None = None,
           tile: tuple[int, int] | None = None) -> jax.Array:
  """Copies values to each query cell: `sum_k softmax_k(q . k / temperature) v_k`.

  The softmax runs jointly over all references and all cells of the window, in float32 or wider;
  products of float32 maps run at full precision, those of bfloat16 maps accumulate in float32.

  Args:
    query: [B, H, W, D].
    key: [B, R, H, W, D], or [B, H, W, D] for one reference.
    value: [B, R, H, W, C], or [B, H, W, C].
    radius: M of a square window of (2M + 1)^2 cells, or the radius of a disk, whose cells lie
      strictly nearer; None for the whole map. A sequence gives one to each reference.
    shape: "square" or "disk".
    dilation: step between the cells of a window; a disk's radius is in steps.
    temperature: the scores are divided by it.
    top_k: keep only this many of the highest scores of all references together; of equal scores
      those that come first by reference, row and column.
    hard: copy the cell of the highest score; gradients reach the values only.
    border: "mask" leaves out cells beyond the map; "zero" gives them score 0 and value 0, as MAST
      does; "released" leaves out every score that is exactly 0, as CorrFlow's code does, and
      averages the window, edges repeated, where none is left.
    implementation: "xla", "pallas" (GPU), or None for the faster one of the platform.
    tile: rows and columns of a tile of queries; None for a choice by `window_tiles.choose_tile`.

  Returns:
    [B, H, W, C] in the dtype of `value`.

  Raises:
    ValueError: arrays or options don't fit each other.
  """
  if key.ndim == 4:
    key = key[:, None]
  if value.ndim == 4:
    value = value[:, None]
  _check_arrays(query, key, value)
  radii = _radii(radius, key.shape[1], shape)
  top_k = 1 if hard else top_k
  _check_options(dilation, top_k, border, implementation, tile)
  if border == "released" and dilation != 1:
    raise ValueError("border='released' knows no dilation; use border='mask'")
  scaled = query.astype(tiles.wide(query)) / temperature
  query = scaled.astype(query.dtype)
  window = tiles.Window(query.shape[1:3], radii, shape, dilation, top_k, border)
  if implementation == "pallas":
    gpu.check(window)
    return gpu.attend(query, key, value, window)
  xla = functools.partial(tiles.attend, window=window)
  if tile is not None:
    return xla(query, key, value, tile=tile)
  return lax.platform_dependent(
      query, key, value, cpu=functools.partial(xla, platform="cpu"),
      default=functools.partial(xla, platform="gpu"))


def correlation(query: jax.Array, key: jax.Array, radius: int, *,
                dilation: int = 1) -> jax.Array:
  """Dot products of each cell with the cells of its window, 0 beyond the map.

  The whole volume is made: for a softmax over it and a copy, `attend` needs far less memory.

  Args:
    query: [B, H, W, D].
    key: [B, H, W, D].
    radius: M.
    dilation: step between the cells of a window.

  Returns:
    [B, H, W, (2M+1)^2] float32; entry (i+M)(2M+1) + (j+M) belongs to key cell
    (y + i dilation, x + j dilation).
  """
  if query.shape != key.shape or query.ndim != 4:
    raise ValueError(f"correlation: query {query.shape} and key {key.shape} must be the same "
                     "[B, H, W, D]")
  radius = _whole(radius, "radius", 0)
  _whole(dilation, "dilation", 1)
  h, w = query.shape[1:3]
  reach = radius * dilation
  query = query.astype(jnp.float32)
  padded = jnp.pad(key.astype(jnp.float32), [(0, 0), (reach, reach), (reach, reach), (0, 0)])

  @jax.checkpoint  # else each of the shifted copies of the keys would be kept for the gradient
  def row(i):
    keys = lax.dynamic_slice_in_dim(padded, i * dilation, h, axis=1)
    shifted = [keys[:, :, j * dilation:j * dilation + w] for j in range(2 * radius + 1)]
    return jnp.stack([jnp.sum(query * k, axis=-1) for k in shifted], axis=-1)

  volume = lax.map(row, jnp.arange(2 * radius + 1))  # [i, B, H, W, j]
  return jnp.moveaxis(volume, 0, 3).reshape(*query.shape[:3], -1)


def border_mask(height: int, width: int, radius: int, *, dilation: int = 1) -> np.ndarray:
  """Which cells of each window lie inside the map: [H, W, (2M+1)^2] bool, as in `correlation`."""
  offsets = np.arange(-radius, radius + 1) * dilation
  rows, columns = (np.arange(n)[:, None] + offsets for n in (height, width))
  rows = (rows >= 0) & (rows < height)
  columns = (columns >= 0) & (columns < width)
  inside = rows[:, None, :, None] & columns[None, :, None, :]
  return inside.reshape(height, width, -1)


def _radii(radius, references: int, shape: str) -> tuple:
  if shape not in SHAPES:
    raise ValueError(f"attend: shape={shape!r} is not one of {', '.join(SHAPES)}")
  radii = tuple(radius) if isinstance(radius, Sequence) else (radius,) * references
  if len(radii) != references:
    raise ValueError(f"attend: {len(radii)} radii for {references} references; "
                     "give one to each, or one number for all")
  if shape == "square":
    return tuple(None if r is None else _whole(r, "radius", 0) for r in radii)
  if any(r is not None and not r > 0 for r in radii):
    raise ValueError(f"attend: the radius of a disk must be above 0, got {radii}")
  return tuple(None if r is None else float(r) for r in radii)


def _whole(value, name: str, least: int) -> int:
  if int(value) != value or value < least:
    raise ValueError(f"{name}={value} must be a whole number of at least {least}")
  return int(value)


def _check_arrays(query, key, value) -> None:
  if query.ndim != 4 or key.ndim != 5 or value.ndim != 5:
    raise ValueError(f"attend: query {query.shape}, key {key.shape}, value {value.shape}: "
                     "expected [B, H, W, D], [B, R, H, W, D] and [B, R, H, W, C]")
  fits = (key.shape[0], *key.shape[2:]) == query.shape and key.shape[:-1] == value.shape[:-1]
  if not fits or not min(query.shape + key.shape + value.shape):
    raise ValueError(f"attend: query {query.shape}, key {key.shape} and value {value.shape} "
                     "must agree in all but R and C, and none may be empty")


def _check_options(dilation, top_k, border, implementation, tile) -> None:
  _whole(dilation, "dilation", 1)
  if top_k is not None:
    _whole(top_k, "top_k", 1)
  if border not in BORDERS:
    raise ValueError(f"attend: border={border!r} is not one of {', '.join(BORDERS)}")
  if implementation not in (None, *IMPLEMENTATIONS):
    raise ValueError(f"attend: implementation={implementation!r} is not one of "
                     f"{', '.join(IMPLEMENTATIONS)}")
  if tile is not None and min(tile) < 1:
    raise ValueError(f"attend: tile={tile} must be two positive numbers")
