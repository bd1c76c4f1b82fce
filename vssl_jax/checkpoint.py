"""Checkpoints: the train state and the position in the data, written atomically by Orbax."""

import contextlib
import pathlib
import re

import jax
from orbax.checkpoint import v1 as ocp

from vssl_jax.types import ConfigError, PyTree, TrainState


class Checkpoints:
  """The checkpoints of one run; use as a context manager.

  A checkpoint appears under its final name only when it is complete, so a process killed while
  writing leaves the one before as the latest.
  """

  def __init__(self, folder: pathlib.Path, keep: int = 2, *, cleanup: bool = True):
    """Opens, or makes, the folder; `keep` checkpoints are kept, the oldest removed.

    Args:
      cleanup: remove what a killed run left half-written. Only for the run that writes here: to
        anyone else it may be a checkpoint in the making.
    """
    if keep < 1:
      raise ConfigError(f"train.keep={keep} must be at least 1")
    policy = ocp.training.preservation_policies.LatestN(keep)
    self._folder = pathlib.Path(folder).absolute()
    self._orbax = ocp.training.Checkpointer(
        self._folder, preservation_policy=policy, cleanup_tmp_directories=cleanup)
    self._pending = None

  @property
  def latest(self) -> int | None:
    """Step of the newest complete checkpoint."""
    return None if self._orbax.latest is None else self._orbax.latest.step

  def save(self, step: int, state: TrainState, data: dict) -> None:
    """Starts writing in the background. `data` is a small dict that says where the data stands."""
    self.wait()  # Orbax would skip this one while another is being written
    items = {"state": state, "data": data}
    with self._writing():
      self._pending = self._orbax.save_checkpointables_async(step, items, overwrite=True)

  def wait(self) -> None:
    """Returns when the last checkpoint is on disk; ConfigError if it could not be written."""
    pending, self._pending = self._pending, None
    if pending is not None:
      with self._writing():
        pending.result()

  @contextlib.contextmanager
  def _writing(self):
    try:
      yield
    except (OSError, ValueError) as e:
      # A full disk is a ValueError to TensorStore.
      found = re.search(r": ([^:]*) \[os_error_code", str(e))
      if not found and not isinstance(e, OSError):
        raise
      raise ConfigError(f"{self._folder}: can't write a checkpoint "
                        f"({found[1] if found else e.strerror}); free some space, and run again to "
                        "continue") from e

  def restore(self, like: TrainState, data: dict) -> tuple[TrainState, dict]:
    """The latest checkpoint, with the shapes and shardings of `like` and the keys of `data`."""
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
    items = self._orbax.load_checkpointables(self._orbax.latest, {"state": abstract, "data": data})
    return items["state"], items["data"]

  def __enter__(self):
    return self

  def __exit__(self, error, *_):
    if error and jax.process_count() > 1:
      return  # writing ends with a barrier, and another process may be why this one failed
    self.wait()
    with self._writing():
      self._orbax.close()


def load_state(folder: pathlib.Path, like: TrainState) -> tuple[int, TrainState]:
  """Step and state of the newest checkpoint in `folder`, for evaluation or export."""
  folder = pathlib.Path(folder).absolute()
  if not folder.is_dir():
    raise ConfigError(f"{folder}: no checkpoints here; train first, or name another --workdir")
  with Checkpoints(folder, cleanup=False) as checkpoints:
    if checkpoints.latest is None:
      raise ConfigError(f"{folder} holds no complete checkpoint; train first")
    state, _ = checkpoints.restore(like, {"next_step": 0})
    return checkpoints.latest, state


def same(a: PyTree, b: PyTree) -> bool:
  """Whether two states are equal to the last bit."""
  def raw(x):
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
  leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(bool((raw(x) == raw(y)).all()) for x, y in leaves)
