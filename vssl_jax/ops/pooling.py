"""Frame descriptors from the feature maps of a backbone's stages: iMAC, L3-iRMAC, L3-iMAC.

All functions take a sequence of maps `[N, H_s, W_s, C_s]`, one a stage, finest first, and return
float32. D is the sum of the C_s.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vssl_jax.ops.normalise import l2

# L3-iMAC's windows for stages of stride 4, 8, 16 and 32, made for maps of side 56, 28, 14 and 7.
WINDOWS = (28, 14, 6, 3)


def imac(maps: Sequence[jax.Array], *, local_l2: bool = True) -> jax.Array:
  """Maximum activation of convolutions of every stage, concatenated.

  Args:
    maps: stages `[N, H_s, W_s, C_s]`.
    local_l2: normalise every location before the maximum, as TCA's released code does; the usual
      definition of MAC does not.

  Returns:
    `[N, D]`; the part of each stage has unit norm. Source: TCA specification, section 2.3.
  """
  maps = _widen(maps)
  if local_l2:
    maps = [l2(m) for m in maps]
  return jnp.concatenate([l2(m.max(axis=(1, 2))) for m in maps], axis=-1)


def l3_irmac(maps: Sequence[jax.Array]) -> jax.Array:
  """Sum of normalised regional maxima of every stage, concatenated: TCA's frame descriptor.

  With p = floor(2 min(H, W) / 7) the regions are windows of side floor(1.5 p) at stride p: 3 x 3
  of them on a square map of side 7, 14, 28, 56.

  Args:
    maps: stages `[N, H_s, W_s, C_s]`, each at least 4 x 4.

  Returns:
    `[N, D]`; the part of each stage has unit norm. Source: TCA specification, section 2.4.

  Raises:
    ValueError: a map is smaller than 4 x 4, so that a region would be empty.
  """
  return jnp.concatenate([_irmac(m) for m in _widen(maps)], axis=-1)


def _irmac(m: jax.Array) -> jax.Array:
  side = min(m.shape[1:3])
  stride = int(2 * side / 7)
  if stride < 1:
    raise ValueError(
      f"L3-iRMAC needs maps of at least 4x4, got {m.shape[1]}x{m.shape[2]}: "
      "use frames of at least 97 pixels a side with a backbone of stride 32, or pooling='imac'"
    )
  regions = l2(_max_pool(l2(m), int(1.5 * stride), stride))
  return l2(regions.sum(axis=(1, 2)))


def l3_imac(maps: Sequence[jax.Array]) -> jax.Array:
  """Regional maxima of every stage on one grid, kept apart: the descriptors of ViSiL and DnS.

  Args:
    maps: four stages `[N, H_s, W_s, C_s]` of stride 4, 8, 16, 32.

  Returns:
    `[N, R, D]` unit vectors, R the regions of the last stage row by row (9 for frames of 224).
    Source: TCA specification, section 2.5.

  Raises:
    ValueError: not four maps, or one smaller than its window (frames under 109 pixels).
  """
  if len(maps) != len(WINDOWS):
    raise ValueError(f"L3-iMAC needs {len(WINDOWS)} stages, got {len(maps)}")
  pooled = []
  for m, window in zip(_widen(maps), WINDOWS, strict=True):
    if min(m.shape[1:3]) < window:
      raise ValueError(
        f"L3-iMAC needs a map of at least {window}x{window}, got {m.shape[1]}x{m.shape[2]}: "
        "use frames of at least 109 pixels a side, or pooling='imac'"
      )
    pooled.append(l2(_max_pool(m, window, -(-window // 2))))
  grid = pooled[-1].shape[1:3]
  joined = jnp.concatenate([l2(_adaptive_max_pool(m, grid)) for m in pooled], axis=-1)
  return l2(joined.reshape(joined.shape[0], grid[0] * grid[1], -1))


def _widen(maps: Sequence[jax.Array]) -> list[jax.Array]:
  return [m.astype(jnp.promote_types(m.dtype, jnp.float32)) for m in maps]


def _max_pool(m: jax.Array, window: int, stride: int) -> jax.Array:
  """`[N, H, W, C]` -> `[N, (H-window)//stride+1, ..., C]`: windows that don't fit are left out."""
  shape, strides = (1, window, window, 1), (1, stride, stride, 1)
  return jax.lax.reduce_window(m, -jnp.inf, jax.lax.max, shape, strides, "VALID")


def _adaptive_max_pool(m: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """Maxima over `grid` cells; cell i of n covers floor(i H / n) up to ceil((i+1) H / n)."""
  for axis, n in ((1, grid[0]), (2, grid[1])):
    size = m.shape[axis]
    cells = [
      jax.lax.slice_in_dim(m, i * size // n, -(-(i + 1) * size // n), axis=axis).max(axis=axis)
      for i in range(n)
    ]
    m = jnp.stack(cells, axis=axis)
  return m
