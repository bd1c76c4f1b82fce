"""The linear probe: a classifier of frozen features, trained by SGD (cycle_contrast spec 7).

Features come from a host function or are given; what is trained are two tensors of the probe's own,
so the network can't change. Recipes are those of the papers, see `RECIPES`; provico spec 11.1 and
11.2 has the video ones.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from vssl_jax import log
from vssl_jax.evaluators import labelled
from vssl_jax.evaluators.labelled import Batch, Labelled, Source
from vssl_jax.metrics import classification
from vssl_jax.ops import linear_probe
from vssl_jax.types import ConfigError

ROWS = 4096  # test features that are classified at once

Rows = Iterator[tuple[np.ndarray, np.ndarray]]  # features [b, D] and labels [b]
Stream = Callable[[int], Iterable[Batch]]  # epoch -> batches


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a probe is trained.

  Attributes:
    lr: for this batch size; constant within an epoch.
    batch: rows; the last batch of an epoch is smaller.
    epochs, momentum, weight_decay: the decay is of both tensors.
    milestones, gamma: epochs from which the rate is `gamma` times what it was.
    cosine: the rate falls to 0 along half a cosine.
    warmup, warmup_lr: epochs in which the rate rises linearly from this one.
    dropout: of features.
    std: of the weights at the start.
  """

  lr: float
  batch: int
  epochs: int
  momentum: float = 0.9
  weight_decay: float = 0.0
  milestones: tuple[int, ...] = ()
  gamma: float = 0.1
  cosine: bool = False
  warmup: int = 0
  warmup_lr: float = 0.0
  dropout: float = 0.0
  std: float = 0.01


RECIPES = {
  "imagenet": Recipe(30.0, 256, 100, milestones=(60, 80)),
  "kinetics": Recipe(4.0, 512, 60, cosine=True, warmup=8, warmup_lr=0.001),
  "small_video": Recipe(0.5, 128, 100, cosine=True, warmup=8, warmup_lr=0.001),
}


def learning_rate(recipe: Recipe, epoch: int) -> float:
  """The rate of all steps of an epoch, counted from 0."""
  if epoch < recipe.warmup:
    end = learning_rate(recipe, recipe.warmup)
    return recipe.warmup_lr + (end - recipe.warmup_lr) * epoch / recipe.warmup
  lr = recipe.lr * recipe.gamma ** sum(epoch >= m for m in recipe.milestones)
  return lr * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2 if recipe.cosine else lr


@dataclasses.dataclass(frozen=True)
class Report:
  """What one probe came to.

  Attributes:
    weight, bias: [D, C] and [C] of the last epoch.
    history: for every epoch that was measured: `epoch` (from 1), `lr`, `loss` (the mean over its
      steps), `top1`, ...; where videos are known also `video/top1`, ... of their mean softmax.
    chosen: the recipe's rate, where it was chosen from several; None where it was given.
  """

  weight: np.ndarray
  bias: np.ndarray
  history: tuple[dict[str, float], ...]
  chosen: float | None = None

  @property
  def numbers(self) -> dict[str, float]:
    """Those of the last epoch, and `best/...` of the epoch that has the best top-1; `chosen/lr`.

    The best is chosen on the test set: report it beside the last one, as the papers' scripts do.
    Of equal ones it is the first. Where videos are known, it is they that count.
    """
    judge = "video/top1" if "video/top1" in self.history[-1] else "top1"
    best = max(self.history, key=lambda row: row[judge])
    chosen = {} if self.chosen is None else {"chosen/lr": self.chosen}
    return self.history[-1] | chosen | {f"best/{name}": best[name] for name in best
                                        if name == "epoch" or "top" in name}


