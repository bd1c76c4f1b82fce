"""Every preset of CycleContrast's and ProViCo's configs: what it trains and is judged by fits."""

import functools
import importlib
import json

import jax
import pytest

from experiments import ablation, cli, cycle_contrast, provico
from experiments.recognition import evaluations, measures
from experiments.workflows import recognition
from vssl_jax import parallel
from vssl_jax.losses.tracking import label_map
from vssl_jax.methods.provico import PRESETS
from vssl_jax.models.siamfc import STRIDE
from vssl_jax.types import ConfigError

FILES = {"cycle_contrast": cycle_contrast, "provico": provico}
CASES = [("cycle_contrast", p) for p in ("", "folder", "r2v2", "imagenet", "ucf101", "otb",
                                         "got10k")] + [
    ("provico", p) for p in ("", "folder", "kinetics", "ucf101_pretrain", "ucf101", "hmdb51",
                             "kinetics400", "paper", "robust", "simclr", "r3d_18",
                             "r2plus1d_18")]
NAMED = {"folder": "folder", "imagenet": "imagenet", "ucf101": "ucf101", "otb": "otb",
         "got10k": "got10k", "hmdb51": "hmdb51", "kinetics400": "kinetics400"}


def model(config):
  return recognition.Model(config, parallel.mesh(jax.devices()[:1]))


@functools.cache
def checked(text: str) -> None:
  """Traces the first loss of a config given as JSON; presets that evaluate share the base's."""
  group = json.loads(text)
  config = FILES[group.pop("file")].get_config(group.pop("preset"))
  model(config).check()


def trained_part(config) -> dict:
  return {k: config[k].to_dict() for k in ("views", "method", "optim")}


@pytest.mark.parametrize("file, preset", CASES)
def test_presets(file, preset):
  config = FILES[file].get_config(preset)
  assert config.workflow == "recognition" and config.evals
  model(config)
  first = next(p for f, p in CASES if f == file and trained_part(
      FILES[f].get_config(p)) == trained_part(config) and
      FILES[f].get_config(p).train.batch == config.train.batch)
  checked(json.dumps({"file": file, "preset": first}))
  for name, evaluation in config.evals.items():
    measures.check(evaluation.name, f"evals.{name}", evaluation.args)


def test_an_unknown_preset_is_told():
  for name, module in FILES.items():
    with pytest.raises(ConfigError, match=rf"{name}\.py has no preset 'x'; there are: .*folder"):
      module.get_config("x")
    presets = {p for f, p in CASES if f == name}
    try:
      module.get_config("x")
    except ConfigError as e:
      assert set(str(e).partition("there are: ")[2].partition(", and none")[0].split(", ")) == (
          presets - {""})


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
  @functools.cache
  def write(name):
    root = tmp_path_factory.mktemp(name)
    importlib.import_module(f"tests.data_pipelines.layouts.{name}").write(root)
    return str(root)
  return write


@pytest.mark.parametrize("file, preset", [(f, p) for f, p in CASES if p in NAMED])
def test_evaluations_read_the_data_sets_they_name(layouts, file, preset):
  config = FILES[file].get_config(preset)
  config.data.root = layouts(NAMED[preset])
  if preset == "imagenet":
    config.data.allow_missing = True  # the layout is smaller than what was published
  if preset == "folder":
    config.data.holdout = 0.5
    config.evals.retrieval.data.holdout = 0.5
  found, skipped = evaluations.make_all(config)
  if preset == "otb":  # SiamFC's head is trained on another data set
    assert list(skipped) == ["corrected", "released", "vince"]
    config.evals.released.head.data.root = layouts("got10k")
    found, skipped = evaluations.make_all(config)
    assert list(skipped) == ["vince"]  # which is dear
    config.evals.vince.head.data.root = layouts("got10k")
    found, skipped = evaluations.make_all(config)
  assert list(found) == list(config.evals) and not skipped
  for evaluation in found.values():
    assert all(len(d.records) for d in evaluation.datasets)
    assert config.data.name in evaluation.about


@pytest.mark.parametrize("file, preset, name, roots", [
    ("cycle_contrast", "r2v2", "r2v2", {"imagenet": "imagenet", "otb": "otb"}),
    ("provico", "kinetics", "kinetics400", {"ucf101": "ucf101", "hmdb51": "hmdb51"})])
def test_evaluations_on_data_sets_of_their_own(layouts, file, preset, name, roots):
  config = FILES[file].get_config(preset)
  assert config.data.name == name
  with pytest.raises(ConfigError, match="nothing to evaluate on: " + "; ".join(
      rf"evals\.{key}\.data\.root is empty" for key in sorted(roots))):
    evaluations.make_all(config)
  for key, layout in roots.items():
    config.evals[key].data.root = layouts(layout)
    config.evals[key].data.allow_missing = True
  found, skipped = evaluations.make_all(config)
  assert set(found) == set(roots) and not skipped


