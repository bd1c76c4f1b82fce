import numpy as np
import pytest

from tests.reference import neighbours as reference
from vssl_jax.metrics.neighbours import purity


def unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_values(seed):
  rng = np.random.default_rng(seed)
  x, groups = unit(rng.standard_normal((30, 4))), rng.integers(-1, 6, 30)
  got = purity(x, groups)
  assert got == pytest.approx(reference.purity(x.tolist(), groups.tolist()))
  assert 0 < np.mean(list(got.values())) < 1
  order = rng.permutation(30)
  assert purity(x[order], groups[order]) == pytest.approx(got)


def test_by_hand():
  """Group 0 of three stands apart; group 1 has a distractor nearer than its other member."""
  angles = np.deg2rad([0, 1, 3, 90, 120, 95, 200])
  x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
  assert purity(x, np.array([0, 0, 0, 1, 1, -1, 2])) == {0: 1.0, 1: 0.0}


def test_a_video_is_not_its_own_neighbour_however_far_the_others_are():
  x = unit(np.array([[1.0, 0], [-1, 0.1], [-1, 0.5]]))
  assert purity(x, np.array([0, 0, -1])) == {0: 0.0}


def test_ties_keep_the_order_of_the_rows():
  x = np.ones((4, 1))
  assert purity(x, np.array([0, 0, -1, -1])) == {0: 1.0}
  assert purity(x, np.array([-1, -1, 0, 0])) == {0: 0.0}


def test_wrong_input():
  with pytest.raises(ValueError, match="should be"):
    purity(np.ones((3, 2)), np.zeros(2, int))
  with pytest.raises(ValueError, match="finite"):
    purity(np.full((2, 2), np.nan), np.zeros(2, int))
