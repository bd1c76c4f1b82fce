"""Dense correspondence from clips: what a run of CorrFlow consists of."""

import dataclasses
import json
import os
import pathlib
import types
from collections.abc import Callable, Iterator

import jax
import numpy as np

from data_pipelines import sequences
from data_pipelines.errors import DataError
from experiments import cli, clip_runs, datasets, inputs, registry, unfinished
from experiments.correspondence import data, own_video, protocols
from experiments.correspondence import extract as extraction
from experiments.correspondence.results import Reports, check_equal, figures, files, numbers, table
from vssl_jax import export, parallel
from vssl_jax.evaluators import dense
from vssl_jax.types import ConfigError

__all__ = ["Evaluation", "Model", "Task", "check_equal", "extract", "figures", "files", "numbers",
           "own", "table"]

CENTROIDS = "centroids.npy"  # of the colour classes, in a run's folder
LEAST = {"clips.size": 16, "colours.clusters": 0, "colours.samples": 1, "colours.videos": 1}
EXTRACTED = "FOLDER"
READERS = {"segmentation": sequences.labelled, "keypoints": sequences.frames}  # by evaluator

# What is evaluated: `{"image": uint8 [1, H, W, 3]}` to `{"features": [1, h, w, D]}`; None repeats
# what is known of the first frame.
Row = Callable | None


class Model(clip_runs.Model):
  """The model of a config, without any data.

  Attributes:
    method, tx: the method and its optimiser.
    title: what the method is called in a table.
    stride: pixels between the cells of its features.
    centroids: of its colour classes, where they are fitted to the data; set once they are known.
  """

  def __init__(self, config, mesh):
    registry.check_least(config, LEAST)
    data.reader(config.clips)  # complains of its settings
    clusters = config.colours.clusters
    super().__init__(config, mesh, **(
        {"centroids": ((0.0, 0.0),) * clusters} if clusters else {}))
    self.centroids = None
    self._embed = parallel.host_fn(self._apply, mesh, batch=mesh.size)
    self.stride = self._stride()

  def check(self) -> None:
    c = self.config
    if c.colours.clusters and len(c.method.args.centroids):
      raise ConfigError(f"colours.clusters={c.colours.clusters} fits classes of colours, so that "
                        "method.args.centroids would not be used; set colours.clusters=0, or leave "
                        "method.args.centroids empty")
    super().check()

  def _apply(self, inputs, params, aux):
    return self.method.embed(params, aux, {"frames": inputs["image"]})

  def batch(self, rows: int):
    """An abstract batch."""
    c = self.config.clips
    shape = (rows, 1, 2, c.frames, c.size, c.size, 3)
    return {"frames": jax.ShapeDtypeStruct(shape, np.uint8)}

  def _stride(self) -> int:
    """Of the features, from the sizes that they have."""
    size = 64
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    out = jax.eval_shape(lambda key, batch, x: self._apply({"image": x}, *self.method.init(
        key, batch)), jax.random.key(0), self.batch(1), image)["features"]
    return size // out.shape[1]

  def random_state(self):
    """The state before the first step, with the colour classes if they are known."""
    state = super().random_state()
    if self.centroids is None:
      return state
    known = jax.device_put(self.centroids, parallel.replicated(self.mesh))
    return dataclasses.replace(state, aux=state.aux | {"centroids": known})

  def live(self, state) -> Row:
    """The model at `state` as a host function."""
    return lambda inputs: self._embed(inputs, state.params, state.aux)

  def exported(self, path: pathlib.Path) -> Row:
    """An exported model as a host function."""
    inputs = export.page(path)["inputs"]
    if set(inputs) != {"image"}:
      raise ConfigError(f"{path} takes {', '.join(inputs)}; name a file that takes image")
    return parallel.host_fn(export.load(path), self.mesh, batch=self.mesh.size)

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


def _evaluator(settings, key: str, data, model: Model):
  args = {k: v for k, v in settings.args.items() if k != "changes"}
  args["protocol"] = protocols.of_evaluation(settings, model)
  return registry.make("vssl_jax.evaluators", settings.name, f"{key}.name", data,
                       READERS[settings.name], **args)


def _check(settings, key: str, model: Model) -> None:
  """Raises ConfigError where an evaluation can't be made, before anything is read."""
  if settings.name not in READERS:
    raise ConfigError(f"{key}.name={settings.name!r}{registry.nearest(settings.name, READERS)}")
  video = types.SimpleNamespace(id="a", truth={"points": np.zeros((1, 1, 2))})
  try:
    used = _evaluator(settings, key, [video], model).protocol.stride
  except ConfigError as e:
    raise ConfigError(str(e) if key in str(e) else f"{key}.args: {e}") from e
  if used != model.stride:
    raise ConfigError(f"{key}.args: the protocol's stride is {used}, the features' is "
                      f"{model.stride}; set {key}.args.changes.stride={model.stride}")


