"""What a run of representations leaves to read: numbers by item, and whether an export equals."""

import dataclasses

import numpy as np
import pytest

from experiments import classify, cycle_contrast
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


def test_an_export_that_describes_nothing_in_common():
  with pytest.raises(RuntimeError, match="no view in common"):
    results.check_equal(reports(), dataclasses.replace(reports(), features={}))
  plain = dataclasses.replace(reports(), features={})  # tracking alone
  assert results.check_equal(plain, plain)


def test_what_a_run_was_trained_by():
  c = classify.get_config("ucf101").to_dict() | {"seed": 3}
  c["method"]["weights"] = "a/b.safetensors"
  tail = "clips of 8 frames of 224 x 224 pixels, seed 3."
  head = "Backbone slow_r50 of width 64, global average pooling, trained from a/b.safetensors"
  assert results._trained(c, {"videos": 9537, "start": "ProViCo on kinetics400 train, 375000 steps "
                                                       "of 128"}) == (
      f"{head} (ProViCo on kinetics400 train, 375000 steps of 128) on the data set 'ucf101': 29803 "
      f"steps of 64 videos (200 epochs of 9537), {tail}")
  # A file that tells nothing; runs of before, which know of neither.
  plain = f"{head} on the data set 'ucf101': 29803 steps of 64 videos, {tail}"
  for facts in ({"start": "", "videos": 0}, {"method.weights": "x", "data": "y"}, {}):
    assert results._trained(c, facts) == plain
  c = cycle_contrast.get_config().to_dict()
  assert "trained from random weights on the data set 'procedural': " in results._trained(c, {})


@pytest.mark.parametrize("steps, batch, videos, words", [
    (10, 4, 40, "1 epoch of 40"), (2, 4, 6, "1.33 epochs of 6"), (0, 4, 6, "0 epochs of 6"),
    (7000, 64, 100, "4480 epochs of 100")])
def test_epochs(steps, batch, videos, words):
  assert results._epochs({"steps": steps, "batch": batch}, videos) == f" ({words})"
