"""The loss of frame weights: value and gradient against the float64 twin, closed form, extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import losses as reference
from vssl_jax.losses.frame_weights import suppression

N, T = 4, 6
GRADIENT = jax.jit(lambda l, low, mask, c: jax.vjp(lambda l: suppression(l, low, mask), l)[1](c)[0])


def draw(seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 2, (N, T)).astype(np.float32)
  low, mask = rng.random((N, T)) < 0.4, np.arange(T) < rng.integers(2, T + 1, N)[:, None]
  low[:, :2] = [True, False]
  return logits, low, mask


def test_value_and_gradient():
  logits, low, mask = draw()
  cotangent = np.array([1, -0.5, 2, 0.3], np.float32)
  value, grad = suppression(logits, low, mask), np.zeros((N, T))
  for i, keep in enumerate(mask):
    def fn(l, low=low[i][keep]):
      return reference.suppression(list(l), low)

    np.testing.assert_allclose(value[i], fn(logits[i][keep].astype(float)), rtol=1e-5)
    grad[i, keep] = cotangent[i] * reference.gradient(fn, logits[i][keep])
  np.testing.assert_allclose(GRADIENT(logits, low, mask, cotangent), grad, atol=1e-6)


def test_equal_weights_cost_log_2_however_many_frames_are_of_a_kind():
  _, low, mask = draw(1)
  zeros = np.zeros((N, T), np.float32)
  np.testing.assert_allclose(suppression(zeros, low, mask), np.full(N, np.log(2)), rtol=1e-6)
  grad = GRADIENT(zeros, low, mask, np.ones(N, np.float32))
  np.testing.assert_allclose(np.sum(np.where(low & mask, grad, 0), axis=1), np.full(N, 0.25))
  np.testing.assert_allclose(np.sum(np.where(~low & mask, grad, 0), axis=1), np.full(N, -0.25))


@pytest.mark.parametrize("kind", [True, False])
def test_a_video_of_one_kind_teaches_nothing(kind):
  logits, _, mask = draw(2)
  low = np.full((N, T), kind)
  np.testing.assert_array_equal(suppression(logits, low, mask), np.zeros(N))
  assert (np.asarray(GRADIENT(logits, low, mask, np.ones(N, np.float32))) == 0).all()


def test_padding_does_not_matter_and_extremes_are_finite():
  logits, low, mask = draw(3)
  other = np.where(mask, logits, 1e4).astype(np.float32)
  np.testing.assert_array_equal(suppression(other, ~mask | low, mask),
                                suppression(logits, low, mask))
  wrong = np.where(low, 1e4, -1e4).astype(np.float32)
  np.testing.assert_allclose(suppression(wrong, low, mask), np.full(N, 1e4))
  assert np.isfinite(GRADIENT(wrong, low, mask, np.ones(N, np.float32))).all()
  half = suppression(jnp.asarray(logits, jnp.bfloat16), low, mask)
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, suppression(logits, low, mask), rtol=0.02)
