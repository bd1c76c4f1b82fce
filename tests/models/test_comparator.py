"""The comparator network against its twin; padding, short videos, gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import comparator as reference
from vssl_jax.models import comparator
from vssl_jax.models.comparator import Comparator

SIZES = [(12, 9), (4, 5), (7, 11), (1, 2), (3, 8), (12, 3)]  # frames of the two videos


@functools.cache
def params(scale=3.0):
  """Weights large enough for outputs on both sides of the clip."""
  one = jnp.ones(1, int)
  init = jax.jit(Comparator().init)
  values = init(jax.random.key(1), jnp.zeros((1, 4, 4)), one, one)["params"]
  return jax.tree.map(lambda v: scale * v, values)


def matrices(seed=0, sizes=SIZES, padding=0.0):
  """Matrices in one padded array, and each by itself."""
  rng = np.random.default_rng(seed)
  each = [rng.uniform(-1, 1, size).astype(np.float32) for size in sizes]
  out = np.full((len(sizes), *np.max(sizes, axis=0)), padding, np.float32)
  for i, s in enumerate(each):
    out[i, :s.shape[0], :s.shape[1]] = s
  rows, columns = np.array(sizes, np.int32).T
  return (out, rows, columns), each


@functools.cache
def apply(rescale=False):
  return jax.jit(Comparator(rescale).apply)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("padding", [0.0, np.nan])
def test_a_padded_batch_gives_what_the_twin_makes_of_each_pair(rescale, padding):
  batch, each = matrices(padding=padding)
  got = apply(rescale)({"params": params()}, *batch)
  similarity = comparator.chamfer(got["matrix"], got["rows"], got["columns"])
  clipped = 0
  for i, s in enumerate(each):
    want, score, excess = reference.compare(params(), s, rescale)
    n, m = want.shape
    assert (got["rows"][i], got["columns"][i]) == (n, m)
    np.testing.assert_allclose(got["matrix"][i, :n, :m], want, atol=1e-5)
    assert not got["matrix"][i, n:].any() and not got["matrix"][i, :, m:].any()
    np.testing.assert_allclose(similarity[i], score, atol=1e-5)
    np.testing.assert_allclose(got["excess"][i], excess, atol=1e-4)
    clipped += excess > 0
  assert 0 < clipped < len(each)


def test_more_padding_changes_nothing():
  (s, rows, columns), _ = matrices(1)
  a = apply()({"params": params()}, s, rows, columns)
  wide = np.pad(s, ((0, 0), (0, 4), (0, 7)), constant_values=9.0)
  b = apply()({"params": params()}, wide, rows, columns)
  n, m = a["matrix"].shape[1:]
  np.testing.assert_allclose(b["matrix"][:, :n, :m], a["matrix"], atol=1e-6)
  np.testing.assert_allclose(b["excess"], a["excess"], atol=1e-6)
  assert not b["matrix"][:, n:].any()


def test_a_length_beyond_the_array_means_all_of_it():
  (s, rows, columns), _ = matrices(2, [(8, 8)])
  a = apply()({"params": params()}, s, rows, columns)
  b = apply()({"params": params()}, s, rows + 5, columns + 1)
  assert jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_short_videos_are_doubled():
  lengths = jnp.arange(1, 14)
  want = [len(reference.doubled(np.zeros(n))) for n in range(1, 14)]
  np.testing.assert_array_equal(comparator.repeated_length(lengths), want)
  np.testing.assert_array_equal(comparator.output_length(lengths), [n // 2 // 2 for n in want])


def test_gradients_stay_with_the_valid_part_and_are_finite():
  batch, each = matrices(3, [(5, 9), (2, 3)], padding=np.nan)

  @jax.jit
  def gradient(values, s):
    def total(values, s):
      out = Comparator().apply({"params": values}, s, *batch[1:])
      score = comparator.chamfer(out["matrix"], out["rows"], out["columns"])
      return jnp.sum(score + 0.1 * out["excess"])
    return jax.grad(total, argnums=(0, 1))(values, s)

  by_params, by_matrix = gradient(params(), batch[0])
  assert all(np.isfinite(g).all() and g.any() for g in jax.tree.leaves(by_params))
  for i, s in enumerate(each):
    inside = by_matrix[i, :s.shape[0], :s.shape[1]]
    assert np.isfinite(inside).all() and inside.any()
    assert np.count_nonzero(by_matrix[i]) == np.count_nonzero(inside)


def test_gradient_by_a_bias_is_that_of_the_twin():
  """By differences of the float64 twin; the last layer's kernel and a bias of the first."""
  (s, rows, columns), (each,) = matrices(4, [(5, 6)])

  def total(values):
    out = Comparator().apply({"params": values}, s, rows, columns)
    return comparator.chamfer(out["matrix"], out["rows"], out["columns"])[0] + out["excess"][0]

  got = jax.jit(jax.grad(total))(params(1.0))
  for layer, leaf, index in (("conv1", "bias", 3), ("conv2", "kernel", (0, 2, 5, 7)),
                             ("fconv", "kernel", (0, 0, 9, 0))):
    values = []
    for sign in (1, -1):
      changed = jax.tree.map(np.float64, params(1.0))
      changed[layer][leaf][index] += sign * 1e-5
      _, score, excess = reference.compare(changed, each)
      values.append(score + excess)
    want = (values[0] - values[1]) / 2e-5
    np.testing.assert_allclose(got[layer][leaf][index], want, rtol=1e-3, atol=1e-6)
