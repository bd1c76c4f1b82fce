"""Backbones alone as a run's first weights: of a run's export, for every method that has one."""

import dataclasses

import jax
import ml_collections
import numpy as np
import pytest

from experiments import classify, cycle_contrast, pretrained, provico
from experiments.workflows import recognition
from vssl_jax import export, parallel
from vssl_jax.convert import cycle_contrast as heads
from vssl_jax.convert import torch_file, trunk
from vssl_jax.types import ConfigError, TrainState

PLACES = {"cycle_contrast": ("trunk",), "classifier": ("trunk",), "simclr": ("backbone",),
          "provico": ("net", "backbone")}


def config(name, backbone="r3d_18", weights="", **args):
  """A tiny one of a method; `provico` and `simclr` are on clips, `cycle_contrast` on pictures."""
  make = {"cycle_contrast": cycle_contrast, "classifier": classify, "provico": provico,
          "simclr": provico}[name]
  c = make.get_config("simclr" if name == "simclr" else "")
  if name == "cycle_contrast":
    backbone, args = "resnet18", {"intra_queue": 8, "cycle_queue": 8, "neighbours": 4, "dim": 4,
                                  "groups": 1} | args
  c.method.args.update(backbone=backbone, width=2, **args)
  c.method.weights = str(weights)
  c.train.batch = 4
  return c


def model(*args, **kwargs):
  return recognition.Model(config(*args, **kwargs), parallel.mesh(jax.devices()[:1]))


def first(of, seed=0):
  """A state, all of whose arrays are random."""
  params, aux = jax.eval_shape(of.method.init, jax.random.key(0), of.batch(4))
  rng = np.random.default_rng(seed)
  params, aux = jax.tree.map(lambda v: rng.uniform(0.5, 1, v.shape).astype(v.dtype), (params, aux))
  return TrainState(np.int32(0), params, aux, (), None)


def at(tree, name):
  for part in PLACES[name]:
    tree = tree[part]
  return tree


def same(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(
    jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes(), a, b))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """Of a method: a state, and the backbone that its run's export has written."""
  found = {}

  def run(name):
    if name not in found:
      of, folder = model(name), tmp_path_factory.mktemp(name)
      with pytest.MonkeyPatch.context() as patch:  # compiled functions are another test's matter
        patch.setattr(export, "save", lambda *args, **kwargs: None)
        found[name] = first(of), of.export(first(of), folder)[-1]
    return found[name]
  return run


@pytest.mark.parametrize("source, target, args", [
    ("provico", "classifier", {}), ("simclr", "classifier", {"frozen": True}),
    ("cycle_contrast", "classifier", {"backbone": "resnet18"}),
    ("cycle_contrast", "classifier", {"backbone": "resnet18", "frozen": True}),
    ("cycle_contrast", "cycle_contrast", {}), ("classifier", "provico", {}),
    ("provico", "simclr", {})])
def test_a_run_begins_with_the_backbone_of_another(exported, source, target, args):
  old, path = exported(source)
  assert path.name == "backbone.safetensors"
  of = model(target, weights=path, **args)
  start = first(of, seed=1)
  state = pretrained.begin(start, of.config, of.mesh)
  assert jax.tree.structure((state.params, state.aux)) == jax.tree.structure(
    (start.params, start.aux))
  own = {**state.params, **state.aux.get("frozen", {})}
  assert same(at(own, target), at(old.params, source))
  stats = state.aux["batch_stats"][PLACES[target][-1]]
  assert same(stats, old.aux["batch_stats"][PLACES[source][-1]])
  if target == "cycle_contrast":
    assert same(state.aux["key_params"], state.params)
    assert same(state.aux["key_batch_stats"], state.aux["batch_stats"])
    assert same(state.aux["queues"], start.aux["queues"])
  for name, group in start.params.items():  # what the file lacks
    if name != PLACES[target][0]:
      assert same(state.params[name], group)
  if target == "provico":
    assert same(state.params["net"]["head"], start.params["net"]["head"])


