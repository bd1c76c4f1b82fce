"""Grouped batch norm against float64, and its freedom from the device count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.reference import batch_norm as reference
from vssl_jax.models.norm import BatchNorm

SHAPES = [(8, 5), (8, 3, 5), (8, 4, 3, 5)]


def made(shape, seed=0):
  """Inputs far from zero mean, and random variables."""
  rng = np.random.default_rng(seed)
  channels = shape[-1:]
  x = (rng.normal(size=shape) * rng.uniform(0.5, 3, channels) + 10).astype(np.float32)
  variables = {
    "params": {"scale": rng.normal(size=channels), "bias": rng.normal(size=channels)},
    "batch_stats": {"mean": rng.normal(size=channels), "var": rng.uniform(0.5, 2, channels)},
  }
  flat = {**variables["params"], **variables["batch_stats"]}
  return x, jax.tree.map(np.float32, variables), flat


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("groups", "running"), [(1, "first"), (2, "first"), (4, "mean")])
def test_training_against_float64(shape, groups, running):
  x, variables, flat = made(shape)
  norm = BatchNorm(groups=groups, running=running)
  y, updated = norm.apply(variables, x, train=True, mutable="batch_stats")
  expected, mean, var = reference.train(x, groups=groups, running=running, **flat)
  # A mean of 10 rounds at 1e-6, which a pair of values close together magnifies.
  np.testing.assert_allclose(y, expected, atol=1e-4)
  np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=1e-5)
  np.testing.assert_allclose(updated["batch_stats"]["var"], var, rtol=1e-5)


def test_evaluation_against_float64():
  x, variables, flat = made((8, 3, 5))
  expected = reference.evaluate(x, **flat)
  np.testing.assert_allclose(BatchNorm().apply(variables, x), expected, atol=1e-5)


def test_gradient_against_finite_differences():
  x, variables, flat = made((4, 2, 3))
  c = np.random.default_rng(1).normal(size=x.shape)

  def loss(x):
    norm = BatchNorm(groups=2)
    return (norm.apply(variables, x, train=True, mutable="batch_stats")[0] * c).sum()

  grad = jax.grad(loss)(x)
  for index in [(0, 0, 0), (1, 1, 2), (3, 0, 1)]:
    step = np.zeros(x.shape)
    step[index] = 1e-5
    ends = [(reference.train(x + s, groups=2, **flat)[0] * c).sum() for s in (step, -step)]
    np.testing.assert_allclose(grad[index], (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("order", [(), (0, 1, 1, 2, 0, 1)])
def test_frames_of_clips_are_normalised_each_by_itself(order):
  """As separate calls, one for each frame, whose statistics then count in the given order."""
  x, variables, flat = made((4, 3, 2, 5))  # clips, frames, ..
  params, stats = {k: flat[k] for k in ("scale", "bias")}, (flat["mean"], flat["var"])
  norm = BatchNorm(groups=2, frames=3, order=order)
  y, updated = norm.apply(variables, x.reshape(12, 2, 5), train=True, mutable="batch_stats")
  y = np.asarray(y).reshape(x.shape)
  for frame in range(3):
    want = reference.train(x[:, frame], **params, mean=stats[0], var=stats[1], groups=2)[0]
    np.testing.assert_allclose(y[:, frame], want, atol=1e-4)
  for frame in order or range(3):
    stats = reference.train(x[:, frame], **params, mean=stats[0], var=stats[1], groups=2)[1:]
  for name, want in zip(("mean", "var"), stats, strict=True):
    np.testing.assert_allclose(updated["batch_stats"][name], want, rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match="2 groups of clips of 3 frames don't divide a batch of 8"):
    norm.apply(variables, x[:4, :2].reshape(8, 2, 5), train=True, mutable="batch_stats")


def test_groups_do_not_see_each_other():
  x, variables, _ = made((8, 5))
  norm = BatchNorm(groups=2)

  def run(x):
    return np.asarray(norm.apply(variables, x, train=True, mutable="batch_stats")[0])

  changed = x.copy()
  changed[4:] *= 3
  np.testing.assert_array_equal(run(changed)[:4], run(x)[:4])
  assert np.abs(run(changed)[4:] - run(x)[4:]).max() < 1e-3  # scale is normalised away
  swapped = x[[4, 1, 2, 3, 0, 5, 6, 7]]
  assert np.abs(run(swapped)[1:4] - run(x)[1:4]).max() > 0.01


def test_half_precision_keeps_float32_statistics():
  x, variables, flat = made((64, 5))
  half = x.astype(jnp.bfloat16)
  y, updated = BatchNorm().apply(variables, half, train=True, mutable="batch_stats")
  _, mean, var = reference.train(half, groups=1, **flat)
  assert y.dtype == jnp.bfloat16
  assert updated["batch_stats"]["var"].dtype == np.float32
  np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=1e-5)
  np.testing.assert_allclose(updated["batch_stats"]["var"], var, rtol=1e-5)
  assert BatchNorm(dtype=jnp.float32).apply(variables, half).dtype == np.float32


def test_initialisation_leaves_running_statistics_alone():
  x, _, _ = made((8, 5))
  stats = BatchNorm().init(jax.random.key(0), x, train=True)["batch_stats"]
  np.testing.assert_array_equal(stats["mean"], np.zeros(5))
  np.testing.assert_array_equal(stats["var"], np.ones(5))


@pytest.mark.skipif(jax.device_count() < 4, reason="needs 4 devices")
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_devices_do_not_matter_and_aligned_groups_need_no_collective(groups):
  x, variables, _ = made((8, 3, 5))
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("data"))

  def run(x):
    norm = BatchNorm(groups=groups)
    return norm.apply(variables, x, train=True, mutable="batch_stats")

  sharded, updated = jax.jit(run)(jax.device_put(x, split))
  alone, expected = run(x)
  np.testing.assert_allclose(sharded, alone, atol=1e-5)
  np.testing.assert_allclose(updated["batch_stats"]["var"], expected["batch_stats"]["var"],
                             rtol=1e-5)
  values = jax.jit(lambda x: run(x)[0], in_shardings=split, out_shardings=split)
  compiled = values.lower(x).compile().as_text()
  collective = any(name in compiled for name in ("all-reduce", "all-gather", "collective-permute"))
  assert collective == (groups != 4)


def test_errors():
  x, variables, _ = made((8, 5))
  for norm, batch, reason in (
    (BatchNorm(groups=3), x, "3 groups don't divide a batch of 8"),
    (BatchNorm(groups=8), x, "one value a channel has no variance"),
    (BatchNorm(running="last"), x, "running='last'; choose"),
  ):
    with pytest.raises(ValueError, match=reason):
      norm.apply(variables, batch, train=True, mutable="batch_stats")
