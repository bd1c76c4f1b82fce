"""The authors' TCA checkpoints: PyTorch names to our variables and back (tca spec 4, 5).

The released modules name what they hold; from the names follows which of the aggregators it is,
from the shapes its settings (heads and dropout leave no trace), and from these what has to be
there.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from vssl_jax.convert import torch_file
from vssl_jax.convert.imported import Imported
from vssl_jax.models import aggregators

PREFIX = "transformer_encoder.layers."
MARKS = {  # aggregator -> a name that it has and the others haven't, behind any prefix
    "transformer": r"transformer_encoder\.layers\.\d+\..+", "netvlad": r"conv\.weight",
    "nextvlad": r"conv3\.weight", "lstm": r"LSTM\.weight_ih_l0", "gru": r"GRU\.weight_ih_l0"}
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
RECURRENT = {"input_kernel": "weight_ih", "input_bias": "bias_ih", "hidden_kernel": "weight_hh",
             "hidden_bias": "bias_hh"}
COUNTER = "num_batches_tracked"


def load(path: str | pathlib.Path) -> Imported:
  """Reads a `.pth` (never unpickled) or `.safetensors` file of the authors' names.

  Raises:
    TorchFileError: the file can't be read.
    ValueError: it holds something else.
  """
  return torch_file.load(path, convert)


def convert(state: Mapping[str, np.ndarray]) -> Imported:
  """A state dict as variables of the aggregator that its names are those of.

  Any prefix before the names is dropped; with several candidates (a MoCo wrapper holds
  `encoder_q.` and `encoder_k.`) the query encoder is taken. Counters are ignored.

  Raises:
    ValueError: no known aggregator; names are missing or left over; wrong shapes; not finite.
  """
  name, state = _query_encoder(state)
  settings, dim = _settings(name, state)
  variables, missing = {"params": {}, "batch_stats": {}}, []
  for path, shape in _variables(name, settings, dim):
    torch_name = _torch_name(name, path)
    if torch_name not in state:
      missing.append(torch_name)
      continue
    value = _our_layout(torch_name, np.asarray(state.pop(torch_name), np.float32))
    if value.shape != shape:
      raise ValueError(f"{torch_name} has the shape of {list(value.shape)}, where a {name} of "
                       f"{settings} has {list(shape)}")
    if not np.isfinite(value).all():
      raise ValueError(f"{torch_name} holds {np.sum(~np.isfinite(value))} non-finite values")
    node = variables
    for part in path[:-1]:
      node = node.setdefault(part, {})
    node[path[-1]] = value
  if missing or state:
    raise ValueError(f"not a TCA {name}: missing {missing}, unexpected {sorted(state)}")
  return Imported(name, variables["params"], variables["batch_stats"], settings)


def from_torch(state: Mapping[str, np.ndarray]) -> dict:
  """The parameters alone; see `convert`."""
  return convert(state).params


def to_torch(params: dict, batch_stats: dict | None = None) -> dict[str, np.ndarray]:
  """The inverse of `convert`, without a prefix; works on gradients too."""
  name, state = _recognise(params), {}
  variables = {"params": params, "batch_stats": batch_stats or {}}
  for keys, value in jax.tree_util.tree_leaves_with_path(variables):
    torch_name = _torch_name(name, tuple(key.key for key in keys))
    state[torch_name] = np.ascontiguousarray(_torch_layout(torch_name, np.asarray(value)))
    if torch_name.endswith("running_var"):
      state[torch_name.replace("running_var", COUNTER)] = np.zeros((), np.int64)
  return state


def _query_encoder(state: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
  """The aggregator's name, and the entries of its query encoder without prefix and counters."""
  found = {}
  for torch_name in state:
    for name, mark in MARKS.items():
      if match := re.fullmatch(rf"((?:.*\.)?){mark}", torch_name):
        found[match[1]] = name
  if not found:
    raise ValueError(f"not a TCA encoder: no name contains {PREFIX!r}, LSTM, GRU, conv or conv3")
  query = [p for p in found if "encoder_q" in p] or [p for p in found if "encoder_k" not in p]
  if len(query) != 1:
    raise ValueError(f"several encoders in one file, prefixes {sorted(found)}: keep one of them")
  prefix, = query
  return found[prefix], {n.removeprefix(prefix): v for n, v in state.items()
                         if n.startswith(prefix) and not n.endswith(COUNTER)}


