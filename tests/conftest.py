"""Fixtures shared by all tests: where golden and real data lie, and a warm XLA cache."""

import os
import pathlib
import signal
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

import jax
import pytest
from absl import flags

# A shell that starts the tests in the background has them ignore Ctrl-C, and all they start too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CACHE = pathlib.Path(os.environ.get("VSSL_TEST_CACHE", ROOT / ".pytest_cache" / "xla"))
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# Grain's worker processes read absl flags, which nobody parses under pytest.
if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()


def golden_root() -> pathlib.Path:
  """The folder that holds `tca/`, ...: VSSL_GOLDEN, else the project's own copy."""
  if "VSSL_GOLDEN" in os.environ:
    return pathlib.Path(os.environ["VSSL_GOLDEN"])
  return ROOT / "tests" / "golden" / "data"


def data_root() -> pathlib.Path:
  """The folder of `annotations/`, `clips/` and `davis/`: VSSL_DATA, else ../shared/data."""
  return pathlib.Path(os.environ.get("VSSL_DATA", ROOT.parent / "shared" / "data"))


# Dear tests of what changes seldom: networks against other libraries' whole training, a tracker
# over whole sequences, a kernel for GPUs in an interpreter, whole runs of options of TCA.
# VSSL_SLOW=1 runs them, and so does a folder in VSSL_GOLDEN.
DEAR = frozenset(f"tests/{name}.py" for name in (
    "benchmarks/test_probabilistic", "experiments/test_label_free", "experiments/test_regions",
    "golden/test_cycle_contrast_tracking", "golden/test_resnet",
    "models/test_resnet3d", "ops/test_window_attention_gpu"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Whole runs first: for a test of a minute that comes last all other processes wait."""
  items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests" / "experiments"))
  if os.environ.get("VSSL_SLOW") == "1" or "VSSL_GOLDEN" in os.environ:
    return
  skip = pytest.mark.skip(reason="dear; VSSL_SLOW=1 runs it")
  for item in items:
    if item.path.relative_to(ROOT).as_posix() in DEAR:
      item.add_marker(skip)


@pytest.fixture(scope="session")
def golden_dir() -> pathlib.Path:
  root = golden_root()
  if not root.is_dir():
    if "VSSL_GOLDEN" in os.environ:
      pytest.fail(f"VSSL_GOLDEN={root} is not a folder")
    pytest.skip(f"no golden data in {root}")
  return root


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
  root = data_root()
  if not root.is_dir():
    if "VSSL_DATA" in os.environ:
      pytest.fail(f"VSSL_DATA={root} is not a folder")
    pytest.skip(f"no real data in {root}; set VSSL_DATA to run this test")
  return root
