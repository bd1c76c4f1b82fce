"""NT-Xent: value and gradient against the twin, closed forms, rows without a positive, zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import losses as reference
from vssl_jax.losses.nt_xent import nt_xent

OWNERS = {"pairs": [0, 0, 1, 1, 2, 2], "uneven": [4, 9, 4, 4, 9, 7], "alone": [0, 1, 2, 3, 4, 5]}


def features(seed=0, size=6, dim=4):
  return np.random.default_rng(seed).normal(size=(size, dim)).astype(np.float32)


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_value_and_gradient(owner, tau):
  z, owner = features(), np.array(owner)
  weight = np.arange(1.0, 7.0)
  got = nt_xent(z, owner, tau=tau)
  np.testing.assert_allclose(got, reference.nt_xent(z, owner, tau=tau), rtol=2e-5, atol=1e-6)
  slope = jax.grad(lambda z: jnp.sum(weight * nt_xent(z, owner, tau=tau)))(z)
  want = reference.gradient(lambda z: float(weight @ reference.nt_xent(z, owner, tau=tau)), z)
  np.testing.assert_allclose(slope, want, rtol=1e-3, atol=1e-4)


def test_closed_forms():
  owner = np.array(OWNERS["pairs"])
  np.testing.assert_allclose(nt_xent(np.ones((6, 3), np.float32), owner), np.log(5), rtol=1e-6)
  apart = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)  # positives equal, others orthogonal
  np.testing.assert_allclose(nt_xent(apart, owner, tau=0.5), np.log(1 + 4 * np.exp(-2)), rtol=1e-5)


def test_order_and_lengths_change_nothing():
  z, owner = features(1), np.array(OWNERS["uneven"])
  want = np.asarray(nt_xent(z, owner))
  order = np.random.default_rng(0).permutation(6)
  np.testing.assert_allclose(nt_xent(z[order], owner[order]), want[order], rtol=1e-5)
  length = np.float32([[1], [9], [0.1], [5], [2], [3]])
  np.testing.assert_allclose(nt_xent(z * length, owner), want, rtol=1e-4)


@pytest.mark.parametrize("z, owner", [(np.zeros((4, 3), np.float32), [0, 0, 1, 1]),
                                      (np.ones((1, 3), np.float32), [0])])
def test_zero_vectors_and_one_row(z, owner):
  value, slope = jax.value_and_grad(lambda z: jnp.sum(nt_xent(z, np.array(owner))))(z)
  np.testing.assert_allclose(value, 4 * np.log(3) if len(z) == 4 else 0, rtol=1e-6)
  assert np.isfinite(slope).all()


def test_bfloat16_is_widened():
  z, owner = jnp.asarray(features(2), jnp.bfloat16), np.array(OWNERS["pairs"])
  got = nt_xent(z, owner)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, reference.nt_xent(np.float32(z), owner, tau=0.1), rtol=1e-4)
