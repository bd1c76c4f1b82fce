"""Linear layers that start as PyTorch's do."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def uniform(scale: float):
  """U(-scale, scale)."""

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -scale, scale)

  return init


def linear(size: int, fan_in: int, *, dtype, name: str, bias: bool = True) -> nn.Dense:
  """A layer with `size` outputs; weights and bias begin in U(+-1/sqrt(fan_in))."""
  init = uniform(fan_in**-0.5)
  return nn.Dense(size, use_bias=bias, kernel_init=init, bias_init=init, dtype=dtype, name=name)
