"""Every preset of CycleContrast's and ProViCo's configs: what it trains and is judged by fits."""

import functools
import importlib
import json

import jax
import pytest

from experiments import ablation, classify, cli, cycle_contrast, provico
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


# Written out from the specs: what follows from an epoch is a product of its steps.
FINE_TUNED = {  # provico spec 11.3; 10 x 3 views of 256 x 256: 11.1
    "data.split": "train1", "evals.top1.data.test": "test1", "method.args.backbone": "slow_r50",
    "method.args.dropout": 0.8, "method.args.frozen": False, "method.args.head_first": 0,
    "optim.optimiser": "sgd", "optim.learning_rate": 0.01, "optim.momentum": 0.9,
    "optim.schedule": "cosine", "optim.warmup": 0, "optim.weight_decay": 0.0, "train.batch": 64,
    "views.clips": 1, "views.frames": 8, "views.stride": 8, "views.fps": 30.0, "views.size": 224,
    "views.recipe": "fine_tune_provico", "views.augment.jitter": (0.4, 0.4, 0.4, 0.1),
    "views.augment.jitter_p": 0.8, "views.augment.grey_p": 0.2, "views.augment.flip_p": 0.5}
VIEWS_10_3 = {f"evals.top1.views.{key}": value for key, value in dict(
    clips=10, crops=3, frames=8, stride=8, fps=30.0, size=256, short_side=256).items()}
LINEAR = {  # provico spec 11.1, 11.2
    "method.args.backbone": "slow_r50", "method.args.dropout": 0.0, "method.args.frozen": True,
    "method.args.eval_norms": True, "optim.optimiser": "sgd", "optim.momentum": 0.9,
    "optim.schedule": "cosine", "optim.weight_decay": 0.0, "views.frames": 8, "views.stride": 8,
    "views.fps": 30.0, "views.size": 224, "views.recipe": "linear_video",
    "views.augment": {"short_side": (256, 320), "flip_p": 0.5}}
SMALL = {"optim.learning_rate": 0.5, "train.batch": 128,
         "data.split": "train1", "evals.top1.data.test": "test1"}
