"""Differences of frames: values worked by hand, limits, refusals."""

import numpy as np
import pytest

from data_pipelines.augment import recipes
from data_pipelines.augment.differences import Differences
from data_pipelines.augment.steps import Chain


def clip(*levels):
  return np.stack([np.full((2, 2, 3), level, np.uint8) for level in levels])


@pytest.mark.parametrize("gain, want", [(1.0, [128, 138, 118, 0, 255]),
                                        (4.0, [128, 168, 88, 0, 255])])
def test_values(gain, want):
  """Steps of 0, +20, -20, -255, +255: half of each at a gain of 1; 127.5 rounds to 128."""
  got = Differences(gain)(np.concatenate([clip(235, 235, 255, 235), clip(255, 0, 255)]))
  np.testing.assert_array_equal(got[[0, 1, 2, 4, 5], 0, 0, 0], want)
  assert got.dtype == np.uint8 and got.shape == (6, 2, 2, 3)


def test_each_pixel_is_compared_with_itself():
  frames = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
  got = Differences()(frames).astype(int)
  want = 128 + (frames[1:].astype(int) - frames[:-1]) / 2
  assert np.abs(got - want).max() <= 0.5
  np.testing.assert_array_equal(Differences()(frames // 2 + 60), Differences()(frames // 2))


def test_after_a_recipe():
  step = Chain((recipes.contrastive_video(8), Differences()))
  frames = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)
  assert step(frames, np.random.default_rng(0)).shape == (4, 8, 8, 3)
  still = np.repeat(frames[:1], 3, axis=0)
  assert (step(still, np.random.default_rng(0)) == 128).all()


def test_refusals():
  with pytest.raises(ValueError, match="gain=0"):
    Differences(0)
  with pytest.raises(ValueError, match="two frames"):
    Differences()(clip(3))
