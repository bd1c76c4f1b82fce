"""Nearest neighbours: how often the classes of the nearest training features agree with one's own.

The weighted vote of instance discrimination (Wu et al., CVPR 2018) and DINO: `metrics.votes`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vssl_jax.evaluators import labelled
from vssl_jax.evaluators.labelled import Labelled, Source
from vssl_jax.metrics import classification
from vssl_jax.ops import nearest
from vssl_jax.types import ConfigError

KS = (1, 5, 10, 20, 50, 100, 200)


@dataclasses.dataclass(frozen=True)
class Report:
  """What one evaluation found.

  Attributes:
    scores: k -> votes [Q, C].
    labels: [Q].
    top: of the numbers.
  """

  scores: dict[int, np.ndarray]
  labels: np.ndarray
  top: tuple[int, ...]

  @property
  def numbers(self) -> dict[str, float]:
    """`k=20/top1`, ...: shares of right answers."""
    return {f"k={k}/top{n}": share for k, votes in self.scores.items()
            for n, share in classification.accuracy(votes, self.labels, self.top).items()}


def make(train: Source, test: Source | None = None, *, ks: Sequence[int] = KS,
         temperature: float = 0.07, top: Sequence[int] = (1,), leave_one_out: bool = False,
         by_video: bool = False, key: str = "pooled",
         block: tuple[int, int] = (nearest.QUERIES, nearest.BANK)) -> "KnnEvaluator":
  """The evaluator of labelled features, or of batches of what they are made from.

  Args:
    train: features to search in: `Labelled`, or batches as of `labelled.embedded_batches`, or a
      function to such.
    test: those to classify; None with `leave_one_out`.
    ks: how many neighbours vote; all there are, where k is more.
    temperature: of the votes.
    top: of the accuracies.
    leave_one_out: the training features are classified by each other. A row never votes for
      itself, nor, where videos are known, for another of its video.
    by_video: features of a video are averaged first.
    key: of the embedding.
    block: features a side that are compared at once; changes no number.

  Raises:
    ConfigError: impossible settings.
  """
  labelled.check_counts("ks", tuple(ks))
  labelled.check_counts("top", tuple(top))
  if not temperature > 0:
    raise ConfigError(f"temperature={temperature} should be above 0")
  if leave_one_out == (test is not None):
    raise ConfigError("give test features, or leave_one_out=True: one of the two")
  if min(block) < 1:
    raise ConfigError(f"block={block}: at least one feature a side")
  return KnnEvaluator(train, test, tuple(ks), temperature, tuple(top), by_video, key, block)


@dataclasses.dataclass(frozen=True)
class KnnEvaluator:
  """Classifies by a vote of neighbours; see `make`."""

  train: Source
  test: Source | None
  ks: tuple[int, ...]
  temperature: float
  top: tuple[int, ...]
  by_video: bool
  key: str
  block: tuple[int, int]

  def __call__(self, embed: labelled.Embed | None = None) -> dict[str, float]:
    """`{"k=20/top1": share, ...}`; `embed` may be None where features are given."""
    return self.report(embed).numbers

  def report(self, embed: labelled.Embed | None = None) -> Report:
    """Embeds what isn't yet, searches and votes."""
    train, test = (None if source is None else self._of(source, embed)
                   for source in (self.train, self.test))
    groups = {}
    if test is None:
      test, of = train, train.videos if train.videos is not None else np.arange(len(train))
      groups = {"queries_of": of, "bank_of": of}
    labelled.check_same_width(train, test)
    cosine, index = nearest.nearest(test.features, train.features, min(max(self.ks), len(train)),
                                    **groups, block=self.block)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    scores = classification.votes(cosine, train.labels[index], classes, self.ks, self.temperature)
    return Report(scores, test.labels, self.top)

  def _of(self, source: Source, embed: labelled.Embed | None) -> Labelled:
    found = labelled.of(source, embed, self.key)
    return found.by_video() if self.by_video else found
