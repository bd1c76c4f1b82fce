import numpy as np
import pytest
from matplotlib.colors import to_hex

from vssl_jax.evaluators import figures_attention as figures

ATTENTION = {"a": np.array([0.5, 0.25, 0.25]), "b": np.array([0.1, 0.9])}
STRIPS = {"a": np.zeros((3, 8, 8, 3), np.uint8), "b": np.full((2, 8, 8, 3), 99, np.uint8)}


def embed(inputs):
  """Attention by the first feature."""
  mask = np.arange(inputs["x"].shape[1]) < inputs["length"][:, None]
  weights = np.where(mask, inputs["x"][..., 0], 0)
  return {"attention": weights / weights.sum(axis=1, keepdims=True)}


def test_received_is_cut_to_the_frames_of_each_video():
  x = {"a": np.array([[2.0], [1], [1]]), "b": np.arange(1.0, 12)[:, None], "empty": np.ones((0, 1))}
  got = figures.received(embed, x, ["b", "a", "empty", "absent"])
  assert list(got) == ["b", "a"]
  np.testing.assert_allclose(got["a"], ATTENTION["a"])
  np.testing.assert_allclose(got["b"], np.arange(1, 12) / 66)
  assert figures.received(lambda inputs: {"video": 0}, x, ["a"]) is None


def test_filler_share_by_hand():
  filler = {"a": np.array([True, False, False]), "b": np.array([True, True]), "c": np.ones(1, bool)}
  got, have = figures.filler_share(ATTENTION, filler)
  assert got == pytest.approx((0.5 + 1) / 2)
  assert have == pytest.approx((1 / 3 + 1) / 2)


def bars(page):
  return [[(p.get_height(), to_hex(p.get_facecolor()).upper()) for p in axes.patches]
          for axes in page.axes if axes.patches]


def test_bars_tell_the_difference_from_equal_shares():
  filler = {"b": np.array([True, False])}
  a, b = bars(figures.attention_figure(ATTENTION, STRIPS, filler=filler))
  assert [h for h, _ in a] == pytest.approx([0.5, -0.25, -0.25])
  assert [h for h, _ in b] == pytest.approx([-0.8, 0.8])
  assert {colour for _, colour in a} == {figures.SHOWN}
  assert [colour for _, colour in b] == [figures.FILLER, figures.SHOWN]


def test_neighbours_of_long_videos_are_put_together():
  n = 3 * figures.MOST_FRAMES
  values = np.arange(n) / np.arange(n).sum()
  (row,) = bars(figures.attention_figure({"v": values}, {"v": np.zeros((n, 4, 4, 3), np.uint8)}))
  assert len(row) == figures.MOST_FRAMES
  assert [h for h, _ in row] == pytest.approx(values.reshape(-1, 3).mean(axis=1) * n - 1)


def test_frames_and_words():
  page = figures.attention_figure(ATTENTION, STRIPS, about="A sentence.", title="A title")
  images = [image.get_array() for axes in page.axes for image in axes.images]
  assert [int(np.max(image)) for image in images] == [0, 0, 0, 99, 99]
  shown = [t.get_text() for t in page.texts]
  assert {"A title", "A sentence.", "a", "b", "3 frames"} <= set(shown)
  page.draw_without_rendering()
  width, height = page.bbox.size
  for text in page.texts:
    box = text.get_window_extent()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text


def test_wrong_input():
  with pytest.raises(ValueError, match="no video"):
    figures.attention_figure({}, {})
  with pytest.raises(ValueError, match="'a' has attention for 3 frames and 2 frames"):
    figures.attention_figure({"a": ATTENTION["a"]}, {"a": STRIPS["b"]})
