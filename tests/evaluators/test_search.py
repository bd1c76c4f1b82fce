"""Searching an index: equal to the twin in any blocks, resumable, shortlists in two stages."""

import numpy as np
import pytest

from tests.reference import retrieval as reference
from vssl_jax.evaluators import search
from vssl_jax.evaluators.embedded import Batch
from vssl_jax.evaluators.index import Index

DIM = 6


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make(lengths, seed, folder=None, weights=False):
  """An index of random videos, and their frames (and weights)."""
  rng, index, kept = np.random.default_rng(seed), Index(folder), []
  for i, n in enumerate(lengths):
    frames = unit(rng.standard_normal((1, n, DIM)).astype(np.float32))
    w = rng.random((1, n)).astype(np.float32) if weights else None
    index.add([Batch((f"v{i}",), unit(frames.mean(axis=1)), frames, np.array([n], np.int32), w)])
    kept.append((frames[0], np.ones(n) / n if w is None else w[0] / w[0].sum()))
  return index, kept


def twin(queries, database):
  """Chamfer and symmetric Chamfer [Q, N], by weight."""
  def one(x, y):
    return float(x[1] @ (x[0] @ y[0].T).max(axis=1))
  forward = np.array([[one(q, t) for t in database] for q in queries])
  backward = np.array([[one(t, q) for t in database] for q in queries])
  return {"chamfer": forward, "symmetric_chamfer": (forward + backward) / 2}


LENGTHS = (1, 3, 4, 5, 20, 33, 7, 2, 40, 18, 3, 100, 9)


@pytest.mark.parametrize("rows", [1, 64, 8192])
@pytest.mark.parametrize("weights", [False, True])
def test_exhaustive_search_equals_the_twin(tmp_path, monkeypatch, rows, weights):
  monkeypatch.setattr(search.groups, "__defaults__", (rows,))
  queries, asked = make((2, 30, 11), 0, weights=weights)
  database, found = make(LENGTHS, 1, tmp_path / "index", weights)
  scores = search.Scores(("chamfer", "symmetric_chamfer"), (len(database), len(queries)))
  search.exhaustive(queries, database, scores)
  for name, want in twin(asked, found).items():
    assert scores.tables[name].dtype == np.float32
    np.testing.assert_allclose(scores.tables[name].T, want, atol=1e-6)
  if not weights:
    want = [[reference.chamfer(q, t) for t, _ in found] for q, _ in asked]
    np.testing.assert_allclose(scores.tables["chamfer"].T, want, atol=1e-6)


def test_blocks_hold_every_video_once_and_waste_little():
  index, _ = make(np.random.default_rng(0).integers(1, 300, 200), 0)
  found = [search.block(index, *part, 2048) for part in
           search.groups(index, np.arange(len(index)), 2048)]
  assert sorted(np.concatenate([b.at for b in found]).tolist()) == list(range(len(index)))
  assert all(b.frames.shape[0] * b.frames.shape[1] <= 2048 for b in found)
  full = [b for b in found if len(b.at) == len(b.frames)]
  used = sum(b.length[:len(b.at)].sum() for b in full)
  assert used > 0.8 * sum(b.frames.shape[0] * b.frames.shape[1] for b in full)


def test_padded_lengths():
  n = np.arange(1, 2000)
  padded = search.padded_length(n)
  assert (padded >= n).all() and (padded[n >= 16] <= 1.25 * n[n >= 16]).all()
  assert (padded[n >= 64] <= 1.125 * n[n >= 64]).all()
  assert len(np.unique(padded[n <= 1024])) == 48
  np.testing.assert_array_equal(search.padded_length(padded), padded)


def test_cosine_in_pieces():
  queries, asked = make((2, 30, 11), 0)
  database, found = make(LENGTHS, 1)
  want = [[reference.cosine(q.mean(0), t.mean(0)) for t, _ in found] for q, _ in asked]
  for rows in (1, 5, 1000):
    np.testing.assert_allclose(search.cosine(queries, database, rows), want, atol=1e-6)


