"""A vote of neighbours: against the twin, closed forms, leave-one-out, informative features."""

import numpy as np
import pytest

from tests.reference import classification as reference
from vssl_jax.evaluators import knn
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.types import ConfigError

BLOCK = (8, 16)


def clusters(n, noise, seed=0, classes=4, dim=6):
  """Rows around the class's direction; with noise 0 they are equal to it."""
  rng = np.random.default_rng(seed)
  labels = np.arange(n) % classes
  x = np.eye(classes, dim)[labels] + noise * rng.normal(size=(n, dim))
  return Labelled(x * rng.uniform(0.1, 9, (n, 1)), labels)


def test_against_the_twin():
  train, test = clusters(30, 0.8), clusters(13, 0.8, seed=1)
  report = knn.make(train, test, ks=(3, 1, 500), top=(1, 2), temperature=0.2, block=BLOCK).report()
  for k in (1, 3, 500):
    votes = []
    for x in test.features:
      found = reference.neighbours(x, train.features, lambda i: True)
      votes.append(reference.votes(found, train.labels, 4, k, 0.2))
    np.testing.assert_allclose(report.scores[k], votes, rtol=1e-4)
    for n in (1, 2):
      share = reference.accuracy(votes, test.labels.tolist(), n)
      assert report.numbers[f"k={k}/top{n}"] == pytest.approx(share)


def test_separate_classes_are_always_right_and_noise_never_helps():
  train, test = clusters(40, 0.0), clusters(20, 0.0, seed=1)
  assert knn.make(train, test, ks=(1, 10), block=BLOCK)() == {"k=1/top1": 1, "k=10/top1": 1}
  noise = np.random.default_rng(0).normal(size=(20, 6))
  random = Labelled(noise, test.labels)
  assert knn.make(train, random, ks=(1,), block=BLOCK)()["k=1/top1"] < 0.7


def test_equal_similarities_and_one_class():
  """All equal: every class has as many votes, so the smallest wins; one class is always right."""
  x = np.ones((8, 3))
  train = Labelled(x, np.array([2, 1, 0, 2, 1, 0, 2, 1]))
  report = knn.make(train, Labelled(x[:3], np.array([0, 1, 2])), ks=(6, 1), block=BLOCK).report()
  np.testing.assert_allclose(report.scores[6], 2)
  assert report.numbers == pytest.approx({"k=1/top1": 1 / 3, "k=6/top1": 1 / 3})
  assert report.scores[1].argmax(1).tolist() == [2, 2, 2]  # the first of equals is nearest
  one = Labelled(x, np.zeros(8, int))
  assert knn.make(one, leave_one_out=True, ks=(200,), block=BLOCK)() == {"k=200/top1": 1}


def test_leave_one_out_leaves_out_the_own_video():
  rows = clusters(16, 0.0)
  labels = np.array([0, 0, 1, 1, 2, 2, 3, 3] * 2)
  twins = Labelled(np.random.default_rng(0).normal(size=(8, 6)).repeat(2, 0), labels)
  assert knn.make(twins, leave_one_out=True, ks=(1,), block=BLOCK)()["k=1/top1"] == 1
  pairs = Labelled(twins.features, labels, np.arange(16) // 2)
  report = knn.make(pairs, leave_one_out=True, ks=(1,), block=BLOCK).report()
  found = [reference.neighbours(x, pairs.features, lambda i, n=n: i // 2 != n // 2)[0][1]
           for n, x in enumerate(pairs.features)]
  assert report.scores[1].argmax(1).tolist() == labels[found].tolist()
  with pytest.raises(ValueError, match="query 0 has no neighbour"):
    knn.make(Labelled(rows.features, rows.labels, np.zeros(16)), leave_one_out=True, block=BLOCK)()


def test_batches_and_videos():
  rows = clusters(12, 0.3)

  def batches():
    for at in (np.arange(8), np.arange(8, 16)):
      yield {"x": rows.features[at % 12], "label": rows.labels[at % 12], "video": at % 4,
             "mask": at < 12}

  evaluator = knn.make(batches, batches, ks=(1,), by_video=True, key="z", block=BLOCK)
  report = evaluator.report(lambda inputs: {"z": 2 * inputs["x"]})
  assert report.scores[1].shape == (4, 4) and report.numbers == {"k=1/top1": 1}


@pytest.mark.parametrize("settings, words", [
    ({"ks": ()}, "ks"), ({"ks": (1, 1)}, "different"), ({"top": (0,)}, "top"),
    ({"temperature": 0.0}, "temperature"), ({"leave_one_out": True}, "one of the two"),
    ({"block": (0, 1)}, "block")])
def test_impossible_settings(settings, words):
  with pytest.raises(ConfigError, match=words):
    knn.make(clusters(4, 0), clusters(4, 0), **settings)


def test_features_of_different_size():
  with pytest.raises(ValueError, match="6 features in training, 5 in the test"):
    knn.make(clusters(4, 0), clusters(4, 0, dim=5))()
