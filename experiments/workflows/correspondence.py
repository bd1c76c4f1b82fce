"""Dense correspondence from clips: what a run of CorrFlow consists of."""

import dataclasses
import inspect
import json
import os
import pathlib
from collections.abc import Callable, Iterator

import jax
import numpy as np

from data_pipelines import clips, sequences
from data_pipelines.frames import BadVideos
from experiments import inputs, origin, pretrained, registry
from experiments.correspondence import data, own_video
from experiments.correspondence import extract as extraction
from experiments.correspondence.results import Reports, check_equal, figures, files, numbers, table
from vssl_jax import checkpoint, export, log, optim, parallel, train
from vssl_jax.evaluators import dense, segmentation
from vssl_jax.types import ConfigError

__all__ = ["Evaluation", "Model", "Task", "check_equal", "extract", "figures", "files", "numbers",
           "own", "table"]

CENTROIDS = "centroids.npy"  # of the colour classes, in a run's folder
LEAST = {  # setting -> least value that makes sense
    "seed": 0, "data.max_bad_fraction": 0, "clips.size": 16, "colours.clusters": 0,
    "colours.samples": 1, "colours.videos": 1, "train.steps": 0, "train.batch": 1,
    "train.log_every": 1, "train.eval_every": 0, "train.checkpoint_every": 1, "train.keep": 1,
    "train.threads": 0, "train.buffer": 1, "train.workers": 0,
}
EXTRACTED = "FOLDER"
TITLES = {"corrflow": "CorrFlow"}  # method -> what it is called in a table, if not by its name
READERS = {"segmentation": sequences.labelled, "keypoints": sequences.frames}  # by evaluator

# What is evaluated: `{"image": uint8 [1, H, W, 3]}` to `{"features": [1, h, w, D]}`; None repeats
# what is known of the first frame.
Row = Callable | None


