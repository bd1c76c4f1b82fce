"""The few types everything else is made of.

Shapes, throughout: B videos, V views, N clips, T frames, H W pixels, D features, K queue entries.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

PyTree = Any


class ConfigError(Exception):
  """Something in the user's configuration is wrong; the message names the key and the remedy."""


class Method(NamedTuple):
  """A learning method as three pure functions.

  Attributes:
    init: `(key, batch) -> (params, aux)`. `params` gets gradients; `aux` is everything else that
      changes: queues, pointers, momentum copies, batch statistics.
    loss: `(params, aux, batch, key) -> (loss, (aux, metrics))`; sees the global batch.
    embed: `(params, aux, inputs) -> dict of arrays`; deterministic.
    score: learned similarity, or None: `(params, aux, query, target) -> {name: [Q, N]}`, where
      `query` and `target` are what `embed` gave for Q and N inputs; deterministic.
    dense: features of places, or None: `(params, aux, inputs) -> {"features": [B, h, w, D]}`, maps
      to track objects by; deterministic.
  """

  init: Callable
  loss: Callable
  embed: Callable
  score: Callable | None = None
  dense: Callable | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """All that changes while training. `key` never does: a step uses `fold_in(key, step)`."""

  step: jax.Array
  params: PyTree
  aux: PyTree
  opt_state: PyTree
  key: jax.Array


class Evaluator(Protocol):
  """Measures an embedding.

  It is given a host function from a dict of NumPy arrays to a dict of NumPy features, and returns
  numbers by name. It can't tell a live model from an exported file.
  """

  def __call__(self, embed: Callable) -> dict[str, float]: ...