class Evaluation:
  """A trained model on data sets other than the run's own.

  Attributes:
    trained_on: name of the data set that the run was trained on, for the report; "" for `data`.
    evaluators: name in `evals` -> evaluator.
    datasets: name in `evals` -> data set.
    skipped: names in `evals` of data sets that the config gives no folder for.
    drawn: whether `figures` draws it.
  """

  drawn = True

  def __init__(self, model: Model, workdir: pathlib.Path):
    self.model, self.config = model, model.config
    self.trained_on = json.loads((workdir / "config.json").read_text())["data"]["name"]
    self._prepare()

  def _prepare(self) -> None:
    self.datasets, self.evaluators, self.skipped = {}, {}, []
    for name, settings in self.config.evals.items():
      _check(settings, f"evals.{name}", self.model)
    for name, settings in self.config.evals.items():
      key = f"evals.{name}"
      if settings.data.name and not settings.data.root:
        self.skipped.append(name)
        continue
      self.datasets[name] = datasets.load(settings.data, f"{key}.data", self.config.data)
      self.evaluators[name] = _evaluator(settings, key, self.datasets[name], self.model)
    if not self.evaluators:
      raise ConfigError("nothing to evaluate on: set " + " or ".join(
          f"evals.{name}.data.root" for name in self.skipped))

  @property
  def missing(self) -> tuple[str, ...]:
    """Ids that the data sets list and that are not on disk."""
    return tuple(i for found in self.datasets.values() for i in found.missing)

  def report(self, row: Row, *, scratch=None, about=None, folder: pathlib.Path | None = None,
             brief: bool = False) -> Reports:
    """The evaluations of a row.

    Args:
      scratch: a folder for what is found of each video, from which an interrupted evaluation of
        the same model, by `about`, goes on; None for nowhere.
      folder: predictions are written there, for each evaluation in a folder of its name.
    """
    del brief  # there is nothing to leave out
    found = {}
    for name, evaluator in self.evaluators.items():
      place = folder / name if folder and jax.process_index() == 0 else None
      kept = scratch and unfinished.Unfinished(scratch, about, self.config.evals[name].to_dict(),
                                               unfinished.state(self.datasets[name]))
      try:
        found[name] = evaluator.identity(place) if row is None else evaluator.report(
            row, place, kept)
      except ValueError as e:  # names the sequence and the frame
        raise DataError(f"evals.{name}: {e}") from e
    return Reports(found)


def extract(model: Model, workdir: pathlib.Path, source: str, output: str) -> None:
  """Writes the features of a user's videos, an array each."""
  videos = inputs.find_videos(source)
  step, state = model.newest(workdir)
  origin = {"run": workdir.absolute().name, "step": step}
  print(extraction.extract(model.live(state), videos, output, stride=model.stride,
                           origin=origin).text())


def own(model: Model, name: str, row: Row, source: str, first: str, output: str,
        how: cli.Carrying) -> None:
  """Carries masks or points of the first frame through a user's own video.

  Args:
    how: its protocol is one of `protocols.of_own_video`.
  """
  if not source or not first or not output:
    raise ConfigError("a video of your own needs --input=VIDEO, --first=MASK.png or POINTS.csv, "
                      "and --output=FOLDER")
  chosen = protocols.of_own_video(how.protocol, model)
  written = own_video.propagate(row, chosen, source, first, output, max_side=how.max_side)
  print(f"{name}, protocol {how.protocol or protocols.OWN}\n{written.text()}")


class Task(Evaluation):
  """A model, its training data, and its evaluation."""

  def __init__(self, model: Model, workdir: pathlib.Path):
    self.model, self.config, self.trained_on = model, model.config, ""
    self._training = clip_runs.Training(self.config, workdir)
    self._prepare()
    videos, c = self._training.train_data, self.config
    if videos and c.colours.clusters:
      path = workdir / CENTROIDS
      model.centroids = np.load(path, allow_pickle=False) if path.is_file() else data.centroids(
          videos, c.colours, c.clips.size, c.seed)

  def save(self, workdir: pathlib.Path) -> None:
    """Writes what the run's other modes need besides config and checkpoints."""
    self._training.save(workdir)
    if self.model.centroids is not None:
      part = workdir / "centroids.tmp"
      with part.open("wb") as f:
        np.save(f, self.model.centroids)
      os.replace(part, workdir / CENTROIDS)

  def batches(self, first_step: int = 0) -> Iterator:
    """This process's training batches from a step on."""
    return self._training.batches(data.reader(self.config.clips), first_step)

  @property
  def dropped(self) -> int:
    """Training videos that could not be read so far."""
    return self._training.dropped

  def baselines(self, initial) -> dict[str, Row]:
    """Rows of the table that need no training."""
    # Where a protocol compares by plain dot product, colours are compared by cosine all the same.
    colours = dense.cosine(dense.lab_blocks(self.model.stride))
    return {"first labels repeated": None, "colours alone": colours,
            self.model.untrained_name: self.model.live(initial)}
