"""`method.weights`: a run that begins with others' parameters instead of random ones."""

import dataclasses
import pathlib

import jax

from experiments import registry
from vssl_jax import parallel
from vssl_jax.convert import trunk
from vssl_jax.types import ConfigError, PyTree


def load(config):
  """What the file `config.method.weights` holds: `params`, `batch_stats`, `settings`, `kind`.

  `vssl_jax/convert/NAME.py` reads it, NAME being the method's.

  Raises:
    ConfigError: no such file, one that can't be read, or one of another aggregator.
  """
  path, name = config.method.weights, config.method.name
  reader = registry.module("vssl_jax.convert", name, "method.name", "load")
  try:
    found = reader.load(path)
  except FileNotFoundError as e:
    raise ConfigError(f"method.weights={path}: no such file; name a checkpoint of the authors' "
                      f'{name}, or "" for random weights') from e
  except OSError as e:
    raise ConfigError(f"method.weights={path}: {e.strerror}") from e
  except ValueError as e:
    raise ConfigError(f"method.weights={path}: {str(e).removeprefix(f'{path}: ')}") from e
  wanted = config.method.args.get("aggregator", found.kind)
  if found.kind != wanted:
    raise ConfigError(f"method.weights={path} holds a {found.kind}, not a {wanted}; set "
                      f"method.args.aggregator={found.kind}")
  return found


def told(path: str) -> str:
  """What trained the backbone in a file, in words; "" where it doesn't tell: exports of runs do."""
  found = trunk.about(path)
  if not found:
    return ""
  start = f", from {found['start']}" if found["start"] else ""
  what = " ".join(filter(None, (found["method"], "on", found["data"], found["split"])))
  return f"{what}, {found['steps']} steps of {found['batch']}{start}"


def about(config, title: str, step: int) -> dict[str, str]:
  """What trained the backbone of a run, for the file that it is written to: see `trunk.save`.

  A run that leaves its backbone as it was leaves what is told about it as well.
  """
  c, before = config, config.method.weights
  if not step or c.method.args.get("frozen", False):
    return trunk.about(before)
  start, more = pathlib.Path(before).name, told(before)
  if more:
    start += f" ({more})"
  return {"method": title, "data": c.data.name, "split": c.data.split, "steps": str(step),
          "batch": str(c.train.batch), "backbone": c.method.args.backbone, "start": start}


def begin(state, config, mesh, hint: str = ""):
  """A run's first state: `state`, or with the parameters of `method.weights` in it.

  Args:
    hint: see `replace`.
  """
  path = config.method.weights
  if not path:
    return state
  params, aux = replace(state.params, state.aux, load(config), path, hint)
  state = dataclasses.replace(state, params=params, aux=aux)
  return jax.device_put(state, parallel.replicated(mesh))


def replace(params: PyTree, aux: PyTree, found, path: str,
            hint: str = "") -> tuple[PyTree, PyTree]:
  """`params` and `aux` of a method with those of the file `path` in their place.

  Args:
    params, aux: arrays, or abstract ones to check the file beforehand.
    found: what `load` gave; of its `optional` groups those that the file lacks stay as they are.
    hint: what else shapes depend on, for the error.

  Raises:
    ConfigError: the file's don't fit; names the first that doesn't, and both shapes.
  """
  frozen = aux.get("frozen", {})  # parameters that get no gradients
  old = {"params": params | frozen, "batch_stats": aux.get("batch_stats", {})}
  new = {"params": found.params, "batch_stats": found.batch_stats}
  ours, theirs = _shapes(old), _shapes(new)
  groups = [f"{group}." for group in found.optional]
  lacking = tuple(g for g in groups if not any(key.startswith(g) for key in theirs))
  for key in sorted(ours | theirs):
    if ours.get(key) != theirs.get(key) and not key.startswith(lacking):
      settings = ", ".join(f"{k}={v}" for k, v in found.settings.items())
      more = f"; the file's {found.kind} has {settings}{hint}" if settings else ""
      raise ConfigError(
          f"method.weights={path}: {key} has shape {theirs.get(key, 'none')} in the file, and "
          f"{ours.get(key, 'none')} in the config's model{more}")
  whole, stats = (_filled(old[name], new[name]) for name in ("params", "batch_stats"))
  own = {name: whole[name] for name in params}
  instead = {"batch_stats": stats, "key_params": own, "key_batch_stats": stats,
             "frozen": {name: whole[name] for name in frozen}}
  return own, aux | {key: value for key, value in instead.items() if key in aux}


def _filled(ours: PyTree, theirs: PyTree) -> PyTree:
  """`theirs`, with what it lacks of `ours`."""
  if not isinstance(ours, dict):
    return theirs
  return {k: _filled(v, theirs[k]) if k in theirs else v for k, v in ours.items()}


def _shapes(tree: PyTree) -> dict[str, list[int]]:
  return {jax.tree_util.keystr(keys, simple=True, separator="."): list(leaf.shape)
          for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}
