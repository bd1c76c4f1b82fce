"""What a run on videos writes down of its training, for itself and for reports."""

import json

import numpy as np
import pytest

from experiments import classify, clip_runs, origin
from experiments.workflows import recognition
from tests.data_pipelines.layouts import ucf101
from vssl_jax.convert import trunk
from vssl_jax.types import ConfigError

TRAINED = dict(method="ProViCo", data="kinetics400", split="train", steps="375000", batch="128",
               backbone="r3d_18", start="")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  folder = tmp_path_factory.mktemp("ucf101")
  ucf101.write(folder)
  c = classify.get_config("ucf101")
  c.data.root = str(folder)
  c.method.weights = str(folder / "backbone.safetensors")
  trunk.save(c.method.weights, {"a": np.ones(2, np.float32)}, TRAINED)
  return c


def test_reports_know_what_the_config_does_not_tell(config, tmp_path, monkeypatch):
  training = clip_runs.Training(config, tmp_path)
  facts = {"videos": len(training.train_data.records),
           "start": "ProViCo on kinetics400 train, 375000 steps of 128"}
  assert training.facts == facts and facts["videos"] > 1
  training.save(tmp_path)
  (tmp_path / "config.json").write_text(config.to_json_best_effort())
  assert clip_runs.Training(config, tmp_path).facts == facts  # the run goes on
  # Evaluated on other data, it needs neither its videos nor the file.
  monkeypatch.setattr(recognition.Evaluation, "_prepare", lambda self, classes: None)
  class Model:
    config = None
  found = recognition.Evaluation(Model, tmp_path).facts
  assert {name: found[name] for name in facts} == facts


def test_a_run_from_before_goes_on(config, tmp_path):
  training = clip_runs.Training(config, tmp_path)
  training.save(tmp_path)
  hashes = {k: v for k, v in origin.read(tmp_path).items() if k not in training.facts}
  assert set(hashes) == {"method.weights", "data"}
  origin.write(tmp_path, hashes)
  clip_runs.Training(config, tmp_path)
  origin.write(tmp_path, hashes | {"data": "other"})
  with pytest.raises(ConfigError, match="the files behind data have changed"):
    clip_runs.Training(config, tmp_path)


def test_a_run_without_steps_has_no_videos(config, tmp_path):
  c = config.copy_and_resolve_references()
  c.train.steps, c.method.weights = 0, ""
  training = clip_runs.Training(c, tmp_path)
  training.save(tmp_path)
  assert training.facts == {"videos": 0, "start": ""}
  assert json.loads((tmp_path / origin.FILE).read_text())["videos"] == 0


@pytest.mark.parametrize("workers, want", [(0, (0, 64)), (3, (3, 21)), (-1, (5, 12))])
def test_processes_that_read_share_the_buffer(config, tmp_path, monkeypatch, workers, want):
  monkeypatch.setattr(clip_runs, "cpus", lambda: 5)
  monkeypatch.setattr(clip_runs.clips, "batches", lambda *_, **options: options)
  config.train.workers = workers
  options = clip_runs.Training(config, tmp_path).batches(read=None)
  assert (options["workers"], options["buffer"]) == want
