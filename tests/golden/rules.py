"""The rules that make weights and inputs which the golden files do not store."""

import json
import pathlib
import re

import numpy as np


def draw(key: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
  """Standard normal float64 numbers of one Philox key."""
  return np.random.Generator(np.random.Philox(key=list(key))).standard_normal(shape)


def load_cases(folder: pathlib.Path) -> dict:
  """`names.json` of a golden folder: {case: {seed, scale, params}}."""
  return json.loads((folder / "names.json").read_text())


def make_params(case: dict) -> dict[str, np.ndarray]:
  """Parameters of one case of `names.json`, in torch names and layouts.

  Two forms exist. Entries {i, name, shape, rule} with one `scale` (TCA), and pairs [name, shape]
  in sorted order whose rule follows from the name (CycleContrast).
  """
  if isinstance(case["params"][0], dict):
    return {
      p["name"]: _by_rule(case["seed"], case["scale"], p["i"], tuple(p["shape"]), p["rule"])
      for p in case["params"]
    }
  return {
    name: _by_name(case["seed"], i, name, tuple(shape))
    for i, (name, shape) in enumerate(case["params"])
  }


def _by_rule(seed: int, scale: float, i: int, shape: tuple, rule: str) -> np.ndarray:
  if rule == "zero_int":
    return np.zeros(shape, np.int64)
  z = draw((seed, i), shape)
  if rule == "one_plus":
    return (1 + 0.1 * np.abs(z)).astype(np.float32)
  if rule == "normal":
    return (z * scale).astype(np.float32)
  raise ValueError(f"names.json holds the unknown rule {rule!r}")


COUNTERS = (
  "num_batches_tracked", "queue_ptr", "queue_cycle_ptr", "queue_labels", "queue_indices",
)


def _by_name(seed: int, i: int, name: str, shape: tuple, gain: float = 1.0) -> np.ndarray:
  if name.endswith(COUNTERS):
    return np.zeros(shape, np.int64)
  z = draw((seed, i), shape)
  if name in ("queue", "queue_cycle"):
    value = z / np.linalg.norm(z, axis=0)
  elif name.endswith("running_var"):
    value = 1 + 0.1 * np.abs(z)
  elif name.endswith("running_mean"):
    value = 0.1 * z
  elif z.ndim >= 2:
    value = z / np.sqrt(np.prod(shape[1:]))
  elif name.endswith("weight"):
    value = 1 + 0.1 * np.abs(z)
  else:
    value = 0.1 * z
  return (gain * value).astype(np.float32)


def base_seeds(folder: pathlib.Path) -> list[int]:
  """What S0 of a TCA folder may be: the README's word, and one below the seeds of `names.json`."""
  seeds = []
  readme = folder / "README.md"
  found = re.search(r"S0\s*=\s*(\d+)", readme.read_text()) if readme.is_file() else None
  if found:
    seeds.append(int(found.group(1)))
  return [*seeds, min(case["seed"] for case in load_cases(folder).values()) - 1]


def corrflow_seed(folder: pathlib.Path) -> int:
  """SEED of features and objective, which a CorrFlow folder has in its README."""
  found = re.search(r"SEED\s+here\s*=\s*\**(\d+)", (folder / "README.md").read_text())
  assert found, f"{folder}/README.md doesn't say 'SEED here = N'"
  return int(found[1])


def corrflow_propagation_seed(folder: pathlib.Path) -> int:
  """SEED of `propagate_corrflow*`, which the same README names beside the other."""
  found = re.search(r"(\d+)\**[^*;]*for propagate_corrflow", (folder / "README.md").read_text())
  assert found, f"{folder}/README.md doesn't say '**N** ... for propagate_corrflow'"
  return int(found[1])


def corrflow_params(folder: pathlib.Path, seed: int, gain: float = 0.25) -> dict[str, np.ndarray]:
  """Parameters of `names.json` {name: shape} by name; `gain` scales the last convolution."""
  names = json.loads((folder / "names.json").read_text())
  return {
    name: _by_name(seed, i, name, tuple(names[name]),
                   gain if name.startswith("post_convolution") else 1.0)
    for i, name in enumerate(sorted(names))
  }
