"""k-means against SciPy's, and samples of a stream."""

import jax
import numpy as np
import pytest
from scipy.cluster import vq

from vssl_jax.ops import colour_clusters as ours


def clouds(seed=0, n=60):
  """Four clouds of different sizes, n, 2n, 3n and 4n samples."""
  rng = np.random.default_rng(seed)
  centres = np.float32([[-40, 0], [30, 30], [0, -50], [45, -20]])
  rows = [c + rng.normal(size=((i + 1) * n, 2)) * 4 for i, c in enumerate(centres)]
  return rng.permutation(np.concatenate(rows)).astype(np.float32), centres


def test_clouds_are_found_the_largest_first():
  samples, centres = clouds()
  got = ours.fit(samples, 4, seed=1)
  np.testing.assert_allclose(got, centres[::-1], atol=1.5)
  np.testing.assert_array_equal(got, ours.fit(samples, 4, seed=1))


def test_a_fixed_point_of_scipys_iteration_and_no_worse_than_its_best():
  samples, _ = clouds(1)
  got = ours.fit(samples, 7, seed=0)
  again, _ = vq.kmeans2(np.float64(samples), np.float64(got), minit="matrix", iter=10)
  np.testing.assert_allclose(got, again, atol=1e-3)
  _, distance = vq.vq(samples, got)
  best = min(np.mean(vq.vq(samples, vq.kmeans2(
    np.float64(samples), 7, minit="++", iter=100, rng=s)[0].astype(np.float32))[1] ** 2)
    for s in range(4))
  assert np.mean(distance**2) < 1.05 * best


def test_one_start_is_that_iteration_step_by_step():
  samples, _ = clouds(2)
  key = jax.random.key(5)
  start = np.asarray(ours._run(key, samples, 5, 0)[0])
  for steps in (1, 3):
    want, _ = vq.kmeans2(np.float64(samples), np.float64(start), minit="matrix", iter=steps)
    np.testing.assert_allclose(ours._run(key, samples, 5, steps)[0], want, atol=1e-3)
  assert all((samples == row).all(1).any() for row in start)


def test_centroids_of_as_many_samples_are_the_samples():
  samples = np.float32([[0, 0], [0, 0], [5, 1], [9, 9]])
  got = ours.fit(samples, 3, seed=0)
  np.testing.assert_array_equal(got[0], [0, 0])
  assert {tuple(r) for r in got.tolist()} == {(0, 0), (5, 1), (9, 9)}
  with pytest.raises(ValueError, match="4 centroids need as many different samples, got 3"):
    ours.fit(samples, 4, seed=0)


def test_a_sample_of_a_stream_is_uniform_whatever_its_parts():
  rows = np.arange(400, dtype=np.float32).reshape(20, 10, 2)
  hits = np.zeros(200)
  for seed in range(300):
    got = ours.sample(iter(rows), 50, seed)
    assert got.shape == (50, 2)
    hits[got[:, 0].astype(int) // 2] += 1
  # 75 expected, standard deviation 7.5
  assert 40 < hits.min() and hits.max() < 110
  halves = hits.reshape(2, 100).sum(1)
  assert abs(halves[0] - halves[1]) < 600
  np.testing.assert_array_equal(ours.sample(iter(rows), 50, 3),
                                ours.sample([rows[:7], rows[7:]], 50, 3))
  assert len(ours.sample(rows, 1000, 0)) == 200
  with pytest.raises(ValueError, match="the stream is empty"):
    ours.sample([], 5, 0)
