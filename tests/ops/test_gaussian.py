"""Gaussians of clips and videos: against literal formulas, at ties, and where those overflow."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import gaussian as reference
from tests.reference.losses import gradient
from vssl_jax.ops import gaussian

B, N, K, D = 3, 4, 5, 6


def draw(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.standard_normal(shape).astype(np.float32),
          rng.uniform(-4, 2, shape).astype(np.float32))


def test_moments_and_their_gradients():
  mean, logvar = draw(B, N, D)
  weight = draw(2, B, D, seed=1)[0]

  def total(mean, logvar):
    found = gaussian.moment_match(mean, logvar)
    return sum(jnp.sum(w * x) for w, x in zip(weight, found, strict=True)), found

  (_, (got, got_log)), (d_mean, d_log) = jax.jit(
      jax.value_and_grad(total, (0, 1), has_aux=True))(mean, logvar)
  mean, logvar = np.float64(mean), np.float64(logvar)
  for i in range(B):
    want, variance = reference.moments(mean[i], np.exp(logvar[i]))
    np.testing.assert_allclose(got[i], want, atol=1e-6)
    np.testing.assert_allclose(got_log[i], np.log(variance), atol=2e-6)
    pull = weight[1][i] / variance / N  # spec 5: dv/dl = v_n/N, dv/dmu = 2 (mu_n - mu)/N
    np.testing.assert_allclose(d_log[i], pull * np.exp(logvar[i]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(d_mean[i], weight[0][i] / N + 2 * pull * (mean[i] - want),
                               rtol=1e-4, atol=1e-6)


def test_moments_of_equal_clips_and_of_one():
  """Variances near 1e-14 beside means near 1, where E[z^2] - E[z]^2 has no digits."""
  mean, logvar = draw(B, 1, D)
  logvar -= 30
  one = gaussian.moment_match(mean, logvar)
  np.testing.assert_array_equal(one, [mean[:, 0], logvar[:, 0]])
  equal = [np.repeat(x, N, axis=1) for x in (mean, logvar)]
  grad = jax.jit(jax.grad(lambda *x: jnp.sum(gaussian.moment_match(*x)[1]), (0, 1)))
  many, (d_mean, d_log) = gaussian.moment_match(*equal), grad(*equal)
  np.testing.assert_array_equal(many[0], mean[:, 0])
  np.testing.assert_allclose(many[1], logvar[:, 0], rtol=1e-6)
  np.testing.assert_array_equal(d_mean, np.zeros_like(d_mean))
  np.testing.assert_allclose(d_log, np.full_like(d_log, 1 / N), rtol=1e-5)
  literal = reference.moments(equal[0][0], np.exp(equal[1][0]))[1]  # in float32
  assert (np.abs(literal / np.exp(logvar[0, 0]) - 1) > 0.5).any()


def test_spread_of_unit_means_is_what_their_mean_lacks():
  mean = draw(B, N, D)[0]
  mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
  centre, logvar = gaussian.moment_match(mean, np.full((B, N, D), -20, np.float32))
  between = np.exp(logvar).sum(-1)
  np.testing.assert_allclose(between, 1 - np.sum(np.square(centre), -1), rtol=1e-4)


def test_samples_of_the_mixture_have_its_moments():
  mean, logvar = (x[0] for x in draw(1, 2, 2, seed=3))
  rng, count = np.random.default_rng(0), 10_000
  eps = rng.standard_normal((count, 2)).astype(np.float32)
  clip = rng.integers(0, 2, count)
  centre, log_v = gaussian.moment_match(mean, logvar)
  whole = gaussian.deviations(log_v, eps)
  mixed = gaussian.mixture_deviations(mean, logvar, eps, clip)
  for x in (whole, mixed):
    np.testing.assert_allclose(np.mean(x, 0), 0, atol=0.06)
    np.testing.assert_allclose(np.var(x, 0), np.exp(log_v), rtol=0.06)
  one = clip == 1
  np.testing.assert_allclose(np.mean(mixed[one], 0) + centre, mean[1], atol=0.1)
  np.testing.assert_allclose(np.var(mixed[one], 0), np.exp(logvar[1]), rtol=0.1)


@functools.cache
def distance(reading, lam):
  """`(x, lx, y, ly, sx, sy, cotangent) -> values, gradients by x, lx, y, ly`."""

  def call(x, lx, y, ly, sx, sy, cotangent):
    def fn(*a):
      return gaussian.bhattacharyya(*a, lam=lam, reading=reading, spread=(sx, sy))
    value, vjp = jax.vjp(fn, x, lx, y, ly)
    return value, vjp(cotangent)

  return jax.jit(call)


@pytest.mark.parametrize("reading", gaussian.READINGS)
def test_distance_and_gradient(reading):
  (x, lx), (y, ly) = draw(B, D), draw(B, D, seed=1)
  ly[0, :3] = lx[0, :3]  # ties, where |log ratio| has a corner
  lam, zero = 0.3, np.zeros((B, D), np.float32)
  cotangent = np.float32([1.0, -0.5, 2.0])
  value, grads = distance(reading, lam)(x, lx, y, ly, zero, zero, cotangent)
  for i in range(B):
    def twin(v):
      v = v.reshape(4, D)
      return reference.bhattacharyya(v[0], np.exp(v[1]), v[2], np.exp(v[3]), lam=lam,
                                     reading=reading)
    at = np.float64(np.concatenate([x[i], lx[i], y[i], ly[i]]))
    np.testing.assert_allclose(value[i], twin(at), rtol=1e-5)
    want = cotangent[i] * gradient(twin, at).reshape(4, D)
    np.testing.assert_allclose([g[i] for g in grads], want, rtol=1e-3, atol=1e-4)


def test_gradient_of_the_spread_at_equal_variances():
  """By log variances it is 1/4 of lam (s - s'), which a branch at the tie would lose."""
  s, t = np.float32([[3.0, 1.0]]), np.float32([[1.0, 1.0]])
  zero = np.zeros((1, 2), np.float32)
  _, (_, d_log, _, d_other) = distance("sum", 0.5)(zero, zero, zero, zero, s, t,
                                                   np.ones(1, np.float32))
  np.testing.assert_allclose(d_log, 0.5 * (s - t) / 4, atol=1e-7)
  np.testing.assert_allclose(d_other, -0.5 * (s - t) / 4, atol=1e-7)


@pytest.mark.parametrize("gap", [0.0, 1e-3, 50.0, 160.0])
def test_distance_of_any_ratio_is_finite(gap):
  zero = np.zeros((1, 2), np.float32)
  logvar = np.float32([[gap / 2, -gap / 2]])
  value, grads = distance("sum", 0.25)(zero, logvar, zero, -logvar, zero, zero,
                                       np.ones(1, np.float32))
  want = 2 * (gap / 4 + math.log1p(math.exp(-gap)) / 2 - math.log(2) / 2)
  np.testing.assert_allclose(value, want, rtol=1e-6, atol=1e-7)
  np.testing.assert_allclose(grads[1], 0.25 * np.tanh(np.sign(logvar) * gap / 2), atol=1e-6)
  assert all(np.isfinite(g).all() for g in grads)


def test_it_is_the_overlap_of_densities():
  """`-log integral sqrt(p q)`, by a sum over a fine grid."""
  x, v, y, w = 0.3, 0.5, -0.8, 1.7
  grid = np.linspace(-25, 25, 200_001)

  def density(m, s):
    return np.exp(-(grid - m) ** 2 / (2 * s)) / math.sqrt(2 * math.pi * s)

  overlap = np.sqrt(density(x, v) * density(y, w)).sum() * (grid[1] - grid[0])
  got = gaussian.bhattacharyya(*(np.float32([a]) for a in (x, math.log(v), y, math.log(w))))
  np.testing.assert_allclose(got, -math.log(overlap), rtol=1e-5)


def test_divergence_from_the_standard_normal():
  mean, logvar = draw(B, D)
  value, grad = jax.value_and_grad(lambda *x: jnp.sum(gaussian.kl_to_standard(*x)), (0, 1))(
      mean, logvar)
  want = [reference.kl(m, v) for m, v in zip(np.float64(mean), np.exp(np.float64(logvar)),
                                             strict=True)]
  np.testing.assert_allclose(value, sum(want), rtol=1e-6)
  np.testing.assert_allclose(grad, [mean, np.expm1(logvar) / 2], rtol=1e-5)
  near = np.full((1, D), 1e-3, np.float32)
  np.testing.assert_allclose(gaussian.kl_to_standard(0 * near, near), D * 1e-6 / 4, rtol=1e-2)
  assert gaussian.kl_to_standard(0 * near, 0 * near) == 0


def test_soft_limits():
  x = np.float32([-1e4, -30, -12, -5, 0, 2, 4, 30, 1e4])
  got = gaussian.soft_clamp(x, -12, 4)
  assert (got >= -12).all() and (got <= 4).all()
  np.testing.assert_allclose(got[3], -5, atol=1.1e-3)
  assert (np.diff(got) >= 0).all()
  slope = jax.vmap(jax.grad(lambda v: gaussian.soft_clamp(v, -12, 4)))(x)
  np.testing.assert_allclose(slope[3], 1, atol=2e-3)
  assert (slope[1:-1] > 0).all() and np.isfinite(slope).all()
  beyond = np.float32([-12 - 80, 4 + 80, -100, 100])
  slope = jax.vmap(jax.grad(lambda v: gaussian.soft_clamp(v, -12, 4)))(beyond)
  np.testing.assert_allclose(slope, [np.exp(-80.0), np.exp(-80.0), 0, 0], rtol=1e-5)


def test_uncertainty():
  logvar = draw(B, D)[1]
  variance = np.exp(np.float64(logvar))
  want = {"geometric": np.mean(np.float64(logvar), -1), "arithmetic": np.log(variance.mean(-1)),
          "total": np.log(D * np.exp(np.log(variance).mean(-1))),
          "entropy": np.sum(np.log(2 * np.pi * np.e * variance), -1) / 2}
  for kind, number in want.items():
    np.testing.assert_allclose(gaussian.uncertainty(logvar, kind), number, rtol=1e-5)
  with pytest.raises(ValueError, match="'harmonic' is unknown; choose one of geometric"):
    gaussian.uncertainty(logvar, "harmonic")
  with pytest.raises(ValueError, match="reading 'max' is unknown; choose one of mean, sum, iso"):
    gaussian.bhattacharyya(logvar, logvar, logvar, logvar, reading="max")


def test_half_precision_is_widened_before_anything_else():
  mean, logvar = (jnp.asarray(x, jnp.bfloat16) for x in draw(B, N, D))
  wide = [x.astype(jnp.float32) for x in (mean, logvar)]
  for fn in (gaussian.moment_match, gaussian.kl_to_standard,
             lambda m, l: gaussian.bhattacharyya(m[0], l[0], m[1], l[1]),
             lambda m, l: gaussian.deviations(l[:, 0], m)):
    got, want = jax.tree.leaves(fn(mean, logvar)), jax.tree.leaves(fn(*wide))
    for x, y in zip(got, want, strict=True):
      assert x.dtype == jnp.float32
      np.testing.assert_array_equal(x, y)
