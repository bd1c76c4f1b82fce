"""SiamFC's head on any frozen backbone, trained or read, and its use (cycle_contrast spec 6.2).

    pairs = clips.batches(clips.training(got10k.read(root), Pairs(), seed=0), batch=8)
    method = siamfc.make(channels=512)
    trained = train_head(method, features, pairs, epochs=50, steps_per_epoch=9_335 // 8)
    tracking.make(otb.read(root), read, matcher="siamese")(embed(method, trained.params, features))

`features` is a host function from `{"image": uint8 [B, H, W, 3]}` to `{"features": [B, h, w, D]}`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from vssl_jax import optim, parallel, train
from vssl_jax.convert import siamfc as convert
from vssl_jax.log import check_finite
from vssl_jax.types import ConfigError, Method, PyTree

Features = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]


class Trained(NamedTuple):
  """A head, and how it came about.

  Attributes:
    params: of the method.
    loss: [steps], before each.
    centred: [steps], share of the examples whose response is largest in the middle.
  """

  params: PyTree
  loss: np.ndarray
  centred: np.ndarray


def train_head(method: Method, features: Features, pairs: Iterable[Mapping[str, np.ndarray]], *,
               steps_per_epoch: int, epochs: int = 50, learning_rate: float = 1e-3,
               final: float = 1e-5, drops: Sequence[int] = (), seed: int = 0,
               mesh=None) -> Trained:
  """Trains with Adam, whose rate falls by equal ratios from epoch to epoch; nothing is saved.

  Args:
    method: of `methods.siamfc`.
    features: the frozen backbone; it is asked once for the exemplars and once for the searches of
      a batch.
    pairs: batches of `{"exemplar": uint8 [B, h, w, 3], "search": uint8 [B, H, W, 3]}`, and perhaps
      `"offset": float32 [B, 2]`, at least `epochs * steps_per_epoch`; what else is in them is left
      out.
    final: the rate that one more epoch would have.
    drops: numbers of epochs after which the rate falls to a tenth, instead of falling to `final`.
    seed: of the first parameters; the same seed and batches give the same head.
    mesh: of devices; all of them if None.

  Raises:
    ConfigError: no step, or the batches end early.
  """
  steps = epochs * steps_per_epoch
  if steps < 1:
    raise ConfigError(f"epochs={epochs} of steps_per_epoch={steps_per_epoch}: nothing to train")
  mesh = parallel.mesh() if mesh is None else mesh
  schedule = dict(schedule="exponential", final=final) if not drops else dict(
      schedule="milestones", milestones=[n * steps_per_epoch for n in drops])
  tx = optim.make(steps=steps, learning_rate=learning_rate, steps_per_update=steps_per_epoch,
                  weight_decay=0.0, **schedule)
  step, state, rows, pairs = train.make_step(method, tx, mesh), None, [], iter(pairs)
  for i in range(steps):
    batch = next(pairs, None)
    if batch is None:
      raise ConfigError(f"the pairs end after {i} batches of {steps}; give an endless iterator")
    maps = {k: features({"image": batch[k]})["features"] for k in ("exemplar", "search")}
    maps |= {"offset": batch["offset"]} if "offset" in batch else {}
    if state is None:
      parallel.check_batch(len(maps["search"]), mesh, "pairs' batch")
      state = train.init_state(method, tx, maps, seed, mesh)
    state, metrics = step(state, parallel.place(maps, mesh))
    rows.append(metrics)
    if (i + 1) % steps_per_epoch == 0:
      rows = jax.device_get(rows)
      check_finite(i + 1, float(rows[-1]["loss"]))
  return Trained(jax.device_get(state.params), *(np.array([float(row[k]) for row in rows])
                                                 for k in ("loss", "centred")))


def flat(params: PyTree) -> dict[str, np.ndarray]:
  """Nested dicts as one, keys joined by "/"."""
  return {"/".join(key.key for key in keys): np.asarray(x)
          for keys, x in jax.tree_util.tree_flatten_with_path(params)[0]}


def nested(params: Mapping[str, np.ndarray]) -> PyTree:
  """What `flat` was given."""
  tree: dict = {}
  for name, x in params.items():
    *groups, last = name.split("/")
    node = tree
    for group in groups:
      node = node.setdefault(group, {})
    node[last] = x
  return tree


def load(path: str, key: str):
  """A head that others have trained, as `convert.siamfc` reads it.

  Args:
    key: of the setting that names the file, for errors.

  Raises:
    ConfigError: no such file, or no head in it.
  """
  try:
    return convert.load(path)
  except FileNotFoundError as e:
    raise ConfigError(f"{key}={path}: no such file; name a checkpoint with SiamFC's head, or \"\" "
                      "to train one") from e
  except OSError as e:
    raise ConfigError(f"{key}={path}: {e.strerror}") from e
  except ValueError as e:
    raise ConfigError(f"{key}={path}: {str(e).removeprefix(f'{path}: ')}") from e


def embed(method: Method, params: PyTree, features: Features) -> Features:
  """The backbone with the head on it, for `evaluators.tracking` with matcher="siamese"."""
  project = jax.jit(lambda maps: method.embed(params, {}, {"features": maps}))
  return lambda inputs: jax.device_get(project(features(inputs)["features"]))
