"""Torchvision names to variables and back; anything but an exact fit is refused by name."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from vssl_jax.convert import resnet as convert
from vssl_jax.models import resnet


def made(backbone="resnet18", width=4):
  """A network's variables, all leaves different."""
  net = resnet.make(backbone, width=width)
  variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda v: rng.uniform(0.5, 1, v.shape).astype(np.float32), variables)


@pytest.mark.parametrize("backbone", list(resnet.BACKBONES))
def test_round_trip(backbone):
  variables = made(backbone)
  state = convert.to_torch(variables)
  assert convert.identify(state) == (backbone, 4)
  back = convert.from_torch(state)
  assert jax.tree.structure(back) == jax.tree.structure(variables)
  for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(variables), strict=True):
    np.testing.assert_array_equal(a, b)
  again = convert.to_torch(back)
  assert again.keys() == state.keys()
  for name in state:
    np.testing.assert_array_equal(again[name], state[name])


def test_names_and_layouts_are_torchvisions():
  variables = made("resnet50")
  state = convert.to_torch(variables)
  block = variables["params"]["layer2_0"]
  kernel = block["conv2"]["kernel"]  # [h, w, in, out]
  assert state["layer2.0.conv2.weight"].shape == (8, 8, 3, 3)
  assert state["layer2.0.conv2.weight"][5, 2, 0, 1] == kernel[0, 1, 2, 5]
  np.testing.assert_array_equal(state["layer2.0.downsample.1.weight"],
                                block["downsample_bn"]["scale"])
  assert state["layer2.0.downsample.0.weight"].shape == (32, 16, 1, 1)
  np.testing.assert_array_equal(state["bn1.running_var"], variables["batch_stats"]["bn1"]["var"])
  assert state["bn1.num_batches_tracked"].dtype == np.int64
  assert len(state) == 318  # torchvision's 320 entries less fc.weight and fc.bias


def test_classifier_and_counters_are_optional():
  state = convert.to_torch(made())
  state["fc.weight"], state["fc.bias"] = np.ones((10, 32)), np.ones(10)
  bare = {n: v for n, v in state.items() if "num_batches" not in n and not n.startswith("fc.")}
  a, b = convert.from_torch(state), convert.from_torch(bare)
  assert jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_half_precision_weights_become_float32():
  state = convert.to_torch(made())
  half = {n: v.astype(ml_dtypes.bfloat16) for n, v in state.items()}
  leaf = convert.from_torch(half)["params"]["conv1"]["kernel"]
  assert leaf.dtype == np.float32
  np.testing.assert_array_equal(leaf.transpose(3, 2, 0, 1), half["conv1.weight"])


def without(state, *names):
  return {n: v for n, v in state.items() if n not in names}


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    (lambda s: without(s, "layer3.1.bn2.bias", "bn1.running_var"),
     r"missing bn1\.running_var, layer3\.1\.bn2\.bias; unexpected nothing"),
    (lambda s: {**s, "head.0.weight": 0}, r"missing nothing; unexpected head\.0\.weight"),
    (lambda s: {**s, "layer1.0.conv2.weight": np.ones((4, 4, 3, 1))},
     r"layer1\.0\.conv2\.weight has shape \[4, 4, 3, 1\]"),
    (lambda s: {**s, "bn1.weight": np.array([1, np.nan, np.inf, 1])},
     r"bn1\.weight holds 2 non-finite"),
    (lambda s: {f"cnn.{n}": v for n, v in s.items()}, r"no conv1\.weight among cnn\.bn1\.bias"),
    (lambda s: {**s, "layer1.5.conv1.weight": 0}, r"\[6, 2, 2, 2\] basic blocks are none of"),
    (lambda s: {}, r"no conv1\.weight among nothing"),
  ],
)
def test_anything_else_is_refused_by_name(change, reason):
  with pytest.raises(ValueError, match=reason):
    convert.from_torch(change(convert.to_torch(made())))


def test_long_lists_are_cut():
  state = convert.to_torch(made())
  names = [n for n in state if n.endswith("weight") and n != "conv1.weight"]
  with pytest.raises(ValueError, match=rf"and {len(names) - 10} more; unexpected nothing"):
    convert.from_torch(without(state, *names))


def test_another_network_is_refused():
  state = convert.to_torch(made())
  with pytest.raises(ValueError, match="resnet18 of width 4, not of a resnet50 of width 4"):
    convert.from_torch(state, backbone="resnet50")
  with pytest.raises(ValueError, match="resnet18 of width 4, not of a resnet18 of width 64"):
    convert.from_torch(state, backbone="resnet18", width=64)


def test_load_unwraps_and_names_the_file(tmp_path):
  variables = made()
  state = convert.to_torch(variables)
  path = tmp_path / "moco.safetensors"
  wrapped = {f"module.encoder_q.{n}": v for n, v in state.items()}
  wrapped |= {f"module.encoder_k.{n}": np.zeros_like(v) for n, v in state.items()}
  safetensors.numpy.save_file(wrapped | {"module.queue": np.ones(3)}, path)
  loaded = convert.load(path, backbone="resnet18", width=4)
  assert jax.tree.all(jax.tree.map(np.array_equal, loaded, variables))
  keys = convert.load(path, prefixes=("module.", "encoder_k."))
  assert not keys["params"]["bn1"]["scale"].any()
  with pytest.raises(ValueError, match=r"moco\.safetensors: not a ResNet"):
    convert.load(path, prefixes=())
