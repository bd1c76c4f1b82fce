"""Colours and blur: Pillow's arithmetic, values worked by hand, distributions of parameters."""

import collections

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data_pipelines.augment import colour
from tests.reference import augment as reference

SHAPES = [(1, 1, 1), (2, 1, 40), (1, 40, 1), (3, 17, 23)]
CHANGES = {
  "brightness": lambda f, x: colour.brightness(f, x),
  "contrast": lambda f, x: colour.contrast(f, x),
  "saturation": lambda f, x: colour.saturation(f, x),
  "hue": lambda f, x: colour.hue(f, x - 1),
  "blur": lambda f, x: colour.gaussian_blur(f, np.abs(x - 1)),
}  # by a number that is 1 where nothing changes


def random_frames(shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def pixels(*rows):
  return np.array(rows, np.uint8).reshape(1, 1, -1, 3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_change_leaves_every_pixel(change, shape):
  frames = random_frames(shape)
  np.testing.assert_array_equal(change(frames, 1.0), frames)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_value_for_each_frame(change, shape):
  frames = random_frames(shape)
  frames.flags.writeable = False
  values = np.array([1.3, 0.75, 1.0])[:shape[0]]
  got = change(frames, values)
  assert got.dtype == np.uint8 and got.flags.c_contiguous and got.shape == frames.shape
  for t, value in enumerate(values):
    np.testing.assert_array_equal(got[t:t + 1], change(frames[t:t + 1], value))
  np.testing.assert_array_equal(change(frames[:, :, ::-1], values),
                                change(frames[:, :, ::-1].copy(), values))


def test_a_wrong_number_of_values_is_refused():
  with pytest.raises(ValueError):
    colour.brightness(random_frames((3, 4, 4)), np.ones(2))


def test_brightness_scales_cuts_off_fractions_and_saturates():
  got = colour.brightness(pixels([101, 200, 3], [0, 255, 1]), 1.5)
  np.testing.assert_array_equal(got, pixels([151, 255, 4], [0, 255, 1]))
  assert not colour.brightness(random_frames((1, 4, 4)), 0.0).any()


def test_contrast_is_about_the_frames_own_mean_luma():
  # Luma of grey is grey: the means are 50 and 150.5, which is rounded to 151.
  frames = np.concatenate([pixels([0] * 3, [100] * 3), pixels([50] * 3, [251] * 3)])
  np.testing.assert_array_equal(colour.contrast(frames, 0.0)[:, 0, 0, 0], [50, 151])
  np.testing.assert_array_equal(colour.contrast(frames, 0.5)[..., 0].reshape(2, 2),
                                [[25, 75], [100, 201]])


def test_saturation_is_about_the_pixels_own_luma():
  frames = random_frames((2, 9, 7))
  want = np.array([reference.luma(p) for p in frames.reshape(-1, 3)]).reshape(2, 9, 7, 1)
  grey = np.broadcast_to(want, frames.shape)
  np.testing.assert_array_equal(colour.saturation(frames, 0.0), grey)
  np.testing.assert_array_equal(colour.grey(frames), grey)
  between = colour.saturation(frames, 0.5).astype(float)
  assert np.abs(between - (frames / 2 + grey / 2)).max() < 1


def test_hue_turns_red_to_green_to_blue_and_leaves_greys():
  frames = pixels([255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77])
  third = colour.hue(frames, 1 / 3)[0, 0].astype(int)
  want = [[0, 255, 0], [0, 0, 255], [255, 0, 0], [77, 77, 77]]
  assert np.abs(third - want).max() <= 6  # a step of 8-bit hue is six levels
  back = colour.hue(frames, -1 / 3)[0, 0].astype(int)
  assert np.abs(back - [[0, 0, 255], [255, 0, 0], [0, 255, 0], [77, 77, 77]]).max() <= 6


@pytest.mark.parametrize("turn", [0.06, -0.06, 0.3, -0.5, 0.5])
def test_hue_against_slow_twins(turn):
  frames = random_frames((1, 40, 40))
  got = colour.hue(frames, turn)[0].astype(int)
  off = np.abs(got - reference.hue_8bit(frames[0], turn))
  assert (off == 0).mean() > 0.99 and off.max() <= 8
  assert np.abs(got - reference.hue(frames[0], turn)).mean() < 2.5


def test_hsv_to_rgb_equals_pillows_for_every_colour():
  s, v = (x.astype(np.uint8).ravel() for x in np.meshgrid(range(256), range(256)))
  for level in range(256):
    h = np.full_like(s, level)
    bands = [Image.fromarray(x.reshape(256, 256)) for x in (h, s, v)]
    want = np.asarray(Image.merge("HSV", bands).convert("RGB")).reshape(-1, 3)
    np.testing.assert_array_equal(colour.rgb_from_hsv(h, s, v), want)


def test_jitter_makes_its_changes_in_the_order_given():
  frames = random_frames((2, 8, 8))
  values = dict(brightness=1.4, contrast=[0.7, 1.2], saturation=1.3, hue=0.1)
  for order in (("hue", "contrast", "brightness", "saturation"), ("saturation", "brightness"), ()):
    want = frames
    for name in order:
      want = getattr(colour, name)(want, values[name])
    np.testing.assert_array_equal(colour.colour_jitter(frames, **values, order=order), want)
  assert (colour.colour_jitter(frames, 1.4, 0.7, order=("brightness", "contrast"))
          != colour.colour_jitter(frames, 1.4, 0.7, order=("contrast", "brightness"))).any()
  with pytest.raises(ValueError, match=r"\['gamma'\]"):
    colour.colour_jitter(frames, order=("gamma",))


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_pillows(shape):
  frames = random_frames(shape)
  for sigma in (0.1, 0.7, 2.0):
    want = [np.asarray(Image.fromarray(f).filter(ImageFilter.GaussianBlur(sigma))) for f in frames]
    np.testing.assert_array_equal(colour.gaussian_blur(frames, sigma), want)


def test_blur_spreads_by_sigma():
  frames = np.zeros((1, 33, 33, 3), np.uint8)
  frames[:, :, 16] = 255
  profile = colour.gaussian_blur(frames, 2.0)[0, 16, :, 0].astype(float)
  spread = np.sqrt(np.sum(profile * (np.arange(33) - 16) ** 2) / profile.sum())
  assert abs(spread - 2.0) < 0.05 and abs(profile.sum() - 255) < 8


def test_parameters_of_jitter_are_uniform():
  rng = np.random.default_rng(0)
  drawn = [colour.jitter_params(rng, 0.4, 0.3, 1.5, 0.1) for _ in range(3000)]
  ranges = dict(brightness=(0.6, 1.4), contrast=(0.7, 1.3), saturation=(0, 2.5), hue=(-0.1, 0.1))
  for name, (low, high) in ranges.items():
    values = np.array([d[name] for d in drawn])
    assert low <= values.min() and values.max() <= high
    quantiles = np.array([0.01, 0.25, 0.5, 0.75, 0.99])
    np.testing.assert_allclose(np.quantile(values, quantiles), low + (high - low) * quantiles,
                               atol=0.04 * (high - low))
  orders = collections.Counter(d["order"] for d in drawn)
  assert len(orders) == 24 and all(abs(n - 125) < 5 * np.sqrt(125) for n in orders.values())


def test_no_widths_change_nothing():
  params = colour.jitter_params(np.random.default_rng(0))
  frames = random_frames((2, 5, 5))
  np.testing.assert_array_equal(colour.colour_jitter(frames, **params), frames)


def test_channels_are_dropped_as_often_as_the_specification_says():
  rng = np.random.default_rng(0)
  n = 12000
  counts = collections.Counter(colour.dropped_channels(rng) for _ in range(n))
  want = {(): 0.3} | dict.fromkeys([(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], 0.7 / 6)
  assert set(counts) == set(want)
  for channels, p in want.items():
    assert abs(counts[channels] / n - p) < 4 * np.sqrt(p * (1 - p) / n)
  assert {colour.dropped_channels(rng, 0.0) for _ in range(50)} == {()}


def test_dropping_channels_by_hand():
  frames = pixels([10, 20, 200])
  got = colour.drop_channels(frames, (1,))
  assert got.dtype == np.float32
  np.testing.assert_array_equal(got[0, 0, 0], [15, 0, 300])
  np.testing.assert_array_equal(colour.drop_channels(frames, (2, 0))[0, 0, 0], [0, 60, 0])
  np.testing.assert_array_equal(colour.drop_channels(frames, ()), frames)
  for wrong in [(0, 1, 2), (3,), (-1,)]:
    with pytest.raises(ValueError, match="up to two"):
      colour.drop_channels(frames, wrong)
