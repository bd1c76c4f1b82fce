"""Rows in random order are split over the devices again where a mesh is known."""

import jax
import numpy as np

from vssl_jax import parallel
from vssl_jax.ops.placement import over_devices


def test_without_a_mesh_nothing_happens():
  x = np.arange(8)
  assert over_devices(x) is x


def test_gathered_rows_are_split_again():
  mesh = parallel.mesh(jax.devices()[:4])
  x, order = np.arange(16.0).reshape(8, 2), np.random.default_rng(0).permutation(8)

  def gathered(x, ask):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return over_devices(x[order]) if ask else x[order]

  placed = parallel.place(x, mesh)
  for ask in (True, False):
    y = jax.jit(gathered, static_argnums=1)(placed, ask)
    np.testing.assert_array_equal(y, x[order])
    assert (y.sharding.shard_shape(y.shape) == (2, 2)) == ask
