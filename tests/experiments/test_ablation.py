"""The arithmetic of ablation tables, worked by hand; and that the tables of tca.py can be run."""

import dataclasses

import ml_collections
import numpy as np
import pytest

from experiments import ablation, registry, tca
from experiments.ablation import Measured, Table
from vssl_jax.types import ConfigError


def measured(minutes=1.0, **columns):
  """`DSVR_cosine=[...]`: average precision of queries q0, q1, ..."""
  return Measured({name.replace("_", "/", 1): {f"q{i}": v for i, v in enumerate(values)}
                   for name, values in columns.items()}, minutes)


TABLE = Table("loss", "Losses", {"a": {}, "b": {"method.args.loss": "triplet"}, "c": {}},
              [("a", ">", "b"), ("a", "<", "b"), ("a", ">", "c")], note="A note.")
RESULTS = {
    "a": {0: measured(DSVR_cosine=[0.5, 0.7], DSVR_chamfer=[0.2, 0.2]),
          1: measured(2.0, DSVR_cosine=[0.7, 0.9], DSVR_chamfer=[0.4, 0.4])},
    "b": {0: measured(DSVR_cosine=[0.4, 0.6], DSVR_chamfer=[0.5, 0.5]),
          1: measured(DSVR_cosine=[0.6, 0.8], DSVR_chamfer=[0.5, 0.5])},
    "c": {0: measured(DSVR_cosine=[0.5, 0.7], DSVR_chamfer=[0.1, 0.1])}}


def test_means_and_standard_deviations_are_over_seeds():
  found = ablation.summarise(TABLE, RESULTS)
  cell = found["rows"]["a"]["DSVR/cosine"]
  assert cell["mean"] == pytest.approx(0.7)  # of 0.6 and 0.8
  assert cell["std"] == pytest.approx(0.2 / np.sqrt(2))
  assert cell["seeds"] == [0, 1]
  assert found["rows"]["c"]["DSVR/cosine"] == {"mean": pytest.approx(0.6), "std": None,
                                               "seeds": [0]}
  assert found["minutes"] == pytest.approx(6)


def test_other_numbers_of_a_run_are_shown_beside_and_not_judged():
  table = dataclasses.replace(TABLE, numbers={"risk": "clips/aurc_ratio/motion"})
  results = {row: {seed: dataclasses.replace(m, numbers={"clips/aurc_ratio/motion": 0.5 + seed})
                   for seed, m in by_seed.items() if row != "c"} or by_seed
             for row, by_seed in RESULTS.items()}
  found = ablation.summarise(table, results)
  assert found["rows"]["a"]["risk"] == {
      "mean": 1.0, "std": pytest.approx(0.5**0.5), "seeds": [0, 1], "plain": True}
  assert "risk" not in found["rows"]["c"]  # a method that has none
  assert found["expected"] == ablation.summarise(TABLE, RESULTS)["expected"]
  lines = ablation.markdown(found).splitlines()
  assert lines[2] == "|  | DSVR cosine | DSVR chamfer | risk | seeds |"
  assert lines[4] == "| a | **0.700 ± 0.141** | 0.300 ± 0.141 | 1 ± 0.707 | 2 |"
  assert lines[6] == "| c | 0.600 | 0.100 | - | 1 |"


def test_verdicts():
  first, second, third = ablation.summarise(TABLE, RESULTS)["expected"]
  for test, verdict, value in ((first, "holds", 0.1), (second, "doesn't hold", -0.1)):
    assert (test["column"], test["verdict"]) == ("DSVR/cosine", verdict)  # never by Chamfer
    assert (test["difference"], test["low"], test["high"]) == pytest.approx((value,) * 3)
    assert (test["seeds"], test["queries"]) == (2, 2)
  assert (third["verdict"], third["seeds"]) == ("within noise", 1)  # seed 0 is in both, and equal
  noisy = {**RESULTS, "b": {0: measured(DSVR_cosine=[0.6, 0.5]), 1: measured(DSVR_cosine=[0.6, 1])}}
  assert ablation.summarise(TABLE, noisy)["expected"][0]["verdict"] == "within noise"
  assert ablation.summarise(TABLE, {"a": RESULTS["a"]})["expected"][0] == {
      "claim": "a > b", "verdict": "not measured"}


def test_markdown():
  text = ablation.markdown(ablation.summarise(TABLE, RESULTS))
  assert text.splitlines() == [
      "## Losses", "",
      "|  | DSVR cosine | DSVR chamfer | seeds |",
      "|---|---|---|---|",
      "| a | **0.700 ± 0.141** | 0.300 ± 0.141 | 2 |",
      "| b | 0.600 ± 0.141 | **0.500 ± 0.000** | 2 |",
      "| c | 0.600 | 0.100 | 1 |", "",
      "Expected (difference, 95% interval):", "",
      "- a > b: DSVR cosine holds (+0.100, +0.100 to +0.100)",
      "- a < b: DSVR cosine doesn't hold (-0.100, -0.100 to -0.100)",
      "- a > c: DSVR cosine within noise (+0.000, +0.000 to +0.000)", "",
      "A note.", "", "6.0 minutes of runs."]


