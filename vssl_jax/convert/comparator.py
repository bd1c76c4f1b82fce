"""Video comparators of ViSiL, DnS and TCA in torch files to our parameters and back."""

import functools
import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from vssl_jax.convert import torch_file
from vssl_jax.convert.imported import Imported

# Layer -> shape of its weight in PyTorch's order (out, in, height, width).
LAYERS = {"conv1": (32, 1, 3, 3), "conv2": (64, 32, 3, 3), "conv3": (128, 64, 3, 3),
          "fconv": (1, 128, 1, 1)}


def load(path: str | pathlib.Path, *, entry: str = "", prefix: str = "") -> Imported:
  """Reads the parameters of `methods.comparator` from a torch or `.safetensors` file.

  Args:
    path: the file, for example `video_comparator.pth`, or a whole ViSiL with its backbone.
    entry: where in the file, see `torch_file.read`.
    prefix: what the names begin with, where the file holds several comparators.

  Raises:
    TorchFileError: the file can't be read.
    ValueError: it doesn't hold exactly one comparator.
  """
  params = torch_file.load(path, functools.partial(from_torch, prefix=prefix), entry=entry)
  return Imported("comparator", {"comparator": params}, {}, {})


def from_torch(state: Mapping[str, np.ndarray], *, prefix: str = "") -> dict[str, Any]:
  """Parameters of `Comparator` from a state dict.

  Layers are told by the shape of their weights, since projects name them differently; the rest,
  as a backbone in the same file, is left alone. Where it has a layer of the same shape, the one
  whose name begins most like that of the first layer counts.

  Args:
    state: torch name -> array.
    prefix: only names that begin with it count.

  Returns:
    `{"conv1": {"kernel", "bias"}, "conv2": ..., "conv3": ..., "fconv": ...}`, float32 NumPy.

  Raises:
    ValueError: a layer is missing, there several times, without a bias, or not finite.
  """
  state = {name: value for name, value in state.items() if name.startswith(prefix)}
  params, first = {}, ""
  for layer, shape in LAYERS.items():
    found = _most_alike([n for n, v in state.items() if n.endswith("weight")
                         and np.shape(v) == shape], first)
    if len(found) != 1:
      names = ", ".join(found) or "none"
      raise ValueError(f"a video comparator has one weight of shape {list(shape)} ({layer}); here "
                       f"are {names}" + ("; choose one with prefix=" if found else ""))
    first = first or found[0]
    name = found[0].removesuffix("weight") + "bias"
    if np.shape(state.get(name)) != shape[:1]:
      raise ValueError(f"{name} should have shape {list(shape[:1])}, " + (
          f"has {list(np.shape(state[name]))}" if name in state else "is missing"))
    kernel, bias = (np.asarray(state[n], np.float32) for n in (found[0], name))
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
      raise ValueError(f"{found[0]} or {name} holds non-finite values")
    params[layer] = {"kernel": np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), "bias": bias}
  return params


def _most_alike(names: list[str], first: str) -> list[str]:
  """Those of the names that share the longest beginning with `first`."""
  def same(name):
    pairs = zip(name, first, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

  shared = {name: same(name) for name in names}
  return [name for name in names if shared[name] == max(shared.values())]


def to_torch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The inverse of `from_torch`, in TCA's and ViSiL's names without a prefix."""
  state = {}
  for layer in LAYERS:
    kernel = np.asarray(params[layer]["kernel"]).transpose(3, 2, 0, 1)
    state[f"{layer}.weight"] = np.ascontiguousarray(kernel)
    state[f"{layer}.bias"] = np.asarray(params[layer]["bias"])
  return state
