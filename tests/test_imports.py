"""Who imports whom: the rooms of the library depend on each other in one direction only."""

import ast
import os
import pathlib
import statistics
import subprocess
import sys
import textwrap
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("vssl_jax", "data_pipelines", "experiments")

# Module or package -> what its files may import besides the standard library and their own
# package. The longest name that fits a file counts.
TABLE = {
    "vssl_jax.types": {"jax"},
    "vssl_jax.ops": {"jax", "numpy", "chex"},
    "vssl_jax.losses": {"jax", "optax", "chex", "vssl_jax.ops"},
    "vssl_jax.models": {"jax", "flax", "vssl_jax.ops"},
    "vssl_jax.methods": {"jax", "flax", "vssl_jax.types", "vssl_jax.ops", "vssl_jax.losses",
                         "vssl_jax.models"},
    "vssl_jax.metrics": {"numpy", "scipy"},
    "vssl_jax.evaluators": {"numpy", "scipy", "matplotlib", "vssl_jax.types", "vssl_jax.metrics",
                            "vssl_jax.ops", "vssl_jax.log"},
    "vssl_jax.convert": {"numpy", "ml_dtypes", "safetensors", "jax", "vssl_jax.types",
                         "vssl_jax.models"},
    "vssl_jax.optim": {"jax", "optax", "vssl_jax.types"},
    "vssl_jax.parallel": {"jax", "numpy", "vssl_jax.types"},
    "vssl_jax.train": {"jax", "numpy", "optax", "vssl_jax.types", "vssl_jax.parallel",
                       "vssl_jax.checkpoint", "vssl_jax.log"},
    "vssl_jax.checkpoint": {"jax", "orbax", "vssl_jax.types"},
    "vssl_jax.export": {"jax", "vssl_jax.types"},
    "vssl_jax.log": {"jax", "tqdm", "tensorboardX"},
    "vssl_jax": set(),
    "data_pipelines.pipeline": {"numpy", "grain"},
    "data_pipelines.datasets.imagenet": {"numpy", "scipy"},
    "data_pipelines.datasets.jhmdb": {"numpy", "scipy"},
    "data_pipelines.beam_runner": {"apache_beam"},
    "data_pipelines.torchcodec_reader": {"numpy", "torchcodec"},
    "data_pipelines": {"numpy", "grain", "tensorflow_datasets", "array_record", "av", "PIL",
                       "pyarrow", "fsspec", "psutil", "tqdm"},
    "experiments": {"vssl_jax", "data_pipelines", "jax", "numpy", "absl", "ml_collections",
                    "pyarrow", "tqdm"},
}

# These are imported nowhere else, whatever the table allows.
ONLY = {
    "flax": ("vssl_jax.models", "vssl_jax.methods"),
    "orbax": ("vssl_jax.checkpoint",),
    "jax.export": ("vssl_jax.export",),
    "jax.experimental.multihost_utils": ("vssl_jax.parallel",),
    "grain": ("data_pipelines",),
    "av": ("data_pipelines",),
    "torchcodec": ("data_pipelines.torchcodec_reader",),
}
NOWHERE = ("torch", "torchvision", "tensorflow", "cv2", "keras")


def files():
  return [f for package in PACKAGES for f in sorted((ROOT / package).rglob("*.py"))]


def module(file: pathlib.Path) -> str:
  parts = file.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def names(text: str) -> list[str]:
  """Everything that a file's text imports, in full, inside functions too."""
  found = []
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      found += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, "relative import"
      found += [f"{node.module}.{alias.name}" for alias in node.names]
  return found


def inside(name: str, package: str) -> bool:
  return name == package or name.startswith(package + ".")


def wrong(name: str, text: str) -> list[str]:
  """The imports of module `name` with this text that it may not have."""
  room = max((r for r in TABLE if inside(name, r)), key=len)
  own = ".".join(name.split(".")[:2]) if name.startswith("vssl_jax.") else name.split(".")[0]
  allowed = TABLE[room] | {own}
  return [i for i in names(text)
          if any(inside(i, package) for package in NOWHERE)
          or any(inside(i, p) and not any(inside(name, r) for r in rooms)
                 for p, rooms in ONLY.items())
          or not (i.split(".")[0] in sys.stdlib_module_names
                  or any(inside(i, a) for a in allowed))]


def test_every_room_keeps_to_the_table():
  assert len(files()) > 30
  found = {module(f): bad for f in files() if (bad := wrong(module(f), f.read_text()))}
  assert not found


def test_every_row_of_the_table_is_about_something():
  modules = [module(f) for f in files()]
  assert [room for room in TABLE if not any(inside(m, room) for m in modules)] == []


@pytest.mark.parametrize("name, text", [
    ("vssl_jax.ops.bank", "import flax.linen as nn"),
    ("vssl_jax.ops.bank", "from vssl_jax import types"),
    ("vssl_jax.ops.bank", "from vssl_jax.losses.retrieval import circle"),
    ("vssl_jax.losses.cycle", "import numpy as np"),
    ("vssl_jax.losses.cycle", "from vssl_jax.models import resnet"),
    ("vssl_jax.models.resnet", "from vssl_jax.methods import tca"),
    ("vssl_jax.methods.tca", "import optax"),
    ("vssl_jax.methods.tca", "from vssl_jax import train"),
    ("vssl_jax.metrics.retrieval", "import jax"),
    ("vssl_jax.evaluators.retrieval", "from vssl_jax.methods import tca"),
    ("vssl_jax.evaluators.retrieval", "def f():\n  from data_pipelines.store import Store"),
    ("vssl_jax.train", "from flax import struct"),
    ("vssl_jax.train", "from experiments import cli"),
    ("vssl_jax.parallel", "from vssl_jax.train import fit"),
    ("data_pipelines.store", "from vssl_jax.types import ConfigError"),
    ("data_pipelines.decode", "import cv2"),
    ("data_pipelines.decode", "def f():\n  from torchcodec.decoders import VideoDecoder"),
    ("data_pipelines.torchcodec_reader", "import torch"),
    ("data_pipelines.decode", "import jax"),
    ("experiments.run", "import torch"),
    ("experiments.run", "try:\n  import tensorflow as tf\nexcept ImportError:\n  pass"),
    ("experiments.run", "from flax import linen"),
    ("experiments.run", "from jax import export"),
    ("vssl_jax", "import jax"),
])
def test_a_wrong_import_is_found(name, text):
  assert wrong(name, text)


def run(code: str, repeat: int = 1) -> tuple[float, str]:
  """Median seconds, and the last output, of fresh interpreters."""
  seconds, environment = [], os.environ | {"PYTHONPATH": str(ROOT)}
  for _ in range(repeat):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, text=True,
                          capture_output=True, env=environment)
    seconds.append(time.perf_counter() - start)
  return statistics.median(seconds), done.stdout


def test_the_library_is_light_to_import():
  for repeat in (1, 3):  # once is enough where nothing disturbs
    base, _ = run("import jax, flax", repeat)
    ours, loaded = run("import sys, vssl_jax; print(*sys.modules)", repeat)
    if ours < base + 2:
      break
  assert ours < base + 2
  assert not {"torch", "tensorflow"} & set(loaded.split())


def test_no_part_of_it_pulls_in_torch_or_tensorflow():
  skip = {"experiments.run"}  # defines the command line's flags
  every = [module(f) for f in files() if module(f) not in skip]
  _, loaded = run(f"""
    import importlib, sys
    for name in {every!r}:
      importlib.import_module(name)
    print(*sys.modules)
  """)
  assert not {"torch", "torchcodec", "tensorflow", "cv2"} & set(loaded.split())
