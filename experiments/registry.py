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


def find(room: str, name: str, key: str):
  """The module `room.name`, for the config key `key`; ConfigError if there is none."""
  package = importlib.import_module(room)
  modules = [m.name for m in pkgutil.iter_modules(package.__path__)]
  if name in modules:
    module = importlib.import_module(f"{room}.{name}")
    if hasattr(module, "make"):
      return module
  names = [n for n in modules if hasattr(importlib.import_module(f"{room}.{n}"), "make")]
  place = f"{room.replace('.', '/')}/{name}.py"
  raise ConfigError(f"{key}={name!r}: there is no {place} with a make(){nearest(name, names)}")


def make(room: str, name: str, key: str, /, *args, **kwargs):
  """`room.name.make(*args, **kwargs)`, with an error that names a wrong argument."""
  function = find(room, name, key).make
  parameters = inspect.signature(function).parameters
  allowed = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
  for argument in kwargs:
    if argument not in allowed:
      raise ConfigError(f"{key}={name!r} takes no {argument!r}{nearest(argument, allowed)}")
  required = [p.name for p in parameters.values()
              if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
  missing = [n for n in required if kwargs.get(n) is None]
  if missing:
    raise ConfigError(f"{key}={name!r} needs {', '.join(missing)}: set it, for example "
                      f"--config.{key.rpartition('.')[0]}.{missing[0]}=...")
  return function(*args, **kwargs)
