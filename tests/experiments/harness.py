"""Runs the command line as a user does, on data so small that a run takes seconds."""

import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np

from tests.conftest import CACHE, ROOT

STEPS = 40
TINY = {
    "data.size": 48, "data.fps": 4, "data.n_train_families": 3, "data.n_train_edits": 2,
    "data.n_background": 8, "data.n_queries": 2, "data.n_distractors": 6,
    "features.width": 8, "features.pooling": "imac", "features.short_side": 64,
    "features.crop": 64, "features.whiten": 8, "pairs.length": 8, "pairs.negatives": 2,
    "method.args.bank_size": 64, "method.args.aggregators.transformer.heads": 2,
    "method.args.aggregators.transformer.feed_forward": 16,
    "train.steps": STEPS, "train.batch": 4, "train.log_every": 1, "train.eval_every": 20,
    "train.checkpoint_every": 3, "optim.learning_rate": 3e-3,
}
TINY_FOLDER = {k: v for k, v in TINY.items() if not k.startswith("data.")}
TIMING = ("examples_per_second", "data_wait_fraction")


@dataclasses.dataclass(frozen=True)
class Result:
  """What a process left: exit status, standard output, standard error."""

  status: int
  out: str
  err: str


def settings(values: dict) -> list[str]:
  """`--config.key=value` flags."""
  return [f"--config.{key}={value}" for key, value in values.items()]


def train(workdir, cache, config: str = "experiments/tca.py", tiny: dict = TINY, **more):
  """Arguments of a tiny training run; `more` are settings with __ for the dot."""
  changed = {key.replace("__", "."): value for key, value in more.items()}
  return [f"--config={config}", f"--workdir={workdir}",
          *settings({**tiny, "data.cache_dir": cache, **changed})]


