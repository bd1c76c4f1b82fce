"""The encoder of CorrFlow's and MAST's checkpoints to our variables and back (corrflow spec 5)."""

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vssl_jax.convert import torch_file
from vssl_jax.convert.imported import Imported
from vssl_jax.convert.resnet import LEAVES
from vssl_jax.models.corrflow import Encoder

COUNTER = "num_batches_tracked"
# Ours -> torch's, of a block and of the stem.
LAYERS = {"conv1": "left.0", "bn1": "left.1", "conv2": "left.3", "bn2": "left.4",
          "downsample_conv": "shortcut.0", "downsample_bn": "shortcut.1"}
STEM = {"conv1": "feature_extraction.conv1.0", "bn1": "feature_extraction.conv1.1",
        "head": "post_convolution"}


def load(path: str | pathlib.Path, *, entry: str = "") -> Imported:
  """Reads the variables of `methods.corrflow` from a torch or `.safetensors` file.

  Args:
    path: the file; never unpickled.
    entry: where in the file, see `torch_file.read`; the released ones keep it under `state_dict`.

  Raises:
    TorchFileError: the file can't be read.
    ValueError: it holds something else.
  """
  return torch_file.load(path, convert, entry=entry)


def convert(state: Mapping[str, np.ndarray]) -> Imported:
  """A state dict as variables of `models.corrflow.Encoder`.

  Any prefix before the encoder's names is dropped, and what doesn't begin with it. Every name must
  be there and no other, but for the counters, which are left out.

  Raises:
    ValueError: no encoder, or several; names are missing or left over; wrong shapes; not finite.
  """
  state = _encoder(state)
  settings = _settings(state)
  state = {n: v for n, v in state.items() if not n.endswith(COUNTER)}
  variables, missing = {"params": {}, "batch_stats": {}}, []
  for path, shape in _variables(**settings):
    name = _torch_name(path)
    if name not in state:
      missing.append(name)
      continue
    given = np.asarray(state.pop(name), np.float32)
    value = given.transpose(2, 3, 1, 0) if given.ndim == 4 else given
    if value.shape != shape:
      raise ValueError(f"{name} has shape {list(given.shape)}, which doesn't fit an encoder of "
                       f"{settings}")
    if not np.isfinite(value).all():
      raise ValueError(f"{name} holds {np.sum(~np.isfinite(value))} non-finite values")
    node = variables
    for part in path[:-1]:
      node = node.setdefault(part, {})
    node[path[-1]] = np.ascontiguousarray(value)
  if missing or state:
    raise ValueError(f"not a CorrFlow encoder: missing {missing}, unexpected {sorted(state)}")
  return Imported("corrflow", variables["params"], variables["batch_stats"], settings)


def to_torch(params: Mapping[str, Any], batch_stats: Mapping[str, Any] | None = None, *,
             batches: int = 0) -> dict[str, np.ndarray]:
  """The inverse of `convert`; works on gradients too.

  Args:
    batches: what the counters of the batch norms shall say.
  """
  state, variables = {}, {"params": params, "batch_stats": batch_stats or {}}
  for keys, value in jax.tree_util.tree_leaves_with_path(variables):
    name, value = _torch_name(tuple(key.key for key in keys)), np.asarray(value)
    state[name] = np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value)
    if name.endswith("running_var"):
      state[name.replace("running_var", COUNTER)] = np.full((), batches, np.int64)
  return state


def _encoder(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The entries of the one encoder there is, without their prefix; all of them where none is."""
  mark = f"{STEM['conv1']}.weight"
  found = [n.removesuffix(mark) for n in state if f".{n}".endswith(f".{mark}")]
  if len(found) > 1:
    raise ValueError(f"several encoders in one file, prefixes {sorted(found)}: keep one of them")
  prefix = found[0] if found else ""
  return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}


def _settings(state: Mapping[str, np.ndarray]) -> dict[str, int]:
  """Width and dim, by the channels of the first and of the last convolution."""
  found = {}
  for setting, module in (("width", "conv1"), ("dim", "head")):
    name = f"{STEM[module]}.weight"
    shape = np.shape(state.get(name, 0))
    if len(shape) != 4 or 0 in shape:
      raise ValueError(f"not a CorrFlow encoder: {name} should be there with 4 dimensions")
    found[setting] = int(shape[0])
  return found


def _variables(width: int, dim: int) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
  """(path, shape) of every variable, as the module itself declares them."""
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  variables = jax.eval_shape(Encoder(width, dim).init, jax.random.key(0), image)
  for keys, value in jax.tree_util.tree_leaves_with_path(variables):
    yield tuple(key.key for key in keys), value.shape


def _torch_name(path: tuple[str, ...]) -> str:
  """("params", "layer2_0", "downsample_bn", "scale") -> ...layer2.0.shortcut.1.weight"""
  collection, *modules, leaf = path
  if len(modules) == 1:
    return f"{STEM[modules[0]]}.{LEAVES[collection, leaf]}"
  block = re.sub(r"^layer(\d)_(\d+)$", r"layer\1.\2", modules[0])
  return f"feature_extraction.{block}.{LAYERS[modules[1]]}.{LEAVES[collection, leaf]}"
