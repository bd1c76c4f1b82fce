"""The memory bank: a ring, against a list that is written row by row."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.ops import bank as banks

K, D = 7, 3
push = jax.jit(banks.push)


def keys(count, seed):
  return np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)


def test_a_new_bank_holds_random_unit_vectors_that_do_not_count():
  bank = banks.init(jax.random.key(0), 500, 8)
  rows = np.asarray(bank.keys)
  np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
  # Directions are isotropic: mean 0 and covariance 1/D, within four standard errors.
  assert np.abs(rows.mean(axis=0)).max() < 4 / np.sqrt(500 * 8)
  assert np.abs(rows.T @ rows / 500 - np.eye(8) / 8).max() < 4 / 8 / np.sqrt(500)
  assert (bank.groups == -1).all()
  assert (int(bank.pointer), int(bank.filled)) == (0, 0)
  other = banks.init(jax.random.key(1), 500, 8)
  assert not np.allclose(rows, other.keys)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_pushes_wrap_around_like_a_list_written_row_by_row(count):
  bank = banks.init(jax.random.key(0), K, D)
  rows, groups, at, written = np.array(bank.keys), [-1] * K, 0, 0
  for step in range(6):
    new, group = keys(count, step), np.arange(count, dtype=np.int32) + 10 * step
    bank = push(bank, new, group)
    for row, g in zip(new, group, strict=True):
      rows[at], groups[at] = row, g
      at, written = (at + 1) % K, min(written + 1, K)
    np.testing.assert_array_equal(bank.keys, rows)
    np.testing.assert_array_equal(bank.groups, groups)
    assert (int(bank.pointer), int(bank.filled)) == (at, written)


def test_a_push_of_the_whole_bank_replaces_it_from_the_pointer_on():
  bank = push(banks.init(jax.random.key(0), K, D), keys(3, 0))
  new = keys(K, 1)
  bank = push(bank, new)
  np.testing.assert_array_equal(bank.keys, np.roll(new, 3, axis=0))
  assert (int(bank.pointer), int(bank.filled)) == (3, K)


@pytest.mark.parametrize("count", [3, K])
def test_what_was_pushed_can_be_taken_back(count):
  before = push(banks.init(jax.random.key(0), K, D), keys(5, 1), jnp.arange(5))
  new, groups = keys(count, 2), jnp.arange(count)
  after = push(before, new, groups)
  taken, *newest = banks.take_back(after, count)
  assert (int(taken.pointer), int(taken.filled)) == (5, K - count)  # full, whatever was before
  chex.assert_trees_all_equal(newest, [jnp.asarray(new), groups])
  chex.assert_trees_all_equal(push(taken, *newest), after)


def test_too_many_keys_are_refused():
  bank = banks.init(jax.random.key(0), K, D)
  with pytest.raises(ValueError, match=rf"{K + 1} .* {K}; enlarge bank_size"):
    banks.push(bank, keys(K + 1, 0))
  with pytest.raises(AssertionError):
    banks.push(bank, np.zeros((2, D + 1), np.float32))


def test_groups_default_to_none_and_overwrite_older_ones():
  bank = push(banks.init(jax.random.key(0), K, D), keys(K, 0), np.arange(K, dtype=np.int32))
  bank = push(bank, keys(2, 1))
  np.testing.assert_array_equal(bank.groups, [-1, -1, 2, 3, 4, 5, 6])


def test_no_gradient_enters_the_bank():
  bank = banks.init(jax.random.key(0), K, D)

  @jax.jit
  @jax.grad
  def through(new):
    pushed = banks.push(bank, 3 * new)
    return jnp.sum(pushed.keys**2) + jnp.sum(new)

  np.testing.assert_array_equal(through(keys(4, 0)), np.ones((4, D)))


def test_keys_take_the_dtype_of_the_bank():
  bank = push(banks.init(jax.random.key(0), K, D), jnp.asarray(keys(2, 0), jnp.bfloat16))
  assert bank.keys.dtype == jnp.float32
  np.testing.assert_allclose(bank.keys[:2], keys(2, 0), rtol=2**-8)


def test_valid_leaves_out_the_anchors_group():
  bank = push(banks.init(jax.random.key(0), 5, D), keys(5, 0), np.int32([3, -1, 4, 3, 0]))
  got = banks.valid(bank, jnp.array([3, -1, 0, 9]), filled_only=False)
  want = [[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
  np.testing.assert_array_equal(got, np.array(want, bool))


def test_valid_leaves_out_rows_that_were_never_written():
  bank = push(banks.init(jax.random.key(0), 5, D), keys(3, 0), np.int32([1, 2, -1]))
  anchors = jnp.array([2, -1])
  got = banks.valid(bank, anchors, filled_only=True)
  np.testing.assert_array_equal(got, np.array([[1, 0, 1, 0, 0], [1, 1, 1, 0, 0]], bool))
  got = banks.valid(bank, anchors, filled_only=False)
  np.testing.assert_array_equal(got, np.array([[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool))
  full = push(push(bank, keys(3, 1)), keys(1, 2))
  assert banks.valid(full, anchors, filled_only=True).all()


def test_rows_and_ages():
  """5 rows written, then 4 more over 7: rows 5, 6, 0 and 1, the last of which is the youngest."""
  bank = banks.init(jax.random.key(0), K, D)
  assert banks.age(bank).tolist() == [0] * K
  bank = push(bank, keys(5, 0))
  assert banks.age(bank).tolist() == [4, 3, 2, 1, 0, 5, 5]
  at = banks.rows(bank, 4)
  assert at.tolist() == [5, 6, 0, 1]
  new = keys(4, 1)
  bank = push(bank, new)
  np.testing.assert_array_equal(bank.keys[at], new)
  assert banks.age(bank).tolist() == [1, 0, 6, 5, 4, 3, 2]


class Variants(chex.TestCase):

  @chex.all_variants(with_pmap=True)
  def test_under_every_transformation(self):
    bank = push(banks.init(jax.random.key(0), K, D), keys(5, 0), np.arange(5, dtype=np.int32))
    new, groups = keys(4, 1), np.int32([2, 2, -1, 9])
    rows, mask = self.variant(
        lambda new, groups: (banks.push(bank, new, groups),
                             banks.valid(bank, groups, filled_only=True)))(new, groups)
    want = np.array(bank.keys)
    want[[5, 6, 0, 1]] = new
    np.testing.assert_array_equal(rows.keys, want)
    np.testing.assert_array_equal(rows.groups, [-1, 9, 2, 3, 4, 2, 2])
    assert (int(rows.pointer), int(rows.filled)) == (2, K)
    unwritten, two = [0, 0], [1, 1, 0, 1, 1]
    free = [1, 1, 1, 1, 1]
    np.testing.assert_array_equal(
        mask, np.array([r + unwritten for r in (two, two, free, free)], bool))