def make(train: Source | Stream, test: Source, *, recipe: str | Recipe = "imagenet",
         changes: dict | None = None, rates: Sequence[float] = (), classes: int = 0,
         top: Sequence[int] = (1, 5), every: int = 1, stream: bool = False, seed: int = 0,
         key: str = "pooled", progress: bool = True) -> "LinearProbe":
  """The evaluator of labelled features, or of batches of what they are made from.

  Args:
    train, test: `Labelled`, or batches as of `labelled.embedded_batches`, or a function to such;
      they are embedded once.
    recipe: a name in `RECIPES`, or a `Recipe`.
    changes: fields of the recipe to change; None leaves one as it is.
    rates: factors of the recipe's rate to choose from: four fifths of the training videos are
      trained on with each, and the one that is best on the fifth that is held out is taken for all
      of them. The test has no say. Without any the rate is the recipe's.
    classes: how many; found from the labels if 0.
    top: of the accuracies; 1 is always there.
    every: epochs between measurements; the last epoch is always measured.
    stream: `train` is a function of the epoch (from 0) to its batches, of up to the recipe's size.
      They are embedded as they come, so that each epoch may have other crops. Needs `classes`.
    seed: of weights, order and dropout.
    key: of the embedding.
    progress: shows it and the remaining time, where it takes longer than seconds.

  Raises:
    ConfigError: impossible settings.
  """
  if isinstance(recipe, str):
    if recipe not in RECIPES:
      raise ConfigError(f"recipe={recipe!r} is unknown; there are {', '.join(RECIPES)}")
    recipe = RECIPES[recipe]
  changes = {key: value for key, value in (changes or {}).items() if value is not None}
  unknown = set(changes) - {f.name for f in dataclasses.fields(Recipe)}
  if unknown:
    raise ConfigError(f"a recipe has no {sorted(unknown)[0]!r}; it has "
                      f"{', '.join(f.name for f in dataclasses.fields(Recipe))}")
  recipe = dataclasses.replace(recipe, **changes)
  _check(recipe)
  top = tuple(dict.fromkeys((1, *top)))
  labelled.check_counts("top", top)
  if every < 1 or classes < 0:
    raise ConfigError(f"every={every} should be at least 1 and classes={classes} at least 0")
  if stream and (not callable(train) or not classes):
    raise ConfigError("stream=True: train should be a function of the epoch, and classes be given")
  if any(not rate > 0 for rate in rates) or len(set(rates)) < len(rates):
    raise ConfigError(f"rates={list(rates)} should be different numbers above 0")
  if stream and rates:
    raise ConfigError("rates are chosen by features at hand, not with stream=True")
  return LinearProbe(train, test, recipe, tuple(rates), classes, top, every, stream, seed, key,
                     progress)


def _check(r: Recipe) -> None:
  if not r.lr > 0 or min(r.batch, r.epochs) < 1:
    raise ConfigError(f"lr={r.lr} should be above 0, batch={r.batch} and epochs={r.epochs} at "
                      "least 1")
  if not (0 <= r.momentum < 1 and 0 <= r.dropout < 1 and r.weight_decay >= 0 and r.std >= 0):
    raise ConfigError(f"momentum={r.momentum} and dropout={r.dropout} should be in [0, 1), "
                      f"weight_decay={r.weight_decay} and std={r.std} at least 0")
  if not 0 <= r.warmup < r.epochs:
    raise ConfigError(f"warmup={r.warmup} should be at least 0 and below epochs={r.epochs}")


