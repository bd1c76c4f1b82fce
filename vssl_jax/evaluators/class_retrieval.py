"""Retrieval by class: whether one of the k nearest training features is of the query's class.

What video papers call retrieval on UCF101 and HMDB51; a hit rate, not recall. A row is a frame or a
clip, as the data have it: of every test video some frames (clips) query those of all training
videos (cycle_contrast spec 8.2), or, with `by_video`, videos query videos by the mean of their
rows (provico spec 11.4).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vssl_jax.evaluators import labelled
from vssl_jax.evaluators.labelled import Labelled, Source
from vssl_jax.metrics import classification
from vssl_jax.ops import nearest
from vssl_jax.types import ConfigError

KS = (1, 5, 10, 20, 50)


@dataclasses.dataclass(frozen=True)
class Report:
  """What one evaluation found.

  Attributes:
    hits: k -> [Q] bool.
    index: [Q, K] training rows (videos), nearest first.
    cosine: [Q, K].
    test, train: what was compared.
  """

  hits: dict[int, np.ndarray]
  index: np.ndarray
  cosine: np.ndarray
  test: Labelled
  train: Labelled

  @property
  def numbers(self) -> dict[str, float]:
    """`R@1`, ...: shares of queries with a hit; `mean_class/R@1`, ...: every class counts alike."""
    shares = {f"R@{k}": float(hits.mean()) for k, hits in self.hits.items()}
    means = {f"mean_class/R@{k}": float(np.mean(list(by.values())))
             for k, by in self.per_class.items()}
    return shares | means

  @property
  def per_class(self) -> dict[int, dict[int, float]]:
    """k -> class -> share of its queries with a hit."""
    return {k: classification.per_class(hits, self.test.labels) for k, hits in self.hits.items()}


def make(train: Source, test: Source, *, ks: Sequence[int] = KS, by_video: bool = False,
         unit: bool = False, centre: bool = False, key: str = "pooled",
         block: tuple[int, int] = (nearest.QUERIES, nearest.BANK)) -> "ClassRetrieval":
  """The evaluator of labelled features, or of batches of what they are made from.

  Args:
    train, test: gallery and queries: `Labelled`, or batches as of `labelled.embedded_batches`, or
      a function to such.
    ks: how many neighbours are looked at; all there are, where k is more.
    by_video: features of a video are averaged first, after scaling each to length 1 with `unit`.
    centre: each set's own mean is taken off, which uses the test set as a whole.
    key: of the embedding.
    block: features a side that are compared at once; changes no number.

  Raises:
    ConfigError: impossible settings.
  """
  labelled.check_counts("ks", tuple(ks))
  if unit and not by_video:
    raise ConfigError("unit=True changes nothing without by_video=True: the cosine has no length")
  if min(block) < 1:
    raise ConfigError(f"block={block}: at least one feature a side")
  return ClassRetrieval(train, test, tuple(ks), by_video, unit, centre, key, block)


@dataclasses.dataclass(frozen=True)
class ClassRetrieval:
  """Ranks training features by their cosine to each test feature; see `make`."""

  train: Source
  test: Source
  ks: tuple[int, ...]
  by_video: bool
  unit: bool
  centre: bool
  key: str
  block: tuple[int, int]

  def __call__(self, embed: labelled.Embed | None = None) -> dict[str, float]:
    """`{"R@1": share, ..., "mean_class/R@1": share}`; no `embed` where features are given."""
    return self.report(embed).numbers

  def report(self, embed: labelled.Embed | None = None) -> Report:
    """Embeds what isn't yet, and searches."""
    train, test = (self._of(source, embed) for source in (self.train, self.test))
    labelled.check_same_width(train, test)
    cosine, index = nearest.nearest(test.features, train.features, min(max(self.ks), len(train)),
                                    block=self.block)
    hits = classification.hit_rate(train.labels[index], test.labels, self.ks)
    return Report(dict(zip(self.ks, hits, strict=True)), index, cosine, test, train)

  def _of(self, source: Source, embed: labelled.Embed | None) -> Labelled:
    found = labelled.of(source, embed, self.key)
    found = found.by_video(unit=self.unit) if self.by_video else found
    if self.centre:
      x = found.features.astype(np.float64)
      found = dataclasses.replace(found, features=x - x.mean(axis=0))
    return found
