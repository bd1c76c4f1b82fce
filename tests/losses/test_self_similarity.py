"""S2VS's two terms: values and gradients against float64 twins, closed forms, masks, extremes."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import losses as reference
from vssl_jax.losses import self_similarity as ours

N, M = 5, 7
COTANGENT = np.array([0.3, -1.0, 2.0, 0.7, 1.0], np.float32)


def draw(seed=0):
  rng = np.random.default_rng(seed)
  s, s_n = rng.uniform(-0.95, 0.95, N), rng.uniform(-0.95, 0.95, (N, M))
  mask = rng.random((N, M)) < 0.6
  mask[:, 0] = True
  return s.astype(np.float32), s_n.astype(np.float32), mask


@functools.cache
def both(eps):
  """`(s, s_n, mask, cotangent) -> (losses [2, N], d_s, d_s_n)`."""

  def fn(s, s_n, mask, cotangent):
    def losses(s, s_n):
      return jnp.stack([ours.self_similarity(s, eps=eps),
                        ours.hardest_negative(s_n, mask, eps=eps)])

    value, vjp = jax.vjp(losses, s, s_n)
    return value, *vjp(jnp.stack([cotangent, cotangent]))

  return jax.jit(fn)


def expected(s, s_n, mask, eps):
  """Values [2, N] and the gradients of `sum(COTANGENT * value)`, by central differences."""
  value, d_s, d_n = np.zeros((2, N)), np.zeros(N), np.zeros((N, M))
  hard = functools.partial(reference.hardest_negative, eps=eps)
  for i, row in enumerate(mask):
    x = s_n[i][row].astype(np.float64)
    value[:, i] = reference.absolute(float(s[i]), eps=eps), hard(list(x))
    d_s[i] = reference.gradient(lambda v: reference.absolute(v[0], eps=eps), s[i:i + 1])[0]
    d_n[i, row] = reference.gradient(lambda v: hard(list(v)), x)
  return value, COTANGENT * d_s, COTANGENT[:, None] * d_n


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("eps", [1e-3, 0.05])
def test_value_and_gradient(eps, masked):
  s, s_n, mask = draw()
  mask = mask if masked else np.ones_like(mask)
  got = both(eps)(s, s_n, mask, COTANGENT)
  for a, b in zip(got, expected(s, s_n, mask, eps), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)
  np.testing.assert_allclose(ours.hardest_negative(s_n, None if not masked else mask, eps=eps),
                             got[0][1], rtol=1e-6)


def test_closed_forms():
  """0 at the best, log 2 half way, -log eps at the worst; a row without negatives costs nothing."""
  s = np.array([1, 0, -1], np.float32)
  want = [0, -math.log(0.5 + 0.001 / 2), -math.log(1e-3)]
  np.testing.assert_allclose(ours.self_similarity(s), want, rtol=1e-4)
  np.testing.assert_allclose(ours.hardest_negative(-s[:, None]), want, rtol=1e-4)
  assert ours.self_similarity(s)[0] == 0 and ours.hardest_negative(-s[:, None])[0] == 0
  np.testing.assert_array_equal(ours.hardest_negative(np.zeros((2, 0), np.float32)), [0, 0])


def test_extremes_have_finite_slopes_that_still_pull():
  s = np.array([-1, 1 + 1e-6, 1, -1, 1], np.float32)
  s_n = np.full((N, M), -1, np.float32)
  s_n[0], s_n[1, 2] = 1, 1 + 1e-6
  mask = np.ones((N, M), bool)
  mask[4] = False
  value, d_s, d_n = both(1e-3)(s, s_n, mask, np.ones(N, np.float32))
  assert np.isfinite(value).all() and (np.asarray(value) >= 0).all()
  np.testing.assert_allclose(d_s[0], -0.999 / 2e-3, rtol=1e-3)
  np.testing.assert_allclose(np.sum(d_n[0]), 0.999 / 2e-3, rtol=1e-3)
  assert np.isfinite(d_s).all() and np.isfinite(d_n).all()
  assert (np.asarray(d_n)[4] == 0).all()


def test_only_the_hardest_negative_that_counts_is_pushed():
  _, s_n, mask = draw(1)
  _, _, d_n = both(1e-3)(s_n[:, 0], s_n, mask, np.ones(N, np.float32))
  hardest = np.argmax(np.where(mask, s_n, -2), axis=1)
  np.testing.assert_array_equal(np.asarray(d_n) != 0, np.arange(M) == hardest[:, None])
  order = np.random.default_rng(0).permutation(M)
  np.testing.assert_array_equal(ours.hardest_negative(s_n[:, order], mask[:, order]),
                                ours.hardest_negative(s_n, mask))


def test_half_precision_is_widened_before_anything_else():
  s, s_n, mask = draw(2)
  s, s_n = jnp.asarray(s, jnp.bfloat16), jnp.asarray(s_n, jnp.bfloat16)
  value, *_ = both(1e-3)(s, s_n, mask, COTANGENT)
  assert value.dtype == jnp.float32
  want, *_ = expected(np.float32(s), np.float32(s_n), mask, 1e-3)
  np.testing.assert_allclose(value, want, rtol=2e-5, atol=1e-5)


def test_split_over_devices():
  _, s_n, mask = (np.concatenate([a, a])[:8] for a in draw(3))
  parts = [a.reshape(4, 2, *a.shape[1:]) for a in (s_n, mask)]
  split = jax.pmap(ours.hardest_negative, devices=jax.devices()[:4])(*parts)
  np.testing.assert_allclose(np.asarray(split).reshape(8), ours.hardest_negative(s_n, mask),
                             rtol=1e-6)


def test_shapes_are_checked():
  with pytest.raises(AssertionError):
    ours.self_similarity(jnp.zeros((2, 2)))
  with pytest.raises(AssertionError):
    ours.hardest_negative(jnp.zeros((2, 2)), jnp.ones((2, 3), bool))


class Variants(chex.TestCase):

  @chex.all_variants(with_pmap=False)
  def test_under_every_transformation(self):
    s, s_n, mask = draw(4)
    got = self.variant(lambda *a: (ours.self_similarity(a[0]), ours.hardest_negative(*a[1:])))(
        s, s_n, mask)
    np.testing.assert_allclose(np.stack(got), expected(s, s_n, mask, 1e-3)[0], rtol=2e-5, atol=1e-5)
