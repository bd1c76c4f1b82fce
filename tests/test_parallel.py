"""Placing batches on devices, and host functions of any number of rows, on one and four devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax import parallel
from vssl_jax.losses import retrieval
from vssl_jax.types import ConfigError


@pytest.fixture(params=[1, 4])
def mesh(request):
  assert len(jax.devices()) >= 4, "tests/conftest.py asks for four virtual devices"
  return parallel.mesh(jax.devices()[:request.param])


def test_mesh_is_one_axis_over_all_devices():
  mesh = parallel.mesh()
  assert mesh.axis_names == ("data",)
  assert list(mesh.devices.flat) == jax.devices()


def test_a_batch_is_split_in_order_and_state_is_everywhere(mesh):
  batch = {"x": np.arange(24, dtype=np.float32).reshape(8, 3), "n": np.arange(8, dtype=np.int32)}
  placed = parallel.place(batch, mesh)
  for name, x in placed.items():
    np.testing.assert_array_equal(x, batch[name])
    shards = sorted(x.addressable_shards, key=lambda s: s.device.id)
    parts = np.split(batch[name], mesh.size)
    assert len(shards) == mesh.size
    for shard, part in zip(shards, parts, strict=True):
      np.testing.assert_array_equal(shard.data, part)
  state = jax.device_put(batch["x"], parallel.replicated(mesh))
  assert all(np.array_equal(s.data, batch["x"]) for s in state.addressable_shards)
  assert len(state.addressable_shards) == mesh.size


def test_a_loss_over_the_mesh_sees_the_global_batch(mesh):
  """Every anchor against the negatives of all devices: the numbers of one device."""
  rng = np.random.default_rng(0)
  z = {k: rng.standard_normal((8, 6)).astype(np.float32) for k in "apn"}

  def loss(z):
    return jnp.mean(retrieval.info_nce(jnp.sum(z["a"] * z["p"], axis=1), z["a"] @ z["n"].T))

  grad_fn = jax.value_and_grad(loss)
  value, grad = jax.jit(grad_fn)(z)
  split, split_grad = jax.jit(grad_fn, in_shardings=parallel.over_data(mesh))(
      parallel.place(z, mesh))
  np.testing.assert_allclose(split, value, rtol=1e-6)
  chex.assert_trees_all_close(split_grad, grad, rtol=1e-5, atol=1e-6)


def test_check_batch_names_the_key_and_a_near_multiple():
  mesh = parallel.mesh(jax.devices()[:4])
  parallel.check_batch(8, mesh)
  for batch, near in ((1, 4), (9, 8), (11, 12)):
    with pytest.raises(ConfigError, match=rf"train\.batch={batch} .* 4 devices.* {near}$"):
      parallel.check_batch(batch, mesh)
  with pytest.raises(ConfigError, match=r"embed\.batch=3"):
    parallel.check_batch(3, mesh, "embed.batch")


def rows(n, seed=0):
  rng = np.random.default_rng(seed)
  return {"x": rng.standard_normal((n, 5)).astype(np.float32),
          "n": rng.integers(1, 9, n).astype(np.int32)}


def features(inputs):
  """Depends on a row alone; a padding row of zeros gives nan."""
  return {"mean": inputs["x"].sum(axis=1) / inputs["n"], "twice": {"x": 2 * inputs["x"]}}


def test_host_fn_takes_any_number_of_rows(mesh):
  fn = parallel.host_fn(features, mesh, batch=6)
  for n in (1, 3, 4, 5, 6, 8, 9, 17):
    inputs = rows(n, n)
    out = fn(inputs)
    assert isinstance(out["mean"], np.ndarray)
    np.testing.assert_allclose(out["mean"], inputs["x"].sum(1) / inputs["n"], rtol=1e-5)
    np.testing.assert_array_equal(out["twice"]["x"], 2 * inputs["x"])
  with pytest.raises(ValueError, match="no rows"):
    fn(rows(0))


def test_host_fn_compiles_few_sizes_and_never_more_than_batch_rows(mesh):
  seen = []

  def fn(inputs):
    seen.append(inputs["x"].shape[0])
    return inputs["x"]

  host = parallel.host_fn(fn, mesh, batch=8)
  for n in range(1, 20):
    host(rows(n))
  assert len(seen) == len(set(seen)) <= 4
  assert max(seen) == 8
  assert all(size % mesh.size == 0 for size in seen)


def test_host_fn_spreads_rows_over_the_devices():
  mesh, seen = parallel.mesh(jax.devices()[:4]), []

  def fn(inputs):
    jax.debug.inspect_array_sharding(inputs["x"], callback=seen.append)
    return inputs["x"]

  parallel.host_fn(fn, mesh, batch=8)(rows(8))
  assert [s.shard_shape((8, 5)) for s in seen] == [(2, 5)]


def test_several_processes_need_an_address_and_a_place():
  parallel.initialise()  # one process: nothing to do
  with pytest.raises(ConfigError, match=r"--processes=N and --process_id=0\.\.N-1, not 2 and 2"):
    parallel.initialise("localhost:1234", 2, 2)
  with pytest.raises(ConfigError, match="not 0 and -1"):
    parallel.initialise("localhost:1234")
  with pytest.raises(ConfigError, match="need --coordinator"):
    parallel.initialise("", 2, 1)


def test_one_process_waits_for_nobody():
  parallel.barrier("alone")
  assert parallel.any_process(True) is True
  assert parallel.any_process(False) is False
