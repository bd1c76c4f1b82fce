"""Video retrieval from stored frame descriptors: what a run of TCA consists of."""

import dataclasses
import functools
import inspect
import json
import pathlib
from collections.abc import Callable, Iterator

import jax
import numpy as np

from data_pipelines import pipeline
from data_pipelines.errors import DataError
from data_pipelines.records import RetrievalData
from experiments import origin, pretrained, registry
from experiments.retrieval import data, exports, features
from experiments.retrieval.extraction import extract
from experiments.retrieval.pictures import figures
from experiments.retrieval.results import check_equal, files, numbers, table
from vssl_jax import checkpoint, export, optim, parallel, train
from vssl_jax.evaluators import learned, protocols
from vssl_jax.evaluators.retrieval import mean_pool
from vssl_jax.ops import whitening
from vssl_jax.types import ConfigError

LEAST = {  # setting -> least value that makes sense
    "seed": 0, "data.max_bad_fraction": 0, "features.width": 1, "features.crop": 1,
    "features.max_frames": 0, "features.whiten": 1, "features.whiten_frames": 1,
    "features.block": 1, "features.threads": 0, "features.buffer": 1, "pairs.length": 1,
    "pairs.negatives": 1, "train.steps": 0, "train.batch": 1, "train.log_every": 1,
    "train.eval_every": 0, "train.checkpoint_every": 1, "train.keep": 1, "train.threads": 0,
    "train.buffer": 1, "evals.retrieval.args.block": 1, "embed.batch": 1,
}

__all__ = ["Evaluation", "Model", "Task", "check_equal", "extract", "figures", "files", "numbers",
           "table"]
Row = tuple[Callable, learned.Score | None]  # an embedding, and similarities that the model has
EXTRACTED = "FILE.parquet"
INPUT_SIZE = ", and features.whiten is the size of its input"
TITLES = {"tca": "TCA"}  # method -> what it is called in a table, if not by its own name


