import numpy as np
import pytest

from vssl_jax.evaluators import figures_curves


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
