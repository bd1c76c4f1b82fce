"""The evaluations that a config names: their data, and how a row of the table is measured on them.

An entry of `evals` is `dict(name=EVALUATOR, data=dict(name, root, train, test, ...),
views=dict(...), args=dict(...))`; `data` without a name is the run's own data set.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.augment import corruption
from experiments import datasets
from experiments.recognition import data, measures, tracking
from experiments.recognition.described import Change, Described
from experiments.recognition.measures import Result
from vssl_jax.types import ConfigError


def make_all(config) -> tuple[dict[str, Any], dict[str, str]]:
  """Name in `evals` -> evaluation; and of those left out, why.

  Raises:
    ConfigError: nothing is left, or an impossible setting.
  """
  found, skipped, shared = {}, {}, {}
  for name, settings in config.evals.items():
    key = f"evals.{name}"
    measures.check(settings.name, key, settings.args)
    if _without_folder(settings.data) or (
        settings.name == "tracking" and not settings.head.get("weights")
        and _without_folder(settings.head.data)):
      part = "data" if _without_folder(settings.data) else "head.data"
      skipped[name] = f"evals.{name}.{part}.root is empty"
      continue
    try:
      kind = KINDS.get(settings.name, LabelledVideos)
      found[name] = kind(key, settings, config, shared)
    except data.NoLabels as e:
      skipped[name] = str(e)
  if not found:
    raise ConfigError(f"nothing to evaluate on: {'; '.join(skipped.values())}")
  return found, skipped


def check_same_classes(found: Mapping[str, Any], classes: Sequence[str]) -> None:
  """Raises ConfigError where a classifier is judged by classes that it wasn't trained to tell."""
  for name, evaluation in found.items():
    other = list(evaluation.datasets[0].classes)
    if isinstance(evaluation, Classification) and other != list(classes):
      k = next((i for i, (a, b) in enumerate(zip(classes, other, strict=False)) if a != b),
               min(len(classes), len(other)))
      raise ConfigError(
          f"evals.{name}.data: its {len(other)} classes are not the {len(classes)} that the run "
          f"was trained to tell; number {k} is {(*other, 'none')[k]!r}, not "
          f"{(*classes, 'none')[k]!r}")


def _without_folder(settings) -> bool:
  return settings.name not in ("", "procedural") and not settings.root


# Of the test's views, where they are None, as in training; where that has none:
AS_TRAINED = {"frames": 1, "stride": 1, "fps": 0.0, "short": "hold"}


def _views(settings, part: str, like, key: str):
  """The views of a part.

  `train_clips` and `train_crops`, where not 0, are of the training part. What is None is as in the
  run's training, `like`; the size of several crops is the short side.
  """
  own = settings.views.to_dict()
  for name in ("clips", "crops"):
    number = own.pop(f"train_{name}", 0)
    if number < 0:
      raise ConfigError(f"{key}.views.train_{name}={number} should be at least 0")
    if part == "train" and number:
      own[name] = number
  side = settings.views.short_side
  side = like.short_side or like.size if side is None else side
  as_trained = {name: like.get(name, other) for name, other in AS_TRAINED.items()} | {
      "short_side": side, "size": like.size if settings.views.crops == 1 else side}
  filled = {name: as_trained[name] for name, value in own.items()
            if value is None and name in as_trained}
  found = own | filled
  # Itself where nothing changes: an error tells where in the config a key is missing.
  if found == {name: x for name, x in settings.views.to_dict().items() if name in own}:
    return settings.views
  return type(settings.views)(found)


