"""The authors' TCA checkpoints: PyTorch names to our parameters and back (tca spec 4)."""

import re

import numpy as np

PREFIX = "transformer_encoder.layers."

# Per layer: PyTorch name -> path below `layers_i`. Two-dimensional weights are transposed, since
# PyTorch keeps (out, in).
LAYER = {
    "self_attn.in_proj_weight": ("self_attn", "in_proj", "kernel"),
    "self_attn.in_proj_bias": ("self_attn", "in_proj", "bias"),
    "self_attn.out_proj.weight": ("self_attn", "out_proj", "kernel"),
    "self_attn.out_proj.bias": ("self_attn", "out_proj", "bias"),
    "linear1.weight": ("linear1", "kernel"),
    "linear1.bias": ("linear1", "bias"),
    "linear2.weight": ("linear2", "kernel"),
    "linear2.bias": ("linear2", "bias"),
    "norm1.weight": ("norm1", "scale"),
    "norm1.bias": ("norm1", "bias"),
    "norm2.weight": ("norm2", "scale"),
    "norm2.bias": ("norm2", "bias"),
}


def from_torch(state: dict[str, np.ndarray]) -> dict:
  """Parameters of `TransformerEncoder` from an encoder's state dict.

  Any prefix before `transformer_encoder.` is dropped; with several candidates (a MoCo wrapper
  holds `encoder_q.` and `encoder_k.`) the query encoder is taken.

  Raises:
    ValueError: names are missing, or left over.
  """
  state = _query_encoder(state)
  params, missing = {}, []
  layers = {int(re.match(r"\d+", n[len(PREFIX):]).group()) for n in state}
  for i in range(max(layers) + 1):
    for name, path in LAYER.items():
      full = f"{PREFIX}{i}.{name}"
      if full not in state:
        missing.append(full)
        continue
      value = np.asarray(state.pop(full))
      node = params.setdefault(f"layers_{i}", {})
      for part in path[:-1]:
        node = node.setdefault(part, {})
      node[path[-1]] = value.T if value.ndim == 2 else value
  if missing or state:
    raise ValueError(f"not a TCA encoder: missing {missing}, unexpected {sorted(state)}")
  return params


def to_torch(params: dict) -> dict[str, np.ndarray]:
  """The inverse of `from_torch`, without a prefix; works on gradients too."""
  state = {}
  for i in range(len(params)):
    for name, path in LAYER.items():
      value = params[f"layers_{i}"]
      for part in path:
        value = value[part]
      value = np.asarray(value)
      state[f"{PREFIX}{i}.{name}"] = value.T if value.ndim == 2 else value
  return state


def _query_encoder(state):
  found = {}
  for name, value in state.items():
    prefix, _, rest = name.partition(PREFIX)
    if rest[:1].isdigit():
      found.setdefault(prefix, {})[PREFIX + rest] = value
  if not found:
    raise ValueError(f"not a TCA encoder: no name contains {PREFIX!r}")
  query = [p for p in found if "encoder_q" in p] or [p for p in found if "encoder_k" not in p]
  if len(query) != 1:
    raise ValueError(f"several encoders in one file, prefixes {sorted(found)}: keep one of them")
  return found[query[0]]
