"""The preset of the paper, on a small folder in VCDB's layout."""

import json
import re
import shutil

import pytest

from tests.data_pipelines.layouts import vcdb as layout
from tests.experiments import harness

VCDB = "experiments/tca.py:vcdb"
# The preset's own settings but for sizes; frames at 4 a second, since the videos last 2 seconds.
TINY = harness.TINY_FOLDER | {
    "features.backbone": "resnet18", "features.weights": "", "features.fps": 4.0,
    "data.allow_missing": True, "train.steps": 6, "train.eval_every": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("vcdb")
  layout.write(root)
  return root


def train(root, tmp_path, **more):
  """Arguments of a tiny run."""
  return harness.train(tmp_path / "run", tmp_path / "cache", VCDB, TINY,
                       **({"data__root": root} | more))


@pytest.mark.slow
def test_the_recipe_runs_to_its_table(root, server, tmp_path):
  gone = layout.BACKGROUND[2]
  shutil.copytree(root, tmp_path / "set", ignore=shutil.ignore_patterns(f"{gone}.*"))
  result = server.run(*train(tmp_path / "set", tmp_path))
  assert result.status == 0, result.err
  text = " ".join(result.out.split())
  assert "3 training pairs, 5 background videos. " in text
  assert "All core videos were trained on" in text and "11 of 12 videos are on disk." in text
  rows = harness.rows(tmp_path / "run")
  assert set(rows["trained TCA"]["per_item"]["VCDB/cosine"]) == set(layout.CORE)
  assert [row["step"] for row in harness.metrics(tmp_path / "run") if "loss" in row] == [
      *range(1, 7)]
  config = json.loads((tmp_path / "run" / "config.json").read_text())
  assert config["optim"]["steps_per_update"] == 87
  again = server.run("--mode=eval", f"--workdir={tmp_path / 'run'}")
  assert again.status == 0 and "11 of 12 videos are on disk." in " ".join(again.out.split())


def test_missing_parts_are_told_in_one_line(root, server, tmp_path):
  bare = tmp_path / "bare"
  shutil.copytree(root, bare, ignore=shutil.ignore_patterns("annotations"))
  for more, words in (
      ({"data__root": bare}, r"annotations/vcdb\.json\.gz: no such file; name the folder that"),
      ({"data__allow_missing": False}, "vcdb all: 100,306 videos expected, 12 found; pass allow_"),
      ({"data__database": "core2"}, "data.database='core2' is unknown; choose core or all")):
    result = server.run(*train(root, tmp_path, **more))
    error = result.err[result.err.index("error: "):].strip()
    assert result.status == 2 and "\n" not in error and re.search(words, error), result.err