def test_splits_have_a_mean_once_all_are_there():
  table = Table("splits", "Splits", {"1": {}, "2": {}, "3": {}}, mean="mean")
  results = {str(n): {0: measured(top1_x=[a]), 1: measured(top1_x=[b])}
             for n, a, b in ((1, 0.5, 0.7), (2, 0.6, 1.0), (3, 0.7, 0.7))}
  found = ablation.summarise(table, results)
  assert list(found["rows"]) == ["1", "2", "3", "mean"]
  assert found["rows"]["mean"] == {"top1/x": {  # of 0.6, 0.8 and 0.7
      "mean": pytest.approx(0.7), "std": pytest.approx(0.1), "seeds": [0, 1]}}
  assert "| mean | 0.700 ± 0.100 | 2 |" in ablation.markdown(found)
  del results["2"]
  assert "| mean | - | 0 |" in ablation.markdown(ablation.summarise(table, results))


def test_a_row_without_results_is_told():
  text = ablation.markdown(ablation.summarise(TABLE, {"a": RESULTS["a"]}))
  assert "| a | **0.700 ± 0.141**" in text
  text = ablation.markdown(ablation.summarise(TABLE, {"a": RESULTS["a"], "b": {}}))
  assert "| b | - | - | 0 |" in text
  assert "- a > b: not measured" in text


def test_similarities_become_rows():
  table = Table("similarity", "By", {"x": {}}, [("cosine", ">", "chamfer")], by="similarity")
  results = {"x": {0: measured(DSVR_cosine=[0.5, 0.7], DSVR_symmetric_chamfer=[0.2, 0.3],
                               DSVR_chamfer=[0.2, 0.4], ISVR_cosine=[0.1], ISVR_chamfer=[0.4])}}
  found = ablation.summarise(table, results)
  assert list(found["rows"]) == ["cosine", "symmetric_chamfer", "chamfer"]
  assert found["rows"]["cosine"]["DSVR"]["mean"] == pytest.approx(0.6)
  assert [(t["column"], t["verdict"]) for t in found["expected"]] == [
      ("DSVR", "holds"), ("ISVR", "doesn't hold")]
  assert found["minutes"] == 1


def config():
  return ml_collections.ConfigDict({
      "seed": 5, "data": {"root": "", "queries": "", "annotations": "", "cache_dir": ""},
      "features": {"weights": "", "threads": 1}, "optim": {"rate": 0.5},
      "method": {"args": {"loss": "circle", "size": 4}}}).lock()


def test_equal_configs_are_run_once(tmp_path):
  tables = [Table("one", "", {"a": {}, "b": {"method.args.size": 8}}),
            Table("two", "", {"c": {"method.args.size": 4}, "d": {"features.threads": 2}})]
  runs, folders = ablation.plan(config(), tables, 2, tmp_path)
  assert [(r.row, r.name, r.seed) for r in runs] == [
      (1, "one: a", 5), (2, "one: b", 5), (1, "one: a", 6), (2, "one: b", 6)]
  assert [(r.config.seed, r.config.method.args["size"]) for r in runs] == [
      (5, 4), (5, 8), (6, 4), (6, 8)]
  assert folders["one", "a"] == folders["two", "c"] == folders["two", "d"] == [
      runs[0].folder, runs[2].folder]
  again, _ = ablation.plan(config(), tables[1:], 1, tmp_path)
  assert [r.folder for r in again] == [runs[0].folder]


@pytest.mark.parametrize("values, words", [
    ({"method.args.los": "x"}, r"here: method.args.los: config.method.args has no 'los'; "
                               "did you mean 'loss'"),
    ({"method.args.loss.x": 1}, "config.method.args.loss has no 'x'"),
    ({"method.args.size": "many"}, "here: method.args.size='many': ")])
def test_a_wrong_change_is_named(values, words):
  with pytest.raises(ConfigError, match=words):
    ablation.change(config(), values, "here")


def test_a_change_leaves_the_config_alone():
  before = config()
  changed = ablation.change(before, {"optim.rate": 1, "method.args.size": 2}, "here")
  assert (changed.optim.rate, changed.method.args["size"]) == (1.0, 2)
  assert (before.optim.rate, before.method.args["size"]) == (0.5, 4)


def test_wrong_tables():
  two = {"a": {}, "b": {}}
  for kwargs, words in (({"expected": [("a", ">", "x")]}, "'a' > 'x' should relate two of its"),
                        ({"expected": [("a", "=", "a")]}, "by > or <"),
                        ({"by": "task"}, "by is 'row'"),
                        ({"rows": two, "by": "similarity"}, "with one row")):
    with pytest.raises(ValueError, match=words):
      Table("t", "T", **{"rows": {"a": {}}, **kwargs})


@pytest.mark.parametrize("table", tca.sweep(), ids=lambda table: table.name)
def test_every_row_of_tca_is_a_config_that_makes_a_method(table, tmp_path):
  config = tca.get_config()
  if table.name == "aggregator" and "aggregator" not in config.method.args:
    pytest.skip("method.args has no aggregator")
  runs, folders = ablation.plan(config, [table], 1, tmp_path)
  assert len(folders) == len(table.rows) and len(runs) == len(table.rows), "two rows are the same"
  for run in runs:
    registry.make("vssl_jax.methods", run.config.method.name, "method.name",
                  **run.config.method.args)
