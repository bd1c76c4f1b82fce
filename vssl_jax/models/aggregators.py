"""The modules that make one vector of a video's frame descriptors, by name."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vssl_jax.models.recurrent import GRU, LSTM
from vssl_jax.models.transformer import TransformerEncoder
from vssl_jax.models.vlad import NetVLAD, NeXtVLAD

MODULES = {
    "transformer": TransformerEncoder, "netvlad": NetVLAD, "nextvlad": NeXtVLAD, "lstm": LSTM,
    "gru": GRU}


def make(name: str, settings: Mapping[str, Any] | None = None, dtype=jnp.float32) -> nn.Module:
  """The module `name`: `(x [B, T, D], length [B]) -> {"video", "frames", "length"}`.

  Args:
    settings: its attributes; what is left out has the module's default.
    dtype: of its matrix products.

  Raises:
    ValueError: no such module, or a setting that it hasn't or that is out of range.
  """
  if name not in MODULES:
    raise ValueError(f"{name} is no aggregator{_nearest(name, MODULES)}")
  own = {f.name for f in dataclasses.fields(MODULES[name])} - {"dtype", "parent", "name"}
  for key, value in (settings or {}).items():
    if key not in own:
      raise ValueError(f"{name} takes no {key!r}{_nearest(key, own)}")
    _check(f"{name}.{key}", value)
  return MODULES[name](**(settings or {}), dtype=dtype)


def _check(key: str, value: Any) -> None:
  if key.endswith(".dropout"):
    if not 0 <= value < 1:
      raise ValueError(f"{key}={value} must be at least 0 and less than 1")
  elif not isinstance(value, int):
    raise ValueError(f"{key}={value!r} must be a whole number")
  elif value < 1:
    raise ValueError(f"{key}={value} must be at least 1")


def _nearest(word: str, choices: Iterable[str]) -> str:
  close = difflib.get_close_matches(word, choices, n=1)
  return (f"; did you mean {close[0]!r}?" if close else "") + f" (all: {', '.join(choices)})"
