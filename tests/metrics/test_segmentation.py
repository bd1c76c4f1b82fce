"""J and F against loops over pixels, and the official tool's rules about frames and objects."""

import math

import numpy as np
import pytest

from tests.reference import segmentation as reference
from vssl_jax.metrics import segmentation


def blobs(seed, shape=(23, 31)):
  """A random smooth mask."""
  rng = np.random.default_rng(seed)
  y, x = np.indices(shape)
  mask = np.zeros(shape, bool)
  for _ in range(3):
    cy, cx, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(2, 7)
    mask |= (y - cy) ** 2 + (x - cx) ** 2 < r * r
  return mask


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bound", [0.008, 0.06, 3])
def test_values(seed, bound):
  a, b = blobs(seed), blobs(seed + 10)
  assert segmentation.region(a, b) == pytest.approx(reference.region(a, b))
  assert segmentation.contour(a, b, bound=bound) == pytest.approx(reference.contour(a, b, bound))
  assert set(map(tuple, np.argwhere(segmentation.boundary(a)))) == reference.boundary(a)


@pytest.mark.parametrize("shape, radius", [((9, 12), 0), ((9, 12), 3), ((5, 4), 7), ((1, 9), 2),
                                           ((6, 1), 2), ((1, 1), 1)])
def test_dilation_by_a_disk(shape, radius):
  mask = np.random.default_rng(0).uniform(size=shape) < 0.1
  mask[-1, 0] = True
  y, x = np.indices(shape)
  near = [(y - v) ** 2 + (x - u) ** 2 <= radius ** 2 for v, u in np.argwhere(mask)]
  np.testing.assert_array_equal(segmentation.dilate(mask, radius), np.any(near, axis=0))


def test_the_tolerance_is_a_share_of_the_diagonal():
  assert segmentation.tolerance(480, 854) == 8
  assert segmentation.tolerance(10, 10) == 1
  assert segmentation.tolerance(10, 10, 4) == 4


def test_void_pixels_do_not_count():
  a, b, void = blobs(0), blobs(1), blobs(2)
  assert segmentation.region(a, b, void) == reference.region(a & ~void, b & ~void)
  assert segmentation.contour(a, b, void) == reference.contour(a & ~void, b & ~void)


def test_statistics():
  rng = np.random.default_rng(0)
  for n in (1, 2, 3, 4, 7, 48, 300, 1000):  # beyond 256 the ends don't fit in 8 bits
    values = rng.uniform(size=n)
    values[rng.uniform(size=n) < 0.1] = math.nan
    got, want = segmentation.statistics(values), reference.statistics(values)
    np.testing.assert_allclose(got, want, rtol=1e-12)
  assert segmentation.statistics([0.5, 0.5]).recall == 0
  assert segmentation.statistics(np.linspace(1, 0, 1001)).decay == pytest.approx(0.75)
  assert math.isnan(segmentation.statistics([math.nan]).mean)


def maps(*rows):
  """T label maps of one row each."""
  return [np.array([row], np.uint8) for row in rows]


def test_sequence_by_hand():
  truth = maps([1, 1, 2, 0], [1, 1, 2, 255], [1, 1, 0, 2], [0, 0, 0, 0])
  predicted = maps([0] * 4, [1, 0, 2, 0], [1, 1, 0, 0], [9] * 4)
  got = segmentation.sequence("a", truth, predicted)  # the last frame isn't looked at
  np.testing.assert_allclose(got.j, [[0.5, 1], [1, 0]])
  assert got.f.shape == (2, 2) and got.f[0, 1] == 1 and got.f[1, 1] == 0


def test_an_object_that_leaves_and_comes_back():
  truth = maps([1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0])
  predicted = maps([1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0])
  got = segmentation.sequence("a", truth, predicted)
  np.testing.assert_array_equal(got.j, [[1, 0, 1]])
  np.testing.assert_array_equal(got.f, [[1, 0, 1]])


def test_means_run_over_objects():
  one = segmentation.Sequence(np.full((1, 4), 0.9), np.full((1, 4), 0.7))
  three = segmentation.Sequence(np.full((3, 8), 0.1), np.full((3, 8), 0.3))
  got = segmentation.total({"one": one, "three": three})
  assert tuple(got) == segmentation.NAMES
  want = [0.35, 0.3, 0.25, 0, 0.4, 0.25, 0]
  np.testing.assert_allclose(list(got.values()), want, atol=1e-12)


@pytest.mark.parametrize("truth, predicted, words", [
  (maps([1], [1]), maps([1], [1]), "seq: 2 frame.s.*at least 3"),
  (maps([0], [1], [1]), maps([0], [1], [1]), "seq: frame 0.*no object"),
  (maps([255], [1], [1]), maps([0], [1], [1]), "seq: frame 0.*no object"),
  (maps([1], [1], [1], [1]), maps([1], [1], [2], [1]), "seq: frame 2: predicted label 2.*up to 1"),
  (maps([1], [1], [1]), maps([1], [255], [1]), "seq: frame 1: predicted label 255"),
  (maps([1], [1], [1]), maps([1], [1, 1], [1]), "seq: frame 1: annotation .1, 1. and prediction"),
  (maps([1], [1], [1]), maps([1], [1]), "seq: predictions end after 2"),
  (maps([1], [1]), maps([1], [1], [1]), "seq: annotations end after 2"),
  ([np.ones((1, 1))] * 3, maps([1], [1], [1]), "seq: frame 0.*integers"),
  ([], [], "seq: 0 frame"),
])
def test_bad_input(truth, predicted, words):
  with pytest.raises(ValueError, match=words):
    segmentation.sequence("seq", truth, predicted)


def test_nothing_to_average():
  with pytest.raises(ValueError, match="no sequence"):
    segmentation.total({})
