"""Evaluation by tracking objects from their first box, on maps of a frozen encoder."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_pipelines import clips, tracks
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset
from data_pipelines.tracking_pairs import Pairs
from experiments import datasets, origin, registry, tracking_head, unfinished
from experiments.recognition import measures
from experiments.recognition.described import Described
from experiments.recognition.measures import Result
from experiments.unfinished import Unfinished
from vssl_jax.methods import siamfc
from vssl_jax.models import siamfc as models
from vssl_jax.types import ConfigError

HEAD = "head"  # a trained one, where that is kept


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