class Model:
  """The model of a config, without any data.

  Attributes:
    method, tx: the method and its optimiser.
    title: what the method is called in a table.
    stride: pixels between the cells of its features.
    centroids: of its colour classes, where they are fitted to the data; set once they are known.
  """

  def __init__(self, config, mesh):
    self.config, self.mesh = config, mesh
    registry.check_least(config, LEAST)
    if config.seed >= 2**32:
      raise ConfigError(f"seed={config.seed} must be below {2**32}")
    if not config.evals:
      raise ConfigError("evals is empty: name what the run is evaluated on")
    data.reader(config.clips)  # complains of its settings
    steps, args = config.train.steps, config.method.args.to_dict()
    make = registry.module("vssl_jax.methods", config.method.name, "method.name", "make").make
    if "total_steps" in inspect.signature(make).parameters:
      args.setdefault("total_steps", max(1, steps))
    self.centroids = None
    if config.colours.clusters:
      args["centroids"] = ((0.0, 0.0),) * config.colours.clusters
    self.method = registry.make("vssl_jax.methods", config.method.name, "method.name", **args)
    self.title = TITLES.get(config.method.name, config.method.name)
    self.tx = optim.make(steps=steps, batch=config.train.batch, **config.optim)
    self._embed = parallel.host_fn(self._apply, mesh, batch=mesh.size)
    self.stride = self._stride()

  def _apply(self, inputs, params, aux):
    return self.method.embed(params, aux, {"frames": inputs["image"]})

  def _batch(self, rows: int):
    """An abstract batch."""
    c = self.config.clips
    shape = (rows, 1, 2, c.frames, c.size, c.size, 3)
    return {"frames": jax.ShapeDtypeStruct(shape, np.uint8)}

  def _stride(self) -> int:
    """Of the features, from the sizes that they have."""
    size = 64
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    out = jax.eval_shape(lambda key, batch, x: self._apply({"image": x}, *self.method.init(
        key, batch)), jax.random.key(0), self._batch(1), image)["features"]
    return size // out.shape[1]

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
      jax.eval_shape(first_loss, jax.random.key(0), self._batch(c.train.batch))
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
    state = self._random_state()
    if self.centroids is not None:
      known = jax.device_put(self.centroids, parallel.replicated(self.mesh))
      state = dataclasses.replace(state, aux=state.aux | {"centroids": known})
    return pretrained.begin(state, self.config, self.mesh)

  def _random_state(self):
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), self._batch(1))
    return train.init_state(self.method, self.tx, batch, self.config.seed, self.mesh)

  def newest(self, workdir: pathlib.Path):
    """Step and state of the newest checkpoint of a run."""
    if not (workdir / "checkpoints").is_dir():
      raise ConfigError(f"--workdir={workdir} has no checkpoint yet; train it first")
    return checkpoint.load_state(workdir / "checkpoints", self._random_state())

  def live(self, state) -> Row:
    """The model at `state` as a host function."""
    return lambda inputs: self._embed(inputs, state.params, state.aux)

  def exported(self, path: pathlib.Path) -> Row:
    """An exported model as a host function."""
    inputs = export.page(path)["inputs"]
    if set(inputs) != {"image"}:
      raise ConfigError(f"{path} takes {', '.join(inputs)}; name a file that takes image")
    return parallel.host_fn(export.load(path), self.mesh, batch=self.mesh.size)

  def exported_digest(self, path: pathlib.Path) -> str:
    """A hash of an exported model."""
    return origin.file_digest(str(path))

  def export(self, state, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the encoder as a file that needs only JAX."""
    folder.mkdir(parents=True, exist_ok=True)
    params, aux = jax.device_get((state.params, state.aux))
    path, c, s = folder / "embed.jaxexport", self.config, self.stride
    export.save(
        path, lambda inputs: self._apply(inputs, params, aux),
        {"image": export.Input(("b", f"{s}*h", f"{s}*w", 3), "uint8", "RGB pictures, sides "
                               f"multiples of {s}: repeat the last row and column")},
        outputs={"features": f"a vector every {s} pixels, cell (y, x) centred on pixel "
                             f"({s} y, {s} x); compare by dot product, or by cosine"},
        normalisation="done inside",
        about=f"{c.method.name} trained on {c.data.name}, step {int(state.step)}")
    return [path]


class Evaluation:
  """A trained model on data sets other than the run's own.

  Attributes:
    trained_on: name of the data set that the run was trained on, for the report; "" for `data`.
    evaluators: name in `evals` -> evaluator.
    datasets: name in `evals` -> data set.
    skipped: names in `evals` of data sets that the config gives no folder for.
  """

  def __init__(self, model: Model, workdir: pathlib.Path):
    self.model, self.config = model, model.config
    self.trained_on = json.loads((workdir / "config.json").read_text())["data"]["name"]
    self._prepare()

  def _prepare(self) -> None:
    self.datasets, self.evaluators, self.skipped = {}, {}, []
    for name, settings in self.config.evals.items():
      key = f"evals.{name}"
      if settings.data.name and not settings.data.root:
        self.skipped.append(name)
        continue
      found = data.load(settings.data, f"{key}.data", self.config.data)
      if settings.name not in READERS:
        raise ConfigError(f"{key}.name={settings.name!r}{registry.nearest(settings.name, READERS)}")
      self.datasets[name] = found
      self.evaluators[name] = registry.make(
          "vssl_jax.evaluators", settings.name, f"{key}.name", found, READERS[settings.name],
          **settings.args)
      stride = self.evaluators[name].protocol.stride
      if stride != self.model.stride:
        raise ConfigError(f"{key}.args: the protocol's stride is {stride}, the features' is "
                          f"{self.model.stride}; set {key}.args.changes.stride="
                          f"{self.model.stride}")

    if not self.evaluators:
      raise ConfigError("nothing to evaluate on: set " + " or ".join(
          f"evals.{name}.data.root" for name in self.skipped))

  @property
  def missing(self) -> tuple[str, ...]:
    """Ids that the data sets list and that are not on disk."""
    return tuple(i for found in self.datasets.values() for i in found.missing)

  def report(self, row: Row, *, scratch=None, about=None,
             folder: pathlib.Path | None = None) -> Reports:
    """The evaluations of a row.

    Args:
      folder: predictions are written there, for each evaluation in a folder of its name.
    """
    del scratch, about  # nothing is kept between sequences
    found = {}
    for name, evaluator in self.evaluators.items():
      place = folder / name if folder and jax.process_index() == 0 else None
      found[name] = evaluator.identity(place) if row is None else evaluator.report(row, place)
    return Reports(found)


def extract(model: Model, workdir: pathlib.Path, source: str, output: str) -> None:
  """Writes the features of a user's videos, an array each."""
  videos = inputs.find_videos(source)
  step, state = model.newest(workdir)
  origin = {"run": workdir.absolute().name, "step": step}
  print(extraction.extract(model.live(state), videos, output, stride=model.stride,
                           origin=origin).text())


def own(model: Model, name: str, row: Row, source: str, first: str, output: str) -> None:
  """Carries masks or points of the first frame through a user's own video."""
  if not source or not first or not output:
    raise ConfigError("a video of your own needs --input=VIDEO, --first=MASK.png or POINTS.csv, "
                      "and --output=FOLDER")
  kind = "keypoints" if first.lower().endswith(".csv") else "segmentation"
  evals = list(model.config.evals.values())
  settings = next((e for e in evals if e.name == kind), evals[0]).args
  protocol = segmentation.choose_protocol(settings.protocol, settings.changes)
  written = own_video.propagate(row, protocol, source, first, output)
  print(f"{name}, protocol {settings.protocol}\n{written.text()}")


class Task(Evaluation):
  """A model, its training data, and its evaluation."""

  def __init__(self, model: Model, workdir: pathlib.Path):
    self.model, self.config, self.trained_on = model, model.config, ""
    self._bad, self.train_data = BadVideos(log.write), None
    if self.config.train.steps:
      self.train_data = data.load(self.config.data, "data", self.config.data)
    origin.check(workdir, self._origin)
    self._prepare()
    if self.train_data and self.config.colours.clusters:
      c, path = self.config, workdir / CENTROIDS
      model.centroids = np.load(path, allow_pickle=False) if path.is_file() else data.centroids(
          self.train_data, c.colours, c.clips.size, c.seed)

  @property
  def _origin(self) -> dict[str, str]:
    """What a run depends on and its config only names."""
    records = self.train_data.records if self.train_data else ()
    return {"method.weights": origin.of_weights(self.config, "method"),
            "data": origin.digest([record.id for record in records])}

  def save(self, workdir: pathlib.Path) -> None:
    """Writes what the run's other modes need besides config and checkpoints."""
    origin.write(workdir, self._origin)
    if self.model.centroids is not None:
      part = workdir / "centroids.tmp"
      with part.open("wb") as f:
        np.save(f, self.model.centroids)
      os.replace(part, workdir / CENTROIDS)

  def batches(self, first_step: int = 0) -> Iterator:
    """This process's training batches from a step on."""
    c = self.config
    examples = clips.training(self.train_data, data.reader(c.clips), seed=c.seed)
    return clips.batches(
        examples, batch=c.train.batch, bad=self._bad, n_records=len(self.train_data.records),
        max_bad_fraction=c.data.max_bad_fraction, first_step=first_step, threads=c.train.threads,
        buffer=c.train.buffer, workers=c.train.workers,
        process=(jax.process_index(), jax.process_count()))

  @property
  def dropped(self) -> int:
    """Training videos that could not be read so far."""
    return len(self._bad)

  def baselines(self, initial) -> dict[str, Row]:
    """Rows of the table that need no training."""
    # Where a protocol compares by plain dot product, colours are compared by cosine all the same.
    colours = dense.cosine(dense.lab_blocks(self.model.stride))
    return {"first labels repeated": None, "colours alone": colours,
            self.model.untrained_name: self.model.live(initial)}
