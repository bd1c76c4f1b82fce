"""Retrieval by class: against the twin, what the options do, informative features."""

import numpy as np
import pytest

from tests.reference import classification as reference
from vssl_jax.evaluators import class_retrieval
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.types import ConfigError

BLOCK = (8, 16)


def made(videos, seed, noise=1.0, classes=5, clips=2):
  rng = np.random.default_rng(seed)
  labels = (np.arange(videos) % classes).repeat(clips)
  x = np.eye(classes, 6)[labels] + noise * rng.normal(size=(len(labels), 6)) + 0.5
  return Labelled(x, labels, np.arange(videos).repeat(clips))


def share(train, test, k):
  hits = [reference.hit(reference.neighbours(x, train.features, lambda i: True), train.labels, y, k)
          for x, y in zip(test.features, test.labels, strict=True)]
  return np.array(hits)


def test_rows_against_the_twin_and_by_class():
  train, test = made(12, 0), made(7, 1)
  report = class_retrieval.make(train, test, ks=(1, 4, 900), block=BLOCK).report()
  for k in (1, 4, 900):
    hits = share(train, test, k)
    np.testing.assert_array_equal(report.hits[k], hits)
    assert report.numbers[f"R@{k}"] == pytest.approx(hits.mean())
    by = {c: hits[test.labels == c].mean() for c in range(5)}
    assert report.per_class[k] == pytest.approx(by)
    assert report.numbers[f"mean_class/R@{k}"] == pytest.approx(np.mean(list(by.values())))
  assert report.numbers["R@900"] == 1


def test_videos_are_means_and_centring_takes_each_sets_own_mean():
  train, test = made(12, 0), made(7, 1)
  report = class_retrieval.make(train, test, ks=(2,), by_video=True, centre=True,
                                block=BLOCK).report()

  def centred(rows):
    x = rows.features.reshape(-1, 2, 6).mean(axis=1)
    return Labelled(x - x.mean(axis=0), rows.labels[::2])

  np.testing.assert_array_equal(report.hits[2], share(centred(train), centred(test), 2))


def test_a_class_without_training_features_is_never_found():
  train, test = made(10, 0, noise=0.01), made(10, 1, noise=0.01)
  kept = train.labels != 3
  train = Labelled(train.features[kept], train.labels[kept])
  report = class_retrieval.make(train, test, ks=(1, 500), block=BLOCK).report()
  assert report.per_class[500] == {0: 1, 1: 1, 2: 1, 3: 0, 4: 1}
  assert report.numbers["R@1"] == 0.8


def test_informative_features_beat_random_ones():
  train, test = made(20, 0, noise=0.3), made(20, 1, noise=0.3)
  good = class_retrieval.make(train, test, ks=(1,), block=BLOCK)()["R@1"]
  rng = np.random.default_rng(0)
  random = [Labelled(rng.normal(size=x.features.shape), x.labels) for x in (train, test)]
  assert good > class_retrieval.make(*random, ks=(1,), block=BLOCK)()["R@1"] + 0.3


def test_impossible_settings():
  for settings, words in (({"ks": (0,)}, "ks"), ({"unit": True}, "by_video"),
                          ({"block": (1, 0)}, "block")):
    with pytest.raises(ConfigError, match=words):
      class_retrieval.make(made(2, 0), made(2, 0), **settings)
