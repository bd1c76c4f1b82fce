"""Mapping computation over devices: one mesh with a `data` axis, on one process or many.

State is replicated, batches are split over the axis, and functions are jitted over the mesh, so a
loss sees the global batch and XLA inserts the collectives. Numbers don't depend on the number of
devices, beyond the order of floating-point sums.
"""

import re
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vssl_jax.types import ConfigError, PyTree


def initialise(coordinator: str = "", processes: int = 0, process_id: int = -1) -> None:
  """Joins the processes of a multi-host run; does nothing for one process.

  Args:
    coordinator: "host:port" of process 0, or "auto" on TPU pods, SLURM and the like, where JAX
      finds everything itself; empty for one process.
  """
  # It would take SIGTERM for itself, and nothing would be saved.
  jax.config.update("jax_enable_preemption_service", False)
  if not coordinator:
    if processes > 1 or process_id > 0:
      raise ConfigError("--processes and --process_id need --coordinator=HOST:PORT")
    return
  if coordinator == "auto":
    try:
      jax.distributed.initialize()
    except ValueError as e:
      raise ConfigError(f"--coordinator=auto: {e}; give --coordinator=HOST:PORT, --processes and "
                        "--process_id") from e
    return
  if not re.fullmatch(r".+:\d+", coordinator):
    raise ConfigError(f'--coordinator={coordinator} should be HOST:PORT of process 0, or "auto"')
  if processes < 1 or not 0 <= process_id < processes:
    raise ConfigError(f"--coordinator={coordinator} needs --processes=N and --process_id=0..N-1, "
                      f"not {processes} and {process_id}")
  try:
    jax.distributed.initialize(coordinator, processes, process_id)
  except RuntimeError as e:
    raise ConfigError(f"--coordinator={coordinator}: {e}") from e


def let_others_leave(seconds: float = 2.0) -> None:
  """To be called before a process ends on its own account: on an error, or when it is stopped.

  The first process serves the others; if it went before them, they would be aborted.
  """
  if jax.distributed.is_initialized() and jax.process_index() == 0:
    time.sleep(seconds)


def barrier(name: str) -> None:
  """Waits for all processes."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
  """Whether `flag` is true in any process; all have to call it at the same point."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def mesh(devices=None) -> Mesh:
  """All devices (or those given) along one axis, `data`."""
  devices = jax.devices() if devices is None else devices
  # Auto: with explicit axes `z @ z.T`, gathers and queue updates raise ShardingTypeError.
  return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of state: every device holds all of it."""
  return NamedSharding(mesh, PartitionSpec())


def over_data(mesh: Mesh) -> NamedSharding:
  """The sharding of a batch: its first axis split over the devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(batch: int, mesh: Mesh, key: str = "train.batch") -> None:
  """Raises ConfigError where a global batch can't be split evenly over the devices."""
  if batch % mesh.size:
    near = max(mesh.size, round(batch / mesh.size) * mesh.size)
    raise ConfigError(f"{key}={batch} can't be split evenly over {mesh.size} devices; "
                      f"use a multiple, for example {near}")


def place(batch: PyTree, mesh: Mesh) -> PyTree:
  """Puts each process's rows of a batch on its devices; the result is the global batch."""
  sharding = over_data(mesh)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def host_fn(fn: Callable, mesh: Mesh, *, batch: int) -> Callable:
  """Makes `fn` a function from NumPy to NumPy that takes any number of rows.

  Rows are processed in blocks of up to `batch` over all devices. A block is padded with zeros to
  a power of two a device, so that few sizes are compiled, and the padding dropped. With several
  processes each passes the same rows and gets all results.

  Args:
    fn: from a tree of arrays [B, ...], and any further arguments, to a tree of arrays [B, ...].
      Parameters that change are best further arguments: what `fn` closes over is compiled in.
    batch: most rows at a time, rounded up to such a size.
  """
  def size(rows: int) -> int:
    return mesh.size << max(0, -(-rows // mesh.size) - 1).bit_length()

  batch = size(batch)
  jitted = jax.jit(fn, out_shardings=replicated(mesh))
  sharding = over_data(mesh)

  def put(x):
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

  def block(inputs, args, start):
    rows = jax.tree.map(lambda x: np.asarray(x[start:start + batch]), inputs)
    n = jax.tree.leaves(rows)[0].shape[0]
    missing = size(n) - n

    def pad(x):
      return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x

    out = jitted(jax.tree.map(lambda x: put(pad(x)), rows), *args)
    return jax.tree.map(lambda x: np.asarray(x)[:n], out)

  def call(inputs, *args):
    n = jax.tree.leaves(inputs)[0].shape[0]
    if n == 0:
      raise ValueError("no rows to compute on")
    blocks = [block(inputs, args, start) for start in range(0, n, batch)]
    return jax.tree.map(lambda *x: np.concatenate(x), *blocks)

  return call
