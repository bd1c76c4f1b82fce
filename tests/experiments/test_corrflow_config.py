"""Every preset of CorrFlow's config: what it trains fits, and what it is evaluated by exists."""

import dataclasses
import json
import types

import jax
import ml_collections
import pytest
from absl import flags
from ml_collections import config_flags

from experiments import ablation, cli, config_file, corrflow, sweep
from experiments.correspondence import protocols, results
from experiments.workflows import correspondence
from vssl_jax import parallel
from vssl_jax.evaluators.propagation import PROTOCOLS, Protocol
from vssl_jax.types import ConfigError

PAPER = Protocol(
    stride=4, fixed=(), recent=(1,), missing="repeat", shape="square", radius=6,
    fixed_radius="same", temperature=1.0, top_k=None, normalise=False, border="mask",
    feedback="hard", rule="area", align="cell", search_age=None, search_radius=12)
LATER = Protocol(
    stride=4, fixed=(0,), recent=(1, 2, 3, 4, 5, 6, 7), missing="repeat", shape="disk", radius=12,
    fixed_radius="same", temperature=0.05, top_k=10, normalise=True, border="mask",
    feedback="soft", rule="area", align="cell", search_age=None, search_radius=12)
MAST = Protocol(
    stride=4, fixed=(0, 5), recent=(1, 3, 5), missing="leave_out", shape="square", radius=12,
    fixed_radius="same", temperature=1.0, top_k=None, normalise=False, border="zero",
    feedback="hard", rule="slice", align="half_pixel", search_age=15, search_radius=12)
SOFT, NEAR = (dataclasses.replace(PAPER, feedback="soft"),
              dataclasses.replace(LATER, recent=(1, 2, 3, 4)))
PRESETS = {"": {"masks": PAPER, "steady": PAPER, "points": SOFT},
           "folder": {"points": NEAR, "davis": PAPER},
           "kinetics": {"davis": PAPER, "later": LATER}, "oxuva": {"davis": PAPER, "later": LATER},
           "mast": {"davis": MAST}, "davis": {"davis": PAPER, "later": LATER},
           "jhmdb": {"jhmdb": LATER, "paper": SOFT}}
# As older versions wrote them.
OLD_PAPER = dict(stride=4, radius=6, temperature=1.0, feedback="hard")
OLD_LATER = dict(stride=4, recent=[1, 2, 3, 4, 5, 6, 7], radius=12, fixed_radius="same", top_k=10,
                 temperature=0.05, align="cell")


def model_of(config, stride=4):
  return types.SimpleNamespace(config=config, stride=stride)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset):
  config = corrflow.get_config(preset)
  model = correspondence.Model(config, parallel.mesh(jax.devices()[:1]))
  model.check()
  assert model.stride == 4
  for loaded in config, ml_collections.ConfigDict(json.loads(cli.to_json(config))):  # as of a run
    assert {name: protocols.of_evaluation(settings, model_of(loaded))
            for name, settings in loaded.evals.items()} == PRESETS[preset]


@pytest.mark.parametrize("kind, protocol, changes, meant", [
    ("segmentation", "corrflow", OLD_PAPER, PAPER), ("segmentation", "crw", OLD_LATER, LATER),
    ("keypoints", "corrflow", OLD_PAPER | dict(feedback="soft"), SOFT),
    ("keypoints", "jhmdb", OLD_LATER | dict(recent=[1, 2, 3, 4]), NEAR),
    ("segmentation", "mast", dict(stride=4, radius=12), MAST)])
@pytest.mark.parametrize("align", ["cell", "half_pixel"])
def test_evaluations_of_older_runs_mean_what_they_meant(kind, protocol, changes, meant, align):
  config = corrflow.get_config()
  config.method.args.align = align
  config.evals = dict(old=dict(name=kind, data={}, args=dict(protocol=protocol, changes=changes)))
  config_file.fill(config)
  assert protocols.of_evaluation(config.evals.old, model_of(config)) == meant


@pytest.mark.parametrize("flag, meant", [
    ("later.args.changes.top_k=5", dict(top_k=5)), ("later.args.changes.top_k=0", dict(top_k=None)),
    ("later.args.changes.radius=0", dict(radius=None)),
    ("later.args.changes.fixed_radius=0", dict(fixed_radius=None)),
    ("later.args.changes.fixed_radius=20", dict(fixed_radius=20)),
    ("later.args.changes.recent=1,2", dict(recent=(1, 2))),
    ("later.args.changes.recent=1", dict(recent=(1,))),
    ("later.args.changes.temperature=1", dict(temperature=1.0)),
    ("later.args.changes.normalise=false", dict(normalise=False)),
    ("later.args.changes.rule=slice", dict(rule="slice")),
    ("later.args.changes.feedback=hard", dict(feedback="hard")),
    ("later.args.changes.align=half_pixel", dict(align="half_pixel"))])
def test_every_number_of_a_protocol_is_a_flag(flag, meant, monkeypatch):
  values, config = flags.FlagValues(), corrflow.get_config("davis")
  monkeypatch.setattr("sys.argv", ["run", f"--config.evals.{flag}"])  # where it looks for them
  holder = config_flags.DEFINE_config_dict("config", config, flag_values=values)
  values(["run", f"--config.evals.{flag}"])
  found = protocols.of_evaluation(holder.value.evals.later, model_of(holder.value))
  assert found == dataclasses.replace(LATER, **meant)


