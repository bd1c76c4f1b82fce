"""Noise and blur: their strength, what they leave alone, refusals."""

import numpy as np
import pytest

from data_pipelines.augment import colour, corruption


def grey(level=128, shape=(3, 40, 40, 3)):
  return np.full(shape, level, np.uint8)


def test_noise_has_its_deviation_and_no_pattern():
  noisy = corruption.corrupt(grey(), "noise", 10.0, np.random.default_rng(0)).astype(float) - 128
  assert abs(noisy.mean()) < 0.5
  np.testing.assert_allclose(noisy.std(), 10, rtol=0.05)
  first, second = noisy[0].ravel(), noisy[1].ravel()
  assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
  assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.1


def test_noise_stays_in_range():
  for level in (0, 255):
    noisy = corruption.gaussian_noise(grey(level), 60.0, np.random.default_rng(1))
    assert noisy.dtype == np.uint8 and noisy.min() >= 0 and noisy.max() <= 255
    assert np.mean(noisy == level) > 0.4  # nothing wraps around


def test_blur_is_that_of_the_colours():
  frames = np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3), dtype=np.uint8)
  got = corruption.corrupt(frames, "blur", 1.5, np.random.default_rng(0))
  np.testing.assert_array_equal(got, colour.gaussian_blur(frames, 1.5))


@pytest.mark.parametrize("kind", corruption.STRENGTHS)
def test_strengths_begin_with_no_change(kind):
  frames = np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3), dtype=np.uint8)
  first, *more = corruption.STRENGTHS[kind]
  np.testing.assert_array_equal(
      corruption.corrupt(frames, kind, first, np.random.default_rng(0)), frames)
  changed = [np.abs(corruption.corrupt(frames, kind, s, np.random.default_rng(0)).astype(float)
                    - frames).mean() for s in more]
  assert 0 < changed[0] and sorted(changed) == changed and len(set(changed)) == len(changed)


def test_step_draws_its_strength():
  step = corruption.Noise((0.0, 40.0))
  stds = [step(grey(), np.random.default_rng(seed)).std() for seed in range(12)]
  assert min(stds) < 15 and 25 < max(stds) < 42
  np.testing.assert_array_equal(step(grey(), np.random.default_rng(3)),
                                step(grey(), np.random.default_rng(3)))


@pytest.mark.parametrize("args, message", [(("fog", 1.0), "'fog'.*noise, blur"),
                                           (("noise", -1.0), "strength=-1.0"),
                                           (("blur", float("nan")), "strength=nan")])
def test_refusals(args, message):
  with pytest.raises(ValueError, match=message):
    corruption.corrupt(grey(), *args, np.random.default_rng(0))


@pytest.mark.parametrize("sigma", [(-1.0, 2.0), (3.0, 2.0)])
def test_refusals_of_the_step(sigma):
  with pytest.raises(ValueError, match="least"):
    corruption.Noise(sigma)
