"""The picture of followed points."""

import types

import numpy as np
import pytest

from vssl_jax.evaluators import figures, figures_points


def record(n=6, name="clip"):
  points = np.linspace(4, 20, n * 4).reshape(n, 2, 2)
  return types.SimpleNamespace(id=name, truth={"points": points})


def test_chosen_frames_carry_their_points(tmp_path):
  frames = [np.full((24, 32, 3), 20 * t, np.uint8) for t in range(6)]
  predicted = record().truth["points"] + 1
  predicted[5, 1] = -1
  strip = figures_points.strip(record(), iter(frames), predicted, 3)
  assert strip.times == (0, 2, 5)
  assert [int(f[0, 0, 0]) for f in strip.frames] == [0, 40, 100]
  np.testing.assert_array_equal(strip.predicted[1], predicted[2])
  page = figures_points.points_figure([strip, strip])
  pictures = [a for a in page.axes if a.images]
  assert len(pictures) == 6
  drawn = [len(c.get_offsets()) for c in pictures[2].collections]
  assert drawn == [2, 2, 1]  # two rings of truth, one disc: the other point is lost
  np.testing.assert_allclose(pictures[1].collections[2].get_offsets(), predicted[2])
  figures.save(page, tmp_path / "p.png")
  assert (tmp_path / "p.png").stat().st_size > 1000


def test_nothing_to_show():
  with pytest.raises(ValueError, match="at least one strip"):
    figures_points.points_figure([])
