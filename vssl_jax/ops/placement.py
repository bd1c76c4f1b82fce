"""Where arrays lie, for functions that regroup a batch."""

import jax
from jax.sharding import PartitionSpec


def over_devices(x: jax.Array) -> jax.Array:
  """Asks for x [B, ...] to be split over the devices as batches are; changes no number.

  What rows are gathered into in random order has no place of its own: XLA would have every device
  compute all of what follows. Without a mesh with an axis `data` around, x is returned as it is.
  """
  if "data" not in jax.sharding.get_abstract_mesh().axis_names:
    return x
  return jax.lax.with_sharding_constraint(x, PartitionSpec("data"))
