import types

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from vssl_jax.evaluators import figures, retrieval

LABELS = {"q1": {"ND": ["a"], "DS": ["b"]}, "q2": {"ND": ["c"]}, "q3": {"ND": ["d"]}}
DATABASE = ["a", "b", "c", "d", "e", "f"]


@pytest.fixture
def evaluator():
  rng = np.random.default_rng(0)
  x = {name: rng.standard_normal((int(rng.integers(4, 9)), 8)) for name in ["q1", "q2", *DATABASE]}
  x["q3"] = x["d"][1:]  # the only certain match
  data = types.SimpleNamespace(queries=["q1", "q2", "q3"], database=DATABASE, annotation=LABELS)
  return retrieval.make(data, x, similarities=("chamfer",), progress=False)


def flipped(inputs):
  """Another embedding, so that two reports differ."""
  return retrieval.mean_pool({**inputs, "x": inputs["x"] * np.arange(8)})


def pixels(name):
  return np.full((30, 40, 3), 20 * (1 + ord(name[0]) % 10), np.uint8)


def strip(name):
  return np.stack([pixels(name)] * 3)


def frame_colours(figure):
  return [to_hex(p.get_edgecolor()) for axes in figure.axes for p in axes.patches]


def words(figure):
  return [text.get_text() for text in figure.texts]


def draw(evaluator, embeds, **kwargs):
  reports = {name: evaluator.report(embed) for name, embed in embeds.items()}
  pair = figures.best_match(list(reports.values())[-1], "chamfer")
  matrices = {name: evaluator.frame_matrix(embed, *pair) for name, embed in embeds.items()}
  return reports, figures.retrieval_figure(reports, matrices=matrices, pair=pair,
                                           thumbnail=pixels, strip=strip, **kwargs)


def test_best_match_is_the_highest_true_match(evaluator):
  report = evaluator.report(retrieval.mean_pool)
  assert figures.best_match(report, "chamfer") == ("q3", "d")


def test_best_match_needs_one(evaluator):
  data = types.SimpleNamespace(queries=["q1"], database=["a"], annotation={"q1": {"ND": ["z"]}})
  report = retrieval.make(data, evaluator.descriptors, progress=False).report(retrieval.mean_pool)
  with pytest.raises(ValueError, match="no query has a true match"):
    figures.best_match(report, "chamfer")


def test_queries_are_spread_from_best_to_worst(evaluator):
  report = evaluator.report(retrieval.mean_pool)
  values = report.results["chamfer"]["DSVR"].per_query
  order = figures.spread_queries(report, "chamfer", 9)
  assert sorted(order) == ["q1", "q2", "q3"]
  assert [values[q] for q in order] == sorted(values.values(), reverse=True)
  assert figures.spread_queries(report, "chamfer", 2) == [order[0], order[-1]]


def test_frames_are_green_for_true_matches_and_red_for_distractors(evaluator):
  reports, figure = draw(evaluator, {"mean": retrieval.mean_pool, "other": flipped}, top=4)
  queries = figures.spread_queries(reports["other"], "chamfer", 4)
  want = []
  for query in queries:
    want.append(figures.QUERY)
    for report in reports.values():
      top = [report.label(query, video) for video, _ in report.ranked(query, "chamfer", 4)]
      want += [figures.WRONG if label == "distractor" else figures.RIGHT for label in top]
  assert frame_colours(figure) == want
  assert {figures.RIGHT, figures.WRONG} <= set(want)


def test_words_tell_label_score_and_precision(evaluator):
  reports, figure = draw(evaluator, {"mean of frames": retrieval.mean_pool}, queries=["q3"],
                         title="A title")
  shown, report = words(figure), reports["mean of frames"]
  assert "A title" in shown and "mean of frames" in shown and "DSVR AP 1.000" in shown
  assert "1. ND" in shown and "2. distractor" in shown
  for _, score in report.ranked("q3", "chamfer", 5):
    assert f"{score:.3f}" in shown


def test_matrix_is_drawn_as_it_is(evaluator):
  _, figure = draw(evaluator, {"mean": retrieval.mean_pool, "other": flipped})
  want = [evaluator.frame_matrix(embed, "q3", "d") for embed in (retrieval.mean_pool, flipped)]
  drawn = [image for axes in figure.axes for image in axes.images if image.get_array().ndim == 2]
  for image, matrix in zip(drawn, want, strict=True):
    np.testing.assert_array_equal(image.get_array(), matrix)
    assert image.get_clim() == (min(0, *(m.min() for m in want)), 1)


def test_saved_picture_shows_the_thumbnails_and_needs_no_display(evaluator, tmp_path):
  backend = matplotlib.rcParams["backend"]
  _, figure = draw(evaluator, {"mean": retrieval.mean_pool}, queries=["q3", "q1"])
  figures.save(figure, tmp_path / "retrieval.png", dpi=60)
  assert matplotlib.rcParams["backend"] == backend
  with Image.open(tmp_path / "retrieval.png") as image:
    seen = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert image.format == "PNG"
  for name in ("q3", "d"):
    assert np.all(seen == pixels(name)[0, 0], axis=1).sum() > 200


def test_nothing_lies_outside_the_page(evaluator):
  for embeds in ({"mean": retrieval.mean_pool}, {"mean": retrieval.mean_pool, "other": flipped}):
    _, figure = draw(evaluator, embeds)
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    for text in figure.texts:
      box = text.get_window_extent()
      assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text
