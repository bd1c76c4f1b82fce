"""Classifiers' config, their views, and how they are measured."""

import pathlib

import jax
import numpy as np
import pytest

from data_pipelines.records import Dataset, Record
from experiments import ablation, classify, config_file, tables
from experiments.recognition import data, evaluations, measures
from experiments.workflows import recognition
from vssl_jax import parallel
from vssl_jax.evaluators import linear
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.types import ConfigError

PRESETS = {"": "r3d_18", "folder": "r3d_18", "ucf101": "r3d_18", "hmdb51": "r3d_18",
           "ucf101_frames": "resnet18", "imagenet_linear": "resnet18",
           "kinetics_linear": "r3d_18", "ucf101_linear": "r3d_18",
           "hmdb51_linear": "r3d_18"}  # -> a smaller backbone of the kind, which traces sooner


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset):
  config = classify.get_config(preset)
  config.method.args.backbone = PRESETS[preset]
  if preset == "folder":
    with pytest.raises(ConfigError, match="'classifier' needs classes: set it"):
      recognition.Model(config, parallel.mesh(jax.devices()[:1]))
    config.method.args.classes = 3
  model = recognition.Model(config, parallel.mesh(jax.devices()[:1]))
  model.check()
  assert model.key == ("features" if preset == "imagenet_linear" else "video")
  frames = np.random.default_rng(0).integers(0, 256, (config.views.frames, 24, 32, 3), np.uint8)
  views = data.reader(config.views).transform(frames, np.random.default_rng(0))
  assert views.shape == data.shape(config.views)[1:]
  settings = config.evals.top1
  measures.check(settings.name, "evals.top1", settings.args)
  assert settings.views.frames == config.views.frames
  wanted = "loop" if preset == "ucf101_frames" else "hold"  # cycle_contrast spec 8.1
  assert settings.views.short == config.views.short == wanted


def test_sweeps_name_settings_that_exist():
  with pytest.raises(ConfigError, match="no preset 'ucf'"):
    classify.get_config("ucf")
  assert [t.name for t in classify.sweep()] == ["start"]
  config = classify.get_config("ucf101")
  runs, folders = ablation.plan(config, classify.sweep("splits,start", "ucf101"), 1, pathlib.Path())
  assert len(runs) == 4 and len(folders) == 6  # "split 1", "from scratch" and "as given" are one
  assert [(r.config.data.split, r.config.evals.top1.data.test) for r in runs] == [
    ("train1", "test1"), ("train2", "test2"), ("train3", "test3"), ("train1", "test1")]
  for name in ("method.args.frozen", "views.augment.jitter_p", "evals.top1.views.crops"):
    config_file.check_key(config, name, name)


@pytest.mark.parametrize("preset, rate", [("ucf101", 0.25), ("", 0.025)])
def test_a_layer_alone_learns_at_the_rate_of_linear_evaluation(preset, rate):
  table, = classify.sweep("start", preset)
  config = ablation.change(classify.get_config(preset), table.rows["frozen"], "")
  assert config.method.args.frozen and config.optim.learning_rate == pytest.approx(rate)
  assert config.method.args.dropout == 0
  if preset == "ucf101":
    recipe = linear.RECIPES["small_video"]
    assert rate == recipe.lr * config.train.batch / recipe.batch


def test_linear_classifiers_have_no_table_of_what_is_fine_tuned():
  with pytest.raises(ConfigError, match="no such table"):
    classify.sweep("start", "ucf101_linear")
  for preset in ("kinetics_linear", "imagenet_linear"):
    with pytest.raises(ConfigError, match=f"classify.py:{preset} has no tables"):
      classify.sweep("", preset)


@pytest.mark.parametrize("preset", ["ucf101_linear", "hmdb51_linear"])
def test_linear_classifiers_of_the_three_splits(preset):
  table, = classify.sweep("splits", preset)
  assert table.mean == "mean of 3 splits" and len(table.rows) == 3
  for k, row in enumerate(table.rows.values(), 1):
    c = ablation.change(classify.get_config(preset), row, "")
    assert (c.data.split, c.evals.top1.data.test) == (f"train{k}", f"test{k}")
    assert c.method.args.frozen and c.views.recipe == "linear_video"
    recipe = linear.RECIPES["small_video"]  # the same classifier, of features described once
    assert c.optim.learning_rate == recipe.lr * c.train.batch / recipe.batch


def test_refusals_of_views():
  views = classify.get_config("imagenet_linear").views
  views.recipe = "linaer"
  with pytest.raises(ConfigError, match=r"views.recipe='linaer'; did you mean 'linear'"):
    data.reader(views)
  views.recipe, views.frames = "linear", 2
  with pytest.raises(ConfigError, match=r"views.frames=2 should be 1"):
    data.reader(views)
  views.frames, views.recipe = 1, "linear_video"
  with pytest.raises(ConfigError, match=r"views.augment: .*area"):
    data.reader(views)


