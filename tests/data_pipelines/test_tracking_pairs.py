"""Which pictures of a sequence a tracker is trained with."""

import numpy as np
import pytest

from data_pipelines import sample, tracking_pairs

IMAGE = (480, 640)  # height, width


@pytest.mark.parametrize("width, height, kept", [
  (100, 100, True), (20, 20, True), (19.9, 30, False), (30, 19.9, False),  # sides from 20
  (320, 240, True), (320.1, 200, False), (200, 240.1, False),  # half of the picture
  (20, 80, True), (20, 80.1, False), (80, 20, True), (80.1, 20, False),  # one to four
  (np.nan, np.nan, False), (0, 0, False), (50, 0, False)])
def test_limits_of_boxes(width, height, kept):
  boxes = np.array([[5, 5, 60, 60], [1, 1, width, height]])
  assert tracking_pairs.usable(boxes, IMAGE).tolist() == [0, 1][:1 + kept]


def test_limits_that_large_pictures_show():
  boxes = np.array([[0, 0, 500, 500], [0, 0, 501, 400], [0, 0, 25, 25], [0, 0, 25, 24]])
  assert tracking_pairs.usable(boxes, (2500, 2000)).tolist() == [0, 2]  # 1 % of 2500 is 25


@pytest.mark.parametrize("cover, kept", [
  ([8, 7, 3, 2, 1, 0], [0, 1, 2]),  # more than 2.4
  ([3, 2, 1, 0, 2, 1], [0, 1, 4]),  # more than 1
  ([1, 1, 1, 0, 1, 1], [])])
def test_hidden_objects(cover, kept):
  boxes = np.tile([10.0, 10, 50, 60], (6, 1))
  assert tracking_pairs.usable(boxes, IMAGE, np.array(cover)).tolist() == kept


def test_empty_sequence():
  assert tracking_pairs.usable(np.zeros((0, 4)), IMAGE, np.zeros(0)).tolist() == []


def test_pairs_are_drawn_among_them():
  rng, times = np.random.default_rng(0), np.arange(900) / 30

  def draw(frames):
    return tuple(sample.pair(times, (1, 99), among=np.array(frames), rng=rng).tolist())

  assert {draw([3, 50, 120, 400, 410]) for _ in range(300)} == {(3, 50), (50, 120), (400, 410)}
  assert draw([7, 800]) == (7, 800)
  assert {draw([0, 100, 200]) for _ in range(60)} == {(0, 0), (100, 100), (200, 200)}