class Model:
  """The model of a config, without any data.

  Attributes:
    method, tx: the method and its optimiser.
    title: what the method is called in a table.
    extractor: frames to raw descriptors.
    whitening: raw descriptors to the method's inputs; set once it is known.
  """

  def __init__(self, config, mesh):
    self.config, self.mesh = config, mesh
    registry.check_least(config, LEAST)
    if config.seed >= 2**32:
      raise ConfigError(f"seed={config.seed} must be below {2**32}")
    registry.module("data_pipelines.datasets", config.data.name, "data.name", "make")
    self.method = registry.make("vssl_jax.methods", config.method.name, "method.name",
                                **config.method.args)
    self.title = TITLES.get(config.method.name, config.method.name)
    self.tx = optim.make(steps=config.train.steps, **config.optim)
    self.extractor = features.Extractor(config.features)
    _check_regions(config, self.extractor.regions)
    self.whitening = None
    self._embed = parallel.host_fn(lambda inputs, *state: self.method.embed(*state, inputs), mesh,
                                   batch=config.embed.batch)
    self._score = jax.jit(lambda query, target, *state: self.method.score(*state, query, target))

  def check(self) -> None:
    """Raises ConfigError where training could not begin, before any video is read."""
    c = self.config
    parallel.check_batch(c.train.batch, self.mesh)

    def videos(*shape: int):
      dim = self.extractor.regions * c.features.whiten
      x = jax.ShapeDtypeStruct((*shape, c.pairs.length, dim), np.float32)
      number = jax.ShapeDtypeStruct(shape, np.int32)
      return {"x": x, "length": number, "group": number}

    def first_loss(key, batch):
      start = self.method.init(key, batch)
      if c.method.weights:
        pretrained.replace(*start, pretrained.load(c), c.method.weights, INPUT_SIZE)
      return self.method.loss(*start, batch, key)

    anchor, size = videos(c.train.batch), (c.train.batch, c.pairs.negatives)
    try:
      jax.eval_shape(first_loss, jax.random.key(0),
                     {"anchor": anchor, "positive": anchor, "negative": videos(*size)})
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

  @property
  def dim(self) -> int:
    """Size of the method's input descriptors."""
    return self.extractor.regions * self.whitening.components.shape[1]

  def init_state(self):
    """The state before the first step."""
    return pretrained.begin(self._random_state(), self.config, self.mesh, INPUT_SIZE)

  def _random_state(self):
    x = np.zeros((1, self.config.pairs.length, self.dim), np.float32)
    batch = {"anchor": {"x": x, "length": np.ones(1, np.int32)}}
    return train.init_state(self.method, self.tx, batch, self.config.seed, self.mesh)

  def newest(self, workdir: pathlib.Path):
    """Step and state of the newest checkpoint of a run; loads its whitening too."""
    path = workdir / "whitening.npz"
    if not path.is_file():
      raise ConfigError(f"--workdir={workdir} has no checkpoint yet; train it first")
    origin.check(workdir, {"features.weights": origin.of_weights(self.config, "features")})
    self.whitening = whitening.load(path)
    return checkpoint.load_state(workdir / "checkpoints", self._random_state())

  def live(self, state) -> Row:
    """The model at `state` as host functions: embeddings, and its own similarities, if any."""
    return self.embed(state), self._live_score(state)

  def embed(self, state) -> Callable:
    """The live model's embedding as a host function."""
    return lambda inputs: self._embed(inputs, state.params, state.aux)

  def _live_score(self, state) -> learned.Score | None:
    if self.method.score is None:
      return None
    names = exports.score_names(self.method, self.dim, state.params, state.aux)
    return learned.Score(names, lambda query, target: jax.device_get(
        self._score(query, target, state.params, state.aux)))

  def exported(self, path: pathlib.Path) -> Row:
    """An exported model, `embed.jaxexport` and what lies beside it, as `live` gives it."""
    inputs = export.page(path)["inputs"]
    if set(inputs) != {"x", "length"}:
      raise ConfigError(f"{path} takes {', '.join(inputs)}; name the file that takes x and length, "
                        "embed.jaxexport")
    embed = parallel.host_fn(export.load(path), self.mesh, batch=self.config.embed.batch)
    return embed, exports.load_score(path) if self.method.score else None

  def exported_digest(self, path: pathlib.Path) -> str:
    """A hash of an exported model."""
    return exports.digest(path)

  def export(self, state, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the parts of the model: frames to descriptors, these to embeddings, and its score."""
    return exports.write(self, state, folder)


def _check_regions(config, regions: int) -> None:
  """Raises ConfigError where the method takes another number of vectors a frame than there are."""
  name = config.method.name
  make = registry.module("vssl_jax.methods", name, "method.name", "make").make
  takes = inspect.signature(make).parameters.get("regions")
  if takes is None and regions > 1:
    raise ConfigError(f"features.pooling={config.features.pooling!r} describes a frame by "
                      f"{regions} regions, and method.name={name!r} knows none; choose another "
                      "pooling, such as l3_irmac, or method.name='comparator'")
  if takes is not None:
    wanted = config.method.args.to_dict().get("regions", takes.default)
    if wanted != regions:
      raise ConfigError(f"method.args.regions={wanted}, but features.pooling="
                        f"{config.features.pooling!r} with features.crop={config.features.crop} "
                        f"describes a frame by {regions}; make it method.args.regions={regions}")


class Evaluation:
  """A trained model on a data set other than the run's own.

  Attributes:
    trained_on: name of the data set that the run was trained on, for the report; "" for `data`.
    data: the data set; store: whitened descriptors of its videos.
    evaluator: of it.
    drawn: whether `figures` draws it.
  """

  drawn = False  # descriptors may be all there is of its videos

  def __init__(self, model: Model, workdir: pathlib.Path):
    """Decodes and describes the videos, with the run's whitening."""
    self.model, self.config = model, model.config
    origin.check(workdir, {"features.weights": origin.of_weights(self.config, "features")})
    known = data.load_whitening(workdir)
    if known is None:
      raise ConfigError(f"--workdir={workdir} has no whitening.npz; train it first")
    self.trained_on = json.loads((workdir / "config.json").read_text())["data"]["name"]
    found = data.load(self.config)
    if self.config.data.name == self.trained_on and found.train_ids:
      data.check_same_training(workdir, found)
    # What is there to train on needs no descriptors.
    self._prepare(dataclasses.replace(found, pairs=[], background=[]), known)

  def _prepare(self, found: RetrievalData, known) -> None:
    self.data, settings = found, self.config.evals.retrieval
    evaluator = functools.partial(registry.make, "vssl_jax.evaluators", settings.name,
                                  "evals.retrieval.name", self.data, **settings.args)
    try:
      evaluator({})  # complains now, not when all videos are decoded
    except ConfigError as e:
      told = str(e)
      raise ConfigError(told if "evals.retrieval" in told else f"evals.retrieval: {told}") from e
    self.store, self.model.whitening = features.prepare(self.config, self.data,
                                                        self.model.extractor, known)
    self.evaluator = evaluator(self.store)
    self._check_evaluation()

  @property
  def missing(self) -> tuple[str, ...]:
    """Ids that the data set lists and that are not on disk."""
    return self.data.missing

  def report(self, row: Row, *, scratch: pathlib.Path | None = None, about: dict | None = None,
             folder: pathlib.Path | None = None, brief: bool = False):
    """The evaluation of a row.

    Args:
      scratch: a folder for what is embedded and scored, from which an interrupted evaluation of
        the same model, by `about`, goes on; None keeps all in memory.
    """
    del folder, brief  # rankings are written by `files`; there is nothing to leave out
    return self.evaluator.report(*row, scratch, about)

  def _check_evaluation(self) -> None:
    """Raises DataError, before training, where no number could be computed after it."""
    for query, entry in self.data.annotation.items():
      found = protocols.relevant(self.data.protocol, entry)
      if query in self.store and any(i in self.store for i in found):
        return
    kind, more = ("", "") if self.trained_on else (
        "held-out ", ", or hold out others with another data.seed")
    raise DataError(f"{self.data.name}: no {kind}query has a match that can be read; mend the "
                    f"files named above{more}")


class Task(Evaluation):
  """A model, its training data, and its evaluation on the held-out part."""

  def __init__(self, model: Model, workdir: pathlib.Path):
    """Decodes and describes the videos. The whitening stays the one in `workdir`, once there."""
    self.model, self.config, self.trained_on = model, model.config, ""
    self.data = data.load(self.config)
    if self.config.train.steps:
      if not self.data.train_ids:
        raise ConfigError(
            f"data.name={self.config.data.name!r} holds nothing to train on: evaluate a trained "
            "run on it, --mode=eval --workdir=RUN --config=..., or weights that you have, "
            "train.steps=0 with method.weights=FILE and features.whitening=FILE")
      self._examples(self.data.videos)  # complains now, not when all videos are decoded
    origin.check(workdir, self._origin)
    self._prepare(self.data, data.load_whitening(workdir))

  def save(self, workdir: pathlib.Path) -> None:
    """Writes what the run's other modes need besides config and checkpoints."""
    whitening.save(self.model.whitening, workdir / "whitening.npz")
    origin.write(workdir, self._origin)

  @property
  def _origin(self) -> dict[str, str]:
    """What a run depends on and its config only names."""
    return {"features.weights": origin.of_weights(self.config, "features"),
            "method.weights": origin.of_weights(self.config, "method"),
            "data": data.train_digest(self.data)}

  def batches(self, first_step: int = 0) -> Iterator:
    """This process's training batches from a step on."""
    c, elements = self.config, self._examples(self.store)
    process = (jax.process_index(), jax.process_count())
    return pipeline.batches(elements, batch=c.train.batch, process=process, first_step=first_step,
                            threads=c.train.threads, buffer=c.train.buffer)

  def _examples(self, store):
    return pipeline.pairs(self.data, store, seed=self.config.seed, **self.config.pairs)

  @property
  def dropped(self) -> int:
    """Training videos that could not be read."""
    return sum(i in self.store.rejected for i in self.data.train_ids)

  def baselines(self, initial) -> dict[str, Row]:
    """Rows of the table that need no training."""
    return {"mean-pooled features": (mean_pool, None),
            self.model.untrained_name: self.model.live(initial)}
