"""Chains of copies: which map goes where, against one copy after the other."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.methods import corrflow_chains as chains


def matrices(frames):
  """A copy from r to t is a product with a matrix of its own."""
  rng = np.random.default_rng(0)
  return {(r, t): rng.normal(size=(3, 3)) / 2 for r in range(frames) for t in range(frames)}


def setting(frames):
  made, calls = matrices(frames), []
  values = np.random.default_rng(1).normal(size=(2, frames, 1, 3, 4)).astype(np.float32)

  def step(r, t, x):
    calls.append((r, t, x.shape[-1]))
    return jnp.einsum("ij,byjc->byic", made[r, t], x)

  def feed(x):
    return 0.5 * x + 1

  def one(r, t, x):
    return np.einsum("ij,byjc->byic", made[r, t], x)

  return values, step, feed, one, calls


@pytest.mark.parametrize("truth", [(True, True, True), (False, False, False), (True, False, True)])
def test_every_chain_is_as_by_itself(truth):
  values, step, feed, one, calls = setting(4)
  short, back = chains.copy(step, jnp.asarray(values), np.array(truth), feed)
  maps = [one(0, 1, values[:, 0])]
  for t in (1, 2):
    maps.append(one(t, t + 1, values[:, t] if truth[t] else feed(maps[-1])))
  for got, want in zip(short, maps, strict=True):
    np.testing.assert_allclose(got, want, atol=1e-5)
  alone = chains.short_term(step, jnp.asarray(values), np.array(truth), feed)
  for got, want in zip(alone, maps, strict=True):
    np.testing.assert_allclose(got, want, atol=1e-5)
  assert len(back) == 3
  for n, got in enumerate(back, start=1):
    x, path = None, [*range(n + 1), *range(n - 1, -1, -1)]
    for r, t in itertools.pairwise(path):
      x = one(r, t, values[:, 0] if x is None else feed(x))
    np.testing.assert_allclose(got, x, atol=1e-5)
  assert len(calls[:-3]) == 6  # 2 (T - 1), where one at a time would be 3 + 2 + 4 + 6


def test_two_frames():
  values, step, feed, one, _ = setting(2)
  short, (back,) = chains.copy(step, jnp.asarray(values), np.array([False]), feed)
  there = one(0, 1, values[:, 0])
  np.testing.assert_allclose(short[0], there, atol=1e-5)
  np.testing.assert_allclose(back, one(1, 0, feed(there)), atol=1e-5)


def test_order_of_the_released_passes():
  """Spec 5."""
  assert chains.passes(3, True) == (0, 1, 1, 2, 0, 1, 1, 0, 0, 1, 1, 2, 2, 1, 1, 0)
  assert chains.passes(3, False) == (0, 1, 1, 2)
  assert chains.passes(2, True) == (0, 1, 0, 1, 1, 0)
