"""Discs and trails: where they are, in whose colour."""

import numpy as np

from experiments.correspondence import drawing

GREY = np.full((60, 80, 3), 90, np.uint8)
NOWHERE = np.full(2, np.nan)


def test_colours_are_distinct():
  tints = drawing.colours(60).astype(int)
  assert drawing.colours(0).shape == (0, 3)
  apart = np.abs(tints[:, None] - tints).sum(-1) + 1000 * np.eye(60, dtype=int)
  assert apart.min() > 8 and apart[:8, :8].min() > 90


def test_a_disc_lies_at_its_point_and_nothing_else_changes():
  tints = drawing.colours(2)
  got = drawing.points(GREY, [np.array([(20.0, 30.0), (60.4, 9.6)])], tints)
  np.testing.assert_array_equal(got[30, 20], tints[0])
  np.testing.assert_array_equal(got[10, 60], tints[1])
  np.testing.assert_array_equal(got[30, 23], [255, 255, 255])  # the rim
  y, x = np.mgrid[:60, :80]
  far = np.minimum(np.hypot(x - 20, y - 30), np.hypot(x - 60.4, y - 9.6)) > 4
  np.testing.assert_array_equal(got[far], GREY[far])
  assert (GREY == 90).all()


def test_trails_fade_and_are_cut_where_the_point_was_lost():
  past = [np.array([(10.0 + 10 * t, 30.0)]) for t in range(6)]
  got = drawing.points(GREY, past, np.uint8([[255, 0, 0]])).astype(int)
  trail = got[30, [12, 22, 32, 42], 0]
  assert (np.diff(trail) > 0).all() and trail[0] > 90
  past[2] = NOWHERE[None]
  cut = drawing.points(GREY, past, np.uint8([[255, 0, 0]]))
  assert (cut[30, 22:38] == 90).all() and cut[30, 12, 0] > 90
  past[-1] = NOWHERE[None]
  gone = drawing.points(GREY, past, np.uint8([[255, 0, 0]]))
  assert (gone[26:35, 54:66] == 90).all()


def test_points_at_the_edges():
  for place in ((-0.5, -0.5), (79.5, 59.5), (0, 59), (79.5, 0)):
    got = drawing.points(GREY, [np.array([place])], np.uint8([[255, 0, 0]]))
    assert (got != GREY).any() and got.shape == GREY.shape