class LabelledVideos:
  """An evaluation on labelled videos of a training and a test part.

  Attributes:
    datasets: the two.
    about: a sentence about them.
  """

  parts, by_label = ("train", "test"), True

  def __init__(self, key: str, settings, config, shared: dict):
    """`shared`: parts that earlier evaluations have read; this one adds its own."""
    self._key, self._settings = key, settings
    of = {k: v for k, v in settings.data.to_dict().items() if k not in ("train", "test")}
    self._views = {}
    for part in self.parts:
      split, views = settings.data[part], _views(settings, part, config.views, key)
      name = json.dumps([of, views.to_dict(), split, self.by_label], sort_keys=True, default=str)
      if name not in shared:
        found = datasets.load(settings.data, f"{key}.data", config.data, split)
        shared[name] = data.Views(found, views, config.views, f"{key}.views", self.by_label)
      self._views[part] = shared[name]
    self.datasets = tuple(v.dataset for v in self._views.values())
    self.about = self._about()

  def _about(self) -> str:
    train, test = self.datasets
    of_train, of_test = (self._what(part) for part in self.parts)
    more = "" if of_train == of_test else f" ({of_train})"
    return (f"{len(test.records)} videos of {test.name}, {test.split}, by {len(train.records)} of "
            f"{train.split}{more}; of each {of_test}; {len(test.classes)} classes")

  def _what(self, part: str = "test") -> str:
    v = self._views[part].settings
    count, size = v["clips"] * v["crops"], f"{v['size']} x {v['size']} pixels"
    s = "s" * (count > 1)
    if v["frames"] == 1:
      return f"{count} frame{s} of {size}"
    rate = f" at {v['fps']:g} a second" * bool(v["fps"])
    return f"{count} clip{s} of {v['frames']} frames, {v['stride']} apart{rate}, of {size}"

  @property
  def bad(self) -> set[str]:
    """Ids of videos that can't be read."""
    return {id_ for views in self._views.values() for id_ in views.bad.reasons}

  def measure(self, row, described: Described, folder=None) -> Result:
    """A row's result.

    Args:
      row: the model.
      described: what it gives for views.
      folder: a place for predictions; None for nowhere.
    """
    del row, folder
    train, test = self._parts(described)
    return measures.LABELLED[self._settings.name](train, test, f"{self._key}.name",
                                                  self._settings.args)

  def _parts(self, described: Described) -> tuple:
    """What the row gives for the parts."""
    return tuple(described.of(self._views[part]) for part in self.parts)

  def thumbnails(self, ids) -> dict[str, np.ndarray]:
    """A frame of each video, uint8 [H, W, 3]."""
    return {id_: x[len(x) // 2] if x.ndim == 4 else x[len(x) // 2, x.shape[1] // 2]
            for views in self._views.values() for id_, _, x in views.only(set(ids))}


class Instances(LabelledVideos):
  """An evaluation that needs no labels: views of test videos find other views of their own."""

  parts, by_label = ("test",), False

  def _about(self) -> str:
    test, = self.datasets
    return (f"{len(test.records)} videos of {test.name}, {test.split}; of each {self._what()}; no "
            "labels")

  def measure(self, row, described: Described, folder=None) -> Result:
    """A row's result; see `LabelledVideos.measure`."""
    del row, folder
    test, = self._parts(described)
    return measures.by_instance(test, self._settings.args)


class Classification(LabelledVideos):
  """An evaluation of a trained classifier, on a test part alone."""

  parts = ("test",)

  def __init__(self, key: str, settings, config, shared: dict):
    if "classes" not in config.method.args:
      raise ConfigError(f"{key}.name='classification' is for a method that has classes, as "
                        f"method.name='classifier'; {config.method.name!r} has none")
    super().__init__(key, settings, config, shared)
    data.check_classes(self.datasets[0], config, f"{key}.data")

  def _about(self) -> str:
    test, = self.datasets
    return (f"{len(test.records)} videos of {test.name}, {test.split}; of each {self._what()}; "
            f"{len(test.classes)} classes")

  def measure(self, row, described: Described, folder=None) -> Result:
    """A row's result; see `LabelledVideos.measure`."""
    del row, folder
    (rows, out), = self._parts(described)
    return measures.by_classifier(rows, out)


class Uncertainty(LabelledVideos):
  """An evaluation of what the variances of a video's distribution tell."""

  def measure(self, row, described: Described, folder=None) -> Result:
    """A row's result; see `LabelledVideos.measure`."""
    del row, folder
    train, args = described.of(self._views["train"]), self._settings.args
    strengths = {kind: sorted({float(x) for x in s})
                 for kind, s in args.get("corruptions", {}).items()}
    changes = [_corruption(kind, s) for kind, some in strengths.items() for s in some if s]
    test, *changed = described.changed(self._views["test"], changes, needs="logvar")
    parts = dict(zip([change.name for change in changes], changed, strict=False))  # or none
    worse = {kind: {s: measures.distributions(parts[kind, s] if s else test) for s in some}
             for kind, some in strengths.items()} if parts else {}
    return measures.by_uncertainty(measures.distributions(train), measures.distributions(test),
                                   list(dict.fromkeys(test[0].videos.tolist())), worse, args)


def _corruption(kind: str, strength: float) -> Change:
  """Makes the views of a video worse, by the same noise whenever it is asked for."""
  def worse(id_: str, views: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([zlib.crc32(id_.encode()), 5])
    flat = views.reshape(-1, *views.shape[-3:])
    return corruption.corrupt(flat, kind, strength, rng).reshape(views.shape)
  return Change((kind, strength), worse)


KINDS = {"classification": Classification, "instance_retrieval": Instances,
         "tracking": tracking.Tracking, "uncertainty": Uncertainty}
