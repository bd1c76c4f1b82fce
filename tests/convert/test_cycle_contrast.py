"""Checkpoints of CycleContrast, MoCo and VFS to variables and back: names, layouts, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.convert import checkpoints
from vssl_jax.convert import cycle_contrast as convert
from vssl_jax.models.contrast import Encoder

HEADS = ("intra", "cycle")


@functools.cache
def made(heads=HEADS, hidden=True, seed=0):
  """(params, batch_stats) of width 4: 32 features."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(Encoder("resnet18", 4, heads, 6, hidden).init, jax.random.key(0),
                          jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
  found = jax.tree.map(lambda v: rng.standard_normal(v.shape).astype(np.float32), shapes)
  return found["params"], found["batch_stats"]


def state(heads=HEADS, hidden=True):
  """As the authors' wrapper has it: both sides and the queues."""
  return convert.to_torch(*made(heads, hidden)) | convert.to_torch(
    *made(heads, hidden, 1), side="key") | {
      "queue": np.zeros((6, 8), np.float32), "queue_ptr": np.zeros(1, np.int64)}


def equal(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(
      jax.tree.map(np.array_equal, a, b))


def test_names_and_layouts():
  torch, (params, stats) = state(), made()
  kernel = torch["encoder_q.layer2.0.downsample.0.weight"]
  assert kernel.shape == (8, 4, 1, 1)
  assert kernel[5, 2, 0, 0] == params["trunk"]["layer2_0"]["downsample_conv"]["kernel"][0, 0, 2, 5]
  assert torch["encoder_q.fc.0.weight"][3, 1] == params["intra"]["hidden"]["kernel"][1, 3]
  assert torch["q_cycle_fc.2.weight"].shape == (6, 32)
  np.testing.assert_array_equal(torch["q_cycle_fc.2.bias"], params["cycle"]["out"]["bias"])
  np.testing.assert_array_equal(torch["encoder_q.bn1.running_var"], stats["trunk"]["bn1"]["var"])
  np.testing.assert_array_equal(torch["k_cycle_fc.0.bias"],
                                made(seed=1)[0]["cycle"]["hidden"]["bias"])


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("heads, hidden", [(HEADS, True), (("intra",), True), (("intra",), False)],
                         ids=["cycle", "moco v2", "moco v1"])
def test_both_sides_come_back(prefix, heads, hidden):
  torch = {prefix + n: v for n, v in state(heads, hidden).items()}
  for seed, side in enumerate(("query", "key")):
    found = convert.convert(torch, side=side)
    assert (found.kind, found.settings) == ("resnet18", {
      "backbone": "resnet18", "width": 4, "dim": 6, "head": "mlp" if hidden else "linear"})
    assert equal((found.params, found.batch_stats), made(heads, hidden, seed))


def vfs(state):
  """torchvision's names as modules of a convolution and its norm have them."""
  found = {}
  for name, value in state.items():
    for k in "123":
      name = name.replace(f"bn{k}.", f"conv{k}.bn.").replace(f"conv{k}.weight",
                                                             f"conv{k}.conv.weight")
    name = name.replace("downsample.0.", "downsample.conv.").replace("downsample.1.",
                                                                     "downsample.bn.")
    found[f"backbone.{name}"] = value
  return found


def test_trunks_under_other_names():
  torch = convert.to_torchvision(*made())
  assert len(torch) == 120 and "layer4.1.bn2.num_batches_tracked" in torch
  renamed = vfs(torch)
  assert "backbone.layer2.0.downsample.bn.running_mean" in renamed
  assert "backbone.conv1.conv.weight" in renamed and "backbone.layer1.1.conv2.bn.bias" in renamed
  head = {"img_head.projection_fcs.0.weight": np.zeros((3, 3))}
  for other in (torch, torch | {"fc.weight": np.zeros((9, 32)), "fc.bias": np.zeros(9)},
                {f"backbone.{n}": v for n, v in torch.items()}, renamed | head):
    found = convert.convert(other)
    assert found.settings == {"backbone": "resnet18", "width": 4}
    assert equal(found.params, {"trunk": made()[0]["trunk"]})
    assert equal(found.batch_stats, made()[1])


def test_files(tmp_path):
  pth = checkpoints.write(tmp_path / "checkpoint.pth.tar",
                          {f"module.{n}": v for n, v in state().items()}, epoch=3)
  ours, trunk = tmp_path / "all.safetensors", tmp_path / "trunk.safetensors"
  convert.save(ours, state())
  convert.save(trunk, convert.to_torchvision(*made()))
  for path in (pth, ours):
    assert equal(convert.load(path).params, made()[0])
    assert equal(convert.load(path, side="key").params, made(seed=1)[0])
  assert equal(convert.load(trunk).batch_stats, made()[1])
  with pytest.raises(ValueError, match=r"trunk\.safetensors: no encoder_q .* no key side"):
    convert.load(trunk, side="key")


def without(name):
  return lambda s: {n: v for n, v in s.items() if n != name}


def put(name, value):
  return lambda s: s | {name: value}


@pytest.mark.parametrize("change, reason", [
    (without("encoder_q.layer2.1.bn1.weight"), r"missing layer2\.1\.bn1\.weight"),
    (without("encoder_q.fc.2.bias"), r"the intra head: missing \['2\.bias'\], unexpected \[\]"),
    (put("encoder_q.fc.4.bias", np.zeros(3)), r"the intra head: .*unexpected \['4\.bias'\]"),
    (put("q_cycle_fc.2.weight", np.zeros((6, 31))), r"2\.weight \[6, 31\] and bias \[6\] don't"),
    (put("q_cycle_fc.0.weight", np.full((32, 32), np.nan)), "the cycle head: .* non-finite"),
    (put("predictor.weight", np.zeros(3)), r"unexpected beside .*\['predictor\.weight'\]"),
    (put("encoder_q.conv1.weight", np.zeros((4, 3, 7, 5))), r"conv1\.weight has shape"),
    (lambda s: s | {f"q_cycle_fc.2.{n}": v for n, v in (("weight", np.zeros((5, 32))),
                                                        ("bias", np.zeros(5)))},
     r"heads of one form .*\[5, 6\]"),
    (lambda s: {"encoder_q.fc.weight": np.zeros((2, 2))}, "not a ResNet")])
def test_anything_else_is_refused_by_name(change, reason):
  with pytest.raises(ValueError, match=reason):
    convert.convert(change(state()))
  with pytest.raises(ValueError, match="side='other'; choose query or key"):
    convert.convert(state(), side="other")
