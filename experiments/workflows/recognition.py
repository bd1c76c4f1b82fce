"""Representations of pictures or clips: what a run of CycleContrast, ProViCo or SimCLR consists of.

What is learned is judged by labelled videos that a frozen model describes (nearest neighbours,
linear classifiers, retrieval), and by tracking with its maps.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from data_pipelines import encode
from experiments import clip_runs, inputs, origin, pretrained, registry
from experiments.recognition import data, evaluations, extraction, splits, tracking
from experiments.recognition.described import Described
from experiments.recognition.results import Reports, check_equal, figures, files, numbers, table
from vssl_jax import export, parallel
from vssl_jax.convert import trunk
from vssl_jax.evaluators import dense
from vssl_jax.types import ConfigError

__all__ = ["Evaluation", "Model", "Task", "check_equal", "extract", "figures", "files", "numbers",
           "table"]

EXTRACTED = "FOLDER"
CLASSES = "classes.json"  # that a classifier was trained to tell, in a run's folder
LEAST = {"embed.batch": 1, "data.memory": 0}
EMBED, MAP, BACKBONE = "embed.jaxexport", "map.jaxexport", "backbone.safetensors"


@dataclasses.dataclass(frozen=True)
class Row:
  """What is evaluated.

  Attributes:
    embed: a host function from `{"image": uint8 [B, H, W, 3]}` or `{"clip": uint8 [B, T, H, W, 3]}`
      to a dict of arrays [B, ...].
    dense: from `{"image"}` to `{"features": [B, h, w, D]}`, for tracking; None without.
  """

  embed: Callable
  dense: Callable | None


class Model(clip_runs.Model):
  """The model of a config, without any data.

  Attributes:
    method, tx: the method and its optimiser.
    title: what the method is called in a table.
    takes: "image" or "clip".
    key: which output of the embedding the features are.
  """

  def __init__(self, config, mesh):
    registry.check_least(config, LEAST)
    data.reader(config.views)  # complains of its settings
    super().__init__(config, mesh)
    self.takes = data.INPUTS[config.views.name]
    self.key = {"image": "features", "clip": "video"}[self.takes]
    self._embed = parallel.host_fn(self._apply, mesh, batch=config.embed.batch)
    self._dense = parallel.host_fn(self._map, mesh, batch=config.embed.batch)

  def _apply(self, inputs, params, aux):
    return self.method.embed(params, aux, {"frames": inputs[self.takes]})

  def _map(self, inputs, params, aux):
    return self.method.dense(params, aux, {"frames": inputs["image"]})

  def batch(self, rows: int):
    """An abstract batch."""
    return {"frames": jax.ShapeDtypeStruct((rows, *data.shape(self.config.views)), np.uint8),
            "label": jax.ShapeDtypeStruct((rows,), np.int32),
            "record": jax.ShapeDtypeStruct((rows,), np.int32)}

  def check(self) -> None:
    """Raises ConfigError where training or its evaluation could not be, before any video is read.

    What a model gives is asked of shapes alone.
    """
    super().check()
    one = jax.ShapeDtypeStruct((1, *data.input_shape(self.config.views)), np.uint8)
    try:
      out = jax.eval_shape(lambda key, batch, x: self._apply({self.takes: x}, *self.method.init(
          key, batch)), jax.random.key(0), self.batch(self.config.train.batch), one)
    except (TypeError, ValueError) as e:
      raise ConfigError(f"method.name={self.config.method.name!r} with views.name="
                        f"{self.config.views.name!r}: {e}") from e
    if self.key not in out:
      raise ConfigError(f"method.name={self.config.method.name!r} gives {', '.join(sorted(out))}, "
                        f"but no {self.key!r}, which views.name={self.config.views.name!r} is for")
    for name, evaluation in self.config.evals.items():
      if evaluation.name == "tracking" and not self.method.dense:
        raise ConfigError(f"evals.{name}: method.name={self.config.method.name!r} has no maps to "
                          "track by; leave it out of evals")

  def map_channels(self) -> int:
    """Of the maps to track by, for a method that has them; known by tracing it."""
    one = {"image": jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)}
    return jax.eval_shape(lambda key, batch, x: self._map(x, *self.method.init(key, batch)),
                          jax.random.key(0), self.batch(self.config.train.batch),
                          one)["features"].shape[-1]

  def live(self, state) -> Row:
    """The model at `state`."""
    embed, dense_ = (lambda inputs, fn=fn: fn(inputs, state.params, state.aux)
                     for fn in (self._embed, self._dense))
    return Row(embed, dense_ if self.method.dense else None)

  def exported(self, path: pathlib.Path) -> Row:
    """An exported model; its maps are those of the file `map.jaxexport` beside it."""
    def load(file: pathlib.Path, takes: str) -> Callable:
      names = export.page(file)["inputs"]
      if set(names) != {takes}:
        raise ConfigError(f"{file} takes {', '.join(names)}; name a file that takes {takes}")
      return parallel.host_fn(export.load(file), self.mesh, batch=self.config.embed.batch)

    beside = path.with_name(MAP)
    return Row(load(path, self.takes), load(beside, "image") if beside.is_file() else None)

  def export(self, state, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the encoder as files that need only JAX, and its backbone in the names of torch."""
    folder.mkdir(parents=True, exist_ok=True)
    params, aux = jax.device_get((state.params, state.aux))
    about = (f"{self.config.method.name} trained on {self.config.data.name}, step "
             f"{int(state.step)}")
    side, what = ("h", "w"), "RGB pictures"
    if self.takes == "clip":
      side, what = (self.config.views.frames, "16*h", "16*w"), "RGB clips"
    out = jax.eval_shape(lambda p, a, x: self._apply({self.takes: x}, p, a), params, aux,
                         jax.ShapeDtypeStruct((1, *data.input_shape(self.config.views)), np.uint8))
    meaning = {name: OUTPUTS.get(name, name) for name in out}
    export.save(folder / EMBED, lambda x: self._apply(x, params, aux),
                {self.takes: export.Input(("b", *side, 3), "uint8", what)}, outputs=meaning,
                normalisation="done inside", about=about)
    written = [folder / EMBED]
    if self.method.dense:
      export.save(folder / MAP, lambda x: self._map(x, params, aux),
                  {"image": export.Input(("b", "h", "w", 3), "uint8", "RGB pictures")},
                  outputs={"features": "a vector every 8 pixels, for tracking"},
                  normalisation="done inside", about=about)
      written.append(folder / MAP)
    if backbone := trunk.of(params, aux):
      trunk.save(folder / BACKBONE, backbone,
                 pretrained.about(self.config, self.title, int(state.step)))
      written.append(folder / BACKBONE)
    return written


