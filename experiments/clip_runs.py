"""What runs have in common that learn from views of videos as they read them."""

import abc
import inspect
import os
import pathlib
from collections.abc import Callable, Iterator

import jax
import numpy as np

from data_pipelines import clips
from data_pipelines.frames import BadVideos
from data_pipelines.records import Dataset
from experiments import datasets, origin, pretrained, registry
from vssl_jax import checkpoint, log, optim, parallel, train
from vssl_jax.types import ConfigError

LEAST = {  # setting -> least value that makes sense
    "seed": 0, "data.max_bad_fraction": 0, "train.steps": 0, "train.batch": 1,
    "train.log_every": 1, "train.eval_every": 0, "train.checkpoint_every": 1, "train.keep": 1,
    "train.threads": 0, "train.buffer": 1, "train.workers": -1,
}

TITLES = {"corrflow": "CorrFlow", "cycle_contrast": "CycleContrast", "provico": "ProViCo",
          "simclr": "SimCLR"}  # method -> what it is called in a table, if not by its name


class Model(abc.ABC):
  """The model of a config, without any data; workflows add what is particular to them.

  Attributes:
    method, tx: the method and its optimiser.
    title: what the method is called in a table.
  """

  def __init__(self, config, mesh, **method_args):
    """`method_args` take the place of the config's."""
    self.config, self.mesh = config, mesh
    registry.check_least(config, LEAST)
    if config.seed >= 2**32:
      raise ConfigError(f"seed={config.seed} must be below {2**32}")
    if not config.evals:
      raise ConfigError("evals is empty: name what the run is evaluated on")
    steps, args = config.train.steps, config.method.args.to_dict() | method_args
    make = registry.module("vssl_jax.methods", config.method.name, "method.name", "make").make
    if "total_steps" in inspect.signature(make).parameters:
      args.setdefault("total_steps", max(1, steps))
    self.method = registry.make("vssl_jax.methods", config.method.name, "method.name", **args)
    self.title = TITLES.get(config.method.name, config.method.name)
    self.tx = optim.make(steps=steps, batch=config.train.batch, **config.optim)

  @abc.abstractmethod
  def batch(self, rows: int):
    """An abstract batch."""

  def check(self) -> None:
    """Raises ConfigError where training could not begin, before any video is read."""
    c = self.config
    parallel.check_batch(c.train.batch, self.mesh)

    def first_loss(key, batch):
      start = self.method.init(key, batch)
      if c.method.weights:
        pretrained.replace(*start, pretrained.load(c), c.method.weights)
      return self.method.loss(*start, batch, key)

    try:
      jax.eval_shape(first_loss, jax.random.key(0), self.batch(c.train.batch))
    except (TypeError, ValueError) as e:
      raise ConfigError(f"method.name={c.method.name!r}: {e}") from e

  @property
  def untrained_name(self) -> str:
    """The table's row of the state before the first step."""
    return f"{'imported' if self.config.method.weights else 'untrained'} {self.title}"

  @property
  def trained_name(self) -> str:
    """The table's last row; of a run without steps that of its first state."""
    return f"trained {self.title}" if self.config.train.steps else self.untrained_name

  def init_state(self):
    """The state before the first step."""
    return pretrained.begin(self.random_state(), self.config, self.mesh)

  def random_state(self):
    """The same with random parameters, whatever `method.weights` says."""
    shapes = self.batch(self.config.train.batch)
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return train.init_state(self.method, self.tx, batch, self.config.seed, self.mesh)

  def newest(self, workdir: pathlib.Path):
    """Step and state of the newest checkpoint of a run."""
    if not (workdir / "checkpoints").is_dir():
      raise ConfigError(f"--workdir={workdir} has no checkpoint yet; train it first")
    return checkpoint.load_state(workdir / "checkpoints", self.random_state())

  def exported_digest(self, path: pathlib.Path) -> str:
    """A hash of an exported model."""
    return origin.file_digest(str(path))


def cpus() -> int:
  """How many this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Training:
  """The training data of a run, a part of its `Task`.

  Attributes:
    train_data: None for a run without steps.
    facts: what reports tell of a run besides its config: "videos", how many it is trained on, and
      "start", what trained its `method.weights`, "" where that isn't known.
  """

  def __init__(self, config, workdir: pathlib.Path):
    """Raises ConfigError where `workdir` belongs to a run that began with other data."""
    self._config, self._bad = config, BadVideos(log.write)
    self.train_data: Dataset | None = None
    if config.train.steps:
      self.train_data = datasets.load(config.data, "data", config.data)
    records = self.train_data.records if self.train_data else ()
    self._origin = {"method.weights": origin.of_weights(config, "method"),
                    "data": origin.digest([record.id for record in records])}
    self.facts = {"videos": len(records), "start": pretrained.told(config.method.weights)}
    origin.check(workdir, self._origin)

  def save(self, workdir: pathlib.Path) -> None:
    """Writes what a run depends on and its config only names."""
    origin.write(workdir, self._origin | self.facts)

  def batches(self, read: Callable, first_step: int = 0) -> Iterator:
    """This process's training batches of what `read` makes of a record, from a step on."""
    c = self._config
    workers = cpus() if c.train.workers < 0 else c.train.workers
    return clips.batches(
        clips.training(self.train_data, read, seed=c.seed), batch=c.train.batch, bad=self._bad,
        n_records=len(self.train_data.records), max_bad_fraction=c.data.max_bad_fraction,
        first_step=first_step, threads=c.train.threads,
        buffer=c.train.buffer // max(1, workers),  # of all of them
        workers=workers, process=(jax.process_index(), jax.process_count()))

  @property
  def dropped(self) -> int:
    """Training videos that could not be read so far."""
    return len(self._bad)