def test_a_file_with_a_head_is_made_absolute(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  config = cycle_contrast.get_config("otb")
  config.evals.released.head.weights = "head.pth"
  cli._make_absolute(config)
  assert config.evals.released.head.weights == str(tmp_path / "head.pth")
  assert config.evals.corrected.head.weights == ""


def test_vinces_head():
  head = cycle_contrast.get_config("otb").evals.vince.head
  assert (head.batch, head.epochs, head.steps, head.pairs) == (256, 40, 5000, 25)
  assert (head.learning_rate, head.drops) == (0.01, (10, 20, 30))
  assert (head.channels, head.scale) == (256, 1e-3) and head.shift > 0 and head.zoom > 0
  # A mask 5 cells wide.
  labels = label_map((17, 17), stride=STRIDE, positive=head.radius)
  assert int(labels.max(0).sum()) == int(labels.max(1).sum()) == 5


@pytest.mark.parametrize("file", FILES)
def test_rows_of_sweeps_are_configs(file):
  config, rows = FILES[file].get_config(), 0
  for table in FILES[file].sweep():
    changed = {name: ablation.change(config, values, name) for name, values in table.rows.items()}
    assert len({c.to_json() for c in changed.values()}) == len(changed), "two rows are equal"
    for name, values in table.rows.items():
      same = changed[name].to_json() == config.to_json()
      assert same == (values == {} or name == "robust"), name  # which is what the default is
      assert model(changed[name]).batch(2)["frames"].shape[0] == 2
      rows += 1
  assert rows >= 10
  with pytest.raises(ConfigError, match="no such table"):
    FILES[file].sweep("nothing")


def test_moco_has_no_candidates_and_simclr_its_own_settings():
  by_name = {t.name: t.rows for t in [*cycle_contrast.sweep(), *provico.sweep()]}
  moco = ablation.change(cycle_contrast.get_config(), by_name["terms"]["MoCo"], "")
  assert model(moco).batch(3)["frames"].shape[:2] == (3, 2)
  simclr = ablation.change(provico.get_config(), by_name["methods"]["SimCLR"], "")
  assert simclr.method.args.to_dict() == provico.get_config("simclr").method.args.to_dict()
  assert model(simclr).title == "SimCLR"


def test_simclr_has_the_presets_network_and_objectives_have_no_tables_of_their_own():
  folder, (table,) = provico.get_config("folder"), provico.sweep("methods", "folder")
  simclr = ablation.change(folder, table.rows["SimCLR"], "").method.args
  for key in ("backbone", "width", "dim"):
    assert simclr[key] == folder.method.args[key]
  assert simclr.to_dict() == provico.get_config("folder,simclr").method.args.to_dict()
  for preset in ("paper", "folder,simclr", "ucf101"):
    with pytest.raises(ConfigError, match=f"provico.py:{preset} has no tables"):
      provico.sweep("methods", preset)


def test_changes_stand_behind_a_data_set():
  config = provico.get_config("kinetics,paper,r2plus1d_18")
  assert config.data.name == "kinetics400" and config.views.size == 112
  assert config.method.args.backbone == "r2plus1d_18" and config.method.args.mining == "sampled"
  assert {k: config.method.args[k] for k in provico.PAPER} == provico.PAPER
  assert provico.get_config("folder,robust").to_json() == provico.get_config("folder").to_json()
  assert provico.get_config("simclr").data.name == "procedural"
  for preset, wrong in (("kinetics,folder", "folder"), ("papr", "papr"), ("paper,x", "x")):
    with pytest.raises(ConfigError, match=f"has no preset '{wrong}'"):
      provico.get_config(preset)


def test_variances_of_1_at_first_are_that_in_any_dimension():
  for preset, noise in (("", 8.0), ("kinetics", 16.0)):
    table, = provico.sweep("positives", preset)
    assert table.rows["variances of 1 at first"]["method.args.noise"] == noise  # log(r^2 / D) = 0


def test_mining_begins_after_two_fifths_of_training_however_long():
  config = provico.get_config()
  assert config.method.args.mine_after == 200 == config.train.steps * 2 // 5
  config.train.steps = 50
  assert config.method.args.mine_after == 20
  config.method.args.mine_after = 3
  assert config.train.steps == 50
  assert provico.get_config("paper").method.args.mine_after == 0


@pytest.mark.parametrize("name, mine", [("paper", provico.PAPER), ("robust", provico.ROBUST)])
def test_objectives_are_those_of_the_method(name, mine):
  assert len(mine.keys() & PRESETS[name].keys()) >= 6
  assert {k: mine[k] for k in mine if k in PRESETS[name]} == {
      k: v for k, v in PRESETS[name].items() if k in mine}
  assert provico.PAPER.keys() >= provico.ROBUST.keys()  # `paper` undoes all of it
  assert {"hidden", "mine_after"} <= provico.PAPER.keys()  # and what the embedded run adds
