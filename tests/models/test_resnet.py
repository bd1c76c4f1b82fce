"""Residual networks against float64 NumPy; initialisation, batch statistics, half precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import resnet as reference
from vssl_jax.convert import resnet as convert
from vssl_jax.models import resnet


def made(backbone, width=4, seed=0):
  """Random weights, scales and statistics under torch names."""
  net = resnet.make(backbone, width=width)
  variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  rng = np.random.default_rng(seed)

  def leaf(v):
    if len(v.shape) == 4:
      return rng.normal(size=v.shape) * np.sqrt(2 / np.prod(v.shape[:3]))
    return rng.uniform(0.5, 1.5, v.shape)

  state = convert.to_torch(jax.tree.map(lambda v: leaf(v).astype(np.float32), variables))
  return net, state


@pytest.mark.parametrize(
  ("backbone", "size"), [("resnet18", (64, 64)), ("resnet34", (37, 50)), ("resnet50", (45, 66))]
)
def test_stages_against_float64(backbone, size):
  """Even and odd sides: they tell torch's paddings from "SAME"."""
  net, state = made(backbone)
  x = np.random.default_rng(1).normal(size=(2, *size, 3)).astype(np.float32)
  features = jax.jit(net.apply)(convert.from_torch(state), x)
  expected = reference.stages(state, x.transpose(0, 3, 1, 2))
  for i, golden in enumerate(expected, start=1):
    ours = np.asarray(features[f"stage{i}"]).transpose(0, 3, 1, 2)
    assert ours.shape[1] == net.stage_widths[i - 1]
    np.testing.assert_allclose(ours, golden, rtol=1e-4, atol=1e-5 * golden.max())
  pooled = expected[-1].mean((2, 3))
  np.testing.assert_allclose(features["pooled"], pooled, rtol=1e-4, atol=1e-5 * pooled.max())


@pytest.mark.parametrize(
  ("backbone", "count"),
  [("resnet18", 11_176_512), ("resnet34", 21_284_672), ("resnet50", 23_508_032)],
)
def test_published_parameter_counts(backbone, count):
  """Those of torchvision less the classifier: 11,689,512, 21,797,672 and 25,557,032 with it."""
  net = resnet.make(backbone)
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  params = jax.eval_shape(net.init, jax.random.key(0), image)["params"]
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_dilated_stages_against_float64(backbone):
  """First blocks have half of the dilation, and only their first 3x3 convolution has it."""
  _, state = made(backbone)
  net = resnet.make(backbone, width=4, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
  x = np.random.default_rng(1).normal(size=(1, 39, 47, 3)).astype(np.float32)
  features = jax.jit(net.apply)(convert.from_torch(state), x)
  expected = reference.stages(state, x.transpose(0, 3, 1, 2), (1, 2, 1, 1),
                              ((1, 1), (1, 1), (1, 2), (2, 4)))
  assert expected[3].shape[2:] == (5, 6)
  for i, golden in enumerate(expected, start=1):
    ours = np.asarray(features[f"stage{i}"]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours, golden, rtol=1e-4, atol=1e-5 * golden.max())


def by_flax(net, key):
  return jax.jit(net.init)(key, jnp.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize("init", [by_flax, resnet.random_variables])
def test_initialisation(init):
  """Convolutions normal with variance 2 / (k k out); norms the identity."""
  net = resnet.ResNet((1, 1, 1, 1), bottleneck=False, width=32)
  variables = init(net, jax.random.key(0))
  kernels = [np.asarray(v) for v in jax.tree.leaves(variables) if v.ndim == 4]
  assert len(kernels) == 1 + 4 * 2 + 3
  for i, kernel in enumerate(kernels):
    scaled = kernel / np.sqrt(2 / (kernel.shape[0] ** 2 * kernel.shape[3]))
    np.testing.assert_allclose(scaled.std(), 1, rtol=0.06)
    assert abs(scaled.mean()) < 0.06
    np.testing.assert_allclose((scaled**4).mean(), 3, rtol=0.25)  # not truncated
    first = kernels[i - 1].ravel()[:90] * kernel.std() / kernels[i - 1].std()
    assert np.abs(np.corrcoef(first, kernel.ravel()[:90])[0, 1]) < 0.5  # not one draw for all
  for leaf, value in (("scale", 1), ("bias", 0), ("mean", 0), ("var", 1)):
    norms = [v for path, v in jax.tree_util.tree_leaves_with_path(variables)
             if path[-1].key == leaf]
    assert len(norms) == len(kernels)
    np.testing.assert_array_equal(np.concatenate(norms), value)


def test_training_mode_uses_groups_of_the_batch():
  x = np.random.default_rng(0).normal(size=(4, 48, 48, 3)).astype(np.float32)
  alone, grouped = (
    resnet.ResNet((1, 1, 1, 1), bottleneck=False, width=4, groups=g) for g in (1, 2))
  variables = jax.jit(alone.init)(jax.random.key(0), x)
  train = functools.partial(jax.jit, static_argnums=0)(
    lambda net, variables, x: net.apply(variables, x, train=True, mutable="batch_stats")
  )
  both, updated = train(grouped, variables, x)
  halves = [train(alone, variables, half) for half in (x[:2], x[2:])]
  pooled = np.concatenate([features["pooled"] for features, _ in halves])
  np.testing.assert_allclose(both["pooled"], pooled, rtol=1e-4, atol=1e-5)
  first = halves[0][1]["batch_stats"]
  for ours, half in zip(jax.tree.leaves(updated), jax.tree.leaves(first), strict=True):
    np.testing.assert_allclose(ours, half, rtol=1e-4, atol=1e-6)
  evaluated = jax.jit(alone.apply)(variables, x)["pooled"]
  assert np.abs(evaluated - both["pooled"]).max() > 0.01


def test_bfloat16_stays_close():
  net, state = made("resnet18", width=8)
  variables = convert.from_torch(state)
  x = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32)
  exact = jax.jit(net.apply)(variables, x)
  half = jax.jit(resnet.make("resnet18", width=8, dtype=jnp.bfloat16).apply)(variables, x)
  for name, value in exact.items():
    assert half[name].dtype == (jnp.float32 if name == "pooled" else jnp.bfloat16)
    distance = jnp.linalg.norm(half[name].astype(jnp.float32) - value) / jnp.linalg.norm(value)
    assert distance < 0.05, name


def test_unknown_backbone_names_the_choices():
  with pytest.raises(ValueError, match="'resnet51'; choose from resnet18, resnet34, resnet50"):
    resnet.make("resnet51")