def test_an_interrupted_search_goes_on_and_ends_equal(tmp_path, monkeypatch):
  monkeypatch.setattr(search.groups, "__defaults__", (64,))
  queries, _ = make((2, 30, 11), 0)
  database, _ = make(LENGTHS, 1)
  shape, names = (len(database), len(queries)), ("chamfer", "symmetric_chamfer")
  whole = search.Scores(names, shape)
  search.exhaustive(queries, database, whole)

  class Stop(Exception):
    pass

  first, count = search.Scores(names, shape, tmp_path, {"step": 3}), []

  def stop():
    count.append(1)
    if len(count) == 4:
      raise Stop
    search.Scores.finish_block(first)

  monkeypatch.setattr(first, "finish_block", stop)
  with pytest.raises(Stop):
    search.exhaustive(queries, database, first)
  second, computed = search.Scores(names, shape, tmp_path, {"step": 3}), []
  assert second.done == 3
  chamfers = search._chamfers
  monkeypatch.setattr(search, "_chamfers", lambda *a: computed.append(1) or chamfers(*a))
  search.exhaustive(queries, database, second)
  assert len(computed) == second.done - 3 == whole.done - 3
  for name in names:
    np.testing.assert_array_equal(second.tables[name], whole.tables[name])
  assert search.Scores(names, shape, tmp_path, {"step": 4}).done == 0  # of something else


def test_scores_of_something_else_are_made_anew_and_then_no_more_those_of_before(tmp_path):
  first = (("chamfer",), (4, 2), tmp_path, {"step": 3})
  for other in ((("chamfer",), (4, 2), tmp_path, {"step": 4}), (("chamfer",), (5, 2), *first[2:]),
                (("chamfer", "own"), *first[1:])):
    scores = search.Scores(*first)
    assert scores.done == 0
    scores.finish_block()
    assert search.Scores(*first).done == 1
    scores = search.Scores(*other)
    assert scores.done == 0 and not np.any(scores.tables["chamfer"])


@pytest.mark.parametrize("weights", [False, True])
def test_two_stages_on_the_whole_database_are_chamfer(weights):
  queries, asked = make((2, 30, 11), 0, weights=weights)
  database, found = make(LENGTHS, 1)
  first = search.cosine(queries, database)
  got = search.two_stage(queries, database, first, len(database))
  np.testing.assert_allclose(got, twin(asked, found)["chamfer"], atol=1e-6)


def test_two_stages_rank_the_shortlist_by_chamfer_and_the_others_behind_it_by_cosine():
  queries, asked = make((2, 30, 11), 0)
  database, found = make(LENGTHS, 1)
  first = search.cosine(queries, database)
  got, want = search.two_stage(queries, database, first, 4), twin(asked, found)["chamfer"]
  for q in range(len(queries)):
    short = np.argsort(-first[q], kind="stable")[:4]
    rest = np.setdiff1d(np.arange(len(database)), short)
    np.testing.assert_allclose(got[q, short], want[q, short], atol=1e-6)
    np.testing.assert_array_equal(got[q, rest], first[q, rest] - np.float32(2))
    assert got[q, rest].max() < got[q, short].min()


def test_shortlist_size():
  assert search.shortlist_size(225_960) == 4520
  assert search.shortlist_size(1000) == 50
  assert search.shortlist_size(20) == 20


def test_a_learned_similarity_is_searched_beside_the_others():
  queries, asked = make((2, 30, 11), 0)
  database, found = make(LENGTHS, 1)

  def learned(block):
    return {"length": np.tile(block.length, (len(queries), 1)) / queries.length[:, None]}

  scores = search.Scores(("length", "chamfer"), (len(database), len(queries)))
  search.exhaustive(queries, database, scores, learned=learned)
  want = database.length[None] / queries.length[:, None]
  np.testing.assert_allclose(scores.tables["length"].T, want, rtol=1e-6)
  np.testing.assert_allclose(scores.tables["chamfer"].T, twin(asked, found)["chamfer"], atol=1e-6)


def test_items_made_ahead_come_in_order_and_errors_come_through():
  assert list(search.ahead(iter(range(7)))) == list(range(7))

  def broken():
    yield 1
    raise OSError("disk")

  items = search.ahead(broken())
  assert next(items) == 1
  with pytest.raises(OSError, match="disk"):
    next(items)
