"""Video ResNets in torchvision's or PySlowFast's names to our variables and back (provico spec 3).

`r3d_18` and `r2plus1d_18` are torchvision's, `slow_r50` is PySlowFast's. A network is recognised by
the names of its stem.

torchvision trained its video networks on frames normalised by mean (0.43216, 0.394666, 0.37645) and
std (0.22803, 0.22145, 0.216989); ProViCo's are normalised by 0.45 and 0.225 on every channel (spec
2). Under torchvision's weights features therefore shift a little from what torchvision would give.
"""

import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vssl_jax.convert import resnet, torch_file
from vssl_jax.models import resnet3d

PREFIXES = ("module.", "encoder_q.", "backbone.")
# Backbone -> the convolution of its stem that has `width` channels; the first that is there counts.
STEMS = {"slow_r50": "s1.pathway0_stem.conv.weight", "r2plus1d_18": "stem.3.weight",
         "r3d_18": "stem.0.weight"}
CLASSIFIERS = {"slow_r50": "head.", "r2plus1d_18": "fc.", "r3d_18": "fc."}


def load(
  path: str | pathlib.Path,
  *,
  backbone: str = "",
  width: int = 0,
  entry: str = "",
  prefixes: tuple[str, ...] = PREFIXES,
) -> dict[str, Any]:
  """Reads a video ResNet's variables from a torch checkpoint or `.safetensors` file.

  Args:
    path: the file, never unpickled; names as above, behind any of `prefixes`.
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
  """Variables of `models.resnet3d.ResNet3d` from a state dict.

  Every name must be there and no other, but for the classifier (`fc.*`, `head.*`) and the counters
  `num_batches_tracked`, which are left out.

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
  return resnet.fit(state, _table(wanted, wanted_width), f"{wanted} of width {wanted_width}",
                    CLASSIFIERS[wanted])


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The inverse of `from_torch`, with zero `num_batches_tracked` as torch expects them."""
  return resnet.unfit(variables, _torch_name)


def identify(state: Mapping[str, np.ndarray]) -> tuple[str, int]:
  """Backbone and width, by the stem.

  Raises:
    ValueError: there is no stem of a known network.
  """
  for backbone, name in STEMS.items():
    if name in state:
      shape = np.shape(state[name])
      if len(shape) != 5 or not shape[0]:
        raise ValueError(f"{name} has shape {list(shape)}: not a 3-D convolution")
      return backbone, int(shape[0])
  names = sorted(state)[:10]
  raise ValueError(f"not a video ResNet: none of {', '.join(STEMS.values())} among "
                   f"{', '.join(names) or 'nothing'}{', ...' if len(state) > 10 else ''}; is there "
                   "another prefix?")


def _table(backbone: str, width: int) -> Iterator[tuple[str, tuple[str, ...], tuple[int, ...]]]:
  """(torch name, path of the variable, its shape), as the model itself declares them."""
  net = resnet3d.make(backbone, width=width)
  variables = jax.eval_shape(net.init, jax.random.key(0), resnet3d.CLIP)
  for keys, value in jax.tree_util.tree_flatten_with_path(variables)[0]:
    path = tuple(key.key for key in keys)
    yield _torch_name(path), path, value.shape


def _torch_name(path: tuple[str, ...]) -> str:
  """("params", "layer2_0", "conv1_0_3", "kernel") -> layer2.0.conv1.0.3.weight

  ("params", "s3_res0", "branch2_a_bn", "scale") -> s3.pathway0_res0.branch2.a_bn.weight
  """
  collection, *modules, leaf = path
  name = ".".join(modules)
  if re.match(r"s\d_", name):
    name = name.replace("s1_stem_", "s1.pathway0_stem.").replace("_res", ".pathway0_res")
    name = name.replace("branch2_", "branch2.")
  else:
    name = name.replace("_", ".")
  return f"{name}.{resnet.LEAVES[collection, leaf]}"
