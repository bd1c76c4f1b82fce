"""What uncertainty tells about failures: levels, correlations, risk against coverage."""

import math

import numpy as np
import pytest

from tests.reference import recall as reference
from vssl_jax.metrics import uncertainty


def test_levels_by_hand():
  """Five queries in two bins: the first has one more."""
  u, hit = np.array([5.0, 1, 2, 4, 3]), np.array([False, True, True, False, True])
  found = uncertainty.levels(u, hit, 2)
  assert {k: v.tolist() for k, v in found.items()} == {
    "size": [3, 2], "recall": [1.0, 0.0], "uncertainty": [2.0, 4.5]}


@pytest.mark.parametrize("seed", range(3))
def test_correlations_and_risks_against_loops(seed):
  rng = np.random.default_rng(seed)
  u, hit = rng.random(20), rng.random(20) < 0.5
  assert uncertainty.pearson(u, hit) == pytest.approx(reference.pearson(u, hit))
  ties = np.round(u, 1)
  np.testing.assert_allclose(uncertainty.ranks(ties), reference.ranks(ties))
  assert uncertainty.spearman(ties, hit) == pytest.approx(
    reference.pearson(reference.ranks(ties), reference.ranks(hit)))
  coverage, risk = uncertainty.risk_coverage(u, hit)
  np.testing.assert_allclose(coverage, np.arange(1, 21) / 20)
  np.testing.assert_allclose(risk, reference.risks(u, hit))


def test_correlations_of_what_is_known():
  x = np.array([1.0, 2, 3, 10])
  assert uncertainty.spearman(x, np.exp(x)) == pytest.approx(1)
  assert uncertainty.pearson(x, -2 * x) == pytest.approx(-1)
  assert math.isnan(uncertainty.spearman(x, np.full(4, 0.1)))


def test_area_by_hand():
  """Two right, two wrong; the failure at 2 is more certain than a success."""
  u, hit = np.array([1.0, 2, 3, 4]), np.array([1, 0, 1, 0])
  found = uncertainty.area(u, hit)
  assert found["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
  assert found["best"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
  assert found["random"] == 0.5


def test_equal_uncertainty_tells_nothing():
  """Whatever the order of the rows, each counts as their mean."""
  hit = np.array([1, 1, 0, 0])
  for u in (np.zeros(4), np.array([0.0, 0, 0, 0])):
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
      _, risk = uncertainty.risk_coverage(u, hit[order])
      np.testing.assert_allclose(risk, 0.5)


def test_uncertainty_of_videos():
  logvar = np.log([[1.0, 4.0], [2.0, 2.0]])
  np.testing.assert_allclose(uncertainty.of_video(logvar), [2, 2])
  np.testing.assert_allclose(uncertainty.of_video(logvar, "arithmetic"), [2.5, 2])
  want = math.log(2 * math.pi * math.e) + math.log(2)
  np.testing.assert_allclose(uncertainty.of_video(logvar, "entropy"), want)


def test_wrong_input():
  with pytest.raises(ValueError, match="should be two rows"):
    uncertainty.spearman(np.ones(3), np.ones(2))
  with pytest.raises(ValueError, match="isn't finite"):
    uncertainty.levels(np.array([1.0, np.inf]), np.ones(2))
  with pytest.raises(ValueError, match="3 bins of 2 queries: use 1 to 2"):
    uncertainty.levels(np.arange(2.0), np.ones(2), 3)
  with pytest.raises(ValueError, match="'max' is unknown; choose geometric"):
    uncertainty.of_video(np.ones((1, 2)), "max")
