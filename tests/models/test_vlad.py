"""What NetVLAD and NeXtVLAD start from, and their sizes; values in test_aggregators.py."""

import jax
import numpy as np
import pytest

from vssl_jax.models.vlad import NetVLAD, NeXtVLAD


def start(model, dim=32):
  x = np.zeros((1, 2, dim), np.float32)
  return jax.jit(model.init)(jax.random.key(3), x, np.int32([2]))["params"]


def test_netvlad_starts_with_assignments_by_its_centroids():
  params = start(NetVLAD(clusters=24, output=16))
  c = np.asarray(params["centroids"])
  assert 0 <= c.min() < 0.01 < 0.99 < c.max() < 1
  np.testing.assert_allclose(c.mean(), 0.5, atol=0.04)
  np.testing.assert_array_equal(params["conv"]["kernel"], 2 * c.T)
  np.testing.assert_allclose(params["conv"]["bias"], -np.linalg.norm(c, axis=1), rtol=1e-6)


@pytest.mark.parametrize("model, fan_in", [
    (NetVLAD(clusters=24, output=64), {"fc1": 24 * 32, "fc2": 64, "fc3": 8}),
    (NeXtVLAD(clusters=24, groups=4, output=64),
     {"fc1": 24 * 16, "fc2": 64, "fc3": 8, "conv1": 32, "conv2": 64, "conv3": 64})])
def test_linear_layers_start_as_pytorchs(model, fan_in):
  params = start(model)
  leaves = params | params["head"]
  for name, size in fan_in.items():
    kernel, bound = np.asarray(leaves[name]["kernel"]), size**-0.5
    assert kernel.shape[0] == size
    assert 0.97 * bound < np.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.08)
    if name == "conv3":
      assert list(leaves[name]) == ["kernel"]
    else:
      assert 0 < np.abs(leaves[name]["bias"]).max() <= bound


def test_the_default_is_as_large_as_the_papers():
  x, length = jax.ShapeDtypeStruct((1, 2, 1024), "float32"), jax.ShapeDtypeStruct((1,), "int32")
  params = jax.eval_shape(NetVLAD().init, jax.random.key(0), x, length)["params"]
  assert params["head"]["fc1"]["kernel"].shape == (262_144, 1024)  # 268 M (tca spec 5)
  assert params["head"]["fc2"]["kernel"].shape == (1024, 128)
  params = jax.eval_shape(NeXtVLAD().init, jax.random.key(0), x, length)["params"]
  assert params["conv3"]["kernel"].shape == (2048, 512)
  assert params["centroids"].shape == (64, 256)
