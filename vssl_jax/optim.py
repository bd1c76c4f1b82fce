"""Optimisers and learning-rate schedules as optax transformations."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from vssl_jax.types import ConfigError

SCHEDULES = ("cosine", "constant", "halving", "milestones", "exponential")
OPTIMISERS = ("adam", "sgd")
HALVINGS = (400_000, 600_000, 800_000, 1_000_000)  # clips (corrflow spec 8)


def learning_rate_at(name: str, learning_rate: float, steps: int, *, steps_per_update: int = 1,
                     warmup: int = 0, warmup_from: float = 0.0,
                     halve_after: Sequence[int] = HALVINGS, batch: int = 1,
                     milestones: Sequence[int] = (), factor: float = 0.1, final: float = 0.0):
  """Learning rate as a function of the step.

  Args:
    name: "cosine" anneals to 0 over `steps`, "constant" does not, "halving" halves each time that
      more than so many examples have been seen as `halve_after` says, "milestones" multiplies by
      `factor` at each of them, "exponential" reaches `final` after `steps` by equal ratios.
    steps_per_update: the rate changes only every so many steps; set it to the steps of an epoch
      for a schedule that is stepped once an epoch (tca spec 9).
    warmup: for so many first steps the rate is scaled by (step + 1) / (warmup + 1).
    warmup_from: if above 0, the rate instead goes on a straight line from this one, at step 0, to
      what the schedule has at step `warmup` (PySlowFast's warm-up, provico spec 10).
    halve_after: of "halving", in units of which a step sees `batch`: with batch=1, steps.
    milestones: steps from which on the rate is multiplied by `factor`, of "milestones".
    final: of "exponential", above 0.
  """
  if name not in SCHEDULES:
    raise ConfigError(f"optim.schedule={name!r} is unknown; choose one of {', '.join(SCHEDULES)}")
  if steps_per_update < 1:
    raise ConfigError(f"optim.steps_per_update={steps_per_update} must be at least 1")
  if batch < 1:
    raise ConfigError(f"optim.batch={batch} must be at least 1")
  if name == "exponential" and not (final > 0 and learning_rate > 0):
    raise ConfigError(f"optim.final={final} and optim.learning_rate={learning_rate} must be above "
                      "0 with optim.schedule='exponential'")
  if warmup_from and not warmup:
    raise ConfigError(f"optim.warmup_from={warmup_from} is where a warm-up begins; set "
                      "optim.warmup to its steps, or this to 0")
  halvings = [n // batch for n in halve_after]  # step * batch > n, without overflow

  def scheduled(step):
    at = (step // steps_per_update) * steps_per_update
    value = learning_rate
    if name == "cosine":
      value = learning_rate / 2 * (1 + jnp.cos(jnp.pi * jnp.minimum(at / max(steps, 1), 1.0)))
    if name == "halving":
      value = learning_rate * 0.5 ** sum(jnp.where(at > n, 1.0, 0.0) for n in halvings)
    if name == "milestones":
      value = learning_rate * factor ** sum(jnp.where(at >= n, 1.0, 0.0) for n in milestones)
    if name == "exponential":
      value = learning_rate * (final / learning_rate) ** (at / max(steps, 1))
    return jnp.asarray(value)

  return _warmed(scheduled, warmup, warmup_from) if warmup else scheduled


def _warmed(scheduled: Callable, warmup: int, warmup_from: float) -> Callable:
  """`scheduled`, a function of the step, with a warm-up."""
  def rate(step):
    if not warmup_from:
      return scheduled(step) * jnp.minimum(1.0, (step + 1) / (warmup + 1))
    rising = warmup_from + (scheduled(warmup) - warmup_from) * (step / warmup)
    return jnp.where(step < warmup, rising, scheduled(step))

  return rate


def make(*, steps: int, learning_rate: float = 1e-5, schedule: str = "cosine",
         steps_per_update: int = 1, warmup: int = 0, warmup_from: float = 0.0,
         halve_after: Sequence[int] = HALVINGS, batch: int = 1, milestones: Sequence[int] = (),
         factor: float = 0.1, final: float = 0.0, weight_decay: float = 1e-4,
         coupled: bool = True, decay_norms: bool = True, optimiser: str = "adam",
         b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, momentum: float = 0.9,
         clip: float = 0.0, head_first: int = 0) -> optax.GradientTransformation:
  """Adam or SGD, with weight decay added to the gradient (`coupled`, as PyTorch's) or AdamW's.

  Args:
    decay_norms: decay all parameters, as PyTorch's do when given all of them; False leaves out
      those of fewer than two axes: scales and biases, of norms and of other layers, and scalars.
    optimiser: "adam" (b1, b2, eps) or "sgd" (momentum, in PyTorch's form: the sum of all gradients
      so far, each step's weighing `momentum` times less in the next).
    clip: largest global gradient norm; 0 for none.
    head_first: for so many steps nothing but the last layer, `fc`, changes, and the state kept for
      the rest stands still: Adam counts steps without gradients too, and the first that comes
      after many of them would go too far.
  """
  if optimiser not in OPTIMISERS:
    raise ConfigError(f"optim.optimiser={optimiser!r} is unknown; choose one of "
                      f"{', '.join(OPTIMISERS)}")
  for name, value in (("learning_rate", learning_rate), ("warmup", warmup), ("momentum", momentum),
                      ("warmup_from", warmup_from), ("head_first", head_first),
                      ("weight_decay", weight_decay), ("clip", clip)):
    if value < 0:
      raise ConfigError(f"optim.{name}={value} must be at least 0")
  rate = learning_rate_at(schedule, learning_rate, steps, steps_per_update=steps_per_update,
                          warmup=warmup, warmup_from=warmup_from, halve_after=halve_after,
                          batch=batch, milestones=milestones, factor=factor, final=final)
  mask = None if decay_norms else lambda params: jax.tree.map(lambda p: jnp.ndim(p) > 1, params)
  decay = [optax.add_decayed_weights(weight_decay, mask)] if weight_decay else []
  adapt = [optax.scale_by_adam(b1, b2, eps) if optimiser == "adam" else optax.trace(momentum)]
  update = decay + adapt if coupled else adapt + decay
  if head_first:
    late = optax.conditionally_mask(optax.chain(*update), lambda step: step >= head_first)
    update = [optax.multi_transform({"head": optax.chain(*update), "rest": late}, lambda params: {
        name: "head" if name == "fc" else "rest" for name in params})]
  return optax.chain(
      *([optax.clip_by_global_norm(clip)] if clip else []), *update,
      optax.scale_by_learning_rate(rate),
  )
