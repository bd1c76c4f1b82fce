"""Backbones of both kinds from files of others, where methods keep them, and back."""

import functools
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.convert import checkpoints
from vssl_jax.convert import classifier, provico, resnet, resnet3d, simclr, trunk
from vssl_jax.models import resnet as pictures
from vssl_jax.models import resnet3d as clips

METHODS = {"classifier": (classifier, ("trunk",)), "simclr": (simclr, ("backbone",)),
           "provico": (provico, ("net", "backbone"))}


@functools.cache
def made(kind):
  """A network's variables, and its state dict."""
  of, names = (pictures, resnet) if kind == "resnet18" else (clips, resnet3d)
  example = np.zeros((1, 32, 32, 3) if of is pictures else clips.CLIP.shape, np.float32)
  shapes = jax.eval_shape(of.make(kind, width=2).init, jax.random.key(0), example)
  rng = np.random.default_rng(0)
  found = jax.tree.map(lambda v: rng.uniform(0.5, 1, v.shape).astype(np.float32), shapes)
  return found, names.to_torch(found)


def same(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(
    jax.tree.map(np.array_equal, a, b))


@pytest.mark.parametrize("kind, prefix", [
  ("resnet18", ""), ("resnet18", "module.encoder_q."), ("resnet18", "backbone."), ("r3d_18", ""),
  ("r3d_18", "module."), ("slow_r50", "")])
def test_a_file_of_others(kind, prefix, tmp_path):
  variables, state = made(kind)
  if prefix != "backbone.":
    last = "head.projection" if kind == "slow_r50" else "fc"
    state = state | {f"{last}.weight": np.ones((5, 3)), f"{last}.bias": np.ones(5)}
    if kind == "resnet18" and prefix:  # MoCo's projection
      state = state | {"fc.weight": np.ones((5, 16))}
  path = checkpoints.write(tmp_path / "file.pth", {prefix + n: v for n, v in state.items()})
  found = trunk.load(path)
  assert (found.kind, found.settings) == (kind, {"backbone": kind, "width": 2})
  assert same({"params": found.params, "batch_stats": found.batch_stats}, variables)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["resnet18", "r3d_18"])
def test_methods_keep_it_where_it_is_found_again(name, kind, tmp_path):
  variables, state = made(kind)
  path, (reader, place) = tmp_path / "backbone.safetensors", METHODS[name]
  trunk.save(path, state)
  if kind == "resnet18" and name != "classifier":
    with pytest.raises(ValueError, match=r"a resnet18, which is for pictures.*r3d_18"):
      reader.load(path)
    return
  found = reader.load(path)
  node = found.params
  for part in place:
    node = node[part]
  assert same(node, variables["params"])
  assert same(found.batch_stats[place[-1]], variables["batch_stats"])
  aux = {"batch_stats": found.batch_stats}
  for params, more in (({**found.params, "match": {}}, {}), ({"fc": {}}, {"frozen": found.params})):
    again = trunk.of(params, aux | more)
    assert again.keys() == state.keys() and same(again, state)


TRAINED = dict(method="ProViCo", data="kinetics400", split="train", steps="375000", batch="128",
               backbone="r3d_18", start="")


def test_a_file_tells_what_trained_it(tmp_path):
  _, state = made("r3d_18")
  path, again, plain = (tmp_path / f"{name}.safetensors" for name in "abc")
  trunk.save(path, state, TRAINED)
  assert trunk.about(path) == trunk.about(str(path)) == TRAINED
  assert same(trunk.load(path).params, made("r3d_18")[0]["params"])
  for _ in range(5):  # a run that begins with a file knows it by its bytes
    trunk.save(again, state, dict(reversed(TRAINED.items())))
    assert again.read_bytes() == path.read_bytes()
  for nothing in (None, {}):
    trunk.save(plain, state, nothing)
    assert trunk.about(plain) == {}
  with pytest.raises(ValueError, match="about has method; it should have backbone, batch, data"):
    trunk.save(plain, state, {"method": "ProViCo"})


@pytest.mark.parametrize("metadata", [
  {"format": "pt"}, {"vssl_jax": "{"}, {"vssl_jax": "[1]"}, {"vssl_jax": '{"method": "ProViCo"}'},
  {"vssl_jax": json.dumps(TRAINED | {"steps": 375000})}])
def test_files_of_others_tell_nothing(metadata, tmp_path):
  path = tmp_path / "other.safetensors"
  save_file(made("r3d_18")[1], path, metadata)
  assert trunk.about(path) == {}
  path.write_bytes(path.read_bytes()[:40])
  assert trunk.about(path) == {}
  assert trunk.about(tmp_path / "none.safetensors") == {} == trunk.about("")
  assert trunk.about(checkpoints.write(tmp_path / "a.pth", made("r3d_18")[1])) == {}


def test_what_is_neither():
  with pytest.raises(ValueError, match=r"no conv1.weight among encoder.weight"):
    trunk.convert({"encoder.weight": np.ones(2)})
  damaged = dict(made("r3d_18")[1])
  del damaged["layer1.0.conv1.0.weight"]
  with pytest.raises(ValueError, match=r"missing layer1.0.conv1.0.weight"):
    trunk.convert(damaged)
  assert trunk.of({"aggregator": {"w": np.ones(2)}}, {}) is None
