"""A linear probe without a schedule: logistic regression on the whole training set, to its optimum.

Unlike `linear`'s SGD it has no learning rate, order or epochs, and takes seconds where the features
fit into memory: for comparing networks while they train. Its numbers aren't those of the papers'
recipes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import optimize

from vssl_jax.evaluators import labelled
from vssl_jax.evaluators.labelled import Source
from vssl_jax.evaluators.linear import Report, measure
from vssl_jax.ops import linear_probe
from vssl_jax.types import ConfigError


def make(train: Source, test: Source, *, penalty: float = 1e-3, iterations: int = 500,
         classes: int = 0, top: Sequence[int] = (1, 5), key: str = "pooled") -> "LogisticProbe":
  """The evaluator of labelled features, or of batches of what they are made from.

  Args:
    train, test, classes, top, key: as of `linear.make`.
    penalty: p of `mean cross-entropy + p/2 |W|^2`, where features are scaled to mean 0 and
      variance 1 of the training set.
    iterations: at most, of L-BFGS.

  Raises:
    ConfigError: impossible settings.
  """
  top = tuple(dict.fromkeys((1, *top)))
  labelled.check_counts("top", top)
  if not penalty > 0 or iterations < 1 or classes < 0:
    raise ConfigError(f"penalty={penalty} should be above 0, iterations={iterations} at least 1, "
                      f"classes={classes} at least 0")
  return LogisticProbe(train, test, penalty, iterations, classes, top, key)


@dataclasses.dataclass(frozen=True)
class LogisticProbe:
  """Fits a classifier of features and measures it; see `make`."""

  train: Source
  test: Source
  penalty: float
  iterations: int
  classes: int
  top: tuple[int, ...]
  key: str

  def __call__(self, embed: labelled.Embed | None = None) -> dict[str, float]:
    """`{"top1": share, ..., "loss": training loss, "iterations": count}`."""
    return self.report(embed).history[-1]

  def report(self, embed: labelled.Embed | None = None) -> Report:
    """Embeds what isn't yet, fits and measures; weight and bias are of unscaled features."""
    train, test = (labelled.of(source, embed, self.key) for source in (self.train, self.test))
    labelled.check_same_width(train, test)
    classes = labelled.count_classes(self.classes, train, test)
    mean, spread = train.features.mean(axis=0), train.features.std(axis=0)
    spread = np.where(spread > 1e-6 * np.abs(mean) + 1e-12, spread, 1)  # a constant one stays 0
    x, mask = (train.features - mean) / spread, np.ones(len(train), bool)
    labels, shape = train.labels.astype(np.int32), (x.shape[1], classes)

    def loss(flat):
      value, grad = linear_probe.value_and_grad(_probe(flat, shape), x, labels, mask, self.penalty)
      return float(value), np.concatenate([np.ravel(g) for g in grad]).astype(np.float64)

    found = optimize.minimize(loss, np.zeros((shape[0] + 1) * classes), jac=True,
                              method="L-BFGS-B", options={"maxiter": self.iterations})
    w, b = _probe(found.x, shape)
    w = w / spread[:, None]
    probe = linear_probe.Probe(w.astype(np.float32), (b - mean @ w).astype(np.float32))
    row = {"loss": float(found.fun), "iterations": float(found.nit)}
    return Report(probe.weight, probe.bias, (row | measure(probe, test, self.top),))


def _probe(flat: np.ndarray, shape: tuple[int, int]) -> linear_probe.Probe:
  flat = flat.astype(np.float32)
  return linear_probe.Probe(flat[:-shape[1]].reshape(shape), flat[-shape[1]:])
