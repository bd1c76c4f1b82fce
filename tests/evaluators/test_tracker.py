"""Responses to positions and sizes."""

import dataclasses

import numpy as np
import pytest

from tests.evaluators import moving
from vssl_jax.evaluators import matchers, tracker

PROTOCOL = tracker.PROTOCOLS["corrected"]
BOX = np.array([20.0, 30, 16, 16])


def bump(place, scale=1, n=17, s=3):
  """Responses with a peak at a cell (y, x) of one scale."""
  y, x = np.mgrid[:n, :n]
  out = np.zeros((s, n, n))
  out[scale] = np.exp(-((y - place[0])**2 + (x - place[1])**2) / 8)
  return out


def test_the_first_state():
  state = tracker.start(BOX, PROTOCOL)
  np.testing.assert_array_equal(state.box, BOX)
  np.testing.assert_array_equal(state.centre, [37.5, 27.5])
  assert state.exemplar == 32  # half of (16 + 16) added to both sides
  assert state.search == pytest.approx(32 * 255 / 127)
  oblong = tracker.start(np.array([0, 0, 30.0, 10]), PROTOCOL)
  assert oblong.exemplar == pytest.approx(np.sqrt(50 * 30))
  np.testing.assert_array_equal(oblong.size, [10, 30])


def test_a_peak_in_the_middle_moves_nothing():
  state = tracker.start(BOX, PROTOCOL)
  moved = tracker.move(state, bump((8, 8)), PROTOCOL)
  # An even number of pixels has no middle one.
  np.testing.assert_allclose(moved.box, BOX, atol=0.5 / 16 * 8 * 32 / 127)


@pytest.mark.parametrize("place", [(8, 10), (6, 8), (11, 5)])
def test_a_cell_is_its_stride_in_the_frame(place):
  """Without a window; the released protocol moves 17 / 18 as far on maps of 18 cells."""
  state = tracker.start(BOX, PROTOCOL)
  free = dataclasses.replace(PROTOCOL, window=0.0)
  pixel = 8 * 32 / 127
  moved = tracker.move(state, bump(place), free).centre - state.centre
  np.testing.assert_allclose(moved, pixel * (np.array(place) - 8), atol=0.6 * pixel / 16)
  released = dataclasses.replace(free, cells=17)
  wide = tracker.move(state, bump(np.add(place, 0.5), n=18), released).centre - state.centre
  np.testing.assert_allclose(wide, moved * 17 / 18, atol=1.2 * pixel / 16)


def test_a_cell_of_a_larger_search_is_larger():
  state = tracker.start(BOX, PROTOCOL)
  free = dataclasses.replace(PROTOCOL, window=0.0)
  moved = [tracker.move(state, bump((4, 12), scale), free).centre - state.centre
           for scale in (0, 1, 2)]
  np.testing.assert_allclose(moved[0] * 1.0375, moved[1], rtol=1e-9)
  np.testing.assert_allclose(moved[2], moved[1] * 1.0375, rtol=1e-9)


def test_sizes_follow_slowly():
  state = tracker.start(BOX, PROTOCOL)
  for scale, factor in ((0, 1 / 1.0375), (1, 1), (2, 1.0375)):
    moved = tracker.move(state, bump((8, 8), scale), PROTOCOL)
    grow = 0.41 + 0.59 * factor
    np.testing.assert_allclose(moved.size, state.size * grow)
    np.testing.assert_allclose([moved.exemplar, moved.search],
                               np.array([state.exemplar, state.search]) * grow)


def test_other_sizes_must_be_better_by_the_penalty():
  state = tracker.start(BOX, PROTOCOL)
  for ratio, changes in ((1.02, False), (1.03, True)):
    responses = bump((8, 8))
    responses[2] = ratio * responses[1]
    assert (tracker.move(state, responses, PROTOCOL).size[0] > 16) == changes


def test_the_window_prefers_small_moves():
  state = tracker.start(BOX, PROTOCOL)
  two = bump((8, 10)) + 1.02 * bump((1, 1))
  free = dataclasses.replace(PROTOCOL, window=0.0)
  assert abs(tracker.move(state, two, PROTOCOL).centre - state.centre).max() < 8
  assert abs(tracker.move(state, two, free).centre - state.centre).max() > 8


def test_enlarging_keeps_constants_and_slopes():
  weights = tracker.cubic(18, 272)
  np.testing.assert_allclose(weights.sum(1), 1)
  inner = weights[40:-40] @ np.arange(18.0)
  np.testing.assert_allclose(inner, (np.arange(40, 232) + 0.5) * 18 / 272 - 0.5, atol=0.06)
  assert tracker.hanning(9, 7).sum() == pytest.approx(1)


def test_frames_one_by_one_are_a_track():
  clip = moving.clip("a")
  matcher = matchers.Ridge(moving.colours)
  boxes = [box for box, _ in tracker.track(clip.frames, clip.truth["boxes"][0], matcher, PROTOCOL)]
  stepped = tracker.Tracker(matcher, PROTOCOL, clip.frames[0], clip.truth["boxes"][0])
  for frame, box in zip(clip.frames[1:], boxes[1:], strict=True):
    np.testing.assert_array_equal(stepped(frame), box)


def test_bad_input():
  for box in ([1, 2, 3], [1, 2, 0, 4], [np.nan, 1, 2, 3]):
    with pytest.raises(ValueError, match="the first box"):
      tracker.start(np.array(box), PROTOCOL)
  state = tracker.start(BOX, PROTOCOL)
  with pytest.raises(ValueError, match="3, h, w"):
    tracker.move(state, np.zeros((2, 5, 5)), PROTOCOL)
  with pytest.raises(ValueError, match="finite"):
    tracker.move(state, np.full((3, 5, 5), np.nan), PROTOCOL)
  for bad in ({"scales": 2}, {"window": 2.0}, {"stride": 0}, {"step": 0.0}):
    with pytest.raises(ValueError, match="impossible"):
      dataclasses.replace(PROTOCOL, **bad)
