"""Config files, "file.py" or "file.py:preset": what they define, and what is wrong with them.

And configs of runs by older versions: what they lack.
"""

import contextlib
import pathlib
import re
import runpy
import traceback
from collections.abc import Callable

import ml_collections

from experiments.registry import nearest
from vssl_jax.types import ConfigError

ADD = "add it to the config file"  # what to do where a config lacks a key
# Settings, of a config or of an entry of `evals`, that older versions lacked -> what they did.
BEFORE = {"views.short": "hold", "head.weights": "", "head.radius": 16.0, "head.steps": 0,
          "head.drops": (), "head.shift": 0.0, "head.zoom": 0.0, "views.train_clips": 0,
          "views.train_crops": 0, "method.args.mean_of_log": False, "method.args.log_term": True,
          "optim.warmup_from": 0.0}


def definitions(spec: str) -> dict:
  """What the file of "file.py" or "file.py:preset" defines, by name."""
  file = spec.partition(":")[0]
  if not pathlib.Path(file).is_file():
    have = ", ".join(str(p) for p in sorted(pathlib.Path("experiments").glob("*.py"))
                     if "\ndef get_config" in p.read_text())
    raise ConfigError(f"--config={file}: no such file" + (f"; there are: {have}" if have else ""))
  with _config_errors(spec):
    return runpy.run_path(file)


def load(spec: str) -> ml_collections.ConfigDict:
  """The config of "file.py" or "file.py:preset"."""
  file, colon, preset = spec.partition(":")
  get_config = definitions(spec).get("get_config")
  with _config_errors(spec):
    config = get_config and get_config(*([preset] if colon else []))
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(f"--config={file}: needs a function get_config() that returns a ConfigDict")
  return config


@contextlib.contextmanager
def _config_errors(spec: str):
  """Names the file in what goes wrong in it."""
  try:
    yield
  except ConfigError:
    raise
  except SyntaxError as e:
    raise ConfigError(f"{e.filename}, line {e.lineno}: {e.msg}") from e
  except Exception as e:  # a config file is anybody's program
    raise ConfigError(f"--config={spec}: {type(e).__name__}: {e}; --debug shows where") from e


def check_key(config: ml_collections.ConfigDict, name: str, said: str) -> None:
  """Raises ConfigError, beginning with `said`, where a config has no `name` ("train.steps")."""
  node, before = config, "config"
  for key in name.split("."):
    if not isinstance(node, ml_collections.ConfigDict) or key not in node:
      near = nearest(key, node) if isinstance(node, ml_collections.ConfigDict) else ""
      raise ConfigError(f"{said}: {before} has no {key!r}{near}")
    node, before = node[key], f"{before}.{key}"


def fill(config: ml_collections.ConfigDict) -> None:
  """Gives the config of a run by an older version what it lacks, as far as that is known."""
  for node in (config, *config.get("evals", {}).values()):
    for name, value in BEFORE.items():
      group, _, key = name.rpartition(".")
      if node is config and key.startswith("train_"):
        continue  # of evaluations alone
      if group in node and key not in node[group]:
        with node[group].unlocked():
          node[group][key] = value


def as_before(name: str, value) -> bool:
  """Whether a setting says what older versions did without having it."""
  name = re.sub(r"^evals\.[^.]+\.", "", name)
  value = tuple(value) if isinstance(value, list) else value  # as JSON has it
  return name in BEFORE and BEFORE[name] == value


@contextlib.contextmanager
def lookups(config: ml_collections.ConfigDict, remedy: Callable[[str], str]):
  """Tells of a key that is looked up in the block and that the config lacks, and its remedy.

  Any other AttributeError or KeyError is left alone: only what a part of this very config raised
  is the config's fault.
  """
  try:
    yield
  except (AttributeError, KeyError) as e:
    frames = [frame for frame, _ in traceback.walk_tb(e.__traceback__)]
    inside, name = frames[-1].f_locals, frames[-1].f_code.co_name
    node, key = inside.get("self"), inside.get({"__getattr__": "attribute"}.get(name, "key"))
    place = _place(config, node) if name in ("__getattr__", "__getitem__") else None
    if place is None:
      raise
    raise ConfigError(f"the config has no {place}{key}: {remedy(f'{place}{key}')}") from e


def _place(tree: ml_collections.ConfigDict, node, prefix: str = "") -> str | None:
  """"evals.x." of a node below a config; None where it is no part of it."""
  if tree is node:
    return prefix
  found = (_place(value, node, f"{prefix}{key}.") for key, value in tree.items()
           if isinstance(value, ml_collections.ConfigDict))
  return next((place for place in found if place is not None), None)
