"""Every preset of CorrFlow's config: what it trains fits, and what it is evaluated by exists."""

import dataclasses
import types

import jax
import pytest

from experiments import ablation, cli, config_file, corrflow
from experiments.workflows import correspondence
from vssl_jax import parallel
from vssl_jax.evaluators.propagation import PROTOCOLS
from vssl_jax.evaluators.segmentation import choose_protocol
from vssl_jax.types import ConfigError

PRESETS = ("", "folder", "kinetics", "oxuva", "mast", "davis", "jhmdb")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset):
  config = corrflow.get_config(preset)
  model = correspondence.Model(config, parallel.mesh(jax.devices()[:1]))
  model.check()
  assert config.evals
  for evaluation in config.evals.values():
    protocol = choose_protocol(evaluation.args.protocol, evaluation.args.changes)
    assert protocol.stride == model.stride == 4


@pytest.mark.parametrize("values, words", [
    ({"masks.args.protocol": "crv"}, r"evals\.masks\.args: protocol='crv' is not one of"),
    ({"masks.args.changes.stride": 8}, r"evals\.masks\.args: the protocol's stride is 8"),
    ({"points.args.size": 50}, r"evals\.points\.args: size=50 should be a multiple"),
    ({"points.args.changes.feedback": "hard"}, r"evals\.points\.args: key points are soft"),
    ({"points.name": "keypoint"}, r"evals\.points\.name='keypoint'; did you mean 'keypoints'")])
def test_impossible_evaluations_are_told_by_their_key(values, words, monkeypatch, tmp_path):
  config = ablation.change(corrflow.get_config(), {f"evals.{k}": v for k, v in values.items()}, "")
  (tmp_path / "config.json").write_text(cli.to_json(config))
  monkeypatch.setattr(correspondence.datasets, "load", lambda *args: [])  # nothing is read
  model = types.SimpleNamespace(config=config, stride=4)
  with pytest.raises(ConfigError, match=words):
    correspondence.Evaluation(model, tmp_path)


def test_protocols_of_a_video_of_ones_own():
  config = corrflow.get_config("kinetics")
  model = types.SimpleNamespace(config=config, stride=4)
  later = correspondence.own_protocol("", model)
  assert later == choose_protocol("jhmdb", corrflow.LATER) == choose_protocol(
      config.evals.later.args.protocol, config.evals.later.args.changes)
  assert correspondence.own_protocol("corrflow", model) == PROTOCOLS["corrflow"]
  config.evals.davis.args.changes.radius = 3
  assert correspondence.own_protocol("davis", model).radius == 3
  with pytest.raises(ConfigError, match=r"--protocol=davsi names .*; did you mean 'davis'"):
    correspondence.own_protocol("davsi", model)
  other = types.SimpleNamespace(config=corrflow.get_config("mast"), stride=8)
  assert correspondence.own_protocol("later", other) == dataclasses.replace(
      PROTOCOLS["later"], stride=8, align="half_pixel")  # as its features lie
  assert correspondence.own_protocol("mast", other).stride == 8
  assert correspondence.own_protocol("crw", model).align == "cell"
  released = correspondence.own_protocol("corrflow_released", model)
  assert released == PROTOCOLS["corrflow_released"]
  # What the run is evaluated by doesn't change what is taken where nothing is said.
  config.evals.later.args.changes.top_k = 5
  assert correspondence.own_protocol("later", model).top_k == 5
  assert correspondence.own_protocol("", model) == later


def test_numbers_of_protocols_are_flags():
  config = corrflow.get_config("davis")
  for name in ("later.args.changes.top_k", "later.args.changes.recent",
               "davis.args.changes.radius", "davis.args.merge"):
    config_file.check_key(config, f"evals.{name}", name)


def test_folders_of_evaluations_are_made_absolute(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  config = corrflow.get_config("kinetics")
  config.data.root, config.evals.davis.data.root = "k", "d"
  cli._make_absolute(config)
  assert config.data.root == str(tmp_path / "k")
  assert config.evals.davis.data.root == config.evals.later.data.root == str(tmp_path / "d")
