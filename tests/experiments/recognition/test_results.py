"""What a run of representations leaves to read: numbers by item, and whether an export equals."""

import dataclasses

import numpy as np
import pytest

from experiments.recognition import results
from experiments.recognition.measures import Result
from experiments.recognition.results import Reports


def reports(r1=50.0, risk=float("nan"), features=None):
  items = {"R@1": {"a": 100.0, "b": 2 * r1 - 100}, "R@5": {"a": 100.0, "b": 100.0}}
  result = Result({"R@1": r1, "loss": 0.5}, {"R@1": r1, "R@5": 100.0, "risk": risk}, items, None)
  return Reports({"first": result, "second": result},
                 {"part": np.eye(3, 2) if features is None else features})


def test_numbers_are_by_evaluation_and_item():
  row = results.numbers(reports())
  assert row.pop("per_item") == {
      f"{head}/{name}": {"a": 100.0, "b": 100.0 if head == "R@5" else 0.0}
      for head in ("R@1", "R@5") for name in ("first", "second")}
  assert row == {"R@1/first": 50.0, "loss/first": 0.5, "R@1/second": 50.0, "loss/second": 0.5}


def test_an_equal_export():
  live = reports()
  assert "the same features to within 0e+00 of the largest" in results.check_equal(live, live)
  near = reports(52.0, features=np.eye(3, 2) * (1 + 5e-4))
  assert "within 5e-04 of the largest, the same numbers to within 2" in (
      results.check_equal(live, near))
  assert results.check_equal(reports(risk=80.0), reports(risk=81.0))


@pytest.mark.parametrize("other", [
    dict(features=np.eye(3, 2) * 1.002), dict(r1=44.0), dict(risk=80.0)])
def test_a_different_export(other):
  for pair in ((reports(), reports(**other)), (reports(**other), reports())):
    with pytest.raises(RuntimeError, match="the export differs from the model"):
      results.check_equal(*pair)


def test_an_export_that_gives_nothing_finite():
  bad = np.eye(3, 2)
  bad[0, 0] = np.nan
  with pytest.raises(RuntimeError, match="differs"):
    results.check_equal(reports(), dataclasses.replace(reports(), features={"part": bad}))
