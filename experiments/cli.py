"""The command line's own work: flags, the resolved config, the run's folder."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import sys
from typing import NamedTuple

import ml_collections
from absl import flags

from data_pipelines import lock
from experiments import config_file
from vssl_jax.types import ConfigError

# Settings that change no number: where things lie, how many threads, how often something is told.
INERT = ("data.cache_dir", "data.memory", "features.threads", "features.buffer", "train.threads",
         "train.buffer", "train.keep")
FREE = (*INERT, "train.workers", "embed.batch")  # what may differ when a run is continued
PATHS = ("data.root", "data.queries", "data.annotations", "data.cache_dir",
         "features.weights", "features.whitening", "method.weights")  # made absolute
ELSEWHERE = ("data", "evals")  # what --mode=eval takes from --config, to evaluate on other data
SIZES = "embed"  # and what it takes from there where a flag sets it
FLAG_USERS = {"config": ["train", "eval"], "exported": ["eval"], "input": ["extract", "eval"],
              "first": ["eval"], "protocol": ["eval"], "max_side": ["eval"],
              "output": ["extract", "export", "eval"]}


class Carrying(NamedTuple):
  """How --first is carried through --input.

  Attributes:
    protocol: --protocol; "" for the default.
    max_side: --max_side, of a frame in pixels; 0 for any.
  """

  protocol: str = ""
  max_side: int = 0


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags.

  Raises:
    ConfigError: something is wrong with them or with the config file; names which.
  """
  spec = config_spec(argv)
  if spec is not None:
    _check_keys(argv, config_file.load(spec))
  try:
    # absl would print every library's INFO lines, and tracebacks of what is told as an error too.
    return flags.FLAGS([argv[0], "--verbosity=-3", *argv[1:]])
  except flags.Error as e:
    raise ConfigError(_explain(e)) from e


def config_spec(argv: list[str]) -> str | None:
  """The value of --config, or None."""
  for i, arg in enumerate(argv):
    if arg in ("--config", "-config"):
      return argv[i + 1] if i + 1 < len(argv) else None
    if found := re.match(r"--?config=(.*)", arg):
      return found[1]
  return None


def _check_keys(argv: list[str], config: ml_collections.ConfigDict) -> None:
  for arg in argv:
    if found := re.match(r"--?(?:no)?config\.([\w.]+)", arg):
      config_file.check_key(config, found[1], f"--config.{found[1]}")


def _explain(error: flags.Error) -> str:
  if isinstance(error, flags.UnrecognizedFlagError):
    if error.flagname.startswith("config."):
      return f"--{error.flagname} needs --config=FILE"
    near = re.search(r"Did you mean: (\w+)", str(error))
    return f"--{error.flagname}: no such flag; " + (
        f"did you mean --{near[1]}?" if near else "--help lists them")
  text = " ".join(str(error).removeprefix("flag ").split())
  for told, meant in (("invalid literal for int()", "should be a whole number"),
                      ("could not convert string to float", "should be a number"),
                      ("Non-boolean argument", "should be true or false"),
                      ("is not a dict", "is a group of settings, not one; name one in it")):
    if told in text:
      return f"{text.partition(': ')[0]} {meant}"
  return text[:1].lower() + text[1:]


def check_flags(mode: str) -> None:
  """Raises ConfigError where a flag was given that `mode` doesn't use."""
  for name, users in FLAG_USERS.items():
    if flags.FLAGS[name].present and mode not in users:
      raise ConfigError(f"--{name} is for --mode={' and --mode='.join(users)}; --mode={mode} takes "
                        f"{'the config of its --workdir' if name == 'config' else 'none'}")


def one_line(error: BaseException) -> str:
  """An error's message without line breaks."""
  if isinstance(error, OSError) and error.strerror:
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror.lower()}"
  return " ".join(str(error).split())


def resolve(config_flag, workdir: str, mode: str) -> tuple[ml_collections.ConfigDict, pathlib.Path]:
  """The config and folder of a run.

  Training takes the config from the flag; the other modes take it from the folder, where training
  left it; evaluation on another data set takes `data` and `evals` from the flag.
  """
  config = config_flag.value
  if mode == "train":
    if config is None:
      raise ConfigError("which experiment? For example --config=experiments/tca.py")
    _make_absolute(config)
    path = pathlib.Path(workdir) if workdir else _default_workdir(config)
    return config.lock(), path
  if not workdir:
    raise ConfigError(f"--mode={mode} needs --workdir=FOLDER, a run that was trained before")
  file = pathlib.Path(workdir) / "config.json"
  if not file.is_file():
    raise ConfigError(f"--workdir={workdir}: no config.json here, so this is no run's folder")
  trained = ml_collections.ConfigDict(_read(file))
  if config is not None:
    _check_elsewhere(sys.argv)
    _make_absolute(config)
    for group in ELSEWHERE:
      trained[group] = config[group]
    for key in _flagged(sys.argv, SIZES):
      config_file.check_key(trained, f"{SIZES}.{key}", f"--config.{SIZES}.{key}: the run")
      trained[SIZES][key] = config[SIZES][key]
  config_file.fill(trained)
  return trained, pathlib.Path(workdir)


def _check_elsewhere(argv: list[str]) -> None:
  """Raises ConfigError where a flag sets what evaluation takes from the run."""
  for arg in argv:
    found = re.match(r"--?(?:no)?config\.(\w+)[\w.]*", arg)
    if found and found[1] not in (*ELSEWHERE, SIZES):
      raise ConfigError(f"{found[0]}: --mode=eval takes {' and '.join(ELSEWHERE)} from --config, "
                        "and all else from the run in --workdir; leave it out")


