"""The figure of masks: which frames it shows, in which colours."""

import numpy as np
import pytest

from vssl_jax.evaluators import figures, masks
from vssl_jax.evaluators import figures_segmentation as draw


def predictions(count=5):
  for t in range(count):
    truth, predicted = np.zeros((2, 24, 32), np.uint8)
    truth[4:12, 4:12], predicted[4:12, 4 + t:12 + t] = 1, 1
    truth[0, 0] = 255
    yield np.full((24, 32, 3), 100, np.uint8), truth, predicted


def test_a_strip_keeps_the_frames_asked_for():
  strip = draw.strip("a", predictions(), [3, 0])
  assert strip.times == (0, 3)
  np.testing.assert_array_equal(np.nonzero(strip.predicted[1])[1].min(), 7)
  with pytest.raises(ValueError, match=r"a: no frames \(9,\)"):
    draw.strip("a", predictions(), [0, 9])


def test_objects_have_their_colours():
  frame, truth, _ = next(predictions())
  got = draw.overlay(frame, truth, strength=0.5)
  np.testing.assert_array_equal(got[8, 8], (0.5 * frame[8, 8] + 0.5 * masks.palette()[1]).round())
  assert (got[3, 3:12] == 255).all() and (got[20, 20] < 255).all() and (got[0, 0] < 255).all()


def test_the_figure_says_how_good_a_frame_is(tmp_path):
  strip = draw.strip("some-name", predictions(), [0, 2, 4])
  figure = draw.masks_figure([strip, strip])
  words = [t.get_text() for t in figure.texts]
  assert words.count("some-name") == 2 and words.count("frame 0, given") == 2
  assert "frame 2, J 0.60" in words and len(figure.axes) == 12
  figures.save(figure, tmp_path / "a.png", dpi=40)
  assert (tmp_path / "a.png").stat().st_size > 1000
  with pytest.raises(ValueError, match="at least one"):
    draw.masks_figure([])
