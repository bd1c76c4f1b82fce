"""Comparators in the files of several projects to parameters and back."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from vssl_jax.convert import comparator as convert
from vssl_jax.convert import resnet as convert_resnet
from vssl_jax.models import resnet
from vssl_jax.models.comparator import Comparator


def made():
  one = jnp.ones(1, int)
  shapes = jax.eval_shape(Comparator().init, jax.random.key(0), jnp.zeros((1, 4, 4)), one, one)
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda v: rng.standard_normal(v.shape).astype(np.float32), shapes["params"])


def equal(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(
      jax.tree.map(np.array_equal, a, b))


def test_round_trip_names_and_layouts():
  params = made()
  state = convert.to_torch(params)
  assert {n: v.shape for n, v in state.items() if n.endswith("weight")} == {
      f"{layer}.weight": shape for layer, shape in convert.LAYERS.items()}
  assert state["conv2.weight"][5, 2, 0, 1] == params["conv2"]["kernel"][0, 1, 2, 5]
  assert equal(convert.from_torch(state), params)


@pytest.mark.parametrize("rename", [
    lambda n: f"module.video_comparator.{n}", lambda n: f"visil_head.{n}",
    lambda n: n.replace("fconv", "conv_4").replace("conv", "layers.x")])
def test_layers_are_told_by_shape_beside_a_backbone(rename):
  """A whole ViSiL: a ResNet with a conv1 of its own, a whitening, and the comparator."""
  params, net = made(), resnet.make("resnet18", width=64)
  variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  backbone = convert_resnet.to_torch(
      jax.tree.map(lambda v: np.zeros(v.shape, np.float32), variables))
  state = {f"cnn.{n}": v for n, v in backbone.items()} | {"pca.weight": np.ones((8, 8))}
  state |= {rename(n): v for n, v in convert.to_torch(params).items()}
  assert equal(convert.from_torch(state), params)


def test_one_of_two_comparators_is_chosen_by_prefix():
  first, second = convert.to_torch(made()), convert.to_torch(jax.tree.map(np.negative, made()))
  state = {f"student.{n}": v for n, v in first.items()}
  state |= {f"teacher.{n}": v for n, v in second.items()}
  with pytest.raises(ValueError, match=r"student\.conv1\.weight, teacher\.conv1\.weight; choose"):
    convert.from_torch(state)
  assert equal(convert.from_torch(state, prefix="teacher."), jax.tree.map(np.negative, made()))


@pytest.mark.parametrize("change, reason", [
    (lambda s: {n: v for n, v in s.items() if n != "conv3.weight"},
     r"weight of shape \[128, 64, 3, 3\] \(conv3\); here are none$"),
    (lambda s: {n: v for n, v in s.items() if n != "fconv.bias"}, r"fconv\.bias .* is missing"),
    (lambda s: s | {"conv1.bias": np.ones(5)}, r"conv1\.bias should have shape \[32\], has \[5\]"),
    (lambda s: s | {"conv2.bias": np.full(64, np.nan)}, r"conv2\.weight or conv2\.bias holds non-"),
    (lambda s: {}, r"\(conv1\); here are none$")])
def test_anything_else_is_refused_by_name(change, reason):
  with pytest.raises(ValueError, match=reason):
    convert.from_torch(change(convert.to_torch(made())))


def test_load_opens_files_and_names_them(tmp_path):
  path = tmp_path / "video_comparator.safetensors"
  state = convert.to_torch(made())
  half = {n: v.astype(ml_dtypes.bfloat16) for n, v in state.items()}
  safetensors.numpy.save_file({f"module.{n}": v for n, v in half.items()}, path)
  loaded = convert.load(path).params["comparator"]
  assert all(v.dtype == np.float32 for v in jax.tree.leaves(loaded))
  assert equal(loaded, convert.from_torch(half))
  with pytest.raises(ValueError, match=r"video_comparator\.safetensors: .*\(conv1\)"):
    convert.load(path, prefix="other.")
