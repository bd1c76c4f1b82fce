"""The evaluations that a config names: their data, and how a row of the table is measured on them.

An entry of `evals` is `dict(name=EVALUATOR, data=dict(name, root, train, test, ...),
views=dict(...), args=dict(...))`; `data` without a name is the run's own data set.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines import clips, tracks
from data_pipelines.augment import corruption
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset
from data_pipelines.tracking_pairs import Pairs
from experiments import datasets, origin, registry, tracking_head, unfinished
from experiments.recognition import data, measures
from experiments.recognition.described import Change, Described
from experiments.recognition.measures import Result
from experiments.unfinished import Unfinished
from vssl_jax.methods import siamfc
from vssl_jax.models import siamfc as models
from vssl_jax.types import ConfigError

HEAD = "head"  # a trained one, where that is kept


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
    strengths = {kind: sorted(map(float, s)) for kind, s in args.get("corruptions", {}).items()}
    changes = [_corruption(kind, s) for kind, some in strengths.items() for s in some if s]
    test, *changed = described.changed(self._views["test"], changes, needs="logvar")
    parts = dict(zip([change.name for change in changes], changed, strict=False))  # none without
    worse = {kind: {s: measures.distributions(parts[kind, s] if s else test) for s in some}
             for kind, some in strengths.items()} if "logvar" in test[1] else {}
    return measures.by_uncertainty(measures.distributions(train), measures.distributions(test),
                                   list(dict.fromkeys(test[0].videos.tolist())), worse, args)


def _corruption(kind: str, strength: float) -> Change:
  """Makes the views of a video worse, by the same noise whenever it is asked for."""
  def worse(id_: str, views: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([zlib.crc32(id_.encode()), 5])
    flat = views.reshape(-1, *views.shape[-3:])
    return corruption.corrupt(flat, kind, strength, rng).reshape(views.shape)
  return Change((kind, strength), worse)


class Tracking:
  """An evaluation by tracking objects from their first box, on maps of the frozen encoder.

  Attributes:
    datasets: the one whose tracks are followed.
    about: a sentence about it, with what a box that never moves has.
    bad: none; a track that can't be read raises.
    reads: what its head was read from -> channels of the maps that it is for; {} if it isn't read.
  """

  bad = frozenset()

  def __init__(self, key: str, settings, config, shared: dict):
    del shared  # tracks are no views
    self._key, self._settings, self._config = key, settings, config
    found = _tracks(settings.data, f"{key}.data", config.data, settings.data.test)
    self.datasets = (found,)
    self._tracker = registry.make("vssl_jax.evaluators", "tracking", f"{key}.name", found,
                                  tracks.frames, **settings.args)
    self._train = self._read = self._method = None
    self.reads, head = {}, settings.head
    if settings.args.matcher == "siamese":
      if head.get("weights"):
        self._read = tracking_head.load(head.weights, f"{key}.head.weights")
        self.reads = {f"{key}.head.weights={head.weights}": self._read.settings["features"]}
      self._method = _head(head, f"{key}.head", config.method.args.get("backbone", ""), self._read)
      other = head.data.name  # tracks of another data set than those that are followed
      self._train = None if self._read else _tracks(
          *((head.data, f"{key}.head.data") if other else (settings.data, f"{key}.data")),
          config.data, settings.data.train)
    elif head.get("weights"):
      raise ConfigError(f"{key}.head.weights={head.weights} is for {key}.args.matcher='siamese', "
                        f"not for {settings.args.matcher!r}")
    still = measures.of_tracks(self._tracker.identity()).shown
    self.about = (f"{len(found.records)} tracks of {found.name}, {found.split}, by a "
                  f"{settings.args.matcher} tracker, protocol {settings.args.protocol}; a box that "
                  f"never moves has {', '.join(f'{k} {v:.1f}' for k, v in still.items())}")

  def measure(self, row, described: Described, folder=None) -> Result:
    """A row's result; predicted boxes are written below `folder`.

    One whose maps aren't those that a head which was read is for has none: the pixels' row.
    """
    if row.dense is None:
      raise ConfigError(f"{self._key}: this model has no maps to track by; leave it out of evals")
    if self._read and _channels(row.dense) not in self.reads.values():
      return measures.no_tracks(self._settings.args.benchmark)
    embed = row.dense if self._method is None else tracking_head.embed(
        self._method, self._params(row.dense, described), row.dense)
    kept = self._unfinished(described, self.datasets[0])
    return measures.of_tracks(self._tracker.report(embed, folder, kept=kept))

  def _unfinished(self, described: Described, of: Dataset) -> Unfinished | None:
    """What an interrupted evaluation of the same model has found of a data set."""
    if described.scratch is None:
      return None
    weights = self._settings.head.get("weights")
    return Unfinished(described.scratch, described.about, self._settings.to_dict(),
                      self._config.seed, weights and origin.file_digest(weights),
                      unfinished.state(of))

  def _params(self, features, described: Described):
    """Those of SiamFC's head: read, trained on the tracks of the training part, or kept of that."""
    head, method, seed = self._settings.head, self._method, self._config.seed
    if self._read:
      return self._read.params
    kept = self._unfinished(described, self._train)
    if kept and (known := kept.get(HEAD)):
      return tracking_head.nested(known)
    examples = clips.training(self._train, Pairs(shift=head.shift, zoom=head.zoom), seed=seed,
                              times=head.pairs)
    trained = tracking_head.train_head(
        method, features, clips.batches(examples, batch=head.batch), epochs=head.epochs,
        steps_per_epoch=head.steps or max(1, head.pairs * len(self._train.records) // head.batch),
        learning_rate=head.learning_rate, final=head.final, drops=head.drops, seed=seed)
    if kept:
      kept[HEAD] = tracking_head.flat(trained.params)
    return trained.params


def _channels(dense) -> int:
  return dense({"image": np.zeros((1, 64, 64, 3), np.uint8)})["features"].shape[-1]


def check_heads(found: Mapping[str, Any], channels: Callable[[], int]) -> None:
  """Raises ConfigError where a head that was read is for maps of other channels than a model's.

  Args:
    channels: tells those of the model; asked only where a head was read.
  """
  for what, wanted in (pair for e in found.values() for pair in getattr(e, "reads", {}).items()):
    if (have := channels()) != wanted:
      raise ConfigError(f"{what}: the head is for maps of {wanted} channels, and this model's have "
                        f"{have}")


def _head(head, key: str, backbone: str, read=None):
  """SiamFC's head, with the channels of one that was `read`; ConfigError where it can't be."""
  channels, scale = models.HEADS.get(backbone, models.HEADS["resnet18"])
  if read:
    channels = read.settings["channels"]
    if head.channels not in (0, channels):
      raise ConfigError(f"{key}.channels={head.channels}, but that of {key}.weights={head.weights} "
                        f"has {channels}; 0 takes them from the file")
  try:
    registry.check_least(head, {"epochs": 1, "batch": 1, "pairs": 1, "steps": 0, "channels": 0,
                                "scale": 0, "shift": 0, "zoom": 0})
    if any(n < 1 for n in head.drops):
      raise ConfigError(f"drops={tuple(head.drops)} must be numbers of epochs, from 1 on")
    return siamfc.make(channels=head.channels or channels, scale=head.scale or scale,
                       loss=head.loss, radius=head.radius)
  except (ConfigError, TypeError, ValueError) as e:
    raise ConfigError(f"{key}: {e}") from e


def _tracks(settings, key: str, like, split: str) -> Dataset:
  name = settings.name or like.name
  if name != "procedural":
    return datasets.load(settings, key, like, split)
  drawn: Mapping[str, Any] = settings.to_dict() | {"truth": True}
  found = datasets.load(type(settings)(drawn), key, like, split)
  try:
    return tracks.drawn(found)
  except DataError as e:
    raise ConfigError(f"{key}: {e}") from e


KINDS = {"classification": Classification, "instance_retrieval": Instances, "tracking": Tracking,
         "uncertainty": Uncertainty}
