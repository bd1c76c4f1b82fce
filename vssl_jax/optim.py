"""Optimisers and learning-rate schedules as optax transformations."""

from collections.abc import Sequence

import jax.numpy as jnp
import optax

from vssl_jax.types import ConfigError

SCHEDULES = ("cosine", "constant", "halving")
HALVINGS = (400_000, 600_000, 800_000, 1_000_000)  # clips (corrflow spec 8)


def learning_rate_at(name: str, learning_rate: float, steps: int, *, steps_per_update: int = 1,
             warmup: int = 0, halve_after: Sequence[int] = HALVINGS, batch: int = 1):
  """Learning rate as a function of the step.

  Args:
    name: "cosine" anneals to 0 over `steps`, "constant" does not, "halving" halves each time that
      more than so many examples have been seen as `halve_after` says.
    steps_per_update: the rate changes only every so many steps; set it to the steps of an epoch
      for a schedule that is stepped once an epoch (tca spec 9).
    warmup: for so many first steps the rate is scaled by (step + 1) / (warmup + 1).
    halve_after: of "halving", in units of which a step sees `batch`: with batch=1, steps.
  """
  if name not in SCHEDULES:
    raise ConfigError(f"optim.schedule={name!r} is unknown; choose one of {', '.join(SCHEDULES)}")
  if steps_per_update < 1:
    raise ConfigError(f"optim.steps_per_update={steps_per_update} must be at least 1")
  if batch < 1:
    raise ConfigError(f"optim.batch={batch} must be at least 1")
  halvings = [n // batch for n in halve_after]  # step * batch > n, without overflow

  def rate(step):
    at = (step // steps_per_update) * steps_per_update
    value = learning_rate
    if name == "cosine":
      value = learning_rate / 2 * (1 + jnp.cos(jnp.pi * jnp.minimum(at / max(steps, 1), 1.0)))
    if name == "halving":
      value = learning_rate * 0.5 ** sum(jnp.where(at > n, 1.0, 0.0) for n in halvings)
    return value * jnp.minimum(1.0, (step + 1) / (warmup + 1)) if warmup else jnp.asarray(value)

  return rate


def make(*, steps: int, learning_rate: float = 1e-5, schedule: str = "cosine",
         steps_per_update: int = 1, warmup: int = 0, halve_after: Sequence[int] = HALVINGS,
         batch: int = 1, weight_decay: float = 1e-4, coupled: bool = True, b1: float = 0.9,
         b2: float = 0.999, eps: float = 1e-8, clip: float = 0.0) -> optax.GradientTransformation:
  """Adam, with weight decay added to the gradient (`coupled`, as PyTorch's Adam) or AdamW.

  Args:
    clip: largest global gradient norm; 0 for none.
  """
  for name, value in (("learning_rate", learning_rate), ("warmup", warmup),
                      ("weight_decay", weight_decay), ("clip", clip)):
    if value < 0:
      raise ConfigError(f"optim.{name}={value} must be at least 0")
  rate = learning_rate_at(schedule, learning_rate, steps, steps_per_update=steps_per_update,
                          warmup=warmup, halve_after=halve_after, batch=batch)
  decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
  adam = [optax.scale_by_adam(b1, b2, eps)]
  return optax.chain(
      *([optax.clip_by_global_norm(clip)] if clip else []),
      *(decay + adam if coupled else adam + decay),
      optax.scale_by_learning_rate(rate),
  )
