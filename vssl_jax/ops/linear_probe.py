"""A linear classifier of given features: its two tensors, and one step of SGD.

Features come in as arrays, so whatever computed them can't change.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Probe(NamedTuple):
  """weight [D, C] and bias [C]: all that is trained."""

  weight: jax.Array
  bias: jax.Array


def init(seed: int, dim: int, classes: int, std: float = 0.01) -> Probe:
  """Weights N(0, std^2), no bias."""
  key, _ = jax.random.split(jax.random.key(seed))
  return Probe(std * jax.random.normal(key, (dim, classes)), jnp.zeros(classes))


def at_rest(probe: Probe) -> Probe:
  """The velocity to begin with."""
  return jax.tree.map(jnp.zeros_like, probe)


@jax.jit
def scores(probe: Probe, x: jax.Array) -> jax.Array:
  """Logits [B, C] of features [B, D]."""
  return jnp.matmul(x, probe.weight, precision=jax.lax.Precision.HIGHEST) + probe.bias


def loss(probe: Probe, x: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean cross-entropy over the rows of x [B, D] whose mask [B] is true; labels [B] int."""
  log_p = jax.nn.log_softmax(scores(probe, x))
  values = -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
  return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


@jax.jit
def value_and_grad(probe: Probe, x: jax.Array, labels: jax.Array, mask: jax.Array,
                   penalty: jax.Array) -> tuple[jax.Array, Probe]:
  """Of `loss` and `penalty / 2` times the weights' squares."""
  def total(probe):
    return loss(probe, x, labels, mask) + penalty / 2 * jnp.sum(probe.weight**2)
  return jax.value_and_grad(total)(probe)


@functools.partial(jax.jit, donate_argnums=(0, 1))
def step(probe: Probe, velocity: Probe, x: jax.Array, labels: jax.Array, mask: jax.Array,
         lr: jax.Array, momentum: jax.Array, weight_decay: jax.Array,
         ) -> tuple[Probe, Probe, jax.Array]:
  """SGD as torch has it: `v = momentum v + grad + weight_decay p`, then `p -= lr v`.

  Returns:
    The next probe and velocity, and the loss before the step.
  """
  value, grad = jax.value_and_grad(loss)(probe, x, labels, mask)
  velocity = jax.tree.map(lambda v, g, p: momentum * v + g + weight_decay * p, velocity, grad,
                          probe)
  return jax.tree.map(lambda p, v: p - lr * v, probe, velocity), velocity, value


@jax.jit
def drop(seed: int, step: int, x: jax.Array, rate: float) -> jax.Array:
  """Dropout of features: zero with probability `rate`, in [0, 1), the others scaled up."""
  _, key = jax.random.split(jax.random.key(seed))
  key = jax.random.fold_in(key, step)
  kept = jax.random.uniform(key, x.shape) >= rate
  return jnp.where(kept, x / (1 - rate), 0.0)
