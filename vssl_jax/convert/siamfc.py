"""SiamFC's heads from checkpoints of others to `models.siamfc.SiamFCHead` (cycle_contrast 6.1).

  head.z_convs.0.weight, head.x_convs.0.weight                  VFS's project, and what builds on it
  exemplar_decoder.0.weight, search_patch_decoder.0.weight      VINCE

with their biases. These and others are known by the words in their names: a head is the one 1x1
convolution with a bias whose name has a word of the exemplar's branch, and the one with a word of
the search's. All else in the file, its trunk too, is left out.

siamfc-pytorch's head and VFS's without those convolutions correlate maps as they are: there is
nothing to read. What responses are multiplied by is in no file.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vssl_jax.convert import torch_file
from vssl_jax.convert.imported import Imported

WORDS = {"exemplar": {"z", "exemplar", "template"}, "search": {"x", "search", "instance"}}


def load(path: str | pathlib.Path, *, entry: str = "") -> Imported:
  """Reads a head from a torch or `.safetensors` file.

  Args:
    path: the file; never unpickled.
    entry: where in the file, see `torch_file.read`.

  Raises:
    TorchFileError: the file can't be read.
    ValueError: it holds no head, or several.
  """
  return torch_file.load(path, convert, entry=entry)


def convert(state: Mapping[str, np.ndarray]) -> Imported:
  """A state dict as parameters of `models.siamfc.SiamFCHead`.

  Returns:
    `settings` are `features`, the channels of the maps that it is for, and its `channels`.

  Raises:
    ValueError: no head, or several; branches of different shapes; not finite.
  """
  names = {branch: _name(branch, state) for branch in WORDS}
  params = {branch: {"linear": _layer(name, state)} for branch, name in names.items()}
  shapes = {branch: layer["linear"]["kernel"].shape for branch, layer in params.items()}
  if shapes["exemplar"] != shapes["search"]:
    raise ValueError("the branches differ: " + " and ".join(
        f"{name} {list(state[name].shape)}" for name in names.values()))
  features, channels = shapes["search"]
  return Imported("siamfc", params, {}, {"features": features, "channels": channels})


def _name(branch: str, state: Mapping[str, np.ndarray]) -> str:
  """The name of a branch's weight."""
  mine = [name for name in state if _branch(name) == branch]
  found = [name for name in mine if name.endswith("weight") and state[name].ndim == 4
           and state[name].shape[2:] == (1, 1) and _bias(name) in state]
  if len(found) == 1:
    return found[0]
  wanted = f"{branch} branch of a SiamFC head, a 1x1 convolution with a bias"
  if found:
    raise ValueError(f"several could be the {wanted}: {', '.join(sorted(found))}")
  there = ", ".join(f"{name} {list(state[name].shape)}" for name in sorted(mine)[:5])
  raise ValueError(f"no {wanted} with {', '.join(sorted(WORDS[branch]))} in its name; there is "
                   f"{there or 'no such name'}. A head without weights correlates maps as they "
                   "are; train one instead")


def _branch(name: str) -> str:
  """The one whose word is in a name; "" for none or both."""
  words = set(re.split("[^a-z]+", name.lower()))
  found = [branch for branch, known in WORDS.items() if words & known]
  return found[0] if len(found) == 1 else ""


def _bias(name: str) -> str:
  return name.removesuffix("weight") + "bias"


def _layer(name: str, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
  weight, bias = (np.asarray(state[n], np.float32) for n in (name, _bias(name)))
  if bias.shape != weight.shape[:1]:
    raise ValueError(f"{_bias(name)} {list(bias.shape)} doesn't fit {name} {list(weight.shape)}")
  for n, value in ((name, weight), (_bias(name), bias)):
    if not np.isfinite(value).all():
      raise ValueError(f"{n} holds non-finite values")
  return {"kernel": np.ascontiguousarray(weight[:, :, 0, 0].T), "bias": bias}
