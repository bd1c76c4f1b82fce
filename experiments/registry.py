"""Python's import is the registry: a name in a config is a module that exports `make`."""

import difflib
import importlib
import inspect
import pkgutil

from vssl_jax.types import ConfigError


def nearest(word: str, choices) -> str:
  """ "; did you mean 'x'?", or all choices where none is near."""
  choices = sorted(choices)
  close = difflib.get_close_matches(word, choices, n=1)
  if close:
    return f"; did you mean {close[0]!r}? (all: {', '.join(choices)})"
  return f"; there are: {', '.join(choices)}"


def module(room: str, name: str, key: str, member: str):
  """The module `room.name` for the config key `key`; ConfigError where none exports `member`."""
  package = importlib.import_module(room)
  modules = [m.name for m in pkgutil.iter_modules(package.__path__)]
  if name in modules:
    found = importlib.import_module(f"{room}.{name}")
    if hasattr(found, member):
      return found
  names = [n for n in modules if hasattr(importlib.import_module(f"{room}.{n}"), member)]
  place = f"{room.replace('.', '/')}/{name}.py"
  raise ConfigError(f"{key}={name!r}: there is no {place} with {member}{nearest(name, names)}")


def check_least(config, least: dict[str, float]) -> None:
  """Raises ConfigError where a setting ("train.steps") is below the least value given for it."""
  for key, value in least.items():
    node = config
    for part in key.split("."):
      node = node[part]
    if node < value:
      raise ConfigError(f"{key}={node} must be at least {value}")


def make(room: str, name: str, key: str, /, *args, **kwargs):
  """`room.name.make(*args, **kwargs)`; ConfigError names the key of a wrong argument or value."""
  function = module(room, name, key, "make").make
  parameters = inspect.signature(function).parameters
  allowed = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
  for argument in kwargs:
    if argument not in allowed:
      raise ConfigError(f"{key}={name!r} takes no {argument!r}{nearest(argument, allowed)}")
  required = [p.name for p in parameters.values()
              if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
  missing = [n for n in required if kwargs.get(n) is None]
  if missing:
    group = key.rpartition(".")[0] + ("" if key.startswith("data.") else ".args")
    raise ConfigError(f"{key}={name!r} needs {', '.join(missing)}: set it, for example "
                      f"--config.{group}.{missing[0]}=...")
  try:
    return function(*args, **kwargs)
  except (TypeError, ValueError) as e:
    raise ConfigError(f"{key}={name!r}: {e}") from e
