"""The command line's own work: flags, the resolved config, the run's folder, signals."""

import hashlib
import json
import os
import pathlib
import re
import signal
import sys

import ml_collections
from absl import flags

from vssl_jax.types import ConfigError


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; whatever is wrong with them becomes one line that names the flag."""
  for arg in argv[1:]:
    found = re.match(r"--?config=([^:]*)", arg)
    if found and not pathlib.Path(found[1]).is_file():
      have = ", ".join(str(p) for p in sorted(pathlib.Path("experiments").glob("*.py"))
                       if "def get_config" in p.read_text())
      raise _exit(f"--config={found[1]}: no such file; there are: {have}")
  try:
    return flags.FLAGS(argv)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as e:
    raise _exit(_explain(e, argv)) from None


def _explain(error: Exception, argv: list[str]) -> str:
  text = str(error).encode().decode("unicode_escape") if "\\n" in str(error) else str(error)
  lines = [line.strip(" '\"") for line in text.splitlines() if line.strip(" '\"")]
  if isinstance(error, AttributeError | KeyError) and lines:
    key = lines[0].strip("'\"")
    flag = next((a.split("=")[0] for a in argv if f".{key}" in a), key)
    hint = next((f"; did you mean {m[1]!r}?" for line in lines
                 if (m := re.search(r'Did you mean "([^"]+)"', line))), "")
    return f"{flag}: the config has no {key!r}{hint}"
  if "Traceback" in text or len(lines) > 1:
    return lines[-1].rpartition("Error: ")[2]
  return lines[0] if lines else repr(error)


def _exit(message: str) -> SystemExit:
  print(f"error: {message}", file=sys.stderr)
  return SystemExit(2)


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
