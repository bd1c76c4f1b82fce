"""The command line's own work: flags, the resolved config, the run's folder, signals."""

import hashlib
import json
import os
import pathlib
import re
import runpy
import signal
import sys

import ml_collections
from absl import flags

from experiments.registry import nearest
from vssl_jax.types import ConfigError


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags.

  Raises:
    ConfigError: something is wrong with them or with the config file; names which.
  """
  spec = _config_spec(argv)
  if spec is not None:
    _check_keys(argv, _load(spec))
  try:
    # Otherwise absl would turn on the INFO lines of every library.
    return flags.FLAGS([argv[0], "--verbosity=-1", *argv[1:]])
  except flags.Error as e:
    raise ConfigError(_explain(e)) from e


def _config_spec(argv: list[str]) -> str | None:
  """The value of --config, or None."""
  for i, arg in enumerate(argv):
    if arg in ("--config", "-config"):
      return argv[i + 1] if i + 1 < len(argv) else None
    if found := re.match(r"--?config=(.*)", arg):
      return found[1]
  return None


def _load(spec: str) -> ml_collections.ConfigDict:
  """The config of "file.py" or "file.py:preset"."""
  file, colon, preset = spec.partition(":")
  if not pathlib.Path(file).is_file():
    have = ", ".join(str(p) for p in sorted(pathlib.Path("experiments").glob("*.py"))
                     if "\ndef get_config" in p.read_text())
    raise ConfigError(f"--config={file}: no such file" + (f"; there are: {have}" if have else ""))
  try:
    get_config = runpy.run_path(file).get("get_config")
    config = get_config and get_config(*([preset] if colon else []))
  except ConfigError:
    raise
  except SyntaxError as e:
    raise ConfigError(f"{e.filename}, line {e.lineno}: {e.msg}") from e
  except Exception as e:  # a config file is anybody's program
    raise ConfigError(f"--config={spec}: {type(e).__name__}: {e}; --debug shows where") from e
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(f"--config={file}: needs a function get_config() that returns a ConfigDict")
  return config


def _check_keys(argv: list[str], config: ml_collections.ConfigDict) -> None:
  for arg in argv:
    found = re.match(r"--?(?:no)?config\.([\w.]+)", arg)
    node, before = config, "config"
    for key in found[1].split(".") if found else []:
      if not isinstance(node, ml_collections.ConfigDict) or key not in node:
        choices = node if isinstance(node, ml_collections.ConfigDict) else ()
        raise ConfigError(f"--config.{found[1]}: {before} has no {key!r}{nearest(key, choices)}")
      node, before = node[key], f"{before}.{key}"


def _explain(error: flags.Error) -> str:
  if isinstance(error, flags.UnrecognizedFlagError):
    if error.flagname.startswith("config."):
      return f"--{error.flagname} needs --config=FILE"
    return f"--{error.flagname}: no such flag{nearest(error.flagname, _own_flags())}"
  text = " ".join(str(error).removeprefix("flag ").split())
  for told, meant in (("invalid literal for int()", "should be a whole number"),
                      ("could not convert string to float", "should be a number"),
                      ("Non-boolean argument", "should be true or false"),
                      ("is not a dict", "is a group of settings, not one; name one in it")):
    if told in text:
      return f"{text.partition(': ')[0]} {meant}"
  return text[:1].lower() + text[1:]


def _own_flags() -> list[str]:
  own = flags.FLAGS.get_flags_for_module("experiments.run")
  own = own or flags.FLAGS.get_key_flags_for_module(sys.argv[0])
  return [flag.name for flag in own]


def one_line(error: BaseException) -> str:
  """An error's message without line breaks."""
  if isinstance(error, OSError) and error.strerror:
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror.lower()}"
  return " ".join(str(error).split())


def resolve(config_flag, workdir: str, mode: str) -> tuple[ml_collections.ConfigDict, pathlib.Path]:
  """The config and folder of a run.

  Training takes the config from the flag; the other modes take it from the folder, where training
  left it.
  """
  config = config_flag.value
  if mode == "train":
    if config is None:
      raise ConfigError("which experiment? For example --config=experiments/tca.py")
    path = pathlib.Path(workdir) if workdir else _default_workdir(config)
    return config.lock(), path
  if not workdir:
    raise ConfigError(f"--mode={mode} needs --workdir=FOLDER, a run that was trained before")
  file = pathlib.Path(workdir) / "config.json"
  if not file.is_file():
    raise ConfigError(f"--workdir={workdir}: no config.json here, so this is no run's folder")
  return ml_collections.ConfigDict(json.loads(file.read_text())), pathlib.Path(workdir)


def _default_workdir(config) -> pathlib.Path:
  """A folder for each distinct config, so that ablations never overwrite each other."""
  spec = next((m[1] for a in sys.argv if (m := re.match(r"--?config=(.+)", a))), "run")
  file, _, preset = spec.partition(":")
  name = "-".join(p for p in (pathlib.Path(file).stem, preset) if p)
  digest = hashlib.sha256(to_json(config).encode()).hexdigest()[:8]
  return pathlib.Path("runs") / f"{name}-{digest}"


def to_json(config) -> str:
  """A config as JSON with sorted keys."""
  return json.dumps(config.to_dict(), indent=1, sort_keys=True, default=list)


def claim(config, workdir: pathlib.Path) -> None:
  """Makes the run's folder and writes the resolved config into it.

  Raises:
    ConfigError: the folder can't be written, or belongs to another config.
  """
  file, text = workdir / "config.json", to_json(config)
  if file.exists():
    before = _flat(json.loads(file.read_text()))
    now = _flat(json.loads(text))
    changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    if changed:
      shown = ", ".join(f"{k} ({before.get(k)} there, {now.get(k)} now)" for k in changed[:4])
      raise ConfigError(f"--workdir={workdir} holds a run with other values: {shown}; choose "
                        "another --workdir, or leave it out to get a folder of its own")
    return
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, file)
  except OSError as e:
    raise ConfigError(f"--workdir={workdir}: can't write here ({e.strerror.lower()}); choose "
                      "another --workdir") from e


def _flat(tree: dict, prefix: str = "") -> dict:
  flat = {}
  for k, v in tree.items():
    flat |= _flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {prefix + k: v}
  return flat


class Stop:
  """Turns Ctrl-C and SIGTERM into a request to save and leave; a second one leaves at once."""

  def __init__(self):
    self.asked = False
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, self._handle)

  def _handle(self, number, frame):
    del number, frame
    if self.asked:
      raise KeyboardInterrupt
    self.asked = True
    print("\nstopping: saving first; press Ctrl-C again to leave at once", file=sys.stderr)

  def __call__(self) -> bool:
    return self.asked
