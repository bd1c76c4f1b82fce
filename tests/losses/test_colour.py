"""Losses of copied colours against float64 twins: values, gradients, closed forms, extremes."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import colour as reference
from tests.reference.losses import gradient
from vssl_jax.losses import colour as ours

B, H, W, C = 3, 2, 4, 5
COTANGENT = np.array([0.3, -1.0, 2.0], np.float32)


def draw(seed=0):
  rng = np.random.default_rng(seed)
  p = rng.dirichlet(np.ones(C), (B, H, W)).astype(np.float32)
  return p, rng.integers(0, C, (B, H, W)).astype(np.int32)


def values(seed=0):
  """Distances on both sides of 1 / 20, at which the loss changes."""
  rng = np.random.default_rng(seed)
  x, target = (rng.uniform(-0.1, 0.1, (B, H, W, C)).astype(np.float32) for _ in range(2))
  return x, target, np.array([[1, 0, 1, 1, 0], [1] * 5, [0, 0, 0, 0, 1]], np.float32)


def test_cross_entropy_and_its_gradient():
  p, ids = draw()
  got, pull = jax.vjp(jax.jit(lambda p: ours.cross_entropy(p, ids)), p)
  grad, = pull(COTANGENT)
  for i in range(B):
    np.testing.assert_allclose(got[i], reference.cross_entropy(p[i], ids[i]), rtol=1e-5)
    want = gradient(lambda x, i=i: reference.cross_entropy(x, ids[i]), p[i], h=1e-7)
    np.testing.assert_allclose(grad[i], COTANGENT[i] * want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_regression_and_its_gradient(masked):
  x, target, channels = values()
  channels = channels if masked else np.ones_like(channels)
  got, pull = jax.vjp(
    lambda x, t: ours.regression(x, t, channels if masked else None), x, target)
  grads = pull(COTANGENT)
  assert (abs(20 * (x - target)) < 1).any() and (abs(20 * (x - target)) > 1).any()
  for i in range(B):
    np.testing.assert_allclose(got[i], reference.regression(x[i], target[i], channels[i]),
                               rtol=1e-5)
    want = gradient(lambda v, i=i: reference.regression(v, target[i], channels[i]), x[i])
    for grad, sign in zip(grads, (1, -1), strict=True):
      np.testing.assert_allclose(grad[i], sign * COTANGENT[i] * want, rtol=1e-4, atol=1e-5)


def test_closed_forms():
  """Equal shares cost log C, certainty nothing, and the impossible -log(eps)."""
  _, ids = draw()
  np.testing.assert_allclose(ours.cross_entropy(np.full((B, H, W, C), 1 / C, np.float32), ids),
                             math.log(C), rtol=1e-6)
  right = np.eye(C, dtype=np.float32)[ids]
  np.testing.assert_allclose(ours.cross_entropy(right, ids), 0, atol=1e-7)
  wrong = np.roll(right, 1, axis=-1)
  np.testing.assert_allclose(ours.cross_entropy(wrong, ids), -math.log(1e-8), rtol=1e-6)
  x = np.zeros((1, 1, 2, 1), np.float32)
  target = np.array([0.025, -0.1], np.float32).reshape(x.shape)
  np.testing.assert_allclose(ours.regression(x, target), [(0.125 + 1.5) / 2], rtol=1e-6)
  np.testing.assert_allclose(ours.regression(x, target, scale=1.0), [0.5 * (0.025**2 + 0.1**2) / 2],
                             rtol=1e-5)


def test_extremes_have_finite_gradients():
  _, ids = draw()
  p = np.zeros((B, H, W, C), np.float32)
  grad = jax.grad(lambda p: ours.cross_entropy(p, ids).sum())(p)
  assert np.isfinite(grad).all()
  np.testing.assert_allclose(grad[ids[..., None] == np.arange(C)], -1e8 / (H * W), rtol=1e-5)
  assert (grad[ids[..., None] != np.arange(C)] == 0).all()
  x, target, _ = values()
  none = np.zeros((B, C), np.float32)
  value, grad = jax.value_and_grad(lambda x: ours.regression(x, target, none).sum())(x)
  assert value == 0 and (grad == 0).all()
  assert (jax.grad(lambda x: ours.regression(x, x).sum())(x) == 0).all()


def test_classes_may_be_renamed():
  p, ids = draw(1)
  order = np.random.default_rng(0).permutation(C)
  np.testing.assert_allclose(ours.cross_entropy(p[..., order], np.argsort(order)[ids]),
                             ours.cross_entropy(p, ids), rtol=1e-6)


def test_half_precision_is_widened_before_anything_else():
  p, ids = draw(2)
  p = jnp.asarray(p, jnp.bfloat16)
  got = ours.cross_entropy(p, ids)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, [reference.cross_entropy(np.float32(a), b)
                                   for a, b in zip(p, ids, strict=True)], rtol=1e-5)
  x, target, channels = (jnp.asarray(a, jnp.bfloat16) for a in values(2))
  got = ours.regression(x, target, channels)
  assert got.dtype == jnp.float32
  want = [reference.regression(*(np.float32(a) for a in row))
          for row in zip(x, target, channels, strict=True)]
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_split_over_devices():
  p, ids = (np.concatenate([a, a[:1]]) for a in draw(3))
  split = jax.pmap(ours.cross_entropy, devices=jax.devices()[:4])(p[:, None], ids[:, None])
  np.testing.assert_allclose(np.asarray(split).ravel(), ours.cross_entropy(p, ids), rtol=1e-6)


def test_shapes_are_checked():
  p, ids = draw()
  with pytest.raises(AssertionError):
    ours.cross_entropy(p, ids[:, :1])
  x, target, channels = values()
  with pytest.raises(AssertionError):
    ours.regression(x, target[:1])
  with pytest.raises(AssertionError):
    ours.regression(x, target, channels[:1])


class Variants(chex.TestCase):

  @chex.all_variants(with_pmap=False)
  def test_under_every_transformation(self):
    p, ids = draw(4)
    want = [reference.cross_entropy(a, b) for a, b in zip(p, ids, strict=True)]
    np.testing.assert_allclose(self.variant(ours.cross_entropy)(p, ids), want, rtol=1e-5)
