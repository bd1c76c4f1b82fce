"""Drawing points as maps and finding them again."""

import numpy as np
import pytest

from vssl_jax.ops import keypoints


def test_a_patch_by_hand():
  got = keypoints.draw(np.array([[5.6, 3.9]]), (9, 10))
  # Corner trunc(5.6 - 1.5), trunc(3.9 - 1.5); the peak is the third sample.
  want = np.zeros((9, 10))
  side = np.exp(-np.arange(-2, 2) ** 2 / (2 * 0.25))
  want[2:6, 4:8] = np.outer(side, side)
  np.testing.assert_allclose(got[..., 1], want, rtol=1e-6)
  np.testing.assert_array_equal(got[..., 0], want == 0)


@pytest.mark.parametrize("point, drawn", [
  ((0.2, 5), True), ((9.9, 5), True), ((-1.4, 5), True), ((-4, 5), False), ((12, 5), False),
  ((5, -40), False), ((5, 40), False)])
def test_points_at_and_beyond_the_border(point, drawn):
  got = keypoints.draw(np.array([point, (5, 5)]), (9, 10))
  assert got[..., 1].any() == drawn and got[..., 2].max() == 1
  assert (got[..., 0] == ~got[..., 1:].any(-1)).all()


def test_the_three_largest_cells_make_a_point():
  maps = np.zeros((4, 5, 2))
  maps[1, 1, 0], maps[1, 2, 0], maps[3, 2, 0], maps[0, 4, 0] = 4, 2, 2, 1
  got = keypoints.decode(maps)
  np.testing.assert_allclose(got, [[(4 + 4 + 4) / 8, (4 + 2 + 6) / 8], [-1, -1]])
  np.testing.assert_allclose(keypoints.decode(maps, top=1), [[1, 1], [-1, -1]])


def test_what_is_drawn_is_found():
  points = np.random.default_rng(0).uniform(3, 16, (12, 2))
  got = keypoints.decode(keypoints.draw(points, (20, 20))[..., 1:])
  assert np.abs(got - points).max() < 1.2  # the patch is up to one cell off its point


def test_bad_points():
  with pytest.raises(ValueError, match="finite"):
    keypoints.draw(np.array([[np.nan, 0]]), (4, 4))