def _settings(name: str, state: Mapping[str, np.ndarray]) -> tuple[dict[str, int], int]:
  """What the shapes say: settings of the module, and the size of its input."""

  def shape(torch_name: str, rank: int = 2) -> tuple[int, ...]:
    found = np.shape(state.get(torch_name, 0))
    if len(found) != rank or 0 in found:
      raise ValueError(f"not a TCA {name}: {torch_name} should be there with {rank} dimensions")
    return found

  def layers(pattern: str) -> int:
    return 1 + max(int(m[1]) for m in (re.match(pattern, n) for n in state) if m)

  if name == "transformer":
    count = layers(re.escape(PREFIX) + r"(\d{1,4})\.")
    return {"layers": count, "feed_forward": shape(PREFIX + "0.linear1.weight")[0]}, shape(
        PREFIX + "0.self_attn.in_proj_weight")[1]
  if name in ("lstm", "gru"):
    count = layers(rf"{name.upper()}\.weight_ih_l(\d{{1,4}})$")
    return {"layers": count, "hidden": shape(f"{name.upper()}.weight_hh_l0")[1]}, shape(
        f"{name.upper()}.weight_ih_l0")[1]
  (clusters, dim), output = shape("centroids"), shape("fc1.weight")[0]
  found = {"clusters": clusters, "output": output, "reduction": output // shape("fc2.weight")[0]}
  if name == "nextvlad":
    wide, dim, _ = shape("conv1.weight", 3)
    found |= {"expansion": wide // dim, "groups": shape("conv2.weight", 3)[0]}
  return found, dim


def _variables(name: str, settings: dict[str, int], dim: int) -> Iterator[tuple[tuple, tuple]]:
  """(path, shape) of every variable, as the module itself declares them."""
  heads = {"heads": 1} if name == "transformer" else {}  # no shape depends on it
  module = aggregators.make(name, settings | heads)
  x, length = jax.ShapeDtypeStruct((1, 1, dim), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
  variables = jax.eval_shape(module.init, jax.random.key(0), x, length)
  for keys, value in jax.tree_util.tree_leaves_with_path(variables):
    yield tuple(key.key for key in keys), value.shape


def _torch_name(name: str, path: tuple[str, ...]) -> str:
  """("params", "layers_1", "linear1", "kernel") -> transformer_encoder.layers.1.linear1.weight"""
  *modules, leaf = path[1:]
  if name in ("lstm", "gru") and leaf in RECURRENT:
    return f"{name.upper()}.{RECURRENT[leaf]}_l{modules[0].removeprefix('layers_')}"
  modules = [m for m in modules if m != "head"]
  torch_name = ".".join([*modules, LEAVES.get(leaf, leaf)])
  if name == "transformer":
    torch_name = "transformer_encoder." + torch_name.replace("layers_", "layers.", 1)
    torch_name = torch_name.replace("in_proj.", "in_proj_")
  return torch_name


def _our_layout(torch_name: str, value: np.ndarray) -> np.ndarray:
  """Weights (out, in) and those of 1x1 convolutions (out, in, 1) -> (in, out)."""
  if value.ndim == 3 and value.shape[2] == 1:
    value = value[..., 0]
  return value.T if value.ndim == 2 and torch_name != "centroids" else value


def _torch_layout(torch_name: str, value: np.ndarray) -> np.ndarray:
  if value.ndim != 2 or torch_name == "centroids":
    return value
  return value.T[..., None] if torch_name.startswith("conv") else value.T


def _recognise(params: dict) -> str:
  if "centroids" in params:
    return "nextvlad" if "conv3" in params else "netvlad"
  first = params["layers_0"]
  if "self_attn" in first:
    return "transformer"
  hidden, width = first["hidden_kernel"].shape
  return "lstm" if width == 4 * hidden else "gru"
