"""CorrFlow's encoder against float64 NumPy; first weights, frames at once, half precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.reference.resnet import convolve
from vssl_jax.convert import corrflow as convert
from vssl_jax.models import corrflow
from vssl_jax.models.corrflow import Encoder

NET = Encoder(width=4, dim=5)
APPLY = jax.jit(NET.apply)


@functools.cache
def made():
  rng = np.random.default_rng(0)
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  shapes = jax.eval_shape(NET.init, jax.random.key(0), image)

  def leaf(v):
    if len(v.shape) == 4:
      return rng.normal(size=v.shape) * np.sqrt(2 / np.prod(v.shape[:3]))
    return rng.uniform(0.5, 1.5, v.shape)

  return jax.tree.map(lambda v: leaf(v).astype(np.float32), shapes)


def twin(state, x):
  """By torch's names, inference mode: [N, C, H, W] in and out."""

  def layer(x, conv, norm, stride):
    x = convolve(x, state[f"{conv}.weight"].astype(np.float64), stride)
    scale, shift, mean, var = (state[f"{norm}.{n}"].astype(np.float64)[:, None, None] for n in (
      "weight", "bias", "running_mean", "running_var"))
    return (x - mean) / np.sqrt(var + 1e-5) * scale + shift

  p = "feature_extraction"
  x = np.maximum(layer(x.astype(np.float64), f"{p}.conv1.0", f"{p}.conv1.1", 2), 0)
  for stage in (1, 2, 3, 4):
    for block in (0, 1):
      name, stride = f"{p}.layer{stage}.{block}", 2 if (stage, block) == (2, 0) else 1
      y = np.maximum(layer(x, f"{name}.left.0", f"{name}.left.1", stride), 0)
      y = layer(y, f"{name}.left.3", f"{name}.left.4", 1)
      if f"{name}.shortcut.0.weight" in state:
        x = layer(x, f"{name}.shortcut.0", f"{name}.shortcut.1", stride)
      x = np.maximum(x + y, 0)
  x = convolve(x, state["post_convolution.weight"].astype(np.float64), 1)
  return x + state["post_convolution.bias"].astype(np.float64)[:, None, None]


def test_features_against_float64():
  """Odd sides: sizes are halved upwards, twice."""
  x = np.random.default_rng(1).uniform(size=(2, 13, 18, 3)).astype(np.float32)
  got = np.asarray(APPLY(made(), x)["features"])
  state = convert.to_torch(made()["params"], made()["batch_stats"])
  want = twin(state, x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
  assert got.shape == (2, 4, 5, 5)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


def test_as_many_numbers_as_published():
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  params = jax.eval_shape(Encoder().init, jax.random.key(0), image)["params"]
  assert sum(p.size for p in jax.tree.leaves(params)) == 5_291_648


def test_first_weights_are_uniform_within_the_root_of_fan_in():
  net = Encoder(width=16)
  drawn = jax.jit(functools.partial(corrflow.random_variables, net))(jax.random.key(0))
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  same = jax.eval_shape(net.init, jax.random.key(0), image)
  assert jax.tree.structure(same) == jax.tree.structure(drawn)
  for path, v in jax.tree_util.tree_leaves_with_path(drawn):
    v, name = np.asarray(v), jax.tree_util.keystr(path)
    if v.ndim == 4 or "head" in name:
      fan_in = np.prod(v.shape[:3]) if v.ndim == 4 else 9 * 64
      assert np.abs(v).max() <= fan_in**-0.5, name
      np.testing.assert_allclose(v.std() * (3 * fan_in) ** 0.5, 1, atol=0.15, err_msg=name)
    else:
      np.testing.assert_array_equal(v, float("scale" in name or "var" in name), name)


def test_flax_draws_from_the_same_distribution():
  kernel = corrflow.fan_in_uniform(jax.random.key(0), (3, 3, 16, 64))
  assert 0.99 * 144**-0.5 < jnp.abs(kernel).max() <= 144**-0.5
  np.testing.assert_allclose(kernel.std() * (3 * 144) ** 0.5, 1, atol=0.02)
  bias = corrflow._within(9 * 64)(jax.random.key(0), (512,))
  assert 0.9 / 24 < jnp.abs(bias).max() <= 1 / 24


def test_bfloat16_stays_close():
  x = np.random.default_rng(2).uniform(size=(2, 16, 16, 3)).astype(np.float32)
  exact = APPLY(made(), x)["features"]
  half = jax.jit(NET.clone(dtype=jnp.bfloat16).apply)(made(), x)["features"]
  assert half.dtype == jnp.bfloat16
  assert jnp.linalg.norm(half - exact) < 0.05 * jnp.linalg.norm(exact)


def test_all_frames_at_once_are_as_one_after_the_other(frames=2):
  x = np.random.default_rng(3).uniform(size=(3, frames, 16, 16, 3)).astype(np.float32)

  @functools.partial(jax.jit, static_argnums=0)
  def train(net, variables, x):
    return net.apply(variables, x, train=True, mutable=["batch_stats"])[0]["features"]

  got = train(NET.clone(frames=frames), made(), x.reshape(-1, *x.shape[2:]))
  got = got.reshape(3, frames, 4, 4, -1)
  for t in range(frames):
    np.testing.assert_allclose(got[:, t], train(NET, made(), x[:, t]), rtol=1e-3, atol=2e-4)
