import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.metrics.neighbours import purity
from vssl_jax.ops.tsne import affinities, divergence, tsne


def clusters(seed=0, groups=5, members=6):
  rng = np.random.default_rng(seed)
  centres = rng.standard_normal((groups, 16))
  x = centres.repeat(members, 0) + 0.2 * rng.standard_normal((groups * members, 16))
  return x, np.arange(groups).repeat(members)


def test_affinities_have_the_perplexity():
  x, _ = clusters(groups=3)
  p, n = affinities(x, 7.0), len(x)
  np.testing.assert_allclose(p, p.T)
  assert p.sum() == pytest.approx(1) and (np.diag(p) == 0).all()
  # Row by row, in words: a Gaussian whose width is found by trying many.
  want = np.zeros((n, n))
  for i in range(n):
    d = np.sum((x - x[i]) ** 2, axis=1)
    best = None
    for beta in np.geomspace(1e-2, 1e1, 1001):
      row = np.exp(-beta * (d - np.sort(d)[1]))
      row[i] = 0
      row /= row.sum()
      gap = abs(np.exp(-sum(v * np.log(v) for v in row if v > 0)) - 7.0)
      if best is None or gap < best[0]:
        best = gap, row
    want[i] = best[1]
  np.testing.assert_allclose(p, (want + want.T) / (2 * n), atol=1e-4)


def kl(p, y):
  """KL divergence, one pair at a time."""
  off = [(i, j) for i in range(len(y)) for j in range(len(y)) if i != j]
  w = {(i, j): 1 / (1 + float(np.sum((y[i] - y[j]) ** 2))) for i, j in off}
  total = sum(w.values())
  return sum(p[pair] * np.log(p[pair] * total / w[pair]) for pair in off)


def test_divergence_and_its_gradient():
  rng = np.random.default_rng(0)
  p, y = affinities(rng.standard_normal((7, 3)), 3.0), rng.standard_normal((7, 2))
  cost, slope = divergence(jnp.asarray(p), jnp.asarray(y))
  assert float(cost) == pytest.approx(kl(p, y), rel=1e-5)
  moves = 1e-5 * np.eye(y.size).reshape(y.size, *y.shape)
  want = [(kl(p, y + m) - kl(p, y - m)) / 2e-5 for m in moves]
  np.testing.assert_allclose(np.ravel(slope), want, rtol=1e-4, atol=1e-6)


def test_groups_stay_together_and_the_same_seed_gives_the_same_points():
  x, groups = clusters()
  y = tsne(x, perplexity=5)
  # By distance, as seen: (y, 1) . (2 y', -|y'|^2) would do; unit vectors on a large sphere too.
  sphere = np.concatenate([y, np.full((len(y), 1), 50 * np.abs(y).max())], axis=1)
  sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
  assert set(purity(sphere, groups).values()) == {1.0}
  np.testing.assert_array_equal(tsne(x, perplexity=5), y)
  np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-3)
  p = affinities(x, 5.0).astype(np.float32)
  rng = np.random.default_rng(0)
  spread = y.std() * rng.standard_normal(y.shape)
  assert divergence(p, y)[0] < 0.5 * divergence(p, spread)[0]


def test_equal_points_and_very_few():
  for x in (np.ones((4, 3)), np.eye(3), np.zeros((5, 1))):
    assert np.isfinite(tsne(x, steps=300)).all()


def test_wrong_input():
  for x in (np.ones((2, 3)), np.ones(4), np.full((4, 2), np.inf)):
    with pytest.raises(ValueError, match="at least three finite points"):
      tsne(x)
