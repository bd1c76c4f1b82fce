"""PCK against a table worked by hand."""

import numpy as np
import pytest

from vssl_jax.metrics import keypoints

# Two frames after the first; joints 0 and 1 span a box of 6 x 8, so the body size is 6.
TRUTH = np.array([[[0, 0], [6, 8], [3, 3]]] * 3, float)


def moved(*changes):
  """The truth with (frame, joint, x, y) changed."""
  out = TRUTH.copy()
  for t, j, x, y in changes:
    out[t, j] = x, y
  return out


def test_by_hand():
  predicted = moved((0, 0, 99, 99), (1, 0, 0.6, 0), (1, 1, 6, 8.7), (2, 2, -1, -1))
  video = keypoints.distances(TRUTH, predicted)
  np.testing.assert_allclose(video.distance, [[0.1, 0.7 / 6, 0], [0, 0, np.inf]])
  got = keypoints.pck([video], [0.1 + 1e-9, 0.2])
  np.testing.assert_allclose(got, [[100, 50, 100], [100, 100, 100]])
  got = keypoints.pck([video], [0.1 + 1e-9, 0.2], strict=True)
  np.testing.assert_allclose(got, [[100, 50, 50], [100, 100, 50]])


def test_the_body_is_that_of_the_joints_found():
  video = keypoints.distances(TRUTH, moved((1, 1, -1, -1), (1, 0, 1.8, 0)))
  assert video.distance[0, 0] == pytest.approx(1.8 / (0.6 * np.hypot(3, 3)))


def test_joints_of_all_videos_are_counted_together():
  far = keypoints.distances(TRUTH, moved((1, 0, 50, 0)))
  near = keypoints.distances(TRUTH[:2], TRUTH[:2])
  np.testing.assert_allclose(keypoints.pck([far, near], [0.2]), [[200 / 3, 100, 100]])


def test_a_joint_that_is_lost_everywhere():
  video = keypoints.distances(TRUTH, moved((1, 0, -1, -1), (2, 0, -1, -1)))
  np.testing.assert_array_equal(keypoints.pck([video], [0.1]), [[np.nan, 100, 100]])
  np.testing.assert_array_equal(keypoints.pck([video], [0.1], strict=True), [[0, 100, 100]])


def test_a_body_of_one_point():
  truth = np.zeros((3, 2, 2))
  predicted = truth.copy()
  predicted[1, 0] = 1, 0
  predicted[:, 1] = -1
  np.testing.assert_array_equal(keypoints.pck([keypoints.distances(truth, predicted)], [0.5]),
                                [[50, np.nan]])


@pytest.mark.parametrize("truth, predicted, words", [
  (TRUTH, TRUTH[:2], "same"), (TRUTH[:1], TRUTH[:1], "two frames"), (TRUTH[0], TRUTH[0], "same"),
  (TRUTH * np.nan, TRUTH, "finite"), (TRUTH, TRUTH * np.nan, "finite"),
])
def test_bad_input(truth, predicted, words):
  with pytest.raises(ValueError, match=words):
    keypoints.distances(truth, predicted)


def test_no_video():
  with pytest.raises(ValueError, match="at least one video"):
    keypoints.pck([])
