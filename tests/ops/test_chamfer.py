"""The blockwise Chamfer against the twin: ragged queries, ragged videos, several tiles, garbage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import retrieval as reference
from vssl_jax.ops import chamfer, similarity


def videos(rng, lengths, dim=12):
  found = [rng.standard_normal((n, dim)).astype(np.float32) for n in lengths]
  return [x / np.linalg.norm(x, axis=1, keepdims=True) for x in found]


def block(found, garbage=np.nan):
  length = np.array([len(x) for x in found], np.int32)
  frames = np.full((len(found), length.max() + 3, found[0].shape[1]), garbage, np.float32)
  for i, x in enumerate(found):
    frames[i, :len(x)] = x
  return frames, length


def twin(queries, database, score):
  return np.array([[score(q, t) for t in database] for q in queries])


@pytest.fixture
def pairs():
  rng = np.random.default_rng(3)
  return videos(rng, (1, 7, 8, 9, 33)), videos(rng, (1, 2, 5, 16, 30, 4, 11))


@pytest.mark.parametrize("tile", [1, 40, 1024])
def test_equals_the_twin_for_any_tile(pairs, monkeypatch, tile):
  monkeypatch.setattr(chamfer, "CPU_ROWS", tile)
  chamfer.block_chamfer.clear_cache()
  queries, database = pairs
  forward, backward = chamfer.block_chamfer(chamfer.pack(queries), *block(database))
  np.testing.assert_allclose(forward, twin(queries, database, reference.chamfer), atol=1e-6)
  np.testing.assert_allclose(
      backward, twin(queries, database, lambda q, t: reference.chamfer(t, q)), atol=1e-6)
  assert forward.dtype == backward.dtype == jnp.float32


def test_equals_the_masked_form(pairs):
  queries, database = pairs
  got = chamfer.block_chamfer(chamfer.pack(queries), *block(database))
  want = similarity.both_chamfers(*block(queries), *block(database))
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_without_the_way_back_the_way_there_is_the_same(pairs):
  queries, database = pairs
  packed = chamfer.pack(queries)
  forward, backward = chamfer.block_chamfer(packed, *block(database), symmetric=False)
  assert backward is None
  np.testing.assert_array_equal(forward, chamfer.block_chamfer(packed, *block(database))[0])


def test_more_rows_change_nothing(pairs):
  queries, database = pairs
  want = chamfer.block_chamfer(chamfer.pack(queries), *block(database))
  got = chamfer.block_chamfer(chamfer.pack(queries, rows=128), *block(database))
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  with pytest.raises(ValueError, match="fill 80 rows, more than 72"):
    chamfer.pack(queries, rows=72)


def test_negative_similarities_are_not_beaten_by_padding():
  e = np.eye(4, dtype=np.float32)
  forward, backward = chamfer.block_chamfer(chamfer.pack([e[:1]]), *block([-e[:1], -e[:2]]))
  np.testing.assert_allclose(forward, [[-1, 0]], atol=1e-6)
  np.testing.assert_allclose(backward, [[-1, -0.5]], atol=1e-6)


def test_half_precision_is_near(pairs):
  queries, database = pairs
  exact = chamfer.block_chamfer(chamfer.pack(queries), *block(database))
  rough = chamfer.block_chamfer(chamfer.pack(queries, dtype="bfloat16"), *block(database))
  for a, b in zip(exact, rough, strict=True):
    np.testing.assert_allclose(a, b, atol=0.01)
    assert np.abs(a - b).max() > 1e-5  # or it is not half precision


def test_no_product_of_the_whole_block_is_held():
  queries = chamfer.pack(videos(np.random.default_rng(0), [64] * 4, 16))
  frames = jax.ShapeDtypeStruct((256, 64, 16), np.float32)
  length = jax.ShapeDtypeStruct((256,), np.int32)
  memory = chamfer.block_chamfer.lower(queries, frames, length).compile().memory_analysis()
  products = 4 * 256 * 256 * 64
  assert memory.temp_size_in_bytes < products / 3


def test_an_empty_query_is_refused():
  with pytest.raises(ValueError, match="at least one frame"):
    chamfer.pack([np.zeros((0, 4), np.float32)])
