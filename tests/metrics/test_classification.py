"""Accuracies, votes and hits against the twin, closed forms, and what is refused."""

import numpy as np
import pytest

from tests.reference import classification as reference
from vssl_jax.metrics import classification as metrics


def made(n=40, classes=6, seed=0):
  """Scores with many ties, and labels."""
  rng = np.random.default_rng(seed)
  return rng.integers(-2, 3, (n, classes)).astype(np.float32), rng.integers(0, classes, n)


def test_accuracy_against_the_twin_with_ties():
  scores, labels = made()
  found = metrics.accuracy(scores, labels, (1, 2, 5, 6, 99))
  for k, share in found.items():
    assert share == pytest.approx(reference.accuracy(scores, labels, k), abs=1e-12)
  assert found[6] == found[99] == 1
  expected = [reference.rank(s, y) for s, y in zip(scores, labels, strict=True)]
  np.testing.assert_array_equal(metrics.ranks(scores, labels), expected)


def test_of_equal_scores_the_first_class_wins():
  assert metrics.accuracy(np.zeros((4, 4)), np.arange(4), (1, 3)) == {1: 0.25, 3: 0.75}


def test_per_class_counts_every_class_alike():
  hits, labels = np.array([1, 1, 1, 0, 1, 0]), np.array([7, 7, 7, 7, 2, 2])
  assert metrics.per_class(hits, labels) == {2: 0.5, 7: 0.75}


def test_confusion():
  counts = metrics.confusion(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), 3)
  np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 1, 1], [0, 0, 0]])


def test_video_confidence_is_the_mean_of_softmaxes():
  rng = np.random.default_rng(0)
  scores, videos = 100 * rng.normal(size=(7, 3)), np.array(list("bababbc"))
  labels = np.array([2, 1, 2, 1, 2, 2, 0])
  confidence, of = metrics.video_confidence(scores, videos, labels)
  np.testing.assert_array_equal(of, [2, 1, 0])
  for i, name in enumerate("bac"):
    rows = [reference.softmax(s) for s, v in zip(scores, videos, strict=True) if v == name]
    np.testing.assert_allclose(confidence[i], np.mean(rows, axis=0), rtol=1e-12)
  with pytest.raises(ValueError, match="video 'b' has clips of the classes 2 and 0"):
    metrics.video_confidence(scores, videos, np.array([2, 1, 0, 1, 2, 2, 0]))


def test_votes_against_the_twin():
  rng = np.random.default_rng(0)
  cosine = -np.sort(-rng.uniform(-1, 1, (5, 12)), axis=1)
  labels = rng.integers(0, 4, cosine.shape)
  found = metrics.votes(cosine, labels, 4, (7, 1, 12, 50), 0.1)
  assert list(found) == [1, 7, 12, 50]
  for k, votes in found.items():
    for row, scores in enumerate(votes):
      pairs = [(c, i) for i, c in enumerate(cosine[row])]
      np.testing.assert_allclose(scores, reference.votes(pairs, labels[row], 4, k, 0.1), rtol=1e-12)


def test_a_cold_vote_is_the_nearest_and_a_hot_one_the_majority():
  cosine, labels = np.array([[0.9, 0.8, 0.7]]), np.array([[2, 0, 0]])
  assert metrics.votes(cosine, labels, 3, (3,), 1e-6)[3].argmax() == 2
  hot = metrics.votes(cosine, labels, 3, (3,), 1e9)[3]
  np.testing.assert_allclose(hot, [[2, 0, 1]], atol=1e-6)


def test_absent_neighbours_have_no_vote():
  cosine, labels = np.array([[0.5, -np.inf]]), np.array([[1, -1]])
  np.testing.assert_array_equal(metrics.votes(cosine, labels, 2, (2,))[2], [[0, 1]])
  with pytest.raises(ValueError, match="query 1 has no neighbour"):
    metrics.votes(np.array([[0.5], [-np.inf]]), np.array([[1], [-1]]), 2, (1,))


def test_hit_rate():
  found, labels = np.array([[3, 1, 2], [0, 0, -1]]), np.array([2, 1])
  hits = metrics.hit_rate(found, labels, (1, 3, 10))
  np.testing.assert_array_equal(hits, [[False, False], [True, False], [True, False]])


@pytest.mark.parametrize("call, words", [
    (lambda: metrics.accuracy(np.zeros((2, 3)), np.array([0, 3])), "0 to 2, are int64 from 0 to 3"),
    (lambda: metrics.accuracy(np.zeros((2, 3)), np.array([0.0, 1.0])), "whole numbers"),
    (lambda: metrics.accuracy(np.array([[0, 1], [0, np.nan]]), np.array([0, 1])), "row 1"),
    (lambda: metrics.accuracy(np.zeros((2, 3)), np.array([0])), r"\(2, 3\) scores"),
    (lambda: metrics.accuracy(np.zeros((2, 3)), np.array([0, 1]), (0,)), "at least 1"),
    (lambda: metrics.confusion(np.array([3]), np.array([0]), 3), "3 classes"),
    (lambda: metrics.per_class(np.array([]), np.array([])), "and some"),
    (lambda: metrics.votes(np.ones((1, 1)), np.array([[4]]), 3, (1,)), "4 of 3 classes"),
    (lambda: metrics.votes(np.ones((1, 1)), np.array([[0]]), 3, (1,), 0.0), "above 0"),
])
def test_what_is_refused(call, words):
  with pytest.raises(ValueError, match=words):
    call()
