"""Hit rates by hand, against a loop, and what bad input says."""

import numpy as np
import pytest

from tests.reference import gaussian
from tests.reference import recall as reference
from vssl_jax.metrics import recall


def test_by_hand():
  scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.4], [0.5, 0.5, 0.5]])
  gallery, query = np.array([7, 8, 9]), np.array([8, 9, 9])
  assert recall.recall(scores, query, gallery, (1, 2, 3)) == {1: 1 / 3, 2: 2 / 3, 3: 1.0}
  np.testing.assert_array_equal(recall.hits(scores, query, gallery, (1, 3)),
                                [[False, True, False], [True, True, True]])


def test_equal_scores_keep_the_order_of_the_gallery():
  scores = np.zeros((1, 300))  # long enough for an unstable sort to show
  np.testing.assert_array_equal(recall.nearest(scores, 4), [[0, 1, 2, 3]])


@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed):
  rng = np.random.default_rng(seed)
  scores = np.round(rng.standard_normal((9, 20)), 1)
  query, gallery = rng.integers(0, 6, 9), rng.integers(0, 5, 20)
  got = recall.recall(scores, query, gallery, (1, 5, 20))
  assert got == {k: pytest.approx(reference.recall(scores, query, gallery, k)) for k in got}


def test_measures(monkeypatch):
  rng = np.random.default_rng(0)
  q, g = rng.standard_normal((5, 3)), rng.standard_normal((7, 3))
  unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g)]
  np.testing.assert_allclose(recall.cosine(q, g), unit[0] @ unit[1].T)
  np.testing.assert_allclose(recall.cosine(q + 5, g - 3, centred=True),
                             recall.cosine(q - q.mean(0), g - g.mean(0)))
  assert not recall.cosine(0 * q, g).any()
  v, w = rng.uniform(0.1, 3, q.shape), rng.uniform(0.1, 3, g.shape)
  want = gaussian.matrix(gaussian.closed_form, list(zip(q, v, strict=True)),
                         list(zip(g, w, strict=True)))
  for block in (1 << 22, 50):  # all queries at once, and two at a time
    monkeypatch.setattr(recall, "_BLOCK", block)
    got = recall.bhattacharyya((q, np.log(v)), (g, np.log(w)))
    np.testing.assert_allclose(got, -want, rtol=1e-12)
    far = -np.sqrt(np.square(q[:, None] - g).sum(-1))
    np.testing.assert_allclose(recall.euclidean(q, g), far)


def test_wrong_input():
  scores = np.zeros((2, 3))
  with pytest.raises(ValueError, match=r"scores are \(2, 3\) for 3 queries and 3 videos"):
    recall.recall(scores, [0, 1, 2], [0, 1, 2])
  with pytest.raises(ValueError, match=r"k = \[1, 5\] needs k from 1 to the gallery's 3"):
    recall.recall(scores, [0, 1], [0, 1, 2], (1, 5))
  scores[1, 2] = np.nan
  with pytest.raises(ValueError, match="query 1: a score isn't finite"):
    recall.recall(scores, [0, 1], [0, 1, 2], (1,))
