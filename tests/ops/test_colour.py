"""Lab, classes and dropped channels: against the definition pixel by pixel, and frequencies."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import colour as reference
from vssl_jax.ops import colour as ours

KEY = jax.random.key(3)


def test_lab_is_that_of_the_definition():
  levels = [0, 1, 9, 10, 11, 60, 130, 255]  # 10 and 11 lie on both sides of the straight part
  rgb = np.array(list(itertools.product(levels, repeat=3)), np.uint8)
  got = np.asarray(ours.lab(ours.to_unit(jnp.asarray(rgb))))
  np.testing.assert_allclose(got, [reference.lab(p / 255) for p in rgb], atol=2e-4)


def test_greys_have_no_colour_and_primaries_are_known():
  """Those of red, green and blue are in every table of CIE Lab."""
  grey = np.linspace(0, 1, 11)[:, None] * np.ones(3)
  lab = np.asarray(ours.lab(jnp.asarray(grey, jnp.float32)))
  np.testing.assert_allclose(lab[:, 1:], 0, atol=0.02)
  np.testing.assert_allclose(lab[[0, -1], 0], [0, 100], atol=1e-3)
  want = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
  np.testing.assert_allclose(ours.lab(jnp.eye(3)), want, atol=0.05)
  scaled = np.asarray(ours.scaled_lab(jnp.eye(3)))
  np.testing.assert_allclose(scaled * [50, 127, 127] + [50, 0, 0], want, atol=0.05)


def test_lab_has_finite_gradients_everywhere():
  rgb = jnp.array([[0.0, 0, 0], [1, 1, 1], [0, 1, 0], [0.04045, 0.04045, 0.04045]])
  assert np.isfinite(jax.jacobian(ours.lab)(rgb)).all()


def test_levels_and_unit_values_are_the_same():
  levels = np.arange(256, dtype=np.uint8)
  np.testing.assert_allclose(ours.to_unit(jnp.asarray(levels)), levels / 255, rtol=1e-6)
  x = jnp.float32([0.25, 7.0])
  assert ours.to_unit(x) is x


def test_classes_are_the_nearest_centroids_and_of_equal_ones_the_first():
  rng = np.random.default_rng(0)
  ab = rng.uniform(-60, 60, (40, 2)).astype(np.float32)
  want = [reference.nearest(p, ours.CENTROIDS) for p in ab]
  np.testing.assert_array_equal(ours.classes(ab.reshape(4, 10, 2)), np.reshape(want, (4, 10)))
  np.testing.assert_array_equal(ours.classes(ours.CENTROIDS), range(16))
  centroids = np.float32([[1, 0], [-1, 0], [0, 1], [-1, 0]])
  points = np.float32([[0, 0], [0, -3], [-2, 0], [0, 0.5]])
  np.testing.assert_array_equal(ours.classes(points, centroids), [0, 0, 1, 2])


def share(factors):
  rows, counts = np.unique(np.asarray(factors), axis=0, return_counts=True)
  return {tuple(r): c / len(factors) for r, c in zip(rows.tolist(), counts, strict=True)}


@pytest.mark.parametrize("p", [0.7, 0.0, 1.0])
def test_how_often_channels_are_dropped(p):
  """Untouched 1 - p, every choice of one or two of the three p / 6 (spec 4)."""
  got = share(ours.channel_factors(KEY, p, (20_000,)))
  want = {(1.0, 1.0, 1.0): 1 - p}
  for dropped in [(i,) for i in range(3)] + list(itertools.combinations(range(3), 2)):
    scale = 3 / (3 - len(dropped))
    want[tuple(0.0 if c in dropped else scale for c in range(3))] = p / 6
  want = {k: v for k, v in want.items() if v}
  assert got.keys() == want.keys()
  for row, chance in want.items():
    assert abs(got[row] - chance) < 0.012, row
  assert ours.channel_factors(KEY, p).shape == (3,)


def test_a_or_b_is_always_dropped():
  got = share(ours.chroma_factors(KEY, (4000,)))
  assert got.keys() == {(1.5, 0.0, 1.5), (1.5, 1.5, 0.0)}
  assert abs(got[1.5, 0.0, 1.5] - 0.5) < 0.03
