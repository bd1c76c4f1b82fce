"""Checkpoints of CycleContrast, MoCo, VFS and plain ResNets to our variables and back (spec 2.2).

  [module.]encoder_q.conv1.weight, ..fc.{0,2}.weight, q_cycle_fc.{0,2}.weight   CycleContrast
  [module.]encoder_q.conv1.weight, ..fc.{0,2}.weight or fc.weight               MoCo v2, v1
  backbone.conv1.conv.weight, backbone.layer1.0.conv1.bn.weight, ..             VFS
  conv1.weight, layer1.0.bn1.weight, .., perhaps fc.{0,2}.weight                torchvision, ours
"""

import functools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from vssl_jax.convert import resnet, torch_file
from vssl_jax.convert.imported import Imported
from vssl_jax.models import resnet as models

SIDES = {"query": "q", "key": "k"}
LAYERS = {"hidden": "0", "out": "2"}  # of a head; a linear one is a single layer without number
QUEUES = ("queue", "queue_ptr", "queue_labels", "queue_indices", "queue_cycle", "queue_cycle_ptr")
MMCV = (  # of modules that hold a convolution and its norm
  (r"(^|\.)conv(\d)\.conv\.", r"\1conv\2."), (r"(^|\.)conv(\d)\.bn\.", r"\1bn\2."),
  (r"\.downsample\.conv\.", ".downsample.0."), (r"\.downsample\.bn\.", ".downsample.1."))


def load(path: str | pathlib.Path, *, entry: str = "", side: str = "query") -> Imported:
  """Reads the variables of `methods.cycle_contrast` from a torch or `.safetensors` file.

  Args:
    path: the file; never unpickled.
    entry: where in the file, see `torch_file.read`.
    side: "query" or "key", of the two encoders that the file may hold.

  Raises:
    TorchFileError: the file can't be read.
    ValueError: it holds something else.
  """
  return torch_file.load(path, functools.partial(convert, side=side), entry=entry)


def convert(state: Mapping[str, np.ndarray], *, side: str = "query") -> Imported:
  """A state dict as variables of `models.contrast.Encoder`, of which heads may be missing.

  Of the trunk and the heads every name must be there and no other. The other side, the queues, a
  classifier, and what is not VFS's backbone, are left out.

  Returns:
    `kind` is the backbone; `settings` are those arguments of the method that follow.

  Raises:
    ValueError: another network; names are missing or left over; wrong shapes; not finite.
  """
  trunk, heads = _parts(torch_file.strip_prefix(state, "module."), side)
  variables = resnet.from_torch(trunk)
  kind, width = resnet.identify(trunk)
  params = {"trunk": variables["params"]}
  settings: dict[str, Any] = {"backbone": kind, "width": width}
  features = models.make(kind, width=width).stage_widths[-1]
  for name, layers in heads.items():
    params[name] = head(name, layers, features)
  shapes = {params[n]["out"]["kernel"].shape[1] for n in heads}
  if heads:
    kinds = {"hidden" in params[n] for n in heads}
    if len(shapes) > 1 or len(kinds) > 1:
      raise ValueError(f"heads of one form are expected, not of the widths {sorted(shapes)}")
    settings |= {"dim": shapes.pop(), "head": "mlp" if kinds.pop() else "linear"}
  return Imported(kind, params, {"trunk": variables["batch_stats"]}, settings,
                  optional=("params.intra", "params.cycle"))


def to_torch(params: Mapping[str, Any], batch_stats: Mapping[str, Any] | None = None, *,
             side: str = "query") -> dict[str, np.ndarray]:
  """The inverse of `convert`, in the authors' names; works on gradients too."""
  letter = SIDES[side]
  state = {f"encoder_{letter}.{n}": v for n, v in to_torchvision(params, batch_stats).items()}
  for head in set(params) - {"trunk"}:
    prefix = f"encoder_{letter}.fc" if head == "intra" else f"{letter}_cycle_fc"
    for layer, leaves in params[head].items():
      number = f".{LAYERS[layer]}" if "hidden" in params[head] else ""
      state[f"{prefix}{number}.weight"] = np.ascontiguousarray(np.asarray(leaves["kernel"]).T)
      state[f"{prefix}{number}.bias"] = np.asarray(leaves["bias"])
  return state


def to_torchvision(params: Mapping[str, Any],
                   batch_stats: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
  """The trunk alone in torchvision's names, for other people's evaluations."""
  stats = {} if batch_stats is None else {"batch_stats": batch_stats["trunk"]}
  return resnet.to_torch({"params": params["trunk"]} | stats)


def save(path: str | pathlib.Path, state: Mapping[str, np.ndarray]) -> None:
  """Writes a state dict as `.safetensors`."""
  save_file(dict(state), path)


def _parts(state: Mapping[str, np.ndarray], side: str):
  """The trunk in torchvision's names; and (head -> {"0.weight" or "weight", ..: array})."""
  if side not in SIDES:
    raise ValueError(f"side={side!r}; choose query or key")
  wrapped = any(n.startswith("encoder_q.") for n in state)
  if side == "key" and not wrapped:
    raise ValueError("no encoder_q among the names, so there is no key side")
  if wrapped:
    known = ("encoder_q.", "encoder_k.", "q_cycle_fc.", "k_cycle_fc.")
    other = [n for n in state if not n.startswith(known) and n not in QUEUES]
    if other:
      raise ValueError(f"unexpected beside the encoders: {sorted(other)}")
    letter = SIDES[side]
    encoder, cycle = _below(state, f"encoder_{letter}."), _below(state, f"{letter}_cycle_fc.")
  elif any(n.startswith("backbone.") for n in state):
    encoder, cycle = _below(state, "backbone."), {}
    encoder = {_torchvision_name(n): v for n, v in encoder.items()}
  else:
    encoder, cycle = state, _below(state, "q_cycle_fc.")
  intra = _below(encoder, "fc.")
  if "weight" in intra and not wrapped:
    intra = {}  # a classifier
  trunk = {n: v for n, v in encoder.items() if not n.startswith(("fc.", "q_cycle_fc."))}
  return trunk, {name: layers for name, layers in (("intra", intra), ("cycle", cycle)) if layers}


def _below(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
  return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}


def _torchvision_name(name: str) -> str:
  """layer1.0.conv1.bn.weight -> layer1.0.bn1.weight; torchvision's own names stay."""
  for pattern, replacement in MMCV:
    name = re.sub(pattern, replacement, name)
  return name


def head(name: str, state: Mapping[str, np.ndarray], features: int) -> dict[str, Any]:
  """Variables of `contrast.Head` on so many features."""
  numbers = {"hidden": "0.", "out": "2."} if "0.weight" in state else {"out": ""}
  found, size = {}, features
  wanted = {f"{number}{leaf}" for number in numbers.values() for leaf in ("weight", "bias")}
  if set(state) != wanted:
    raise ValueError(f"the {name} head: missing {sorted(wanted - set(state))}, unexpected "
                     f"{sorted(set(state) - wanted)}")
  for layer, number in numbers.items():
    weight, bias = (np.asarray(state[number + leaf], np.float32) for leaf in ("weight", "bias"))
    fits = weight.ndim == 2 and weight.shape[1] == size and bias.shape == weight.shape[:1]
    if not fits or (layer == "hidden" and len(weight) != size):
      raise ValueError(f"the {name} head: {number}weight {list(weight.shape)} and bias "
                       f"{list(bias.shape)} don't fit {size} features")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
      raise ValueError(f"the {name} head: {number}weight or bias holds non-finite values")
    found[layer] = {"kernel": np.ascontiguousarray(weight.T), "bias": bias}
  return found
