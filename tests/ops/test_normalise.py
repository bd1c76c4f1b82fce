"""L2 normalisation: values, gradients against finite differences, and the zero vector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.ops import normalise

l2 = jax.jit(normalise.l2, static_argnames="axis")


def test_against_float64():
  x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
  for axis in (-1, 0, 1, (1, 2)):
    norm = np.sqrt((x.astype(np.float64) ** 2).sum(axis=axis, keepdims=True))
    np.testing.assert_allclose(l2(x, axis=axis), x / norm, atol=1e-7)


def test_scale_does_not_matter_down_to_eps():
  x = np.array([3.0, -4.0], np.float32)
  for scale in (1e-10, 1e10):
    np.testing.assert_allclose(l2(x * scale), [0.6, -0.8], rtol=1e-6)
  np.testing.assert_allclose(l2(x * 1e-13), [0.3, -0.4], rtol=1e-6)  # norm 5e-13, eps 1e-12


def test_gradient_against_finite_differences():
  rng = np.random.default_rng(1)
  x, c = rng.normal(size=5), rng.normal(size=5)

  def f(v):
    return c @ v / np.linalg.norm(v)

  h = 1e-6 * np.eye(5)
  expected = [(f(x + d) - f(x - d)) / 2e-6 for d in h]
  np.testing.assert_allclose(jax.jit(jax.grad(lambda v: jnp.dot(c, l2(v))))(x), expected, atol=1e-6)


def test_zero_vector_stays_zero_with_a_zero_gradient():
  x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
  value, grad = jax.jit(jax.value_and_grad(lambda v: l2(v).sum()))(x)
  np.testing.assert_allclose(value, 1.4, rtol=1e-6)
  np.testing.assert_allclose(grad, [[0, 0], [0.032, -0.024]], rtol=1e-5)
  thrice = jax.jit(jax.jacobian(lambda v: l2(l2(l2(v)))))(x[0])
  np.testing.assert_array_equal(thrice, np.zeros((2, 2)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_summed_in_float32(dtype):
  # 200^2 overflows float16; 4096 equal squares can't be summed in bfloat16.
  x = jnp.full(4096, 200, dtype)
  y = l2(x)
  assert y.dtype == dtype
  np.testing.assert_allclose(y.astype(np.float32), 1 / 64)
