"""The data set of a retrieval run."""

import inspect
import pathlib

import jax

from data_pipelines.records import RetrievalData
from experiments import origin, registry
from vssl_jax import parallel
from vssl_jax.ops import whitening
from vssl_jax.types import ConfigError

NOT_ARGUMENTS = ("name", "cache_dir", "max_bad_fraction")


def load(config) -> RetrievalData:
  """The data set that `config.data` names; the first process makes it, the others find it made."""
  if jax.process_index() > 0:
    parallel.barrier("data")
  data = _load(config)
  if jax.process_index() == 0:
    parallel.barrier("data")
  return data


def _load(config) -> RetrievalData:
  name = config.data.name
  args = {k: v for k, v in config.data.items() if k not in NOT_ARGUMENTS}
  make = registry.module("data_pipelines.datasets", name, "data.name", "make").make
  if "cache_dir" in inspect.signature(make).parameters:
    args["cache_dir"] = str(origin.cache_folder(config.data.cache_dir))
  return registry.make("data_pipelines.datasets", name, "data.name", **args)


def load_whitening(workdir: pathlib.Path):
  """The whitening of a run, or None where it has none yet."""
  path = workdir / "whitening.npz"
  return whitening.load(path) if path.is_file() else None


def train_digest(data: RetrievalData) -> str:
  """A hash of the videos that are trained on."""
  return origin.digest([origin.video_digest(data.videos[i]) for i in data.train_ids])


def check_same_training(workdir: pathlib.Path, data: RetrievalData) -> None:
  """Raises ConfigError where the run was trained on another part of `data`."""
  before = origin.read(workdir)
  if before and before["data"] != train_digest(data):
    raise ConfigError(f"--workdir={workdir} was trained on other videos of {data.name} than these "
                      "settings of data leave to train on, so that queries may be among them; "
                      "evaluate with the run's own settings")
