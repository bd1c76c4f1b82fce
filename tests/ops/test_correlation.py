"""Valid cross-correlation against a twin, forwards and backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import tracking as reference
from vssl_jax.ops.correlation import cross_correlate


def draw(seed=0, b=3, h=2, w=3, rows=5, columns=6, d=4):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(b, h, w, d)).astype(np.float32),
          rng.normal(size=(b, rows, columns, d)).astype(np.float32))


def test_value_and_gradient():
  z, x = draw()
  got, pull = jax.vjp(cross_correlate, z, x)
  np.testing.assert_allclose(got, [reference.cross_correlate(*pair)
                                   for pair in zip(z, x, strict=True)], rtol=1e-4, atol=1e-5)
  cot = np.random.default_rng(1).normal(size=got.shape).astype(np.float32)
  gz, gx = pull(cot)
  # Bilinear: the gradient is the correlation with the cotangent, or its transpose.
  want_z, want_x = np.zeros(z.shape), np.zeros(x.shape)
  for b, i, j in np.ndindex(*got.shape):
    want_z[b] += cot[b, i, j] * x[b, i:i + 2, j:j + 3]
    want_x[b, i:i + 2, j:j + 3] += cot[b, i, j] * z[b]
  np.testing.assert_allclose(gz, want_z, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(gx, want_x, rtol=1e-4, atol=1e-5)


def test_one_exemplar_for_all():
  z, x = draw(2)
  np.testing.assert_allclose(cross_correlate(z[:1], x), cross_correlate(z[[0, 0, 0]], x), rtol=1e-5,
                             atol=1e-5)


def test_half_precision_gives_float32():
  z, x = (jnp.asarray(a, jnp.bfloat16) for a in draw(3))
  got = cross_correlate(z, x)
  assert got.dtype == jnp.float32
  want = cross_correlate(z.astype(jnp.float32), x.astype(jnp.float32))
  np.testing.assert_allclose(got, want, rtol=0.02, atol=0.02)


def test_shapes_are_checked():
  z, x = draw()
  for bad in ((z[:2], x), (z, x[..., :3]), (x, z)):
    with pytest.raises(ValueError, match="should be"):
      cross_correlate(*bad)