def test_an_export_tells_what_trained_its_backbone(tmp_path, monkeypatch):
  monkeypatch.setattr(export, "save", lambda *args, **kwargs: None)

  def after(steps, name, title="classifier", **args):  # without its network, which costs seconds
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
    trunk.save(path, some, pretrained.about(config(name, **args), title, steps))
    return path

  of, some = model("provico"), {"weight": np.ones(3, np.float32)}
  path = of.export(dataclasses.replace(first(of), step=np.int32(7)), tmp_path / "export")[-1]
  assert trunk.about(path) == dict(method="ProViCo", data="procedural", split="unlabelled",
                                   steps="7", batch="4", backbone="r3d_18", start="")
  words = "ProViCo on procedural unlabelled, 7 steps of 4"
  assert pretrained.told(path) == words
  tuned = after(3, "classifier", weights=path)
  assert pretrained.told(tuned) == ("classifier on procedural unlabelled, 3 steps of 4, from "
                                    f"backbone.safetensors ({words})")
  # A backbone that is left as it was keeps its story.
  assert pretrained.told(after(3, "classifier", weights=path, frozen=True)) == words
  assert pretrained.told(after(0, "classifier", weights=path)) == words
  assert pretrained.told(after(0, "provico", "ProViCo")) == ""
  # A file of others has a name alone.
  heads.save(tmp_path / "r3d.safetensors", some)
  other = after(2, "simclr", "SimCLR", weights=tmp_path / "r3d.safetensors")
  assert pretrained.told(other) == (
      "SimCLR on procedural unlabelled, 2 steps of 4, from r3d.safetensors")


def test_heads_that_are_there_are_taken_and_have_to_fit(tmp_path, exported):
  old, _ = exported("cycle_contrast")
  whole = heads.to_torch(old.params, old.aux["batch_stats"])
  path = tmp_path / "moco.safetensors"  # the one head alone
  heads.save(path, {n: v for n, v in whole.items() if "cycle_fc" not in n})
  of = model("cycle_contrast", weights=path)
  start = first(of, seed=1)
  state = pretrained.begin(start, of.config, of.mesh)
  assert same(state.params["intra"], old.params["intra"])
  assert same(state.params["cycle"], start.params["cycle"])
  for args, message in (
      (dict(dim=8), r"params.intra.out.bias has shape \[4\] in the file, and \[8\]"),
      (dict(head="linear"), r"params.intra.hidden.bias has shape \[16\] in the file, and none")):
    with pytest.raises(ConfigError, match=message):
      model("cycle_contrast", weights=path, **args).check()


@pytest.mark.parametrize("args, message", [
    (dict(width=4), r"batch_stats.trunk.layer1_0.conv1_1.mean has shape \[2\] in the file, and "
                    r"\[4\] in the config's model; the file's r3d_18 has backbone=r3d_18, width=2"),
    (dict(backbone="resnet18"), "batch_stats.trunk.bn1.mean has shape none in the file"),
    (dict(backbone="r2plus1d_18", frozen=True), r"has shape none in the file, and \[")])
def test_the_first_that_does_not_fit_is_named(exported, args, message):
  c = config("classifier", weights=exported("provico")[1], **{"backbone": "r3d_18"} | {
    k: v for k, v in args.items() if k != "width"})
  c.method.args.width = args.get("width", 2)
  with pytest.raises(ConfigError, match=message):
    recognition.Model(c, parallel.mesh(jax.devices()[:1])).check()


def test_a_file_without_a_backbone(tmp_path):
  path = tmp_path / "other.safetensors"
  heads.save(path, {"weight": np.ones(3, np.float32)})
  assert set(torch_file.read(path)) == {"weight"}
  settings = ml_collections.ConfigDict(
    {"method": {"name": "classifier", "weights": str(path), "args": {}}})
  with pytest.raises(ConfigError, match=r"method.weights=.*no conv1.weight among weight"):
    pretrained.load(settings)
