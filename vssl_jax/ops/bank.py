"""A memory bank: a ring of unit vectors that serve as negatives (tca spec 7)."""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from vssl_jax.ops.normalise import l2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bank:
  """State of the bank.

  Attributes:
    keys: [K, D] unit vectors.
    groups: [K] int32, the group each vector's video belongs to; -1 for none.
    pointer: int32, the row that is written next.
    filled: int32, rows written so far, at most K; the others hold random directions.
  """

  keys: jax.Array
  groups: jax.Array
  pointer: jax.Array
  filled: jax.Array


def init(key: jax.Array, size: int, dim: int) -> Bank:
  """A bank of `size` random unit vectors, none of which counts as filled."""
  zero = jnp.zeros((), jnp.int32)
  keys = l2(jax.random.normal(key, (size, dim)))
  return Bank(keys, jnp.full((size,), -1, jnp.int32), zero, zero)


def push(bank: Bank, keys: jax.Array, groups: jax.Array | None = None) -> Bank:
  """Writes `keys` [C, D] over the oldest rows, C <= K; wraps around at the end.

  Gradients never enter the bank. `groups` [C] int32 defaults to -1.
  """
  size, count = bank.keys.shape[0], keys.shape[0]
  chex.assert_equal_shape_suffix([bank.keys, keys], 1)
  if count > size:
    raise ValueError(f"{count} new keys do not fit into a bank of {size}; enlarge bank_size")
  groups = jnp.full((count,), -1, jnp.int32) if groups is None else groups
  at = rows(bank, count)
  return Bank(
      keys=bank.keys.at[at].set(jax.lax.stop_gradient(keys).astype(bank.keys.dtype)),
      groups=bank.groups.at[at].set(groups),
      pointer=(bank.pointer + count) % size,
      filled=jnp.minimum(bank.filled + count, size),
  )


def take_back(bank: Bank, count: int) -> tuple[Bank, jax.Array, jax.Array]:
  """The inverse of `push`: a bank that lacks its newest `count` rows, those keys, and their groups.

  They still stand there, as the rows to be written next; of a new bank they are its last ones.
  """
  size = bank.keys.shape[0]
  before = dataclasses.replace(bank, pointer=(bank.pointer - count) % size,
                               filled=bank.filled - count)
  at = rows(before, count)
  return before, bank.keys[at], bank.groups[at]


def rows(bank: Bank, count: int) -> jax.Array:
  """[C] the rows that the next `count` keys are written to, for arrays kept beside the bank."""
  return (bank.pointer + jnp.arange(count)) % bank.keys.shape[0]


def age(bank: Bank) -> jax.Array:
  """[K] int32: how many keys were written after each row's; `filled` for rows never written."""
  size = bank.keys.shape[0]
  row = jnp.arange(size)
  return jnp.where(row < bank.filled, (bank.pointer - 1 - row) % size, bank.filled)


def valid(bank: Bank, groups: jax.Array, *, filled_only: bool) -> jax.Array:
  """Which rows are negatives of which anchors.

  Args:
    groups: [N] int32 groups of the anchors; -1 belongs to none.
    filled_only: leave out rows that still hold random directions.

  Returns:
    [N, K] bool, False where the row comes from the anchor's own group.
  """
  same = (bank.groups[None, :] == groups[:, None]) & (groups[:, None] >= 0)
  written = jnp.arange(bank.keys.shape[0]) < bank.filled
  return ~same & (written | (not filled_only))[None, :]
