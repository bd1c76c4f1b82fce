"""LSTM and GRU over frame descriptors, with PyTorch's cells and initial values (tca spec 5)."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.models.linear import uniform
from vssl_jax.models.norm import BatchNorm
from vssl_jax.models.transformer import pool


def lstm(state, inputs, recur):
  """One step. `state` (h, c) [B, H], `inputs` [B, 4 H] of gates i, f, g, o -> (state, h)."""
  h, c = state
  i, f, g, o = jnp.split(inputs + recur(h), 4, axis=-1)
  c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
  h = nn.sigmoid(o) * jnp.tanh(c)
  return (h, c), h


def gru(state, inputs, recur):
  """One step. `state` (h,) [B, H], `inputs` [B, 3 H] of gates r, z, n -> (state, h).

  The reset gate is applied after the recurrent product of n, inside of it its bias.
  """
  (h,) = state
  r, z, n = jnp.split(inputs, 3, axis=-1)
  h_r, h_z, h_n = jnp.split(recur(h), 3, axis=-1)
  r, z = nn.sigmoid(r + h_r), nn.sigmoid(z + h_z)
  h = (1 - z) * jnp.tanh(n + r * h_n) + z * h
  return (h,), h


class Layer(nn.Module):
  """One layer over time, from a zero state.

  Attributes:
    step: `lstm` or `gru`; gates, states: how many of each it has.
  """

  hidden: int
  step: Callable
  gates: int
  states: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    """`x` [B, T, D] -> [B, T, H] float32."""
    width, init = self.gates * self.hidden, uniform(self.hidden**-0.5)

    def product(name, fan_in):
      kernel = self.param(f"{name}_kernel", init, (fan_in, width)).astype(self.dtype)
      bias = self.param(f"{name}_bias", init, (width,))
      return lambda a: (a.astype(self.dtype) @ kernel).astype(jnp.float32) + bias

    inputs = product("input", x.shape[-1])(x)  # of all frames at once
    recur = product("hidden", self.hidden)
    zero = jnp.zeros((x.shape[0], self.hidden), jnp.float32)
    _, out = jax.lax.scan(lambda state, now: self.step(state, now, recur),
                          (zero,) * self.states, jnp.moveaxis(inputs, 1, 0))
    return jnp.moveaxis(out, 0, 1)


class Recurrent(nn.Module):
  """Layers over time on normalised frames; the mean over valid frames of the last one's output.

  In training the norm's statistics include padding, as zero frames (tca spec 5). Padding comes
  last, so no valid output depends on it.

  Attributes:
    dropout: rate between layers.
    dtype: of the matrix products; parameters, norm and state stay float32.
  """

  layers: int = 2
  hidden: int = 1024
  dropout: float = 0.2
  dtype: jnp.dtype = jnp.float32

  cell: ClassVar[tuple[Callable, int, int]]  # step, gates, states

  @nn.compact
  def __call__(self, x, length, *, train: bool = False):
    """As `TransformerEncoder`: `video` [B, H], `frames` [B, T, H], `length` [B]."""
    mask = jnp.arange(x.shape[1])[None, :] < length[:, None]
    x = jnp.where(mask[..., None], x, 0)  # a weight of 0 does not stop a NaN
    y = BatchNorm(name="bn1")(x, train=train)
    for i in range(self.layers):
      if i:
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
      y = Layer(self.hidden, *self.cell, dtype=self.dtype, name=f"layers_{i}")(y)
    return pool(y, mask)


class LSTM(Recurrent):
  """See `Recurrent`."""

  cell = (lstm, 4, 2)


class GRU(Recurrent):
  """See `Recurrent`."""

  cell = (gru, 3, 1)
