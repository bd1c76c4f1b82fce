"""Tracking scores against a table worked by hand and a twin that counts frame by frame."""

import numpy as np
import pytest

from tests.reference import tracking as reference
from vssl_jax.metrics import tracking

NAN = (np.nan,) * 4


def draw(n=40, seed=0):
  """Boxes, some of them far off, some of them cut by a picture of 120 x 90."""
  rng = np.random.default_rng(seed)
  truth = np.concatenate([rng.uniform(-10, 100, (n, 2)), rng.uniform(1, 60, (n, 2))], 1)
  return truth, np.abs(truth + rng.normal(size=(n, 4)) * rng.choice([0, 3, 15], (n, 1)))


def test_table_by_hand():
  truth = np.array([[10, 10, 20, 20], [10, 10, 20, 20], [10, 10, 20, 20], [10, 10, 20, 20.0]])
  predicted = np.array([[0, 0, 1, 1],  # is given: counts as a hit
                        [20, 10, 20, 20],  # overlap 200 / 600, 10 pixels away
                        [10, 30, 20, 20],  # touches, 20 pixels away
                        [10, 31, 20, 20.0]])  # 21 away
  curves = tracking.otb(truth, predicted)
  want = np.full(21, 0.25)
  want[0], want[1:7], want[20] = 0.5, 0.5, 0  # an overlap of 1 doesn't exceed 1
  np.testing.assert_allclose(curves.success, want)
  assert curves.precision[[0, 9, 10, 19, 20, 21]].tolist() == [0.25, 0.25, 0.5, 0.5, 0.75, 1]
  assert curves.success_score == pytest.approx(want.mean())
  assert curves.precision_score == 0.75 and curves.success_rate == 0.25
  found = tracking.got10k(truth, predicted, (100, 100))
  np.testing.assert_allclose(found.values, [1 / 3, 0, 0])
  assert found.ao == pytest.approx(1 / 9) and found.sr50 == 0


def test_twins():
  truth, predicted = draw()
  truth[[7, 30]] = np.nan
  curves = tracking.otb(truth, predicted)
  success, precision = reference.otb(truth.tolist(), predicted.tolist())
  np.testing.assert_allclose(curves.success, success, rtol=1e-12)
  np.testing.assert_allclose(curves.precision, precision, rtol=1e-12)
  cover = np.random.default_rng(1).integers(0, 4, len(truth))
  runs = [predicted, draw(seed=2)[1]]
  found = tracking.got10k(truth, np.stack(runs), (120, 90), cover)
  np.testing.assert_allclose(found.values, reference.got10k(
    truth.tolist(), [r.tolist() for r in runs], (120, 90), cover), rtol=1e-9, atol=1e-12)


def test_overlaps_do_not_depend_on_order_place_or_unit():
  a, b = draw(seed=3)
  want = tracking.overlaps(a, b)
  np.testing.assert_allclose(tracking.overlaps(b, a), want)
  np.testing.assert_allclose(tracking.overlaps(a + (5, -3, 0, 0), b + (5, -3, 0, 0)), want)
  np.testing.assert_allclose(tracking.overlaps(3 * a, 3 * b), want, rtol=1e-9)
  np.testing.assert_allclose(tracking.overlaps(a, a), 1)


def test_boxes_without_area_overlap_nothing():
  flat = np.array([[5.0, 5, 0, 10], [5, 5, 10, 0]])
  assert tracking.overlaps(flat, flat).tolist() == [0, 0]
  assert tracking.otb(np.tile([1.0, 1, 9, 9], (2, 1)),
                      np.array([[1.0, 1, 9, 9], [1, 1, 0, 0]])).success[0] == 0.5


def test_absent_frames_are_left_out():
  truth, predicted = draw(6, seed=4)
  kept = tracking.otb(truth[[0, 1, 3, 4]], predicted[[0, 1, 3, 4]])
  truth[[2, 5]] = np.nan
  np.testing.assert_array_equal(tracking.otb(truth, predicted).success, kept.success)
  assert len(tracking.got10k(truth, predicted, (99, 99)).values) == 3
  assert np.isnan(tracking.got10k(truth[[0, 2]], predicted[[0, 2]], (99, 99)).ao)


def test_totals():
  curves = [tracking.otb(*draw(n, seed=n)) for n in (5, 50)]
  total = tracking.otb_total(curves)
  np.testing.assert_allclose(total.success, (curves[0].success + curves[1].success) / 2)
  pooled = tracking.got10k_total([tracking.Overlaps(np.ones(3)), tracking.Overlaps(np.zeros(1))])
  assert pooled.ao == pooled.sr50 == pooled.sr75 == 0.75  # long sequences weigh more
  np.testing.assert_array_equal(pooled.curve[[0, 99, 100]], [0.75, 0.75, 0])
  for total in (tracking.otb_total, tracking.got10k_total):
    with pytest.raises(ValueError, match="to average over"):
      total([])


def test_clipping_keeps_the_far_side():
  boxes = np.array([[-5.0, -5, 20, 20], [90, 80, 20, 20], [150, 5, 20, 20]])
  np.testing.assert_array_equal(tracking.clip(boxes, (100, 90)),
                                [[0, 0, 20, 20], [90, 80, 10, 10], [100, 5, 0, 20]])


def test_bad_input():
  truth, predicted = draw(3)
  with pytest.raises(ValueError, match=r"\(3, 4\) and \(2, 4\)"):
    tracking.otb(truth, predicted[:2])
  predicted[1, 2] = np.nan
  with pytest.raises(ValueError, match="frame 1: the prediction"):
    tracking.otb(truth, predicted)
  with pytest.raises(ValueError, match="negative"):
    tracking.otb(truth, -truth)
  with pytest.raises(ValueError, match="no frame"):
    tracking.otb(np.array([NAN, NAN]), truth[:2])
  with pytest.raises(ValueError, match=r"cover \(2,\)"):
    tracking.got10k(truth, truth, (9, 9), np.ones(2))
  with pytest.raises(ValueError, match="R, T, 4"):
    tracking.got10k(truth, np.zeros((0, 3, 4)), (9, 9))
