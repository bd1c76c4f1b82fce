"""Nearest vectors: as the twin finds them, in any blocks."""

import numpy as np
import pytest

from tests.reference import classification as reference
from vssl_jax.ops import nearest


def made(seed=0):
  """Queries and a bank with repeated vectors, so that there are exact ties."""
  rng = np.random.default_rng(seed)
  bank = rng.normal(size=(23, 4)).astype(np.float32)
  bank[11:15], bank[20] = bank[3], bank[0]
  return rng.normal(size=(7, 4)).astype(np.float32), bank


def twin(queries, bank, k, allowed=lambda q, i: True):
  found = [reference.neighbours(q, bank, lambda i, n=n: allowed(n, i))[:k]
           for n, q in enumerate(queries)]
  return [[c for c, _ in row] for row in found], [[i for _, i in row] for row in found]


@pytest.mark.parametrize("block", [(1024, 16384), (3, 5)])
def test_neighbours_are_those_of_the_twin(block):
  queries, bank = made()
  cosine, index = nearest.nearest(queries, bank, 9, block=block)
  expected = twin(queries, bank, 9)
  np.testing.assert_allclose(cosine, expected[0], atol=1e-6)
  np.testing.assert_array_equal(index, expected[1])


def test_of_equals_the_first_comes_first_and_groups_are_left_out():
  _, bank = made()
  cosine, index = nearest.nearest(bank[3:4], bank, 5, block=(3, 5))
  assert index[0].tolist() == [3, 11, 12, 13, 14]
  of = np.array([f"video {i // 6}" for i in range(len(bank))])
  cosine, index = nearest.nearest(bank, bank, 20, queries_of=of, bank_of=of, block=(3, 5))
  expected = twin(bank, bank, 20, lambda n, i: of[n] != of[i])
  for n, row in enumerate(expected[1]):
    assert len(row) < 20
    assert index[n].tolist() == row + [-1] * (20 - len(row))
    assert (cosine[n, len(row):] == -np.inf).all() and np.isfinite(cosine[n, :len(row)]).all()


def test_zero_vectors_and_impossible_settings():
  queries, bank = made()
  cosine, index = nearest.nearest(np.zeros((1, 4)), bank, 2, block=(3, 5))
  assert cosine.tolist() == [[0, 0]] and index.tolist() == [[0, 1]]
  for settings in ({"k": 0}, {"k": 1, "block": (0, 1)}, {"k": 1, "queries_of": np.zeros(7)}):
    with pytest.raises(ValueError, match="at least 1"):
      nearest.nearest(queries, bank, **settings)