OUTPUTS = {
    "features": "of a picture: compare by cosine", "logits": "of the classes: their softmax, and "
    "its mean over the views of a video", "projection": "what the loss compares, of unit "
    "length", "video": "of a clip: compare by cosine", "mean": "of its Gaussian",
    "logvar": "logarithm of the variances of its Gaussian", "uncertainty": "mean of logvar",
    "clip_features": "video, for each clip", "clip_mean": "mean, for each clip",
    "clip_logvar": "logvar, for each clip",
}


class Evaluation:
  """A trained model on data sets other than the run's own.

  Attributes:
    trained: the run's config, for the report.
    facts: what that doesn't tell, as of `clip_runs.Training`; older runs lack it.
    evaluations: name in `evals` -> evaluation.
    skipped: name in `evals` -> why it was left out.
    logged: rows of the run's metrics.jsonl; None, since they are of the run's own evaluations.
    drawn: whether `figures` draws it.
  """

  logged, drawn = None, True

  def __init__(self, model: Model, workdir: pathlib.Path):
    self.model, self.config = model, model.config
    self.trained = json.loads((workdir / "config.json").read_text())
    self.facts = origin.read(workdir)
    file = workdir / CLASSES
    self._prepare(json.loads(file.read_text()) if file.is_file() else None)

  def _prepare(self, classes: Sequence[str] | None) -> None:
    """`classes`: names of those that the model was trained to tell, None where it wasn't."""
    self.evaluations, self.skipped = evaluations.make_all(self.config)
    if self.model.method.dense:
      tracking.check_heads(self.evaluations, self.model.map_channels)
    if classes is not None:
      evaluations.check_same_classes(self.evaluations, classes)

  @property
  def missing(self) -> tuple[str, ...]:
    """Ids that the data sets list and that are not on disk."""
    return tuple(dict.fromkeys(i for e in self.evaluations.values() for d in e.datasets
                               for i in d.missing))

  def report(self, row: Row, *, scratch=None, about=None, folder: pathlib.Path | None = None,
             brief: bool = False) -> Reports:
    """The evaluations of a row.

    Args:
      brief: nothing is done to views, as in training, where it would take long.
      scratch: a folder for what the views are described by, from which an interrupted evaluation
        of the same model, by `about`, goes on; None keeps it in memory.
      folder: tracks are written there, for each evaluation in a folder of its name.
    """
    described = Described(row.embed, self.model.key, self.config.embed.batch, scratch=scratch,
                          about=about, brief=brief)
    found = {}
    for name, evaluation in self.evaluations.items():
      place = folder / name if folder and jax.process_index() == 0 else None
      found[name] = evaluation.measure(row, described, place)
    return Reports(found, described.features(), splits.groups(self.config.evals, found))


def extract(model: Model, workdir: pathlib.Path, source: str, output: str) -> None:
  """Writes the features of a user's videos, an array each."""
  step, state = model.newest(workdir)
  print(extraction.extract(model.live(state).embed, inputs.find_videos(source), output,
                           model.config, key=model.key,
                           origin={"run": workdir.absolute().name, "step": step}).text())


class Task(Evaluation):
  """A model, its training data, and its evaluation."""

  def __init__(self, model: Model, workdir: pathlib.Path):
    self.model, self.config, self.workdir = model, model.config, workdir
    self.trained = model.config.to_dict()
    self._training = clip_runs.Training(self.config, workdir)
    self.facts = self._training.facts
    self._classes = None
    if self._training.train_data:
      data.check_classes(self._training.train_data, self.config, "data")
      if "classes" in self.config.method.args:
        self._classes = list(self._training.train_data.classes)
    self._prepare(self._classes)

  def save(self, workdir: pathlib.Path) -> None:
    """Writes what the run's other modes need besides config and checkpoints."""
    self._training.save(workdir)
    if self._classes is not None:
      encode.write_atomic(workdir / CLASSES, json.dumps(self._classes, indent=1).encode())

  def batches(self, first_step: int = 0) -> Iterator:
    """This process's training batches from a step on."""
    c = self.config
    return self._training.batches(data.reader(c.views, c.data.memory), first_step)

  @property
  def logged(self) -> list[dict]:
    """Rows of the run's metrics.jsonl so far."""
    file = self.workdir / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

  @property
  def dropped(self) -> int:
    """Training videos that could not be read so far."""
    return self._training.dropped

  def baselines(self, initial) -> dict[str, Row]:
    """Rows of the table that need no training; pixels have no classifier."""
    floor = {"pixels alone": Row(data.pixels, dense.lab_blocks(8))}
    if all(e.name == "classification" for e in self.config.evals.values()):
      floor = {}
    return {**floor, self.model.untrained_name: self.model.live(initial)}
