"""Cropping, resizing and mirroring against Pillow, slow twins and tables worked by hand."""

import numpy as np
import pytest
from PIL import Image

from data_pipelines.augment import geometry
from data_pipelines.augment.geometry import (
  INTERPOLATION,
  crop_resize,
  flip,
  random_resized_crop_box,
  resize_bilinear,
  resize_crop,
)
from tests.reference import augment as reference

SHAPES = [(1, 1, 1), (2, 1, 40), (1, 40, 1), (3, 17, 23)]


def random_frames(shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def smooth_frames(shape, seed=0):
  """Random colours, blown up: neighbouring pixels are alike."""
  t, h, w = shape
  small = random_frames((t, max(1, h // 8), max(1, w // 8)), seed)
  return np.stack([np.asarray(Image.fromarray(f).resize((w, h), Image.Resampling.BICUBIC))
                   for f in small])


@pytest.mark.parametrize("interpolation", INTERPOLATION)
def test_crop_resize_is_cropping_and_then_resizing(interpolation):
  frames = random_frames((2, 20, 30))
  got = crop_resize(frames, (3, 4, 11, 20), 16, 9, interpolation)
  for frame, made in zip(frames, got, strict=True):
    want = Image.fromarray(frame).crop((4, 3, 24, 14)).resize((9, 16), INTERPOLATION[interpolation])
    np.testing.assert_array_equal(made, np.asarray(want))


def test_crop_resize_does_not_look_outside_the_box():
  frames = random_frames((1, 20, 30))
  other = random_frames((1, 20, 30), seed=1)
  other[:, 3:14, 4:24] = frames[:, 3:14, 4:24]
  box = (3, 4, 11, 20)
  np.testing.assert_array_equal(crop_resize(frames, box, 40, 7), crop_resize(other, box, 40, 7))


def test_a_box_for_each_frame():
  frames = random_frames((3, 20, 30))
  boxes = np.array([(0, 0, 20, 30), (5, 6, 1, 1), (10, 2, 8, 9)])
  got = crop_resize(frames, boxes, 8, 9)
  for t in range(3):
    np.testing.assert_array_equal(got[t:t + 1], crop_resize(frames[t:t + 1], boxes[t], 8, 9))
  np.testing.assert_array_equal(got[2], frames[2, 10:18, 2:11])  # no change of size
  assert (got[1] == frames[1, 5, 6]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_whole_picture_at_its_own_size_is_the_picture(shape):
  frames = random_frames(shape)
  h, w = shape[1:]
  np.testing.assert_array_equal(crop_resize(frames, (0, 0, h, w), h, w), frames)
  np.testing.assert_array_equal(resize_crop(frames, h, w, (0, 0, h, w)), frames)
  np.testing.assert_array_equal(resize_bilinear(frames, h, w), frames)


@pytest.mark.parametrize("size, box", [((40, 60), (0, 0, 24, 24)), ((40, 60), (16, 36, 24, 24)),
                                       ((13, 21), (3, 5, 7, 9)), ((50, 48), (0, 1, 50, 47))])
def test_resize_crop_is_resizing_and_then_cropping(size, box):
  frames = smooth_frames((2, 48, 64))
  top, left, h, w = box
  got = resize_crop(frames, *size, box)
  assert got.shape == (2, h, w, 3)
  for frame, made in zip(frames, got, strict=True):
    whole = np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR))
    off = np.abs(whole[top:top + h, left:left + w].astype(int) - made)
    assert off.max() <= 2 and off.mean() < 0.15  # rounded between rows and columns, or the reverse


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (17, 40), (60, 3)])
def test_bilinear_against_four_taps_per_pixel(shape, size):
  frames = random_frames(shape)
  floats = np.random.default_rng(1).random((*shape, 3), np.float32)
  got, got_floats = resize_bilinear(frames, *size), resize_bilinear(floats, *size)
  assert got.dtype == np.uint8 and got_floats.dtype == np.float32
  for t in range(shape[0]):
    want = reference.resize_bilinear(floats[t].astype(np.float64), *size)
    np.testing.assert_allclose(got_floats[t], want, rtol=0, atol=1e-6)
    levels = reference.resize_bilinear(frames[t].astype(np.float64), *size)
    assert np.abs(got[t] - levels).max() < 0.5 + 1e-3


def test_bilinear_does_not_antialias():
  stripes = np.zeros((1, 4, 12, 3), np.uint8)
  stripes[:, :, 1::3] = 240  # a third of the size takes every centre
  assert (resize_bilinear(stripes, 4, 4) == 240).all()
  assert (crop_resize(stripes, (0, 0, 4, 12), 4, 4) < 200).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_flip(shape):
  frames = random_frames(shape)
  np.testing.assert_array_equal(flip(frames), frames[:, :, ::-1])
  np.testing.assert_array_equal(flip(flip(frames)), frames)


@pytest.mark.parametrize("function", [
  lambda f: crop_resize(f, (1, 1, 5, 6), 8, 8), lambda f: crop_resize(f, (1, 1, 5, 6), 5, 6),
  lambda f: resize_crop(f, 20, 24, (1, 1, 9, 9)), lambda f: resize_crop(f, 10, 12, (1, 1, 9, 9)),
  lambda f: resize_bilinear(f, 5, 6), lambda f: resize_bilinear(f, 10, 12), flip,
])
def test_results_are_new_contiguous_arrays(function):
  frames = random_frames((2, 10, 12))
  frames.flags.writeable = False
  view = random_frames((2, 10, 24))[:, :, ::-2]  # rows of pixels that do not follow each other
  for given in (frames, view):
    before = given.copy()
    got = function(given)
    assert got.dtype == np.uint8 and got.flags.c_contiguous and not np.shares_memory(got, given)
    np.testing.assert_array_equal(got, function(before))
    np.testing.assert_array_equal(given, before)


def test_boxes_have_the_areas_and_aspects_asked_for():
  height, width, rng = 300, 400, np.random.default_rng(0)
  boxes = np.array([random_resized_crop_box(rng, height, width, (0.08, 0.5)) for _ in range(4000)])
  top, left, h, w = boxes.T
  assert (top >= 0).all() and (top + h <= height).all()
  assert (left >= 0).all() and (left + w <= width).all()
  area, aspect = h * w / (height * width), w / h
  assert 0.078 < area.min() < 0.083 and 0.496 < area.max() < 0.502
  # Of such boxes nearly all fit at the first try, so areas are uniform, log aspects as well.
  quantiles = [0.1, 0.25, 0.5, 0.75, 0.9]
  np.testing.assert_allclose(np.quantile(area, quantiles), 0.08 + 0.42 * np.array(quantiles),
                             atol=0.015)
  assert 0.74 < aspect.min() < 0.76 and 1.31 < aspect.max() < 1.35
  span = np.log(4 / 3)
  np.testing.assert_allclose(np.quantile(np.log(aspect), quantiles),
                             span * (2 * np.array(quantiles) - 1), atol=0.03)
  # The place is uniform among those where the box fits.
  np.testing.assert_allclose(np.mean(top / (height - h)), 0.5, atol=0.03)
  np.testing.assert_allclose(np.mean(left / np.maximum(width - w, 1)), 0.5, atol=0.03)


@pytest.mark.parametrize("height, width, want", [
  (10, 1000, (0, 493, 10, 13)),  # widest allowed: 4/3 of 10, in the middle of 1000
  (1000, 10, (493, 0, 13, 10)),  # narrowest allowed: 10 / (3/4)
  (1, 40, (0, 19, 1, 1)),
  (40, 1, (19, 0, 1, 1)),
  (1, 1, (0, 0, 1, 1)),
])
def test_a_box_that_never_fits_becomes_the_largest_in_the_middle(height, width, want):
  rng = np.random.default_rng(0)
  assert random_resized_crop_box(rng, height, width, (1.0, 1.0)) == want


def test_wrong_arguments_are_named():
  frames = random_frames((2, 10, 12))
  with pytest.raises(ValueError, match="not inside 10x12"):
    crop_resize(frames, (0, 0, 11, 5), 4, 4)
  with pytest.raises(ValueError, match="not inside 10x12"):
    crop_resize(frames, (0, 0, 0, 5), 4, 4)
  with pytest.raises(ValueError, match="not inside 20x20"):
    resize_crop(frames, 20, 20, (15, 0, 8, 8))
  with pytest.raises(ValueError, match="'cubic'"):
    crop_resize(frames, (0, 0, 5, 5), 4, 4, "cubic")
  for wrong in (frames[0], frames[..., :2], frames[:0], frames.astype(np.float64), [1]):
    for function in (flip, lambda f: resize_bilinear(f, 4, 4),
                     lambda f: geometry.crop_resize(f, (0, 0, 5, 5), 4, 4)):
      with pytest.raises(ValueError, match="frames must be uint8"):
        function(wrong)
