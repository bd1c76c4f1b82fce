"""Optimisers and learning-rate schedules as optax transformations."""

import jax.numpy as jnp
import optax

from vssl_jax.types import ConfigError

SCHEDULES = ("cosine", "constant")


def learning_rate_at(name: str, learning_rate: float, steps: int, *, steps_per_update: int = 1,
             warmup: int = 0):
  """Learning rate as a function of the step.

  Args:
    name: "cosine" anneals to 0 over `steps`, "constant" does not.
    steps_per_update: the rate changes only every so many steps; set it to the steps of an epoch
      for a schedule that is stepped once an epoch (tca spec 9).
    warmup: for so many first steps the rate is scaled by (step + 1) / (warmup + 1).
  """
  if name not in SCHEDULES:
    raise ConfigError(f"optim.schedule={name!r} is unknown; choose one of {', '.join(SCHEDULES)}")
  if steps_per_update < 1:
    raise ConfigError(f"optim.steps_per_update={steps_per_update} must be at least 1")

  def rate(step):
    at = (step // steps_per_update) * steps_per_update
    value = learning_rate
    if name == "cosine":
      value = learning_rate / 2 * (1 + jnp.cos(jnp.pi * jnp.minimum(at / max(steps, 1), 1.0)))
    return value * jnp.minimum(1.0, (step + 1) / (warmup + 1)) if warmup else jnp.asarray(value)

  return rate


def make(*, steps: int, learning_rate: float = 1e-5, schedule: str = "cosine",
         steps_per_update: int = 1, warmup: int = 0, weight_decay: float = 1e-4,
         coupled: bool = True, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8,
         clip: float = 0.0) -> optax.GradientTransformation:
  """Adam, with weight decay added to the gradient (`coupled`, as PyTorch's Adam) or AdamW.

  Args:
    clip: largest global gradient norm; 0 for none.
  """
  for name, value in (("learning_rate", learning_rate), ("warmup", warmup),
                      ("weight_decay", weight_decay), ("clip", clip)):
    if value < 0:
      raise ConfigError(f"optim.{name}={value} must be at least 0")
  rate = learning_rate_at(schedule, learning_rate, steps, steps_per_update=steps_per_update,
                          warmup=warmup)
  decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
  adam = [optax.scale_by_adam(b1, b2, eps)]
  return optax.chain(
      *([optax.clip_by_global_norm(clip)] if clip else []),
      *(decay + adam if coupled else adam + decay),
      optax.scale_by_learning_rate(rate),
  )
