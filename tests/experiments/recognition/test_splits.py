"""Evaluations on several splits: which are one, and what they say together."""

import types

import numpy as np
import pytest

from experiments import provico
from experiments.recognition import results, splits
from experiments.recognition.measures import Result
from experiments.recognition.results import Reports

NAMES = ("linear1", "linear2", "linear3")


def test_what_differs_in_its_split_alone_is_one():
  evals = provico.get_config("ucf101").evals
  assert splits.groups(evals, evals) == {"linear": NAMES}
  assert splits.groups(evals, ["retrieval", "linear1", "linear3"]) == {
      "linear": ("linear1", "linear3")}
  assert splits.groups(evals, ["retrieval", "linear1"]) == {}


def test_the_same_split_twice_is_no_spread():
  evals = provico.get_config("ucf101").evals
  evals.linear2.data.update(train="train1", test="test1")
  assert splits.groups(evals, evals) == {}


@pytest.mark.parametrize("change", [dict(name="logistic"), dict(data=dict(name="hmdb51")),
                                    dict(views=dict(clips=3)), dict(args=dict(classes=7))])
def test_what_differs_in_more_is_not(change):
  evals = provico.get_config("ucf101").evals
  evals.linear2.update(change)
  assert splits.groups(evals, evals) == {}


def row(*tops, name="linear"):
  found = {f"{name}{i}": Result({"top1": x, **({"rare": 1.0} if i < 3 else {})},
                                {"linear": x}, {"linear": {"a": float(np.nan_to_num(x))}}, None)
           for i, x in enumerate(tops, 1)}
  return Reports(found, {}, {name: tuple(found)})


def test_mean_and_spread_are_in_table_and_results():
  reports = {"before": row(10.0, np.nan, 30.0), "after": row(60.0, 61.0, 65.0)}
  evals = {name: types.SimpleNamespace(about="some videos", bad=(), datasets=()) for name in NAMES}
  config = provico.get_config("ucf101")
  task = types.SimpleNamespace(config=config, evaluations=evals, missing=(), skipped={},
                               trained=config.to_dict(), facts={})
  lines = results.table(task, reports).splitlines()
  # What numbers have in common that may be compared (provico spec 11.3).
  assert " ".join(lines[-3:]).endswith(
      "Backbone slow_r50 of width 64, global average pooling, trained from random weights on the "
      "data set 'ucf101': 375000 steps of 128 videos, clips of 8 frames of 224 x 224 pixels, seed "
      "0.")
  assert lines[0].endswith("| linear, 3 splits")
  assert lines[2].split("|")[-1].strip() == "-"
  assert lines[3].split("|")[-1].strip() == "62.0 ± 2.6"  # the root of (4 + 1 + 9) / 2
  assert "linear, 3 splits: mean of linear1, linear2, linear3, ± their standard deviation." in lines
  found = results.numbers(reports["after"])
  assert found["top1/linear3"] == 65.0 and set(found["per_item"]) == {
      f"linear/{name}" for name in NAMES}
  assert found["over_splits"] == {"top1/linear": {
      "mean": 62.0, "std": pytest.approx(np.sqrt(7)), "splits": 3}}


def test_without_splits_nothing_is_said():
  alone = Reports({"linear1": row(5.0).by_eval["linear1"]}, {})
  assert "over_splits" not in results.numbers(alone) and list(alone.shown) == ["linear1"]