@dataclasses.dataclass(frozen=True)
class LinearProbe:
  """Trains a classifier of features and measures it; see `make`."""

  train: Source | Stream
  test: Source
  recipe: Recipe
  rates: tuple[float, ...]
  classes: int
  top: tuple[int, ...]
  every: int
  stream: bool
  seed: int
  key: str
  progress: bool

  def __call__(self, embed: labelled.Embed | None = None) -> dict[str, float]:
    """`{"top1": share, ..., "best/top1": share, ...}`; no `embed` where features are given."""
    return self.report(embed).numbers

  def report(self, embed: labelled.Embed | None = None) -> Report:
    """Embeds what isn't yet, trains and measures.

    Raises:
      ValueError: training and test don't fit together, or the probe diverged.
    """
    test = labelled.of(self.test, embed, self.key)
    train = None if self.stream else labelled.of(self.train, embed, self.key)
    seen = [x for x in (train, test) if x is not None]
    classes = labelled.count_classes(self.classes, *seen)
    labelled.check_same_width(seen[0], test)
    if self.rates:
      recipe = self._choose(train, classes)
      known = dataclasses.replace(self, train=train, test=test, recipe=recipe, rates=())
      return dataclasses.replace(known.report(), chosen=recipe.lr)
    r, steps, history = self.recipe, 0, []
    probe = linear_probe.init(self.seed, test.features.shape[1], classes, r.std)
    velocity = linear_probe.at_rest(probe)
    for epoch in log.stage(range(r.epochs), name="linear probe", unit="epochs",
                           show=self.progress):
      lr, losses = learning_rate(r, epoch), []
      for x, labels in self._rows(train, epoch, embed):
        x, labels, mask = self._padded(x, labels, test, classes)
        x = linear_probe.drop(self.seed, steps, x, r.dropout) if r.dropout else x
        probe, velocity, loss = linear_probe.step(probe, velocity, x, labels, mask, lr,
                                                  r.momentum, r.weight_decay)
        losses.append(loss)
        steps += 1
      mean = _mean_loss(losses, epoch, lr)
      if (epoch + 1) % self.every == 0 or epoch + 1 == r.epochs:
        history.append({"epoch": float(epoch + 1), "lr": lr, "loss": mean}
                       | measure(probe, test, self.top))
    return Report(np.asarray(probe.weight), np.asarray(probe.bias), tuple(history))

  def _choose(self, train: Labelled, classes: int) -> Recipe:
    """The recipe at the rate that is best for videos that are held out, the first of equal ones."""
    part, held = _parts(train, self.seed)
    found, reasons = {}, []
    for rate in self.rates:
      recipe = dataclasses.replace(self.recipe, lr=rate * self.recipe.lr)
      tried = dataclasses.replace(self, train=part, test=held, recipe=recipe, rates=(),
                                  classes=classes, every=recipe.epochs)
      try:
        last = tried.report().history[-1]
      except Diverged as e:
        reasons.append(e)
      else:
        found[recipe] = last.get("video/top1", last["top1"])
    if not found:
      raise reasons[-1]
    return max(found, key=found.get)

  def _rows(self, train: Labelled | None, epoch: int, embed: labelled.Embed | None) -> Rows:
    """The batches of an epoch."""
    if train is None:
      for x, labels, _ in labelled.embedded_batches(self.train(epoch), embed, self.key):
        yield x, labels
      return
    order = np.random.default_rng((self.seed, epoch)).permutation(len(train))
    for start in range(0, len(train), self.recipe.batch):
      at = order[start:start + self.recipe.batch]
      yield train.features[at], train.labels[at]

  def _padded(self, x: np.ndarray, labels: np.ndarray, test: Labelled, classes: int,
              ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A whole batch, with a mask [batch] of what was given: one shape, one compilation."""
    n, batch, dim = len(x), self.recipe.batch, test.features.shape[1]
    if n > batch or x.shape[1] != dim:
      raise ValueError(f"a training batch of {x.shape}: should be up to {batch} rows of the test's "
                       f"{dim} features")
    if not np.isfinite(x).all() or not 0 <= labels.min() <= labels.max() < classes:
      raise ValueError(f"a training batch has features that aren't finite, or labels outside "
                       f"0 to {classes - 1}: {labels.min()} to {labels.max()}")
    return (np.pad(x, ((0, batch - n), (0, 0))), np.pad(labels, (0, batch - n)).astype(np.int32),
            np.arange(batch) < n)


def measure(probe: linear_probe.Probe, test: Labelled, top: Sequence[int]) -> dict[str, float]:
  """`top1`, ...: shares of right answers, and `video/top1`, ... where videos are known."""
  scores = np.concatenate([np.asarray(linear_probe.scores(probe, test.features[i:i + ROWS]))
                           for i in range(0, len(test), ROWS)])
  found = {f"top{k}": v for k, v in classification.accuracy(scores, test.labels, top).items()}
  if test.videos is not None:
    confidence, labels = classification.video_confidence(scores, test.videos, test.labels)
    found |= {f"video/top{k}": v for k, v in
              classification.accuracy(confidence, labels, top).items()}
  return found


def _parts(x: Labelled, seed: int) -> tuple[Labelled, Labelled]:
  """Four fifths of the videos, or of the rows where these aren't known, and the other fifth."""
  videos = np.arange(len(x)) if x.videos is None else x.videos
  names = np.unique(videos)
  if len(names) < 2:
    raise ConfigError("rates: to choose one a video is held out, and there is no other")
  out = np.random.default_rng((seed, 1)).permutation(names)[:max(1, len(names) // 5)]
  held = np.isin(videos, out)
  return tuple(Labelled(x.features[at], x.labels[at], None if x.videos is None else x.videos[at])
               for at in (~held, held))


class Diverged(FloatingPointError, ValueError):
  """The loss is no finite number."""


def _mean_loss(losses: list, epoch: int, lr: float) -> float:
  if not losses:
    raise ValueError(f"epoch {epoch} had no training batch")
  mean = float(np.mean([float(x) for x in losses]))
  if not math.isfinite(mean):
    raise Diverged(f"the probe diverged in epoch {epoch} at the learning rate {lr:g}: lower the "
                   "recipe's lr, or scale the features")
  return mean