def test_classes_have_to_be_there_and_to_have_a_place():
  config, names = classify.get_config("hmdb51"), tuple(map(str, range(52)))
  some = Dataset("some", "train", [Record("a", "a.mp4", label=-1)], names[:51])
  with pytest.raises(ConfigError, match="data: no video of some train has a label"):
    data.check_classes(some, config, "data")
  more = Dataset("more", "test", [Record("a", "a.mp4", label=1)], names)
  with pytest.raises(ConfigError, match=r"evals.x: more test has 52 classes; set .*=52 instead of"):
    data.check_classes(more, config, "evals.x")
  config.method.args.classes = 60
  data.check_classes(more, config, "data")
  del config.method.args["classes"]
  data.check_classes(some, config, "data")
  with pytest.raises(ConfigError, match=r"evals.top1.name='classification' is for a method that"):
    evaluations.Classification("evals.top1", config.evals.top1, config, {})


def test_a_video_is_what_the_mean_of_its_views_says():
  def log(*p):
    return np.log(np.float32(p))

  # Two views each. Of "a" the second is so certain that it outweighs the first; of "b" none is
  # right, but the truth is second.
  logits = np.stack([log(.5, .3, .2), 5 + log(.1, .8, .1), log(.6, .3, .1), log(.5, .4, .1),
                     log(.1, .1, .8), log(.1, .1, .8)])
  videos, labels = np.array(list("aabbcc")), np.int64([1, 1, 1, 1, 2, 2])
  rows = Labelled(np.zeros((6, 2), np.float32), labels, videos)
  found = measures.by_classifier(rows, {"logits": logits})
  np.testing.assert_allclose(found.report, [[.3, .55, .15], [.55, .35, .1], [.1, .1, .8]],
                             rtol=1e-5)
  assert found.items["top-1"] == {"a": 100, "b": 0, "c": 100}
  assert found.shown == {"top-1": pytest.approx(200 / 3), "top-5": 100}
  assert found.numbers == {"top1": pytest.approx(200 / 3), "top5": 100, "mean_class": 75,
                           "views_top1": 50}


def test_a_row_without_a_classifier_has_dashes():
  rows = Labelled(np.zeros((2, 2), np.float32), np.int64([0, 1]), np.array(["a", "b"]))
  none = measures.by_classifier(rows, {"video": np.zeros((2, 2))})
  some = measures.by_classifier(rows, {"logits": np.eye(2)})
  lines = tables.lines({"pixels": {"top1": none.shown}, "trained": {"top1": some.shown}})
  assert [line.split() for line in lines[2:]] == [["pixels", "-", "-"],
                                                  ["trained", "100.0", "100.0"]]
  gains = tables.gains({"pixels": none.items, "first": some.items, "trained": some.items})
  assert len(gains) == 1 and gains[0].startswith("trained against first: top-1 +0.0")


def test_a_classifier_is_judged_by_its_own_classes():
  def judged(*classes):
    found = object.__new__(evaluations.Classification)
    found.datasets = (Dataset("some", "test", [], classes),)
    return {"top1": found}

  evaluations.check_same_classes(judged("a", "b"), ["a", "b"])
  for other, words in ((("a", "c"), r"number 1 is 'c', not 'b'"),
                       (("a",), r"its 1 classes are not the 2 .* number 1 is 'none', not 'b'"),
                       (("a", "b", "c"), r"number 2 is 'c', not 'none'")):
    with pytest.raises(ConfigError, match=rf"evals\.top1\.data: .*{words}"):
      evaluations.check_same_classes(judged(*other), ["a", "b"])


def test_what_a_model_cant_give_is_told_before_training():
  config = classify.get_config("imagenet_linear")
  config.method.args.backbone = "r3d_18"  # takes clips alone
  with pytest.raises(ConfigError, match=r"method\.name='classifier' with views\.name='pictures'"):
    recognition.Model(config, parallel.mesh(jax.devices()[:1])).check()
  config = classify.get_config("")
  config.evals.tracks = dict(name="tracking")
  with pytest.raises(ConfigError, match=r"evals\.tracks: method\.name='classifier' has no maps"):
    recognition.Model(config, parallel.mesh(jax.devices()[:1])).check()


@pytest.mark.parametrize("changes", [dict(frames=4), dict(size=24)])
def test_test_clips_are_such_as_exports_take(changes):
  config = classify.get_config("")
  settings = config.evals.top1.views
  settings.update(changes)
  records = Dataset("some", "test", [Record("a", "a.mp4", label=0)], ("a",))
  with pytest.raises(ConfigError, match=r"evals\.top1\.views\.frames=\d+ should be"):
    data.Views(records, settings, config.views, "evals.top1.views")


def test_a_config_of_before_is_told():
  config = classify.get_config("")
  for group, name in ((config.data, "data.memory"), (config.views, "views.recipe")):
    del group[name.partition(".")[2]]
    with (pytest.raises(ConfigError, match=f"^the config has no {name}: train it anew"),
          config_file.lookups(config, lambda key: "train it anew")):
      recognition.Model(config, parallel.mesh(jax.devices()[:1]))
    group[name.partition(".")[2]] = 1.0
