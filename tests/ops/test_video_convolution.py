"""Convolutions of clips by way of 2-D ones: values and gradients of XLA's 3-D convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.ops import video_convolution as ops


@pytest.mark.parametrize("sides, strides, clip", [
    ((3, 3, 3), (1, 1, 1), (4, 5, 4)), ((3, 3, 3), (2, 2, 2), (4, 5, 6)),
    ((1, 3, 3), (1, 2, 2), (3, 6, 5)), ((3, 1, 1), (2, 1, 1), (5, 2, 3)),
    ((1, 1, 1), (2, 2, 2), (4, 5, 6)), ((3, 5, 5), (1, 2, 2), (1, 4, 7))])
def test_value_and_gradient(sides, strides, clip):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *clip, 2)).astype(np.float32)
  kernel = rng.normal(size=(*sides, 2, 3)).astype(np.float32)
  shape = (2, *((n - 1) // s + 1 for n, s in zip(clip, strides, strict=True)), 3)
  weight = rng.normal(size=shape).astype(np.float32)

  def run(function):
    def total(x, kernel):
      y = function(x, kernel, strides)
      return jnp.sum(weight * y), y
    return jax.jit(jax.grad(total, (0, 1), has_aux=True))(x, kernel)

  (grads, y), (expected_grads, expected) = run(ops.convolve), run(ops.whole)
  assert y.shape == shape
  np.testing.assert_allclose(y, expected, atol=1e-5)
  for a, b in zip(grads, expected_grads, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_even_kernels_are_refused():
  with pytest.raises(ValueError, match="odd, are"):
    ops.convolve(jnp.zeros((1, 2, 2, 2, 1)), jnp.zeros((2, 3, 3, 1, 1)))