def environment(devices: int = 1, **more: str) -> dict[str, str]:
  """The environment of a run: compilations are quick, and shared between processes."""
  return os.environ | {
      "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
      "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
                   "--xla_backend_optimization_level=0",
      "JAX_COMPILATION_CACHE_DIR": str(CACHE),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"} | more


class Process:
  """`python -m experiments.run`, or another module, in a process of its own, output in files.

  Attributes:
    popen: the process.
  """

  def __init__(self, *argv: str, devices: int = 1, cwd: pathlib.Path = ROOT,
               module: str = "experiments.run", **environ: str):
    self._files = [tempfile.NamedTemporaryFile("w+") for _ in range(2)]
    self.popen = self._start([*map(str, argv)], cwd, module, environment(devices, **environ))

  def _start(self, argv, cwd, module, environ):
    return subprocess.Popen(
        [sys.executable, "-m", module, *argv], cwd=cwd, env=environ, stdin=subprocess.DEVNULL,
        stdout=self._files[0], stderr=self._files[1], start_new_session=True)

  def wait(self, timeout: float = 300) -> Result:
    """Waits for its end; kills it, and fails, after `timeout` seconds."""
    try:
      status = self.popen.wait(timeout)
    except subprocess.TimeoutExpired:
      self.popen.kill()
      self.popen.wait()
      raise AssertionError(f"still running after {timeout} s:\n{self.text()}") from None
    return Result(status, *self._read())

  def until(self, condition, timeout: float = 300) -> bool:
    """Waits until `condition()`; False where the process ended before."""
    end = time.monotonic() + timeout
    while self.popen.poll() is None and time.monotonic() < end:
      if condition():
        return True
      time.sleep(0.002)
    assert time.monotonic() < end, f"nothing happened within {timeout} s:\n{self.text()}"
    return False

  def text(self) -> str:
    """All output so far."""
    return "\n".join(self._read())

  def _read(self) -> list[str]:
    texts = []
    for file in self._files:
      file.seek(0)
      texts.append(file.read())
    return texts


def run(*argv: str, status: int = 0, **kwargs) -> Result:
  """Runs to the end and checks the exit status."""
  result = Process(*argv, **kwargs).wait()
  assert result.status == status, f"exit status {result.status}\n{result.out}\n{result.err}"
  return result


class Server:
  """Starts runs quickly, in forks of one process that has imported everything; see server.py."""

  def __init__(self):
    self._popen = subprocess.Popen(
        [sys.executable, str(pathlib.Path(__file__).with_name("server.py"))], env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

  def ask(self, **request) -> int | None:
    """The server's answer."""
    self._popen.stdin.write(json.dumps(request) + "\n")
    self._popen.stdin.flush()
    return json.loads(self._popen.stdout.readline())

  def start(self, *argv: str, **kwargs) -> "Fork":
    """The command line with `argv`, begun."""
    return Fork(self, *argv, **kwargs)

  def run(self, *argv: str, **kwargs) -> Result:
    """The command line with `argv`, to its end."""
    return self.start(*argv, **kwargs).wait(math.inf)

  def close(self) -> None:
    """Ends the server."""
    self._popen.stdin.close()
    self._popen.wait(30)


class Fork(Process):
  """As `Process`, without the seconds of its imports; no file may exceed `file_limit` bytes."""

  def __init__(self, server: Server, *argv: str, file_limit: int | None = None, **kwargs):
    self._server, self._file_limit = server, file_limit
    super().__init__(*argv, **kwargs)

  def _start(self, argv, cwd, module, environ):
    out, err = (file.name for file in self._files)
    return Child(self._server, argv=argv, cwd=str(cwd), stdout=out, stderr=err, module=module,
                 file_limit=self._file_limit,
                 environ={k: v for k, v in environ.items() if os.environ.get(k) != v})


class Child:
  """A child of the server, with the methods of `subprocess.Popen`."""

  def __init__(self, server: Server, **request):
    self._server, self._pid, self._status = server, server.ask(**request), None

  def poll(self) -> int | None:
    if self._status is None:
      self._status = self._server.ask(pid=self._pid)
    return self._status

  def wait(self, timeout: float = math.inf) -> int:
    end = time.monotonic() + timeout
    while self.poll() is None:
      if time.monotonic() > end:
        raise subprocess.TimeoutExpired("fork", timeout)
      time.sleep(0.01)
    return self._status

  def send_signal(self, number: int) -> None:
    if self.poll() is None:
      os.kill(self._pid, number)

  def kill(self) -> None:
    self.send_signal(signal.SIGKILL)


def metrics(workdir: pathlib.Path) -> list[dict]:
  """The rows of metrics.jsonl without what depends on the clock."""
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


def rows(workdir: pathlib.Path) -> dict:
  """The table's rows in results.json, with the average precision of each query."""
  return json.loads((workdir / "results.json").read_text())["rows"]


def checkpoint_steps(workdir: pathlib.Path) -> list[int]:
  """Steps of the complete checkpoints."""
  folder = workdir / "checkpoints"
  names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
  return sorted(int(name) for name in names if name.isdecimal())


def final_state(workdir: pathlib.Path) -> dict[str, np.ndarray]:
  """All arrays of the last checkpoint, by path: parameters, optimiser, bank, key."""
  import jax
  from orbax.checkpoint import v1 as ocp

  path = workdir.absolute() / "checkpoints" / str(checkpoint_steps(workdir)[-1])
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # it says that the file names the sharding
    state = ocp.load_checkpointables(path)["state"]
  flat, _ = jax.tree_util.tree_flatten_with_path(state)
  return {jax.tree_util.keystr(k): np.asarray(jax.random.key_data(v))
          if jax.dtypes.issubdtype(v.dtype, jax.dtypes.prng_key) else np.asarray(v)
          for k, v in flat}


def assert_same_run(a: pathlib.Path, b: pathlib.Path) -> None:
  """Two runs are equal to the last bit: every logged number, every result, the final state."""
  assert metrics(a) == metrics(b)
  assert rows(a) == rows(b)
  x, y = final_state(a), final_state(b)
  assert x.keys() == y.keys() and len(x) > 10
  for name in x:
    np.testing.assert_array_equal(x[name], y[name], err_msg=name)
