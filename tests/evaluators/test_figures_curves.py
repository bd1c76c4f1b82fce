import types

import numpy as np
import pytest

from tests.reference import retrieval as reference
from vssl_jax.evaluators import figures_curves, retrieval


@pytest.fixture
def report():
  rng = np.random.default_rng(0)
  ids = ["q1", "q2", "gone", *"abcdef"]
  x = {name: rng.standard_normal((4, 8)) for name in ids if name not in ("gone", "f")}
  labels = {"q1": {"ND": ["a"], "IS": ["b", "f"]}, "q2": {"ND": ["c", "d"]}, "gone": {"ND": ["a"]}}
  data = types.SimpleNamespace(queries=["q1", "q2", "gone"], database=list("abcdef"),
                               annotation=labels)
  return retrieval.make(data, x, similarities=("cosine",), progress=False).report(
      retrieval.mean_pool)


def test_curves_are_means_over_queries_that_exist(report):
  got = figures_curves.report_curves(report, "cosine", points=5)
  assert list(got) == ["DSVR", "ISVR"]
  for task, relevant in (("DSVR", {"q1": {"a"}, "q2": {"c", "d"}}),
                         ("ISVR", {"q1": {"a", "b"}, "q2": {"c", "d"}})):
    want = []
    for row, query in enumerate(("q1", "q2")):
      scores = dict(zip("abcde", report.scores["cosine"][row].tolist(), strict=False))
      # As in the script of FIVR-200K, both queries come in at score 0.
      want.append(reference.interpolated(scores | {"itself": 0.0, "other": 0.0},
                                         relevant[query], points=5))
    np.testing.assert_allclose(got[task], np.mean(want, axis=0))
    assert got[task][-1] < 1


def test_lines_are_the_curves_one_panel_a_task():
  rng = np.random.default_rng(1)
  curves = {row: {task: np.sort(rng.uniform(size=11))[::-1] for task in ("DSVR", "ISVR")}
            for row in ("mean", "trained")}
  page = figures_curves.curves_figure(curves, similarity="symmetric_chamfer")
  assert [panel.get_title(loc="left") for panel in page.axes] == ["DSVR", "ISVR"]
  for panel, task in zip(page.axes, ("DSVR", "ISVR"), strict=True):
    lines = {line.get_label(): line for line in panel.lines}
    assert lines.keys() == curves.keys()
    for row, line in lines.items():
      np.testing.assert_array_equal(line.get_xdata(), np.linspace(0, 1, 11))
      np.testing.assert_array_equal(line.get_ydata(), curves[row][task])
    assert lines["mean"].get_color() != lines["trained"].get_color()
    assert lines["mean"].get_linestyle() != lines["trained"].get_linestyle()
  assert [t.get_text() for t in page.legends[0].get_texts()] == ["mean", "trained"]
  assert any("by symmetric chamfer" in t.get_text() for t in page.texts)


def test_nothing_to_draw():
  for curves in ({}, {"mean": {}}):
    with pytest.raises(ValueError, match="no curve"):
      figures_curves.curves_figure(curves)
