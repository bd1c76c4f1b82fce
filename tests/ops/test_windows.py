"""Thinned and spliced windows: which frames are where, and that every key gives valid windows."""

import jax
import numpy as np
import pytest

from vssl_jax.ops import windows

B, T = 64, 9
thin = jax.jit(windows.thin, static_argnames="keep")
splice = jax.jit(windows.splice, static_argnames=("rate", "share"))


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


@pytest.mark.parametrize("size", [T, 4])
def test_splice_puts_one_run_of_the_other_between_the_own_frames(size):
  (x, length), (y, other) = numbered(2, 0), numbered(3, 100, size)
  own, available, places, runs = np.minimum(length, T), np.minimum(other, size), set(), set()
  for seed in range(10):
    out, new, spliced = map(np.asarray, splice(jax.random.key(seed), x, length, y, other,
                                               rate=1.0, share=0.5))
    np.testing.assert_array_equal(new, np.minimum(own + spliced.sum(1), T))
    for i in range(B):
      frames, guest = out[i, :new[i]], spliced[i, :new[i]]
      assert not spliced[i, new[i]:].any() and (out[i, new[i]:] == 0).all()
      assert (frames[:, 0] == i).all()
      run = frames[guest, 1]
      assert 1 <= len(run) <= min(available[i], T // 2)
      assert (np.diff(np.flatnonzero(guest)) == 1).all() and (np.diff(run) == 1).all()
      assert 100 <= run[0] and run[-1] < 100 + available[i]
      np.testing.assert_array_equal(frames[~guest, 1], np.arange(new[i] - len(run)))
      places.add(int(np.flatnonzero(guest)[0])), runs.add(len(run))
  assert runs == set(range(1, min(size, T // 2) + 1))
  assert len(places) >= T - 1


def test_splice_at_a_rate():
  (x, length), (y, other) = numbered(4, 0), numbered(5, 100)
  out, new, spliced = splice(jax.random.key(0), x, length, y, other, rate=0.0, share=0.5)
  np.testing.assert_array_equal(out, np.nan_to_num(x))
  np.testing.assert_array_equal(new, np.minimum(length, T))
  assert not spliced.any()
  hit = [np.asarray(splice(jax.random.key(k), x, length, y, other, rate=0.3, share=0.5)[2])
         for k in range(10)]
  assert 0.24 < np.mean(np.any(hit, axis=2)) < 0.36


@pytest.mark.parametrize("fill", [1, T])
def test_an_own_frame_always_stays(fill):
  x, _ = numbered(6, 0)
  length = np.full(B, fill, np.int32)
  y, other = np.full((B, T, 2), 7, np.float32), np.full(B, T, np.int32)
  _, new, spliced = splice(jax.random.key(1), np.nan_to_num(x), length, y, other, rate=1.0,
                           share=0.99)
  assert (new - np.asarray(spliced).sum(1) >= 1).all()
  assert np.asarray(spliced).sum(1).max() == T - 1


def test_a_key_fixes_everything():
  (x, length), (y, other) = numbered(7, 0), numbered(8, 100)
  a, b, c = (splice(jax.random.key(k), x, length, y, other, rate=0.5, share=0.5)[0]
             for k in (3, 3, 4))
  np.testing.assert_array_equal(a, b)
  assert not np.array_equal(a, c)


def test_recurring_frame_by_frame():
  rng = np.random.default_rng(9)
  (x, length), (y, other) = ((rng.standard_normal((n, t, 4)), rng.integers(1, t + 3, n))
                             for n, t in ((5, 6), (7, 3)))
  x, y = (np.float32(a / np.linalg.norm(a, axis=-1, keepdims=True)) for a in (x, y))
  unrelated = rng.random((5, 7)) < 0.6
  unrelated[4] = False
  want = np.zeros((5, 6), bool)
  for i, t in np.ndindex(5, 6):
    for j, s in np.ndindex(7, 3):
      fits = t < length[i] and s < other[j] and unrelated[i, j]
      want[i, t] |= fits and float(x[i, t] @ y[j, s]) >= 0.7
  x[length[:, None] <= np.arange(6)], y[other[:, None] <= np.arange(3)] = np.nan, np.nan
  found = windows.recurring(x, length, y, other, unrelated, 0.7)
  np.testing.assert_array_equal(found, want)
  assert 0.2 < want.mean() < 0.8 and not want[4].any()
