"""Displaced windows against loops in float64."""

import functools

import jax
import numpy as np
import pytest

from tests.reference import propagation as reference
from tests.reference import window_attention
from vssl_jax.ops import displaced

both = jax.jit(displaced.attend, static_argnames="radius")


def attend(*args, **kwargs):
  return both(*args, **kwargs)[0]


def maps(seed, r, h, w, d=4, c=3):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=s).astype(np.float32)
          for s in ((h, w, d), (r, h, w, d), (r, h, w, c), (r, h, w, 2))]


@pytest.mark.parametrize("spread", [0.0, 0.7, 4.0, 30.0])
def test_values(spread):
  q, k, v, offsets = maps(0, 3, 5, 7)
  offsets *= spread
  for valid in ([True, True, True], [True, False, True]):
    valid = np.array(valid)
    want = reference.displaced(q, k, v, offsets, valid, 2)
    np.testing.assert_allclose(attend(q, k, v, offsets, valid, 2), want, atol=5e-6)


def test_without_displacement_it_is_window_attention():
  q, k, v, _ = maps(1, 2, 5, 6)
  got = attend(q, k, v, np.zeros((2, 5, 6, 2)), np.ones(2, bool), 2, temperature=0.5)
  want = window_attention.attend(q[None], k[None], v[None], (2, 2), border="zero", temperature=0.5)
  np.testing.assert_allclose(got, want[0], atol=2e-6)


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_expected_offset(dilation):
  q, k, _, _ = maps(2, 1, 6, 5)
  f = jax.jit(functools.partial(displaced.expected_offset, radius=2, most=3))
  np.testing.assert_allclose(f(q, k[0], dilation=dilation),
                             reference.expected_offset(q, k[0], 2, dilation), atol=1e-5)


def test_gradients_are_finite_and_right():
  q, k, v, offsets = maps(3, 2, 3, 4, d=2, c=2)

  def f(q, k, v):
    return (attend(q, k, v, offsets, np.ones(2, bool), 1) ** 2).sum()

  gradients = jax.jit(jax.grad(f, argnums=(0, 1, 2)))
  grads = gradients(q, k, v)
  rng = np.random.default_rng(0)
  for i, g in enumerate(grads):
    ways = [np.zeros_like(x) for x in (q, k, v)]
    ways[i] = rng.normal(size=ways[i].shape)
    ends = []
    for e in (1e-4, -1e-4):
      args = [x.astype(np.float64) + e * d for x, d in zip((q, k, v), ways, strict=True)]
      ends.append((reference.displaced(*args, offsets, np.ones(2, bool), 1) ** 2).sum())
    slope = (ends[0] - ends[1]) / 2e-4
    assert float((g * ways[i]).sum()) == pytest.approx(slope, rel=1e-3)
  zero = gradients(0 * q, 0 * k, v)[0]
  assert np.isfinite(zero).all()
