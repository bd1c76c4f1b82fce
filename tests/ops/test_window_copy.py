"""Top-k copies against a stable sort, where many scores are equal."""

import jax
import numpy as np
import pytest

from vssl_jax.ops import window_copy

top_k = jax.jit(window_copy.top_k, static_argnames=("k", "rows"))


def stable(scores, values, k):
  """Of one tile: [keys, queries], [keys, C] -> [queries, C], by a loop."""
  out = []
  for s in scores.T.astype(np.float64):
    best = sorted(range(len(s)), key=lambda i, s=s: (-s[i], i))[:k]
    weights = np.exp(s[best] - s[best[0]])
    out.append(weights / weights.sum() @ values[best])
  return np.array(out)


@pytest.mark.parametrize("k", [1, 3])
def test_equal_scores_go_to_the_first_key(k):
  rng = np.random.default_rng(k)
  # The second part is the same for three tiles of 5 queries; both have far more rows than k.
  shapes = (2, 3, 60, 5), (2, 1, 48, 15)
  scores = [rng.integers(0, 4, s).astype(np.float32) for s in shapes]
  values = [rng.normal(size=(*s[:3], 4)).astype(np.float32) for s in shapes]
  got = top_k(scores, values, k=k, rows=(4, 6)).reshape(2, 3, 5, 4)
  for g, n in np.ndindex(2, 3):
    s = np.concatenate([scores[0][g, n], scores[1][g, 0, :, 5 * n:5 * n + 5]])
    v = np.concatenate([values[0][g, n], values[1][g, 0]])
    np.testing.assert_allclose(got[g, n], stable(s, v, k), atol=1e-6)


def test_few_keys():
  rng = np.random.default_rng(0)
  s, v = rng.normal(size=(1, 1, 6, 5)), rng.normal(size=(1, 1, 6, 4))
  got = top_k([s.astype(np.float32)], [v.astype(np.float32)], k=40, rows=(3,))
  np.testing.assert_allclose(got[0], stable(s[0, 0], v[0, 0], 40), atol=1e-5)
