"""Square crops against a twin that computes pixel by pixel."""

import numpy as np
import pytest

from tests.reference import tracking as reference
from vssl_jax.ops import crops


def image(h=23, w=31, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)


@pytest.mark.parametrize("centre, side", [
  ((11, 15), 9.3), ((11.5, 15.2), 16), ((1, 2), 13.7), ((22, 30), 12), ((11, 15), 80),
  ((-30, 5), 20), ((11, 31), 7), ((5, 5), 0.1)])
def test_against_the_twin(centre, side):
  got = crops.squares(image(), centre, [side], 16)[0]
  want = reference.square(image(), centre, max(side, 2), 16)
  assert np.abs(got - want).max() < 1 and np.abs(got - want).mean() < 0.4


def test_several_sides_are_crops_of_their_own():
  got = crops.squares(image(), (9, 14), [8, 12.5], 10)
  for crop, side in zip(got, (8, 12.5), strict=True):
    np.testing.assert_array_equal(crop, crops.squares(image(), (9, 14), [side], 10)[0])


def test_whole_pixels_stay_as_they_are():
  np.testing.assert_array_equal(crops.squares(image(), (11, 15), [16], 16)[0], image()[3:19, 7:23])


def test_beyond_the_border_is_the_mean():
  constant = np.full((20, 20, 3), (10, 20, 30), np.uint8)
  assert (crops.squares(constant, (0, 0), [12], 12)[0] == (10, 20, 30)).all()
  half = crops.squares(image(), (11, 0), [16], 16)[0]
  mean = np.rint(image().mean((0, 1)))
  assert (half[:, :8] == mean).all() and (half[:, 8:] == image()[3:19, :8]).all()


def test_bad_input():
  with pytest.raises(ValueError, match="uint8"):
    crops.squares(np.zeros((5, 5, 3)), (1, 1), [3], 4)
  with pytest.raises(ValueError, match="finite"):
    crops.squares(image(), (np.nan, 1), [3], 4)
