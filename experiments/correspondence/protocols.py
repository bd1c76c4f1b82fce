"""What an evaluation's settings, or --protocol, mean: a protocol of propagation for a model."""

from experiments import registry
from vssl_jax.evaluators import propagation
from vssl_jax.evaluators.segmentation import choose_protocol
from vssl_jax.types import ConfigError

OWN = "later"  # for a user's own video: better than the paper's, which has one reference
ZERO_IS_NONE = ("radius", "top_k", "search_age")  # None, in `changes`, is what isn't changed


def of_evaluation(settings, model) -> propagation.Protocol:
  """The protocol of an entry of `evals`.

  By its name in `args.protocol`, with those of `args.changes` that aren't None; stride and
  alignment are the model's, as the features are, and the feedback of key points is soft.

  Raises:
    ConfigError: there is no such protocol, or it can't be changed so.
  """
  args = settings.args
  changes = {k: v for k, v in (args.get("changes") or {}).items() if v is not None}
  if "stride" in changes:  # runs by older versions have it, and then all that isn't by the name
    return choose_protocol(args.protocol, changes)
  changes |= {k: None for k in ZERO_IS_NONE if changes.get(k) == 0}
  if "fixed_radius" in changes:
    changes["fixed_radius"] = _fixed_radius(changes["fixed_radius"])
  if settings.name == "keypoints":
    changes.setdefault("feedback", "soft")
  return choose_protocol(args.protocol, _features(args.protocol, model) | changes)


def of_own_video(name: str, model) -> propagation.Protocol:
  """The protocol of an evaluation of the run, or of `propagation.PROTOCOLS` for its features.

  Args:
    name: of either, an evaluation first; "" for `OWN`, whatever the run is evaluated by.

  Raises:
    ConfigError: there is no such name.
  """
  evals = model.config.evals
  if name and name in evals:
    return of_evaluation(evals[name], model)
  name = name or OWN
  if name not in propagation.PROTOCOLS:
    raise ConfigError(f"--protocol={name} names neither an evaluation of this run nor a protocol"
                      f"{registry.nearest(name, {*evals, *propagation.PROTOCOLS})}")
  return propagation.protocol(name, **_features(name, model))


def _features(name: str, model) -> dict:
  """How a model's features lie, but for what the released code did with its own."""
  lie = {} if name == "corrflow_released" else {"align": model.config.method.args.align}
  return {"stride": model.stride, **lie}


def _fixed_radius(value) -> int | str | None:
  if value == "same":
    return value
  try:
    return int(value) or None
  except ValueError as e:
    raise ConfigError(f"changes.fixed_radius={value!r} should be 'same', or a number of cells, "
                      "0 for the whole map") from e
