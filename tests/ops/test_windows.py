"""Thinned windows: which frames are where, and that every key gives valid windows."""

import jax
import numpy as np

from vssl_jax.ops import windows

B, T = 64, 9
thin = jax.jit(windows.thin, static_argnames="keep")


def numbered(seed, first, size=T):
  """Frames [B, size, 2] that carry row and number; NaN beyond lengths, some above the size."""
  length = np.random.default_rng(seed).integers(1, size + 3, B).astype(np.int32)
  x = np.stack(np.meshgrid(np.arange(B), first + np.arange(size), indexing="ij"), -1)
  inside = np.arange(size) < length[:, None]
  return np.where(inside[..., None], x, np.nan).astype(np.float32), length


def test_thin_keeps_a_share_in_order_and_at_least_one():
  x, length = numbered(0, 0)
  shares = []
  for seed in range(20):
    out, count = map(np.asarray, thin(jax.random.key(seed), x, length, keep=0.6))
    own = np.minimum(length, T)
    assert (count >= 1).all() and (count <= own).all()
    for i, n in enumerate(count):
      kept = out[i, :n]
      assert (kept[:, 0] == i).all()
      assert (np.diff(kept[:, 1]) > 0).all() and 0 <= kept[0, 1] and kept[-1, 1] < own[i]
      assert (out[i, n:] == 0).all()
    shares.append(count.sum() / own.sum())
  assert 0.6 <= np.mean(shares) < 0.66  # at least one stays of every window


def test_thin_of_everything_and_of_next_to_nothing():
  x, length = numbered(1, 0)
  out, count = thin(jax.random.key(0), x, length, keep=1.0)
  np.testing.assert_array_equal(count, np.minimum(length, T))
  np.testing.assert_array_equal(out, np.nan_to_num(x))
  _, count = thin(jax.random.key(0), x, length, keep=1e-9)
  np.testing.assert_array_equal(count, np.ones(B))
