import numpy as np
import pytest

from tests.evaluators.test_uncertainty import GALLERY, QUERY
from vssl_jax.evaluators import figures_uncertainty, uncertainty
from vssl_jax.types import ConfigError


def lines(panel):
  return {line.get_label(): line for line in panel.lines}


def test_failures_are_those_of_the_reports():
  reports = {"first": uncertainty.report(GALLERY, QUERY, bins=4),
             "trained": uncertainty.report(QUERY, GALLERY, bins=5)}
  page = figures_uncertainty.failures_figure(reports, measure="bhattacharyya")
  left, right = page.axes
  for row, report in reports.items():
    np.testing.assert_array_equal(lines(left)[row].get_ydata(),
                                  report.levels["bhattacharyya"]["recall"])
    np.testing.assert_array_equal(lines(right)[row].get_xydata().T,
                                  report.curves["bhattacharyya"])
    ratio = report.numbers["bhattacharyya/aurc_ratio"]
    assert any(f"{row} {ratio:.2f}" in t.get_text() for t in page.texts)
  assert lines(right)["trained"].get_linewidth() > lines(right)["first"].get_linewidth()
  best, chance = (line.get_ydata() for line in right.lines if line.get_label().startswith("_"))
  last = reports["trained"].areas["bhattacharyya"]
  np.testing.assert_allclose([np.mean(best), chance[0]], [last["best"], last["random"]])
  assert [t.get_text() for t in page.legends[0].get_texts()] == ["first", "trained"]


def test_training_is_drawn_by_steps():
  page = figures_uncertainty.training_figure([10, 20, 40], [3.0, 2.0, 1.0], [20.0, 50.0, 60.0])
  for panel, want in zip(page.axes, ([3, 2, 1], [20, 50, 60]), strict=True):
    line, = panel.lines
    np.testing.assert_array_equal(line.get_xydata().T, [[10, 20, 40], want])
  with pytest.raises(ConfigError, match="1 evaluations"):
    figures_uncertainty.training_figure([10], [3.0], [20.0])


@pytest.mark.parametrize("u", [[3.0, 2.0], [0.0, 0.0], [-3.0, -8.0], [2.0, -1.0]], ids=str)
def test_training_shows_uncertainty_of_any_sign(u):
  panel, _ = figures_uncertainty.training_figure([10, 20], u, [20.0, 50.0]).axes
  low, high = panel.get_ylim()
  assert low <= min(u) <= max(u) <= high and low < high
  assert low == 0 if min(u) >= 0 else min(u) - 1 < low < 0


def test_strengths_are_relative_medians():
  rng = np.random.default_rng(0)

  def found(name):
    return uncertainty.Strengths(name, np.array([0.0, 1, 4]), rng.uniform(1, 2, (3, 9)))

  rows = {row: [found("noise"), found("blur")] for row in ("first", "trained")}
  page = figures_uncertainty.strengths_figure(rows, units={"blur": "pixels"})
  assert [p.get_title(loc="left") for p in page.axes] == ["noise", "blur"]
  assert [p.get_xlabel() for p in page.axes] == ["strength", "strength (pixels)"]
  for k, panel in enumerate(page.axes):
    for row, each in rows.items():
      line = lines(panel)[row]
      np.testing.assert_array_equal(line.get_xdata(), [0, 1, 4])
      np.testing.assert_allclose(line.get_ydata(), np.median(each[k].u / each[k].u[0], axis=1))


def test_strengths_that_are_not_positive_are_differences():
  """One number at 0 or below, in any row and at any strength, and all panels show differences."""
  at, above = np.array([0.0, 1, 4]), np.array([[1.0, 2, 4], [2, 4, 8], [3, 6, 12]])
  below = above - 9
  for one in (below, above - 1, above - 12, -above):
    rows = {"first": [uncertainty.Strengths("noise", at, above)],
            "trained": [uncertainty.Strengths("noise", at, one)]}
    panel, *_ = figures_uncertainty.strengths_figure(rows).axes
    for row, u in (("first", above), ("trained", one)):
      np.testing.assert_allclose(lines(panel)[row].get_ydata(), np.median(u - u[0], axis=1))
    assert panel.get_ylabel() == "uncertainty, less that without"
  rows = {"trained": [uncertainty.Strengths("noise", at, below, clips=above)]}
  panel, *_ = figures_uncertainty.strengths_figure(rows).axes
  np.testing.assert_allclose(lines(panel)["trained"].get_ydata(), [1, 2, 3])
  assert panel.get_ylabel() == "uncertainty, of that without"


def test_strengths_are_of_the_clips_where_those_are_known():
  u = np.array([[1.0, 1], [2, 2], [3, 3]])
  row = [uncertainty.Strengths("blur", np.array([0.0, 1, 2]), u, clips=u[::-1])]
  panel, *_ = figures_uncertainty.strengths_figure({"trained": row}).axes
  np.testing.assert_allclose(lines(panel)["trained"].get_ydata(), [1, 2 / 3, 1 / 3])
  assert panel.get_title(loc="right") == "rank correlation -1.00 (trained)"


def test_nothing_to_draw():
  points = uncertainty.report(uncertainty.Row(QUERY.labels, QUERY.video), GALLERY)
  with pytest.raises(ConfigError, match="simclr: no uncertainty"):
    figures_uncertainty.failures_figure({"simclr": points})
  with pytest.raises(ConfigError, match="no report"):
    figures_uncertainty.failures_figure({})
  for rows in ({}, {"a": []}):
    with pytest.raises(ConfigError, match="same corruptions"):
      figures_uncertainty.strengths_figure(rows)