def test_another_protocol_is_that_and_no_hybrid():
  config = corrflow.get_config("davis")
  for name in PROTOCOLS:
    config.evals.later.args.protocol = name
    meant = dataclasses.replace(PROTOCOLS[name], stride=4)
    if name != "corrflow_released":
      meant = dataclasses.replace(meant, align="cell")
    assert protocols.of_evaluation(config.evals.later, model_of(config)) == meant
  config = corrflow.get_config("jhmdb")
  config.evals.jhmdb.args.protocol = "corrflow"
  assert protocols.of_evaluation(config.evals.jhmdb, model_of(config)) == SOFT


def test_cells_are_evaluated_where_the_model_has_them():
  config = corrflow.get_config()
  config.method.args.align = "half_pixel"
  found = protocols.of_evaluation(config.evals.masks, model_of(config, stride=8))
  assert found == dataclasses.replace(PAPER, align="half_pixel", stride=8)


@pytest.mark.parametrize("preset", PRESETS)
def test_rows_as_released_are_evaluated_so(preset):
  config = corrflow.get_config(preset)
  details, = sweep.load(f"experiments/corrflow.py:{preset}".rstrip(":"), "details")
  rows = {name: ablation.change(config, values, name) for name, values in details.rows.items()}
  for row, changed in (("classes averaged (as released)", {"rule": "id_average"}),
                       ("half-pixel alignment (as released)", {"align": "half_pixel"})):
    for name, settings in rows[row].evals.items():
      found = protocols.of_evaluation(settings, model_of(rows[row]))
      points = settings.name == "keypoints" and "rule" in changed  # begin as cells
      assert found == dataclasses.replace(PRESETS[preset][name], **({} if points else changed))


def test_what_a_protocol_is_another_way_is_told():
  assert results._protocol("later", LATER) == "later"
  assert results._protocol("corrflow", SOFT) == "corrflow (feedback soft)"
  changed = dataclasses.replace(LATER, top_k=None, recent=(1, 2), radius=9)
  assert results._protocol("later", changed) == "later (recent 1 2, radius 9, top_k none)"


@pytest.mark.parametrize("values, words", [
    ({"masks.args.protocol": "crv"}, r"evals\.masks\.args: protocol='crv' is not one of"),
    ({"masks.args.changes": {"stride": 8}}, r"evals\.masks\.args: the protocol's stride is 8"),
    ({"masks.args.changes": {"top": 8}}, r"evals\.masks\.args: protocol has no top; it has"),
    ({"masks.args.changes.fixed_radius": "all"}, r"masks\.args: changes\.fixed_radius='all'"),
    ({"points.args.size": 50}, r"evals\.points\.args: size=50 should be a multiple"),
    ({"points.args.changes": {"feedback": "hard"}}, r"evals\.points\.args: key points are soft"),
    ({"points.name": "keypoint"}, r"evals\.points\.name='keypoint'; did you mean 'keypoints'")])
def test_impossible_evaluations_are_told_by_their_key(values, words, monkeypatch, tmp_path):
  config = ablation.change(corrflow.get_config(), {f"evals.{k}": v for k, v in values.items()}, "")
  (tmp_path / "config.json").write_text(cli.to_json(config))
  monkeypatch.setattr(correspondence.datasets, "load", lambda *args: [])  # nothing is read
  with pytest.raises(ConfigError, match=words):
    correspondence.Evaluation(model_of(config), tmp_path)


def test_classes_of_colours_are_given_or_fitted():
  config = ablation.change(corrflow.get_config(), {"method.args.centroids": ((1.0, 2.0),)}, "")
  model = correspondence.Model(config, parallel.mesh(jax.devices()[:1]))
  with pytest.raises(ConfigError, match=r"colours\.clusters=32 .* method\.args\.centroids"):
    model.check()
  given = ablation.change(config, {"colours.clusters": 0}, "")
  correspondence.Model(given, parallel.mesh(jax.devices()[:1])).check()


def test_protocols_of_a_video_of_ones_own():
  config = corrflow.get_config("kinetics")
  model, own = model_of(config), protocols.of_own_video
  assert own("", model) == own("later", model) == LATER
  assert own("corrflow", model) == own("davis", model) == PAPER
  config.evals.davis.args.changes.radius = 3
  assert own("davis", model).radius == 3
  with pytest.raises(ConfigError, match=r"--protocol=davsi names .*; did you mean 'davis'"):
    own("davsi", model)
  other = model_of(corrflow.get_config("mast"), stride=8)
  assert own("later", other) == dataclasses.replace(
      LATER, stride=8, align="half_pixel")  # as its features lie
  assert own("mast", other).stride == 8
  assert own("crw", model).align == "cell"
  assert own("corrflow_released", model) == PROTOCOLS["corrflow_released"]
  # What the run is evaluated by doesn't change what is taken where nothing is said.
  config.evals.later.args.changes.top_k = 5
  assert own("later", model).top_k == 5
  assert own("", model) == LATER


def test_folders_of_evaluations_are_made_absolute(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  config = corrflow.get_config("kinetics")
  config.data.root, config.evals.davis.data.root = "k", "d"
  cli._make_absolute(config)
  assert config.data.root == str(tmp_path / "k")
  assert config.evals.davis.data.root == config.evals.later.data.root == str(tmp_path / "d")
