"""Video ResNets against float64 NumPy; counts, initialisation, batch statistics, half precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import resnet3d as reference
from vssl_jax.convert import resnet3d as convert
from vssl_jax.models import resnet3d


@functools.cache
def made(backbone, width=4, seed=0):
  """A network, random weights, scales and statistics under torch names, and its compiled form."""
  net = resnet3d.make(backbone, width=width)
  shapes = jax.eval_shape(net.init, jax.random.key(0), resnet3d.CLIP)
  rng = np.random.default_rng(seed)

  def leaf(v):
    if len(v.shape) == 5:
      return rng.normal(size=v.shape) * np.sqrt(2 / np.prod(v.shape[:4]))
    return rng.uniform(0.5, 1.5, v.shape)

  state = convert.to_torch(jax.tree.map(lambda v: leaf(v).astype(np.float32), shapes))
  return net, state


@pytest.mark.parametrize(("backbone", "clip"), [
  ("r3d_18", (5, 18, 34)), ("r2plus1d_18", (6, 21, 18)), ("slow_r50", (3, 37, 34))])
def test_stages_against_float64(backbone, clip):
  """Even and odd sides: they tell torch's paddings from "SAME"."""
  net, state = made(backbone)
  x = np.random.default_rng(1).normal(size=(2, *clip, 3)).astype(np.float32)
  features = jax.jit(net.apply)(convert.from_torch(state), x)
  expected = reference.stages(state, x.transpose(0, 4, 1, 2, 3))
  for name, golden in zip(("stem", "stage1", "stage2", "stage3", "stage4"), expected, strict=True):
    ours = np.asarray(features[name]).transpose(0, 4, 1, 2, 3)
    np.testing.assert_allclose(ours, golden, rtol=1e-4, atol=1e-5 * golden.max(), err_msg=name)
  pooled = expected[-1].mean((2, 3, 4))
  assert pooled.shape[1] == net.dim
  np.testing.assert_allclose(features["pooled"], pooled, rtol=1e-4, atol=1e-5 * pooled.max())
  np.testing.assert_array_equal(features["map"], features["stage4"])


@pytest.mark.parametrize(("backbone", "count"), [
  ("r3d_18", 33_371_472 - 400 * 513), ("r2plus1d_18", 31_505_325 - 400 * 513),
  ("slow_r50", 32_454_096 - 400 * 2049)])
def test_published_parameter_counts(backbone, count):
  """Those with a classifier of 400 classes, less the classifier."""
  net = resnet3d.make(backbone)
  params = jax.eval_shape(net.init, jax.random.key(0), resnet3d.CLIP)["params"]
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_middle_widths_are_those_of_the_block():
  net = resnet3d.make("r2plus1d_18")
  params = jax.eval_shape(net.init, jax.random.key(0), resnet3d.CLIP)["params"]
  widths = {params[f"layer{i}_{j}"][f"conv{k}_0_0"]["kernel"].shape[-1]
            for i in (1, 2, 3, 4) for j in (0, 1) for k in (1, 2)}
  assert widths == {144, 230, 288, 460, 576, 921, 1152}


def by_flax(net, key):
  return jax.jit(net.init)(key, jnp.zeros((1, 2, 16, 16, 3)))


@pytest.mark.parametrize("init", [by_flax, resnet3d.random_variables])
@pytest.mark.parametrize("zero", [False, True])
def test_initialisation(init, zero):
  """Convolutions normal with variance 2 / (k k k out); norms the identity, or the last ones 0."""
  net = resnet3d.ResNet3d((1, 1), "r3d", width=16, zero_residual=zero)
  variables = init(net, jax.random.key(0))
  kernels = [np.asarray(v) for v in jax.tree.leaves(variables) if v.ndim == 5]
  assert len(kernels) == 1 + 2 * 2 + 1
  for kernel in kernels:
    scaled = kernel / np.sqrt(2 / (np.prod(kernel.shape[:3]) * kernel.shape[-1]))
    np.testing.assert_allclose(scaled.std(), 1, rtol=0.1)
    assert abs(scaled.mean()) < 0.1
  for path, v in jax.tree_util.tree_leaves_with_path(variables):
    if v.ndim == 1:
      last = zero and path[-2].key == "conv2_1" and path[-1].key == "scale"
      one = path[-1].key in ("scale", "var") and not last
      np.testing.assert_array_equal(v, float(one), err_msg=str(path))


def test_training_mode_uses_groups_of_the_batch_and_has_gradients():
  x = np.random.default_rng(0).normal(size=(4, 3, 16, 16, 3)).astype(np.float32)
  alone, grouped = (resnet3d.ResNet3d((1, 1), "r2plus1d", width=4, groups=g) for g in (1, 2))
  variables = resnet3d.random_variables(alone, jax.random.key(0))

  @functools.partial(jax.jit, static_argnums=0)
  def train(net, params, x):
    def loss(params):
      out, updated = net.apply({**variables, "params": params}, x, train=True,
                               mutable="batch_stats")
      return jnp.sum(out["pooled"][:, 0]), (out["pooled"], updated)
    grads, rest = jax.grad(loss, has_aux=True)(params)
    return grads, *rest

  _, both, updated = train(grouped, variables["params"], x)
  halves = [train(alone, variables["params"], half) for half in (x[:2], x[2:])]
  pooled = np.concatenate([pooled for _, pooled, _ in halves])
  np.testing.assert_allclose(both, pooled, rtol=1e-4, atol=1e-5)
  for ours, first in zip(jax.tree.leaves(updated), jax.tree.leaves(halves[0][2]), strict=True):
    np.testing.assert_allclose(ours, first, rtol=1e-4, atol=1e-6)
  for path, g in jax.tree_util.tree_leaves_with_path(halves[0][0]):
    assert np.isfinite(g).all() and np.abs(g).max() > 0, path


def test_bfloat16_stays_close():
  _, state = made("slow_r50")
  variables = convert.from_torch(state)
  x = np.random.default_rng(1).normal(size=(2, 3, 37, 34, 3)).astype(np.float32)
  exact = jax.jit(resnet3d.make("slow_r50", width=4).apply)(variables, x)
  half = jax.jit(resnet3d.make("slow_r50", width=4, dtype=jnp.bfloat16).apply)(variables, x)
  for name, value in exact.items():
    assert half[name].dtype == (jnp.float32 if name == "pooled" else jnp.bfloat16)
    distance = jnp.linalg.norm(half[name].astype(jnp.float32) - value) / jnp.linalg.norm(value)
    assert distance < 0.05, name


def test_what_is_refused():
  with pytest.raises(ValueError, match="'r3d_34'; choose from r3d_18, r2plus1d_18, slow_r50"):
    resnet3d.make("r3d_34")
  with pytest.raises(ValueError, match=r"clips should be .* are \[1, 16, 16, 3\]"):
    jax.eval_shape(resnet3d.make("r3d_18").init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
