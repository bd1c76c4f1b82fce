"""Whitening against the singular value decomposition of all data at once."""

import tracemalloc

import jax
import numpy as np
import pytest

from tests.reference import whitening as reference
from vssl_jax.ops import whitening


def data(n, dim, seed=0, offset=5.0):
  """Correlated, skewed, of different variances and far from the origin."""
  rng = np.random.default_rng(seed)
  mix = rng.normal(size=(dim, dim)) * np.geomspace(1, 0.05, dim)
  return (rng.exponential(size=(n, dim)) @ mix + offset).astype(np.float32)


def cut(x, *sizes):
  return np.split(x, np.cumsum(sizes)[:-1])


@pytest.mark.parametrize(
  ("n", "dim", "k"),
  [(300, 20, 7), (300, 20, 20), (21, 20, 5), (20, 20, 5), (12, 30, 6), (12, 30, 11), (2, 30, 1)],
)
def test_fit_against_svd(n, dim, k):
  x, new = data(n, dim), data(9, dim, seed=1)
  fitted = whitening.fit([x], k)
  mean, components, values = reference.fit(x, k)
  np.testing.assert_allclose(fitted.mean, mean, rtol=1e-6)
  np.testing.assert_allclose(fitted.eigenvalues, values, rtol=1e-5)
  signs = np.sign((fitted.components * components).sum(axis=0))
  np.testing.assert_allclose(fitted.components, components * signs, atol=1e-5)
  y = np.asarray(whitening.apply(fitted, new))
  np.testing.assert_allclose(y @ y.T, reference.gram(x, k, new), atol=2e-4)


@pytest.mark.parametrize("sizes", [(200,), (1, 199), (3, 0, 7, 190), (19, 1, 180), (1,) * 200])
def test_chunks_do_not_matter(sizes):
  x = data(200, 20)
  whole, parts = whitening.fit([x], 8), whitening.fit(iter(cut(x, *sizes)), 8)
  np.testing.assert_allclose(parts.eigenvalues, whole.eigenvalues, rtol=1e-6)
  np.testing.assert_allclose(np.abs((parts.components * whole.components).sum(0)), 1, rtol=1e-6)


def test_many_blocks(monkeypatch):
  x = data(500, 10)
  expected = whitening.fit([x], 5)
  monkeypatch.setattr(whitening, "BLOCK", 64)
  np.testing.assert_allclose(whitening.fit([x], 5).eigenvalues, expected.eigenvalues, rtol=1e-6)


def test_a_large_mean_costs_no_digits():
  """Sums of squares would leave 1e8^2 * eps = 2, as large as the variances."""
  x = np.random.default_rng(0).normal(size=(1000, 4)) * [1, 2, 3, 4]
  plain = whitening.fit([x], 4)
  far = whitening.fit(cut(x + 1e8, *(100,) * 10), 4)
  np.testing.assert_allclose(far.eigenvalues, plain.eigenvalues, rtol=1e-5)


def test_whitened_training_data_has_unit_covariance_before_normalisation():
  x = data(400, 12)
  fitted = whitening.fit([x], 12)
  y = (x - fitted.mean) @ fitted.components / np.sqrt(fitted.eigenvalues)
  np.testing.assert_allclose(np.cov(y.T), np.eye(12), atol=2e-3)
  np.testing.assert_allclose(whitening.apply(fitted, x),
                             y / np.linalg.norm(y, axis=1, keepdims=True), atol=1e-5)


def test_rotation_of_the_data_does_not_matter():
  x, new = data(300, 8), data(6, 8, seed=2)
  turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))
  y = np.asarray(whitening.apply(whitening.fit([x], 5), new))
  z = np.asarray(whitening.apply(whitening.fit([x @ turn], 5), (new @ turn).astype(np.float32)))
  np.testing.assert_allclose(z @ z.T, y @ y.T, atol=1e-4)


