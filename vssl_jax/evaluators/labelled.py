"""Features with labels: what probes, nearest neighbours and retrieval by class are measured on."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vssl_jax.metrics import classification
from vssl_jax.types import ConfigError

Embed = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]
Batch = Mapping[str, np.ndarray]
OWN = ("label", "mask", "video")  # of a batch; all else is for the model


@dataclasses.dataclass(frozen=True)
class Labelled:
  """Features of pictures or clips.

  Attributes:
    features: [N, D] float32.
    labels: [N] int64, at least 0.
    videos: [N], what video each is of; None where that isn't known.
  """

  features: np.ndarray
  labels: np.ndarray
  videos: np.ndarray | None = None

  def __post_init__(self):
    x, labels = np.asarray(self.features, np.float32), np.asarray(self.labels)
    videos = None if self.videos is None else np.asarray(self.videos)
    if x.ndim != 2 or not x.size or labels.shape != x.shape[:1] or (
        videos is not None and videos.shape != labels.shape):
      raise ValueError(f"features {x.shape}, labels {labels.shape}"
                       f"{'' if videos is None else f', videos {videos.shape}'}: should be [N, D], "
                       "[N] and [N], and not empty")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
      raise ValueError(f"labels should be whole numbers of at least 0, are {labels.dtype} from "
                       f"{labels.min()}")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
      raise ValueError(f"the features of row {int(np.argmin(finite))} aren't finite")
    for name, value in (("features", x), ("labels", labels.astype(np.int64)), ("videos", videos)):
      object.__setattr__(self, name, value)

  def __len__(self) -> int:
    return len(self.labels)

  def by_video(self, *, unit: bool = False) -> "Labelled":
    """One row a video, the mean of its rows; with `unit` of the rows scaled to length 1.

    Raises:
      ConfigError: videos aren't known.
      ValueError: a video has rows of several classes.
    """
    if self.videos is None:
      raise ConfigError("to average over videos, their ids must be known: give `video` in the "
                        "batches")
    x = self.features.astype(np.float64)
    if unit:
      x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    first, means = classification.mean_by_group(x, self.videos)
    classification.check_one_class(self.videos, self.labels)
    return Labelled(means.astype(np.float32), self.labels[first], self.videos[first])


# Features at hand, or batches that are still to be embedded; a function is called for an iterable.
Source = Labelled | Iterable[Batch] | Callable[[], Iterable[Batch]]


def of(source: Source, embed: Embed | None, key: str) -> Labelled:
  """The features of a source; see `embedded_batches` for those of batches."""
  if isinstance(source, Labelled):
    return source
  parts = list(embedded_batches(source() if callable(source) else source, embed, key))
  if not parts:
    raise ValueError("no labelled picture or clip is there: nothing to evaluate on")
  features, labels, videos = zip(*parts, strict=True)
  return Labelled(np.concatenate(features), np.concatenate(labels),
                  None if videos[0] is None else np.concatenate(videos))


def embedded_batches(batches: Iterable[Batch], embed: Embed | None, key: str,
                     ) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
  """Features [B, D], labels [B] and videos [B] (or None) of each batch, without its padding.

  Args:
    batches: dicts with `label` [B]; `mask` [B] bool where rows are padding (false); `video` [B]
      where ids are known; the rest goes to `embed`.
    embed: a host function to a dict of arrays.
    key: which of them are the features, [B, D].

  Raises:
    ConfigError: there is no `embed`, or it has no such key.
    ValueError: a batch or the features have the wrong form.
  """
  if embed is None:
    raise ConfigError("batches need an embedding: give features, or evaluate a model")
  for batch in batches:
    if "label" not in batch:
      raise ValueError(f"a batch has {sorted(batch)}, but no 'label'")
    labels = np.asarray(batch["label"])
    mask = np.asarray(batch.get("mask", np.ones(len(labels))), bool)
    out = embed({name: x for name, x in batch.items() if name not in OWN})
    if key not in out:
      raise ConfigError(f"key={key!r}: the embedding has {', '.join(sorted(out))}")
    x = np.asarray(out[key], np.float32)
    if x.ndim != 2 or not len(x) == len(labels) == len(mask):
      raise ValueError(f"features {x.shape}, labels {labels.shape}, mask {mask.shape}: should be "
                       "[B, D], [B] and [B]")
    if mask.any():
      videos = np.asarray(batch["video"])[mask] if "video" in batch else None
      yield x[mask], labels[mask], videos


def check_same_width(train: Labelled, test: Labelled) -> None:
  """Raises ValueError where the features of both differ in size."""
  if train.features.shape[1] != test.features.shape[1]:
    raise ValueError(f"{train.features.shape[1]} features in training, "
                     f"{test.features.shape[1]} in the test")


def count_classes(classes: int, *rows: Labelled) -> int:
  """`classes`, or as many as the labels need where it is 0; ValueError where it is too few."""
  most = 1 + max(int(x.labels.max()) for x in rows)
  if classes and most > classes:
    raise ValueError(f"there is a label {most - 1}, but classes={classes}")
  return classes or most


def check_counts(name: str, ks: tuple[int, ...]) -> None:
  """Raises ConfigError where numbers of neighbours or of guesses are impossible."""
  if not ks or min(ks) < 1 or len(set(ks)) < len(ks):
    raise ConfigError(f"{name}={list(ks)} should be different whole numbers of at least 1")
