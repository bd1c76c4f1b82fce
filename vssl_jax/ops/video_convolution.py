"""Convolutions over time and space, by way of those over space alone.

XLA's 3-D convolutions are slow on CPUs: of 64 to 64 channels over 2 x 8 x 14 x 14, value and
gradient of a 2-D convolution for each frame of the kernel took a quarter of their CPU time, with
strides an eighteenth. Besides, most kernels of video networks have a side of 1: to such a kernel a
clip is so many pictures, or so many pixels over time, and one 2-D convolution does it.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(x: jax.Array, kernel: jax.Array, strides: Sequence[int] = (1, 1, 1)) -> jax.Array:
  """Cross-correlation with torch's symmetric padding of `k // 2` along every axis.

  Args:
    x: [B, T, H, W, C].
    kernel: [t, h, w, C, D], of odd sides, in the dtype of x.
    strides: along time, height and width.

  Returns:
    [B, T', H', W', D], each side `(n - 1) // stride + 1`.
  """
  t, h, w = kernel.shape[:3]
  if not (t % 2 and h % 2 and w % 2):
    raise ValueError(f"the sides of a kernel should be odd, are {(t, h, w)}")
  if t == 1:
    return _over_space(x[:, ::strides[0]], kernel[0], strides[1:])
  if h == w == 1:
    return _over_time(x[:, :, ::strides[1], ::strides[2]], kernel[:, 0], strides[0])
  return jax.lax.platform_dependent(
      x, kernel, cpu=functools.partial(by_frame, strides=strides),
      default=functools.partial(whole, strides=strides))


def whole(x: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> jax.Array:
  """`convolve` by one 3-D convolution."""
  return jax.lax.conv_general_dilated(
      x, kernel, tuple(strides), [(k // 2, k // 2) for k in kernel.shape[:3]],
      dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))


def by_frame(x: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> jax.Array:
  """`convolve` by one 2-D convolution for every frame of the kernel."""
  t, stride = len(kernel), strides[0]
  frames = (x.shape[1] - 1) // stride + 1
  padded = jnp.pad(x, ((0, 0), (t // 2, t // 2), (0, 0), (0, 0), (0, 0)))
  last = (frames - 1) * stride + 1
  return sum(_over_space(padded[:, i:i + last:stride], kernel[i], strides[1:]) for i in range(t))


def _over_space(x: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> jax.Array:
  y = _convolve_2d(x.reshape(-1, *x.shape[2:]), kernel, strides)
  return y.reshape(*x.shape[:2], *y.shape[1:])


def _over_time(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  b, t, h, w, c = x.shape
  y = _convolve_2d(x.reshape(b, t, h * w, c), kernel, (stride, 1))
  return y.reshape(b, y.shape[1], h, w, -1)


def _convolve_2d(x: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> jax.Array:
  padding = [(k // 2, k // 2) for k in kernel.shape[:2]]
  return jax.lax.conv_general_dilated(x, kernel, tuple(strides), padding,
                                      dimension_numbers=DIMENSIONS)