PINNED = {
    (provico, "kinetics"): {  # provico spec 2, 4 to 6, 10; 240,000 videos are 1,875 batches
        "data.name": "kinetics400", "data.split": "train", "method.args.backbone": "slow_r50",
        "method.args.width": 64, "method.args.dim": 256, "method.args.samples": 8,
        "method.args.beta": 1e-4, "method.args.lam": 0.25, "method.args.noise": 0.3,
        "optim.optimiser": "sgd", "optim.learning_rate": 0.2, "optim.momentum": 0.9,
        "optim.schedule": "cosine", "optim.weight_decay": 1e-4, "optim.decay_norms": False,
        "optim.clip": 1.0, "optim.warmup": 35 * 1875, "optim.warmup_from": 0.001,
        "train.steps": 200 * 1875, "train.eval_every": 18_750, "method.args.dtype": "bfloat16",
        "train.batch": 128, "views.clips": 4, "views.frames": 8, "views.stride": 8,
        "views.fps": 30.0, "views.size": 224, "views.recipe": "contrast",
        "views.augment": {
            "area": (0.2, 0.766), "jitter": (0.6, 0.6, 0.6, 0.15), "jitter_p": 0.8, "grey_p": 0.2,
            "sigma": (0.1, 2.0), "blur_p": 0.5, "noise": (0.0, 0.0), "noise_p": 0.0,
            "flip_p": 0.5},
        "evals.ucf101.data.train": "train1", "evals.ucf101.data.test": "test1",
        "evals.ucf101.views.clips": 10, "evals.ucf101.views.crops": 1,
        "evals.hmdb51.views.clips": 10, "evals.hmdb51.args.ks": (1, 5, 10, 20, 50)},
    (provico, "ucf101_pretrain"): {  # 800 epochs of 9,537 videos
        "data.name": "ucf101", "data.split": "train1", "train.steps": 59_606, "train.batch": 128,
        "optim.warmup": 2608, "optim.warmup_from": 0.001},
    (provico, "kinetics,r3d_18"): {  # spec 2
        "method.args.backbone": "r3d_18", "views.frames": 16, "views.stride": 2, "views.size": 112},
    (provico, "ucf101"): {  # spec 11.2
        "evals.linear3.data.train": "train3", "evals.linear3.data.test": "test3",
        "evals.linear3.views.clips": 10, "evals.linear3.views.crops": 3,
        "evals.linear3.args.rates": (0.1, 1.0, 5.0, 10.0),
        "evals.linear3.args.recipe": "small_video"},
    (provico, "kinetics400"): {
        "evals.linear.views.clips": 10, "evals.linear.views.crops": 3,
        "evals.linear.args.recipe": "kinetics"},
    (classify, "ucf101"): FINE_TUNED | VIEWS_10_3 | {  # 200 epochs
        "data.name": "ucf101", "method.args.classes": 101, "train.steps": 29_803},
    (classify, "hmdb51"): FINE_TUNED | VIEWS_10_3 | {
        "data.name": "hmdb51", "method.args.classes": 51, "train.steps": 11_156},
    (classify, "kinetics_linear"): LINEAR | VIEWS_10_3 | {  # 468 batches an epoch
        "data.name": "kinetics400", "data.split": "train", "evals.top1.data.test": "val",
        "method.args.classes": 400, "optim.learning_rate": 4.0, "train.batch": 512,
        "train.steps": 60 * 468, "optim.warmup": 8 * 468},
    (classify, "ucf101_linear"): LINEAR | VIEWS_10_3 | SMALL | {  # 100 epochs, 8 of them warm up
        "data.name": "ucf101", "method.args.classes": 101, "train.steps": 7450,
        "optim.warmup": 596},
    (classify, "hmdb51_linear"): LINEAR | VIEWS_10_3 | SMALL | {
        "data.name": "hmdb51", "method.args.classes": 51, "train.steps": 2789,
        "optim.warmup": 223},
    (classify, "ucf101_frames"): {  # cycle_contrast spec 8.1; 5 x 9,537 clips are 1,490 batches
        "data.name": "ucf101", "data.split": "train1", "evals.top1.data.test": "test1",
        "method.args.backbone": "resnet50", "method.args.classes": 101,
        "method.args.dropout": 0.9, "method.args.frozen": False, "method.args.head_first": 5 * 1490,
        "method.args.groups": 4, "optim.head_first": 5 * 1490, "optim.optimiser": "adam",
        "optim.learning_rate": 1e-4, "optim.weight_decay": 0.0, "optim.schedule": "milestones",
        "optim.factor": 0.3, "optim.milestones": (11 * 1490, 15 * 1490, 19 * 1490),
        "train.steps": 21 * 1490, "train.batch": 32, "views.frames": 32, "views.stride": 1,
        "views.fps": 16.0, "views.size": 224, "views.recipe": "fine_tune",
        "views.augment": {"area": (0.08, 1.0), "jitter": (0.4, 0.4, 0.4, 0.2), "flip_p": 0.5},
        "evals.top1.views": dict(clips=10, crops=1, frames=32, stride=1, fps=16.0, short="loop",
                                 size=224, short_side=256)},
    (classify, "imagenet_linear"): {  # cycle_contrast spec 7; 5,005 batches an epoch
        "data.name": "imagenet", "data.split": "train", "evals.top1.data.test": "val",
        "method.args.backbone": "resnet50", "method.args.classes": 1000,
        "method.args.dropout": 0.0, "method.args.frozen": True, "method.args.eval_norms": True,
        "optim.optimiser": "sgd", "optim.learning_rate": 30.0, "optim.momentum": 0.9,
        "optim.weight_decay": 0.0, "optim.warmup": 0, "optim.schedule": "milestones",
        "optim.factor": 0.1, "optim.milestones": (60 * 5005, 80 * 5005),
        "train.steps": 100 * 5005, "train.batch": 256, "views.frames": 1, "views.size": 224,
        "views.recipe": "linear", "views.augment": {"area": (0.08, 1.0), "flip_p": 0.5},
        "evals.top1.views.clips": 1, "evals.top1.views.crops": 1, "evals.top1.views.frames": 1,
        "evals.top1.views.size": 224, "evals.top1.views.short_side": 256},
}


@pytest.mark.parametrize("file, preset", PINNED, ids=lambda x: getattr(x, "__name__", x))
def test_presets_have_the_values_of_the_specs(file, preset):
  config = file.get_config(preset).to_dict()

  def at(key):
    return functools.reduce(lambda tree, part: tree[part], key.split("."), config)

  wanted = PINNED[file, preset]
  assert {key: at(key) for key in wanted} == wanted
