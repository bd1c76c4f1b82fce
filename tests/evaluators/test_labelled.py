"""Labelled features: embedded batch by batch without the padding, averaged over videos."""

import numpy as np
import pytest

from vssl_jax.evaluators import labelled
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.types import ConfigError


def batches(sizes=(3, 2), padding=1):
  """Rows 0, 1, ... of label row % 3 and video row // 2, and NaN in the padding."""
  start = 0
  for n in sizes:
    row = np.arange(start, start + n)
    pad = (0, padding)
    yield {"x": np.pad(row.astype(np.float32), pad, constant_values=np.nan),
           "label": np.pad(row // 2 % 3, pad), "video": np.pad(row // 2, pad),
           "mask": np.arange(n + padding) < n}
    start += n


def embed(inputs):
  assert sorted(inputs) == ["x"]
  return {"pooled": np.stack([inputs["x"], 2 * inputs["x"]], axis=1)}


def test_batches_are_embedded_without_their_padding():
  found = labelled.of(batches, embed, "pooled")
  np.testing.assert_array_equal(found.features, np.arange(5)[:, None] * [1, 2])
  np.testing.assert_array_equal(found.labels, [0, 0, 1, 1, 2])
  np.testing.assert_array_equal(found.videos, [0, 0, 1, 1, 2])
  assert labelled.of(found, None, "pooled") is found
  again = labelled.of(list(batches()), embed, "pooled")
  np.testing.assert_array_equal(again.features, found.features)


def test_a_batch_of_padding_and_no_ids():
  rows = [{"x": np.ones(2), "label": np.ones(2, int), "mask": np.zeros(2, bool)},
          {"x": np.ones(2), "label": np.ones(2, int)}]
  found = labelled.of(rows, embed, "pooled")
  assert len(found) == 2 and found.videos is None
  with pytest.raises(ConfigError, match="ids must be known"):
    found.by_video()
  with pytest.raises(ValueError, match="nothing to evaluate on"):
    labelled.of(rows[:1], embed, "pooled")


def test_by_video():
  x = np.array([[3, 4], [0, 2], [6, 8], [1, 0]], np.float32)
  rows = Labelled(x, np.array([5, 1, 5, 1]), np.array(["b", "a", "b", "a"]))
  found = rows.by_video()
  assert found.videos.tolist() == ["b", "a"] and found.labels.tolist() == [5, 1]
  np.testing.assert_allclose(found.features, [[4.5, 6], [0.5, 1]])
  np.testing.assert_allclose(rows.by_video(unit=True).features, [[0.6, 0.8], [0.5, 0.5]])
  with pytest.raises(ValueError, match="video 'b' has clips of the classes 5 and 2"):
    Labelled(x, np.array([5, 1, 2, 1]), rows.videos).by_video()


@pytest.mark.parametrize("features, labels, words", [
    (np.ones((2, 3)), np.array([0]), r"features \(2, 3\), labels \(1,\)"),
    (np.ones((0, 3)), np.array([], int), "not empty"),
    (np.ones((2, 3)), np.array([0, -1]), "at least 0"),
    (np.ones((2, 3)), np.array([0.0, 1.0]), "whole numbers"),
    (np.array([[1, 2], [np.inf, 0]]), np.array([0, 1]), "row 1 aren't finite"),
])
def test_what_is_refused(features, labels, words):
  with pytest.raises(ValueError, match=words):
    Labelled(features, labels)


def test_batches_that_are_refused():
  with pytest.raises(ConfigError, match="batches need an embedding"):
    labelled.of(batches, None, "pooled")
  with pytest.raises(ConfigError, match="key='map': the embedding has pooled"):
    labelled.of(batches, embed, "map")
  with pytest.raises(ValueError, match="no 'label'"):
    labelled.of([{"x": np.ones(2)}], embed, "pooled")
  with pytest.raises(ValueError, match=r"labels \(3,\)"):
    labelled.of([{"x": np.ones(2), "label": np.zeros(3, int)}], embed, "pooled")
