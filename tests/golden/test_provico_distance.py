"""Distances of Gaussians, from equal ones to ratios of e^120, against 80 digits."""

import jax
import numpy as np
import pytest

from vssl_jax.metrics import recall
from vssl_jax.ops import gaussian, gaussian_pairs

SIDES = ("mu1", "logvar1", "mu2", "logvar2")


@pytest.fixture(scope="module")
def data(golden_dir):
  with np.load(golden_dir / "provico" / "bhattacharyya.npz", allow_pickle=False) as f:
    return {k: f[k] for k in f.files}


def close(got, want, tolerance, what):
  error = np.abs(np.float64(got) - want) / (1 + np.abs(want))
  assert np.isfinite(np.asarray(got)).all(), what
  assert error.max() <= tolerance, (what, error)


@jax.jit
def distances(m1, l1, m2, l2, z1, z2, lam):
  """Everything that the file's keys name; of pairs, and of the same pairs in matrices."""
  found = {"total": gaussian.bhattacharyya(m1, l1, m2, l2),
           "log_part": gaussian.bhattacharyya(m1, l1, m2, l2, lam=0.0)}
  found |= {f"sampled_{reading}": gaussian.bhattacharyya(z1, l1, z2, l2, lam=lam, reading=reading)
            for reading in gaussian.READINGS}
  clips = [x[:, None] for x in (m1, l1, m2, l2)]
  matrices = [gaussian_pairs.closed_form((m1, l1), (m2, l2), block=5),
              gaussian_pairs.mixture(tuple(clips[:2]), tuple(clips[2:]), block=5)]
  return found, matrices


def check(data, dtype, tolerance):
  inputs = [np.asarray(data[k], dtype) for k in (*SIDES, "z1", "z2", "lam")]
  found, matrices = jax.tree.map(np.asarray, distances(*inputs))
  equal = (data["mu1"] == data["mu2"]).all(1) & (data["logvar1"] == data["logvar2"]).all(1)
  assert equal.any()
  assert (found["total"][equal] == 0).all()
  for key, got in found.items():
    got = got[data["rows"]] if key.startswith("sampled") else got
    close(got, data[key], tolerance, key)
  for matrix in matrices:
    assert matrix.dtype == dtype
    close(np.diagonal(matrix), data["total"], tolerance, "matrix")


def test_distances(data):
  with jax.enable_x64(True):
    check(data, np.float64, 1e-10)
  check(data, np.float32, 1e-5)


def test_quadratic_part_and_coefficient(data):
  with jax.enable_x64(True):
    total, logs = (gaussian.bhattacharyya(*(data[k] for k in SIDES), lam=lam) for lam in (0.25, 0))
    close(total - logs, data["quad_part"], 1e-10, "quad_part")
    close(np.exp(-total), data["coefficient"], 1e-10, "coefficient")


def test_those_of_the_metrics(data):
  m1, l1, m2, l2 = (data[k] for k in SIDES)
  close(-np.diagonal(recall.bhattacharyya((m1, l1), (m2, l2))), data["total"], 1e-10, "metrics")
