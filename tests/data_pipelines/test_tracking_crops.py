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
