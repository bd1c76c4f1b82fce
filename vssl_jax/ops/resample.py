"""Maps between pixels and the encoder's cells (corrflow spec 6, 13).

Two conventions meet here. "half_pixel" places cell y of a map reduced by s at pixel
s y + (s - 1) / 2, as image libraries do and as the released code does. "cell" places it at pixel
s y, where the centre of a stride-2 convolution with symmetric zero padding lies: features and
values then belong to the same place.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ALIGNMENTS = ("half_pixel", "cell")
RULES = ("area", "id_average", "slice")


def bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Bilinear resampling, half-pixel centres, edges clamped, no antialias.

  Args:
    x: [..., H, W, C]; half precision and integers are resampled in float32, float64 as it is.
    size: H', W'.

  Returns:
    [..., H', W', C] float32 or float64.
  """
  starts = [(n / m, n / m / 2 - 0.5) for n, m in zip(x.shape[-3:-1], size, strict=True)]
  return _separable(x, size, starts)


def to_cells(x: jax.Array, stride: int = 4, *, align: str = "cell") -> jax.Array:
  """Reduces a map of pixels to one of cells by a mean over each cell's surroundings.

  With align="cell" a cell is the mean over a triangle of 2 stride - 1 pixels a side about pixel
  stride y, the transpose of what `to_pixels` spreads; pixels beyond the map don't count. With
  "half_pixel" it is the bilinear sample of the released code: for stride 4, the mean of the four
  pixels in the middle of each 4 x 4.

  Args:
    x: [..., H, W, C].
    stride: pixels between cells.
    align: "cell" or "half_pixel".

  Returns:
    [..., ceil(H / stride), ceil(W / stride), C] float32; with "half_pixel" the quotient is
    rounded down, as in the released code.
  """
  _check(align, ALIGNMENTS, "align")
  h, w = x.shape[-3:-1]
  if align == "half_pixel":
    return bilinear(x, (h // stride, w // stride))
  for axis in (-3, -2):
    n = x.shape[axis]
    distance = np.abs(np.arange(n) - stride * np.arange(-(-n // stride))[:, None])
    weight = np.maximum(0, stride - distance).astype(np.float64)
    x = _apply(weight / weight.sum(1, keepdims=True), x, axis)
  return x


def to_pixels(x: jax.Array, size: tuple[int, int], stride: int = 4, *,
              align: str = "cell") -> jax.Array:
  """Spreads a map of cells over the pixels, bilinearly, edges clamped.

  Args:
    x: [..., H, W, C].
    size: H', W' in pixels.
    stride: pixels between cells; with align="half_pixel" it follows from the sizes.
    align: "cell" or "half_pixel".

  Returns:
    [..., H', W', C] float32.
  """
  _check(align, ALIGNMENTS, "align")
  if align == "half_pixel":
    return bilinear(x, size)
  return _separable(x, size, [(1 / stride, 0.0)] * 2)


def labels_to_cells(labels: jax.Array, classes: int, stride: int = 4, *, rule: str = "area",
                    align: str = "cell") -> jax.Array:
  """Class ids of pixels as soft labels of cells.

  Args:
    labels: [..., H, W] int in 0..classes-1.
    classes: C.
    stride: pixels between cells.
    rule: "area" one-hot first, then the mean (`to_cells`); "id_average" averages the ids and
      truncates, as CorrFlow's code does, which invents classes; "slice" takes the pixel at each
      cell's corner, as MAST does.
    align: of "area".

  Returns:
    [..., H', W', C] float32 that sum to 1 over the classes.
  """
  _check(rule, RULES, "rule")
  if rule == "area":
    return to_cells(jax.nn.one_hot(labels, classes), stride, align=align)
  if rule == "slice":
    return jax.nn.one_hot(labels[..., ::stride, ::stride], classes)
  ids = to_cells(labels[..., None], stride, align="half_pixel")[..., 0]
  return jax.nn.one_hot(ids.astype(jnp.int32), classes)


def _separable(x, size, steps) -> jax.Array:
  """Samples rows and columns at `step * i + start`, for the (step, start) of each."""
  for axis, m, (step, start) in zip((-3, -2), size, steps, strict=True):
    n = x.shape[axis]
    at = np.clip(step * np.arange(m) + start, 0, n - 1)
    low = np.minimum(np.floor(at).astype(int), max(n - 2, 0))
    weight = np.zeros((m, n))
    weight[np.arange(m), low] = 1 - (at - low)
    weight[np.arange(m), np.minimum(low + 1, n - 1)] += at - low
    x = _apply(weight, x, axis)
  return x


def _apply(weight: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
  x = jnp.asarray(x)
  dtype = jnp.promote_types(x.dtype, jnp.float32)
  y = jnp.tensordot(x.astype(dtype), jnp.asarray(weight, dtype), axes=(axis, 1),
                    precision=lax.Precision.HIGHEST)
  return jnp.moveaxis(y, -1, axis)


def _check(value: str, known: tuple, name: str) -> None:
  if value not in known:
    raise ValueError(f"{name}={value!r} is not one of {', '.join(known)}")