def test_tiny_eigenvalues_are_clipped():
  x = np.random.default_rng(0).normal(size=(50, 3)) * [1, 1e-3, 1e-6]
  np.testing.assert_allclose(whitening.fit([x], 3).eigenvalues[2], 1e-9, rtol=1e-6)


def test_apply_under_jit_grad_and_leading_axes():
  x = data(100, 6)
  fitted = whitening.fit([x], 4)
  plain = np.asarray(whitening.apply(fitted, x))
  jitted = jax.jit(whitening.apply)(fitted, x.reshape(5, 20, 6))
  np.testing.assert_allclose(jitted.reshape(100, 4), plain, atol=1e-5)
  at_mean = jax.grad(lambda v: whitening.apply(fitted, v).sum())(jax.numpy.array(fitted.mean))
  assert np.isfinite(at_mean).all()
  assert not np.asarray(whitening.apply(fitted, fitted.mean)).any()


def test_memory_stays_at_a_few_matrices():
  """40,000 x 200 float32 are 32 MB; a 200 x 200 float64 matrix is 0.3 MB."""
  chunks = (data(500, 200, seed=i) for i in range(80))
  next(chunks)
  tracemalloc.start()
  whitening.fit(chunks, 10)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 8e6


def test_save_and_load(tmp_path):
  fitted = whitening.fit([data(100, 6)], 4)
  path = tmp_path / "pca.npz"
  whitening.save(fitted, path)
  for a, b in zip(jax.tree.leaves(whitening.load(path)), jax.tree.leaves(fitted), strict=True):
    np.testing.assert_array_equal(a, b)


def test_files_that_hold_no_whitening(tmp_path):
  path = tmp_path / "pca.npz"
  good = {"mean": np.ones(6), "components": np.ones((6, 4)), "eigenvalues": np.ones(4)}
  for changed, reason in (
    ({"mean": np.ones(5)}, "don't fit together"),
    ({"eigenvalues": np.zeros(4)}, "aren't positive"),
    ({"mean": np.full(6, np.nan)}, "non-finite"),
    ({"mean": np.array([object()] * 6)}, "allow_pickle=False"),
  ):
    np.savez(path, **{**good, **changed})
    with pytest.raises(ValueError, match=rf"pca\.npz: .*{reason}"):
      whitening.load(path)
  np.savez(path, mean=np.ones(3))
  with pytest.raises(ValueError, match=r"pca\.npz: not a whitening file"):
    whitening.load(path)
  for damaged in (path.read_bytes()[:-30], b"not a zip", b""):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"pca\.npz: not a whitening file"):
      whitening.load(path)
  with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
    whitening.load(tmp_path / "absent.npz")
  with pytest.raises(ValueError, match=r"pca\.bin: .*ends in \.npz"):
    whitening.save(whitening.Whitening(**good), tmp_path / "pca.bin")


def test_errors_name_what_is_wrong():
  x = data(10, 6)
  spoilt = x.copy()
  spoilt[[3, 7], [0, 5]] = np.nan, np.inf
  flat = np.repeat(x[:3], 4, axis=0)  # 3 distinct points span 2 directions
  for chunks, k, reason in (
    ([], 1, "at least 2 vectors, got 0"),
    ([x[:1]], 1, "at least 2 vectors, got 1"),
    ([x], 7, "k=7, but the vectors vary in 6 directions"),
    ([x[:4]], 4, "k=4, but the vectors vary in 3 directions"),
    ([flat], 3, "k=3, but the vectors vary in 2 directions"),
    ([x], 0, "k=0 must be at least 1"),
    ([x, spoilt], 2, "2 of the 10 vectors of chunk 1 hold non-finite values, the first in row 3"),
    ([x, x[:, :5]], 2, r"chunk 1 has shape \(10, 5\), expected \[m, 6\]"),
    ([x[0]], 2, r"chunk 0 has shape \(6,\), expected \[m, D\]"),
  ):
    with pytest.raises(ValueError, match=reason):
      whitening.fit(chunks, k)
