"""ResNets in torchvision's names and layouts to our variables and back."""

import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.convert import torch_file
from vssl_jax.models import resnet

# (collection, leaf) -> torch's name of it
LEAVES = {
  ("params", "kernel"): "weight",
  ("params", "scale"): "weight",
  ("params", "bias"): "bias",
  ("batch_stats", "mean"): "running_mean",
  ("batch_stats", "var"): "running_var",
}

COUNTER = "num_batches_tracked"
Table = Iterable[tuple[str, tuple[str, ...], tuple[int, ...]]]  # see `fit`
PREFIXES = ("module.", "encoder_q.", "backbone.")


def load(
  path: str | pathlib.Path,
  *,
  backbone: str = "",
  width: int = 0,
  entry: str = "",
  prefixes: tuple[str, ...] = PREFIXES,
) -> dict[str, Any]:
  """Reads a ResNet's variables from a torch checkpoint or `.safetensors` file.

  Args:
    path: the file; names as in torchvision, behind any of `prefixes`.
    backbone, width: what the file has to hold; found out if "" and 0.
    entry: where in the file, see `torch_file.read`.
    prefixes: wrappers to remove, see `torch_file.strip_prefix`.

  Raises:
    TorchFileError: the file can't be read.
    ValueError: it holds another network.
  """
  read = functools.partial(from_torch, backbone=backbone, width=width)
  return torch_file.load(path, read, entry=entry, prefixes=prefixes)


def from_torch(
  state: Mapping[str, np.ndarray], *, backbone: str = "", width: int = 0
) -> dict[str, Any]:
  """Variables of `models.resnet.ResNet` from a torchvision-named state dict.

  Every name must be there and no other: a partial load would pass for a pretrained network. Only
  the classifier `fc.*` and the counters `num_batches_tracked` may be present or not; they are
  left out.

  Args:
    state: torch name -> array.
    backbone, width: what the state has to be; found out if "" and 0.

  Returns:
    `{"params": ..., "batch_stats": ...}`, float32 NumPy.

  Raises:
    ValueError: another network, missing or unexpected names, wrong shapes, non-finite values.
  """
  found, found_width = identify(state)
  wanted, wanted_width = backbone or found, width or found_width
  if (wanted, wanted_width) != (found, found_width):
    raise ValueError(
      f"weights are those of a {found} of width {found_width}, not of a {wanted} of width "
      f"{wanted_width}; change backbone or width"
    )
  return fit(state, _table(wanted, wanted_width), f"{wanted} of width {wanted_width}")


def fit(state: Mapping[str, np.ndarray], table: Table, network: str,
        classifier: str = "fc.") -> dict[str, Any]:
  """Puts the arrays of a state dict in our places and layouts.

  Args:
    state: torch name -> array.
    table: (torch name, path of the variable, its shape) of all that has to be there.
    network: what the table is of, for messages.
    classifier: how the names begin that may be there and are left out.

  Returns:
    Nested dicts by path, float32 NumPy.

  Raises:
    ValueError: missing or unexpected names, wrong shapes, non-finite values.
  """
  table = list(table)
  ours = {n for n in state if not n.startswith(classifier) and not n.endswith(COUNTER)}
  names = {name for name, *_ in table}
  if ours != names:
    raise ValueError(
      f"not a {network.partition(' ')[0]}: missing {_listing(names - ours)}; unexpected "
      f"{_listing(ours - names)}"
    )
  variables = {}
  for name, path, shape in table:
    value = _from_torch_layout(np.asarray(state[name], np.float32))
    if value.shape != shape:
      raise ValueError(
        f"{name} has shape {list(np.shape(state[name]))}, which doesn't fit a {network}"
      )
    if not np.isfinite(value).all():
      raise ValueError(f"{name} holds {np.sum(~np.isfinite(value))} non-finite values")
    node = variables
    for part in path[:-1]:
      node = node.setdefault(part, {})
    node[path[-1]] = value
  return variables


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The inverse of `from_torch`, with zero `num_batches_tracked` as torch expects them."""
  return unfit(variables, _torch_name)


def unfit(variables: Mapping[str, Any],
          torch_name: Callable[[tuple[str, ...]], str]) -> dict[str, np.ndarray]:
  """The inverse of `fit`, with counters; `torch_name` maps the path of a variable."""
  state = {}
  for keys, value in jax.tree_util.tree_flatten_with_path(variables)[0]:
    name = torch_name(tuple(key.key for key in keys))
    state[name] = np.ascontiguousarray(_to_torch_layout(np.asarray(value)))
    if name.endswith("running_var"):
      state[name.replace("running_var", COUNTER)] = np.zeros((), np.int64)
  return state


def identify(state: Mapping[str, np.ndarray]) -> tuple[str, int]:
  """Backbone and width by the names of the blocks and the channels of the stem.

  Raises:
    ValueError: the names are those of no known ResNet.
  """
  if "conv1.weight" not in state or np.ndim(state["conv1.weight"]) != 4:
    raise ValueError(
      f"not a ResNet in torchvision's names: no conv1.weight among {_listing(state)}; is there "
      "another prefix?"
    )
  stages = [0, 0, 0, 0]
  for name in state:
    found = re.match(r"layer([1-4])\.(\d{1,4})\.", name)
    if found:
      stage, block = int(found[1]) - 1, int(found[2])
      stages[stage] = max(stages[stage], block + 1)
  form = (tuple(stages), "layer1.0.conv3.weight" in state)
  for backbone, known in resnet.BACKBONES.items():
    if form == known:
      return backbone, int(np.shape(state["conv1.weight"])[0])
  kind = "bottlenecks" if form[1] else "basic blocks"
  raise ValueError(
    f"stages of {stages} {kind} are none of {', '.join(resnet.BACKBONES)}"
  )


def _table(backbone: str, width: int) -> Iterator[tuple[str, tuple[str, ...], tuple[int, ...]]]:
  """(torch name, path of the variable, its shape), as the model itself declares them."""
  net = resnet.make(backbone, width=width)
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  variables = jax.eval_shape(net.init, jax.random.key(0), image)
  for keys, value in jax.tree_util.tree_flatten_with_path(variables)[0]:
    path = tuple(key.key for key in keys)
    yield _torch_name(path), path, value.shape


def _torch_name(path: tuple[str, ...]) -> str:
  """("params", "layer1_0", "downsample_bn", "scale") -> layer1.0.downsample.1.weight"""
  collection, *modules, leaf = path
  name = ".".join(modules)
  name = re.sub(r"^layer(\d)_(\d+)", r"layer\1.\2", name)
  name = name.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
  return f"{name}.{LEAVES[collection, leaf]}"


def _from_torch_layout(value: np.ndarray) -> np.ndarray:
  """Convolutions (out, in, ..., h, w) -> (..., h, w, in, out)."""
  return np.moveaxis(value, (0, 1), (-1, -2)) if value.ndim > 3 else value


def _to_torch_layout(value: np.ndarray) -> np.ndarray:
  return np.moveaxis(value, (-1, -2), (0, 1)) if value.ndim > 3 else value


def _listing(names: Any) -> str:
  names = sorted(names)
  more = f" and {len(names) - 10} more" if len(names) > 10 else ""
  return (", ".join(names[:10]) or "nothing") + more
