"""Runs that several tests look at, made once, also where tests run in several processes."""

import pathlib

import pytest

from data_pipelines import lock
from tests.experiments import harness


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> pathlib.Path:
  """A folder that all test processes of this session see."""
  base = tmp_path_factory.getbasetemp()
  folder = (base.parent if base.name.startswith("popen-") else base) / "experiments"
  folder.mkdir(exist_ok=True)
  return folder


@pytest.fixture(scope="session")
def cache(finished, shared) -> pathlib.Path:
  """A cache folder that holds the tiny data set and its features."""
  del finished
  return shared / "cache"


@pytest.fixture(scope="session")
def finished(shared) -> pathlib.Path:
  """The folder of a run that was never interrupted; beside it `stdout`, `stderr`, `modules`."""
  workdir, modules = shared / "finished", shared / "modules"
  with lock.hold(shared / "lock", wait=True):
    if not (shared / "stdout").exists():
      site = shared / "site"
      site.mkdir()
      (site / "sitecustomize.py").write_text(
          "import atexit, os, sys\n"
          "atexit.register(lambda: open(os.environ['MODULES'], 'w').write(' '.join(sys.modules)))")
      result = harness.run(
          *harness.train(workdir, shared / "cache"), MODULES=str(modules),
          PYTHONPATH=f"{site}:{harness.ROOT}")
      (shared / "stderr").write_text(result.err)
      (shared / "stdout").write_text(result.out)
  return workdir


@pytest.fixture(scope="session")
def server():
  """Runs the command line quickly; see `harness.Server`."""
  server = harness.Server()
  yield server
  server.close()