def _flagged(argv: list[str], group: str) -> list[str]:
  """The keys of a group of the config that flags set."""
  found = (re.match(rf"--?config\.{group}\.(\w+)", arg) for arg in argv)
  return [match[1] for match in found if match]


def evaluation_folder(config, workdir: pathlib.Path) -> pathlib.Path:
  """Where the results on the data set of `config` go: a folder for each distinct evaluation."""
  values = {k: v for k, v in _values(config).items() if k.partition(".")[0] in ELSEWHERE}
  return workdir / "evaluations" / f"{config.data.name}-{hash_of(values)}"


def _make_absolute(config) -> None:
  """Lets a run be evaluated from any folder."""
  places = [(config.get(group, {}), key) for group, key in (name.split(".") for name in PATHS)]
  for evaluation in config.get("evals", {}).values():
    head = evaluation.get("head", {})
    places += [(part.get("data", {}), "root") for part in (evaluation, head)] + [(head, "weights")]
  for group, key in places:
    if group.get(key):
      group[key] = os.path.abspath(os.path.expanduser(group[key]))


def _default_workdir(config) -> pathlib.Path:
  """A folder for each distinct config, so that ablations never overwrite each other."""
  file, _, preset = (config_spec(sys.argv) or "run").partition(":")
  name = "-".join(p for p in (pathlib.Path(file).stem, *preset.split(",")) if p)
  return pathlib.Path("runs") / f"{name}-{digest(config)}"


def digest(config) -> str:
  """A short hash of the values that decide what a run computes."""
  return hash_of(_values(config))


def hash_of(values: dict) -> str:
  """A short hash of settings."""
  return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def _values(config) -> dict:
  """The values, by dotted name, that decide what a run computes."""
  flat = _flat(json.loads(to_json(config)))
  return {k: v for k, v in flat.items() if k not in INERT and not config_file.as_before(k, v)}


def _filled(config: dict) -> dict:
  """All values by dotted name, with those that older versions lacked."""
  filled = ml_collections.ConfigDict(config)
  config_file.fill(filled)
  return _flat(json.loads(to_json(filled)))


def to_json(config) -> str:
  """A config as JSON with sorted keys."""
  return json.dumps(config.to_dict(), indent=1, sort_keys=True, default=list)


def claim(config, workdir: pathlib.Path, first: bool) -> contextlib.AbstractContextManager:
  """Makes the run's folder, and keeps other processes out of it.

  Args:
    first: whether this is the first process of the run.

  Returns:
    A context manager that gives the folder free again.

  Raises:
    ConfigError: the folder can't be written, is in use, or belongs to another config.
  """
  file = workdir / "config.json"
  if file.is_file():
    before, now = (_filled(x) for x in (_read(file), json.loads(to_json(config))))
    changed = sorted(k for k in (before.keys() | now.keys()) - set(FREE)
                     if before.get(k) != now.get(k))
    if changed:
      shown = ", ".join(f"{k} ({before.get(k)} there, {now.get(k)} now)" for k in changed[:4])
      raise ConfigError(f"--workdir={workdir} holds a run with other values: {shown}; choose "
                        "another --workdir, or leave it out to get a folder of its own")
  if not first:
    return contextlib.nullcontext()
  return hold(workdir, ", or choose another --workdir")


def hold(folder: pathlib.Path, instead: str = "") -> contextlib.AbstractContextManager:
  """Makes a folder of a run, and keeps other processes out of it.

  Args:
    instead: what else to do than wait for another process.

  Raises:
    ConfigError: it can't be written, or is in use.
  """
  make_folder(folder, "--workdir")
  try:
    return lock.hold(folder / ".lock", wait=False)
  except BlockingIOError as e:
    raise ConfigError(f"--workdir={folder}: another process is at work here; wait for it"
                      f"{instead}") from e
  except OSError as e:
    raise ConfigError(f"--workdir={folder}: can't write here ({e.strerror.lower()}); choose "
                      "another --workdir") from e


def record(config, workdir: pathlib.Path) -> None:
  """Writes the resolved config into the run's folder: from now on it is this config's."""
  file = workdir / "config.json"
  temporary = file.with_suffix(".tmp")
  temporary.write_text(to_json(config))
  os.replace(temporary, file)


def make_folder(path: pathlib.Path, flag: str) -> None:
  """Makes the folder that `flag` names; ConfigError where that can't be done."""
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    raise ConfigError(f"{flag}={path}: can't make this folder ({e.strerror.lower()}); choose "
                      f"another {flag}") from e


@contextlib.contextmanager
def writing(place: pathlib.Path):
  """Says where, if a write fails in the block with an OSError that doesn't (a full disk's)."""
  try:
    yield
  except OSError as e:
    if e.filename is not None or e.errno == errno.EPIPE:
      raise
    raise ConfigError(f"{place}: can't write here ({one_line(e)}); free some space, and run again "
                      "to continue") from e


def _read(file: pathlib.Path) -> dict:
  try:
    return json.loads(file.read_text())
  except ValueError as e:
    raise ConfigError(f"{file} is damaged ({e}); choose another --workdir") from e


def _flat(tree: dict, prefix: str = "") -> dict:
  flat = {}
  for k, v in tree.items():
    flat |= _flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {prefix + k: v}
  return flat
