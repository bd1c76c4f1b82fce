import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import comparator as comparator_reference
from tests.reference import retrieval as reference
from vssl_jax.ops import similarity

TWINS = {"chamfer": reference.chamfer, "symmetric_chamfer": reference.symmetric_chamfer}


def videos(seed, lengths, width=6, frames=None, padding=0.0):
  """Unit frames of the given lengths: a padded array and the list of what is valid in it."""
  rng = np.random.default_rng(seed)
  valid = [rng.standard_normal((n, width)) for n in lengths]
  valid = [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in valid]
  out = np.full((len(lengths), frames or max(lengths), width), padding, np.float32)
  for i, x in enumerate(valid):
    out[i, :len(x)] = x
  return out, np.array(lengths, np.int32), valid


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("padding", [0.0, 7.0, np.nan])
def test_chamfers_equal_the_twin_whatever_the_padding_holds(name, padding):
  q, q_len, qs = videos(0, [5, 1, 3], padding=padding)
  t, t_len, ts = videos(1, [2, 9, 1, 4], frames=16, padding=padding)
  got = getattr(similarity, name)(q, q_len, t, t_len)
  want = [[TWINS[name](x, y) for y in ts] for x in qs]
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, atol=2e-7)


def test_both_chamfers_are_the_two_directions():
  q, q_len, _ = videos(2, [4, 2])
  t, t_len, _ = videos(3, [3, 6, 1])
  forward, backward = similarity.both_chamfers(q, q_len, t, t_len)
  np.testing.assert_array_equal(forward, similarity.chamfer(q, q_len, t, t_len))
  np.testing.assert_allclose(backward, similarity.chamfer(t, t_len, q, q_len).T, atol=2e-7)
  assert np.abs(forward - backward).max() > 0.1


def test_chamfer_takes_the_best_database_frame_and_averages_query_frames():
  # Two query frames, e0 and e1; the database video has only e0: cosines 1 and 0.
  q, t = np.eye(3, dtype=np.float32)[None, :2], np.eye(3, dtype=np.float32)[None, :1]
  assert float(similarity.chamfer(q, jnp.array([2]), t, jnp.array([1]))[0, 0]) == 0.5
  assert float(similarity.chamfer(t, jnp.array([1]), q, jnp.array([2]))[0, 0]) == 1.0
  both = similarity.symmetric_chamfer(q, jnp.array([2]), t, jnp.array([1]))
  assert float(both[0, 0]) == 0.75


@pytest.mark.parametrize("name", TWINS)
def test_padding_never_beats_a_negative_similarity(name):
  x = np.zeros((1, 8, 2), np.float32)
  y = np.zeros((1, 4, 2), np.float32)
  x[0, :2], y[0, :1] = [1, 0], [-1, 0]
  got = getattr(similarity, name)(x, jnp.array([2]), y, jnp.array([1]))
  assert float(got[0, 0]) == -1.0


@pytest.mark.parametrize("name", TWINS)
def test_a_length_beyond_the_array_means_all_of_it(name):
  q, _, qs = videos(4, [3, 3])
  t, _, ts = videos(5, [5])
  got = getattr(similarity, name)(q, jnp.array([9, 3]), t, jnp.array([50]))
  np.testing.assert_allclose(got, [[TWINS[name](x, ts[0])] for x in qs], atol=2e-7)


def test_a_video_without_frames_gives_no_number():
  q, q_len, _ = videos(6, [3, 2])
  t, t_len, _ = videos(7, [2, 2])
  got = similarity.chamfer(q, q_len * [0, 1], t, t_len * [1, 0])
  assert np.isfinite(got).tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize("name", TWINS)
def test_frame_order_changes_nothing_and_blocks_change_nothing(name):
  score = getattr(similarity, name)
  q, q_len, _ = videos(8, [4, 4])
  t, t_len, _ = videos(9, [5, 2, 7, 3])
  whole = score(q, q_len, t, t_len)
  np.testing.assert_allclose(score(q[:, ::-1], q_len, t, t_len), whole, atol=2e-7)
  blocks = [score(q, q_len, t[i:i + 2, :7], t_len[i:i + 2]) for i in (0, 2)]
  np.testing.assert_allclose(np.concatenate(blocks, axis=1), whole, atol=2e-7)


def test_one_product_serves_both_directions():
  q, q_len, _ = videos(10, [4, 4])
  t, t_len, _ = videos(11, [5, 2])
  text = jax.jit(similarity.both_chamfers).lower(q, q_len, t, t_len).as_text()
  assert text.count("dot_general") == 1
  assert "HIGHEST" in text


