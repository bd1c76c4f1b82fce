"""A backbone alone, of pictures or of clips, in the names of torch; and where methods keep it."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save_file

from vssl_jax.convert import cycle_contrast, resnet, resnet3d, torch_file
from vssl_jax.convert.imported import Imported

# Where in `params` a method's backbone may be; its statistics have the last of these names.
PLACES = (("trunk",), ("backbone",), ("net", "backbone"))

# The entry of a file's metadata that says what trained it. It is one, in JSON: several would be
# written in another order each time, and runs know their files by a hash.
ABOUT = "vssl_jax"
TOLD = frozenset(("method", "data", "split", "steps", "batch", "backbone", "start"))


def load(path: str | pathlib.Path, *, entry: str = "") -> Imported:
  """Reads a backbone from a torch or `.safetensors` file.

  `convert.resnet3d` says which files of networks on clips are known, `convert.cycle_contrast` which
  of networks on pictures; heads and classifiers are left out.

  Args:
    path: the file; never unpickled.
    entry: where in the file, see `torch_file.read`.

  Raises:
    TorchFileError: the file can't be read.
    ValueError: it holds something else.
  """
  return torch_file.load(path, convert, entry=entry)


def convert(state: Mapping[str, np.ndarray]) -> Imported:
  """A state dict as variables of `models.resnet3d` or `models.resnet`: `kind` is the backbone."""
  clips = torch_file.strip_prefix(state, *resnet3d.PREFIXES)
  if any(name in clips for name in resnet3d.STEMS.values()):
    kind, width = resnet3d.identify(clips)
    found = resnet3d.from_torch(clips)
    return Imported(kind, found["params"], found["batch_stats"],
                    {"backbone": kind, "width": width})
  found = cycle_contrast.convert(state)
  settings = {name: found.settings[name] for name in ("backbone", "width")}
  return Imported(found.kind, found.params["trunk"], found.batch_stats["trunk"], settings)


def load_into(path: str | pathlib.Path, place: tuple[str, ...], optional: tuple[str, ...], *,
              entry: str = "", clips_only: bool = False) -> Imported:
  """The same as variables of a method that keeps its backbone in that place of `PLACES`.

  Args:
    optional: the method's other variables.
    clips_only: refuse a network on pictures.
  """
  found = load(path, entry=entry)
  if clips_only and found.kind not in resnet3d.STEMS:
    raise ValueError(f"{path}: holds a {found.kind}, which is for pictures; a network on clips is "
                     f"needed, one of {', '.join(resnet3d.STEMS)}")
  params = found.params
  for name in reversed(place):
    params = {name: params}
  return Imported(found.kind, params, {place[-1]: found.batch_stats}, found.settings, optional)


def of(params: Mapping[str, Any], aux: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
  """The backbone of a method's variables as a state dict; None where there is none in `PLACES`."""
  for place in PLACES:
    node = {**params, **aux.get("frozen", {})}
    for name in place:
      node = node.get(name, {}) if isinstance(node, Mapping) else {}
    if node:
      names = resnet if "conv1" in node else resnet3d
      return names.to_torch({"params": node, "batch_stats": aux["batch_stats"][place[-1]]})
  return None


def save(path: str | pathlib.Path, state: Mapping[str, np.ndarray],
         about: Mapping[str, str] | None = None) -> None:
  """Writes a state dict as `.safetensors`.

  Args:
    about: what trained it, all of `TOLD`; "start" is what that began with, "" for random weights.
      None or {} if that isn't known.
  """
  if about and about.keys() != TOLD:
    raise ValueError(f"about has {', '.join(sorted(about))}; it should have "
                     f"{', '.join(sorted(TOLD))}")
  metadata = {ABOUT: json.dumps(dict(about), sort_keys=True)} if about else None
  save_file(dict(state), path, metadata)


def about(path: str | pathlib.Path) -> dict[str, str]:
  """What `save` was told about a file; {} for files of others, and where there is none to read."""
  path = pathlib.Path(path)
  if path.suffix != ".safetensors" or not path.is_file():
    return {}
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      found = json.loads((file.metadata() or {}).get(ABOUT, "{}"))
  except (safetensors.SafetensorError, json.JSONDecodeError):
    return {}  # `load` says what is wrong with it
  whole = isinstance(found, dict) and found.keys() == TOLD
  return found if whole and all(isinstance(value, str) for value in found.values()) else {}
