"""Crops for training a tracker: place, size, interpolations, borders."""

import numpy as np
import pytest

from data_pipelines import tracking_crops


def spot(box, size=(90, 120)):
  """A white target on black."""
  x, y, w, h = box
  image = np.zeros((*size, 3), np.uint8)
  image[y:y + h, x:x + w] = 255
  return image


@pytest.mark.parametrize("box", [(50, 40, 20, 20), (10, 30, 30, 14), (0, 0, 16, 16),
                                 (104, 74, 16, 16)])
def test_the_target_is_in_the_middle_and_of_the_right_size(box):
  crop = tracking_crops.square(spot(box), np.array(box), np.random.default_rng(0)) / 255
  mass = crop[..., 0] * (crop[..., 0] > 0.5)
  y, x = np.mgrid[:255, :255]
  side = np.sqrt((box[2] + sum(box[2:]) / 2) * (box[3] + sum(box[2:]) / 2)) * 255 / 120
  scale = 255 / side
  assert mass.sum() == pytest.approx(box[2] * box[3] * scale**2, rel=0.15)
  for axis in (y, x):
    assert (mass * axis).sum() / mass.sum() == pytest.approx(127, abs=0.8 * scale)


def test_outside_is_the_mean():
  image = spot((0, 0, 16, 16))
  crop = tracking_crops.square(image, np.array([0, 0, 16, 16]), np.random.default_rng(1))
  assert (crop[:80, :80] == np.rint(image.mean())).all()


def test_the_target_is_where_the_offset_says():
  box, image, rng = np.array([50, 36, 24, 16]), spot((50, 36, 24, 16)), np.random.default_rng(2)
  y, x = np.mgrid[:255, :255]
  for _ in range(10):
    other = tracking_crops.jittered(box, rng, 0.2, 0.1)
    crop = tracking_crops.square(image, other, rng)[..., 0] / 255
    mass = crop * (crop > 0.5)
    found = np.array([(mass * y).sum(), (mass * x).sum()]) / mass.sum() - 127
    offset = tracking_crops.offset(box, other)
    assert offset.dtype == np.float32
    np.testing.assert_allclose(found, offset, atol=3)  # a pixel of the image is more than two
  np.testing.assert_array_equal(tracking_crops.offset(box, box), 0)


def test_jitter_is_laplaces_and_has_limits():
  rng, box = np.random.default_rng(0), np.array([10.0, 20, 40, 80])
  drawn = np.array([tracking_crops.jittered(box, rng, 0.2, 1 / 15) for _ in range(4000)])
  centre = lambda b: b[..., :2] + (b[..., 2:] - 1) / 2  # noqa: E731
  shift = (centre(drawn) - centre(box)) / box[2:]
  zoom = drawn[:, 2:] / box[2:] - 1
  for noise, scale, most in ((shift, 0.2, 0.5), (zoom, 1 / 15, 0.4)):
    np.testing.assert_allclose(np.median(np.abs(noise), 0), scale * np.log(2), rtol=0.1)
    # Half of the values are within b log 2, three quarters within b log 4.
    np.testing.assert_allclose(np.quantile(np.abs(noise), 0.75, 0), scale * np.log(4), rtol=0.1)
    np.testing.assert_allclose(np.abs(noise).max(), most)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.05
  np.testing.assert_allclose(tracking_crops.jittered(box, rng, 0, 0), box)


@pytest.mark.parametrize("keep", [None, 120])
def test_augmentation_keeps_the_middle_nearly(keep):
  crop = np.zeros((255, 255, 3), np.uint8)
  crop[117:138, 117:138] = 255
  rng, places, sums = np.random.default_rng(0), [], []
  for _ in range(20):
    out = tracking_crops.augmented(crop, rng, keep)[..., 0] / 255
    assert out.shape == ((keep or 239),) * 2
    y, _ = np.mgrid[:len(out), :len(out)]
    places.append((out * y).sum() / out.sum() - (len(out) - 1) / 2)
    sums.append(np.sqrt(out.sum()) / 21)
  assert 2 < np.max(np.abs(places)) < 5.5 and np.std(places) > 1
  assert 0.94 < min(sums) < 0.97 and 1.03 < max(sums) < 1.06


@pytest.mark.parametrize("name", tracking_crops.INTERPOLATIONS)
@pytest.mark.parametrize("n, m", [(7, 7), (10, 4), (5, 12)])
def test_interpolations(name, n, m):
  """Constants stay, equal sizes change nothing, and a slope stays one inside."""
  weights = tracking_crops.taps(n, m, name)
  np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
  if n == m:
    np.testing.assert_allclose(weights, np.eye(n), atol=1e-6)
  inner = (weights @ np.arange(n))[m // 3:-(m // 3)]
  want = ((np.arange(m) + 0.5) * n / m - 0.5)[m // 3:-(m // 3)]
  np.testing.assert_allclose(inner, want, atol=1.3 if name == "nearest" else 0.3)


def test_resize_by_hand():
  row = np.array([0, 100, 200, 40], np.uint8)
  image = np.broadcast_to(row[:, None, None], (4, 4, 3))

  def column(name):
    return tracking_crops.resize(image, 2, name)[:, 0, 0].tolist()

  assert column("linear") == column("area") == [50, 120]
  assert column("nearest") == [0, 200]
  a, b, c = -0.09375, 0.59375, -0.09375  # a = -3/4 between two pixels
  np.testing.assert_allclose(column("cubic"), [0 * (a + b) + 100 * b + 200 * c,
                                               100 * a + 200 * b + 40 * (b + c)], atol=0.51)
