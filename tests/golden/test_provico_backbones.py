"""Video ResNets against networks of the public layouts: maps of all stages, features, outputs."""

import json

import jax
import numpy as np
import pytest

from tests.golden import rules
from vssl_jax.convert import resnet3d as convert
from vssl_jax.models import resnet3d

STAGES = {"stem": "stem", "res2": "stage1", "res3": "stage2", "res4": "stage3", "res5": "stage4"}
INPUT = 1_000_000  # the index of the input's random numbers


def by_rule(seed, i, shape, rule):
  if rule == "int0":
    return np.zeros(shape, np.int64)
  x = rules.draw((seed, i), shape)
  scaled = {"fan_in": lambda: x / np.sqrt(np.prod(shape[1:])), "tenth": lambda: 0.1 * x,
            "one_plus_abs": lambda: 1 + 0.1 * np.abs(x)}
  return scaled[rule]().astype(np.float32)


def cases(folder):
  """(golden arrays, network's name, weights, clips [B, T, H, W, 3]) of every `*_names.json`."""
  for path in sorted(folder.glob("*_names.json")):
    data, names = np.load(str(path).replace("_names.json", ".npz")), json.loads(path.read_text())
    seed = int(data["seed"])
    state = {e["name"]: by_rule(seed, e["i"], tuple(e["shape"]), e["rule"])
             for e in names["entries"]}
    x = rules.draw((seed, INPUT), tuple(data["input_shape"])).astype(np.float32)
    yield data, names["arch"], state, x.transpose(0, 2, 3, 4, 1)


def check(ours, golden, what, tolerance=2e-5):
  ours, golden = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
  assert ours.shape == golden.shape, what
  assert np.abs(ours - golden).max() <= tolerance * np.abs(golden).max(), what


def classified(arch, state, pooled):
  """What the golden file has for the classifier: logits, of PySlowFast's their softmax."""
  name = "head.projection" if arch.startswith("slow") else "fc"
  logits = np.asarray(pooled, np.float64) @ state[f"{name}.weight"].T + state[f"{name}.bias"]
  if not arch.startswith("slow"):
    return logits
  e = np.exp(logits - logits.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def test_evaluation(golden_dir):
  folder, checked = golden_dir / "provico", 0
  if not folder.is_dir():
    pytest.skip(f"no golden data in {folder}")
  for data, arch, state, x in cases(folder):
    backbone, width = convert.identify(state)
    assert backbone == arch
    net = resnet3d.make(backbone, width=width)
    features = jax.jit(net.apply)(convert.from_torch(state), x)
    for theirs, mine in STAGES.items():
      y = np.asarray(features[mine], np.float64).transpose(0, 4, 1, 2, 3)
      assert y.shape == tuple(data[f"{theirs}_shape"]), (arch, theirs)
      check(y.mean((2, 3, 4)), data[f"{theirs}_mean_thw"], (arch, theirs, "mean"))
      check(y.std((2, 3, 4)), data[f"{theirs}_std_thw"], (arch, theirs, "std"))
      corner = data[f"{theirs}_slice"].shape
      check(y[0][:corner[0], :corner[1], :corner[2], :corner[3]], data[f"{theirs}_slice"],
            (arch, theirs, "slice"))
    check(features["pooled"], data["feature"], (arch, "feature"))
    check(classified(arch, state, features["pooled"]), data["head_out"], (arch, "head"))
    np.testing.assert_array_equal(features["map"], features["stage4"])
    checked += 1
  assert checked
