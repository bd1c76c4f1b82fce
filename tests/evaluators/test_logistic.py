"""Logistic regression to its optimum: where the float64 gradient is zero; what it is good for."""

import numpy as np
import pytest

from tests.reference import classification as reference
from vssl_jax.evaluators import logistic
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.types import ConfigError


def made(n, noise=0.3, seed=0, classes=3, dim=4):
  rng = np.random.default_rng(seed)
  labels = np.arange(n) // 2 % classes
  x = 7 + np.eye(classes, dim)[labels] + noise * rng.normal(size=(n, dim))
  return Labelled(x, labels, np.arange(n) // 2)


def test_the_gradient_vanishes():
  train, p = made(24), 0.02
  report = logistic.make(train, made(6), penalty=p).report()
  x = train.features.astype(np.float64)
  spread = x.std(axis=0)
  w, b = report.weight.astype(np.float64), report.bias.astype(np.float64)
  shares = np.array([reference.softmax(row @ w + b) for row in x]) - np.eye(3)[train.labels]
  scaled = (x - x.mean(axis=0)) / spread
  np.testing.assert_allclose(scaled.T @ shares / 24 + p * w * spread[:, None], 0, atol=1e-3)
  np.testing.assert_allclose(shares.mean(axis=0), 0, atol=1e-3)


def test_informative_features_beat_random_ones_and_a_constant_one_does_no_harm():
  train, test = (Labelled(np.c_[x.features, np.full(len(x), 5.0)], x.labels, x.videos)
                 for x in (made(24), made(12, seed=1)))
  numbers = logistic.make(train, test)()
  assert numbers["top1"] > 0.85 and numbers["video/top1"] > 0.85 and numbers["iterations"] > 1
  rng = np.random.default_rng(0)
  random = [Labelled(rng.normal(size=x.features.shape), x.labels) for x in (train, test)]
  assert logistic.make(*random)()["top1"] < 0.7


def test_what_is_refused():
  for settings, words in (({"penalty": 0}, "penalty"), ({"iterations": 0}, "iterations"),
                          ({"top": (0,)}, "top")):
    with pytest.raises(ConfigError, match=words):
      logistic.make(made(4), made(4), **settings)
  with pytest.raises(ValueError, match="label 2, but classes=2"):
    logistic.make(made(6), made(6), classes=2)()