def test_cosine_equals_the_twin_and_ignores_length():
  rng = np.random.default_rng(12)
  x, y = rng.standard_normal((3, 5)), rng.standard_normal((4, 5))
  got = similarity.cosine(x.astype(np.float32) * 100, y.astype(np.float32) / 7)
  want = [[reference.cosine(a, b) for b in y] for a in x]
  np.testing.assert_allclose(got, want, atol=3e-7)
  zero = similarity.cosine(np.zeros((1, 5), np.float32), y.astype(np.float32))
  np.testing.assert_array_equal(zero, np.zeros((1, 4)))


def test_frame_matrix_keeps_the_order_of_the_axes():
  rng = np.random.default_rng(13)
  x, y = rng.standard_normal((2, 3, 4)), rng.standard_normal((5, 6, 4))
  got = similarity.frame_matrix(jnp.asarray(x), jnp.asarray(y))
  np.testing.assert_allclose(got, np.einsum("qtd,nsd->qtns", x, y), atol=1e-6)
  one = similarity.frame_matrix(jnp.asarray(x[1]), jnp.asarray(y[4]))
  np.testing.assert_allclose(one, x[1] @ y[4].T, atol=1e-6)


def test_half_precision_is_compared_in_single():
  q, q_len, _ = videos(14, [4])
  t, t_len, _ = videos(15, [5])
  half = similarity.chamfer(jnp.asarray(q, jnp.bfloat16), q_len, jnp.asarray(t, jnp.bfloat16),
                            t_len)
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, similarity.chamfer(q, q_len, t, t_len), atol=1e-2)


def regions(seed, *shape):
  x = np.random.default_rng(seed).standard_normal(shape)
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def test_region_matrix_equals_the_twin_for_one_pair_and_for_all():
  x, y = regions(0, 2, 5, 4, 6), regions(1, 3, 7, 2, 6)
  got = jax.jit(similarity.region_matrix)(x, y)
  want = np.array([[comparator_reference.region_matrix(a, b) for b in y] for a in x])
  assert got.shape == (2, 5, 3, 7)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want.transpose(0, 2, 1, 3), atol=3e-7)
  one = similarity.region_matrix(x[1], y[2])
  np.testing.assert_allclose(one, want[1, 2], atol=3e-7)


def test_region_matrix_of_one_region_is_the_frame_matrix():
  x, y = regions(2, 2, 5, 1, 6), regions(3, 3, 4, 1, 6)
  np.testing.assert_allclose(similarity.region_matrix(x, y),
                             similarity.frame_matrix(x[:, :, 0], y[:, :, 0]), atol=2e-7)


def test_region_matrix_compares_half_precision_in_single():
  x, y = regions(2, 5, 2, 6), regions(3, 4, 2, 6)
  half = similarity.region_matrix(jnp.asarray(x, jnp.bfloat16), jnp.asarray(y, jnp.bfloat16))
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, similarity.region_matrix(x, y), atol=1e-2)


def test_region_matrix_averages_the_regions_of_x():
  x, y = np.eye(3, dtype=np.float32)[None, :2], np.eye(3, dtype=np.float32)[None, :1]
  assert float(similarity.region_matrix(x, y)[0, 0]) == 0.5
  assert float(similarity.region_matrix(y, x)[0, 0]) == 1.0


def test_region_order_and_masked_frames_change_nothing():
  x, y = regions(4, 2, 5, 4, 6), regions(5, 3, 7, 2, 6)
  whole = similarity.region_matrix(x, y)
  np.testing.assert_allclose(similarity.region_matrix(x[..., ::-1, :], y[..., ::-1, :]), whole,
                             atol=2e-7)
  x_mask = np.arange(5) < np.array([[3], [5]])
  y_mask = np.arange(7) < np.array([[1], [7], [4]])
  x[~x_mask], y[~y_mask] = np.nan, 7.0
  got = similarity.region_matrix(x, y, x_mask, y_mask)
  both = x_mask[:, :, None, None] & y_mask
  np.testing.assert_allclose(got, np.where(both, whole, 0), atol=2e-7)


def test_region_matrix_has_the_gradient_of_its_closed_form():
  """Of two regions the best; each pair then has an inner product's gradient, by half."""
  x, y = regions(6, 1, 2, 3), regions(7, 1, 2, 3)
  got = jax.grad(lambda x: similarity.region_matrix(x, y)[0, 0])(x)
  np.testing.assert_allclose(got[0], [y[0, np.argmax(y[0] @ r)] / 2 for r in x[0]], atol=1e-7)
  zero = jax.grad(lambda x: jnp.sum(similarity.region_matrix(x, y)))(np.zeros_like(x))
  assert np.isfinite(zero).all()


def test_region_matrix_never_holds_all_products():
  """Beside its [T, S] numbers no more than [T, S, R']; and the products run at full precision."""
  x, y = regions(8, 6, 5, 4), regions(9, 7, 3, 4)
  text = jax.jit(similarity.region_matrix).lower(x, y).as_text()
  assert "6x7x3xf32" in text
  assert "6x5x7x3xf32" not in text and "5x6x7x3xf32" not in text
  assert "HIGHEST" in text
