"""Pairs, independent draws and consecutive clips against tables worked by hand."""

import math

import numpy as np
import pytest

from data_pipelines.sample import (
  consecutive,
  independent,
  pair,
  per_second,
  query_and_candidates,
)

STEADY = np.arange(10) / 4  # 4 frames a second, the last one appears at 2.25 s
VARIABLE = [0.0, 0.1, 1.4, 1.5, 4.2]  # mean gap 1.05 s: taken to end at 5.25 s
R2V2 = np.arange(4) * 5.0  # four pictures of a video
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("gap", "kwargs", "want"), [
    (9, {}, {(0, 9)}),
    (8, {}, {(0, 8), (1, 9)}),
    ((8, 100), {}, {(0, 8), (1, 9), (0, 9)}),
    ((8.5, 100), {}, {(0, 9)}),
    ((0, 1), {"end": 0.75}, {(0, 1), (1, 2)}),
    (1, {"start": 1.1, "end": 1.8}, {(4, 5), (5, 6), (6, 7)}),
    # 2 s after frame 0 is frame 8, after 1 is 9; 2.1 s after 0 still is 8, after 1 it's 9.
    (2.0, {"unit": "seconds"}, {(0, 8), (1, 9)}),
    (2.1, {"unit": "seconds"}, {(0, 8), (1, 9)}),
    (2.3, {"unit": "seconds"}, {(0, 9)}),
    (0.1, {"unit": "seconds", "end": 0.5}, {(0, 0), (1, 1)}),
    ((2.0, 2.2), {"unit": "seconds"}, {(0, 8), (1, 9)}),
    ((0.1, 0.25), {"unit": "seconds", "end": 0.75}, {(0, 1), (1, 2)}),
    # Shorter than the gap: as far apart as can be.
    (10, {}, {(0, 9)}),
    ((20, 30), {}, {(0, 9)}),
    (3.0, {"unit": "seconds"}, {(0, 9)}),
    (5, {"start": 1.0, "end": 2.0}, {(4, 7)}),
    (3, {"start": 1.0, "end": 1.0}, {(4, 4)}),
    # None fits for another reason: one frame twice.
    ((1, 2), {"among": np.array([0, 4, 9])}, {(0, 0), (4, 4), (9, 9)}),
    (3, {"among": np.array([0, 4, 9])}, {(0, 0), (4, 4), (9, 9)}),
    # Two frames and a range: those two.
    ((1, 2), {"among": np.array([0, 9])}, {(0, 9)}),
    ((1, 2), {"among": np.array([0, 4, 9]), "start": 0.25}, {(4, 9)}),
    ((1, 2), {"among": np.array([3])}, {(3, 3)}),
    ((1, 5), {"among": np.array([0, 4, 9])}, {(0, 4), (4, 9)}),
    (5, {"among": np.array([0, 4, 9])}, {(4, 9)}),
    (1.1, {"among": np.array([0, 4, 9]), "unit": "seconds"}, {(0, 4), (4, 4)}),
])
def test_pair_table(gap, kwargs, want):
  rng = np.random.default_rng(2)
  assert {tuple(pair(STEADY, gap, rng=rng, **kwargs).tolist()) for _ in range(60)} == want


def test_pair_in_seconds_of_a_variable_rate():
  rng = np.random.default_rng(2)
  got = {tuple(pair(VARIABLE, 1.4, unit="seconds", rng=rng).tolist()) for _ in range(99)}
  # On screen at 1.4, 1.5, 2.8 and 2.9 s; 5.6 s is over.
  assert got == {(0, 2), (1, 3), (2, 3), (3, 3)}


def test_siamfc_pairs_are_as_likely_as_by_rejection():
  """CycleContrast 6.2: two kept frames at random, drawn again until less than 100 apart."""
  kept = np.array([0, 3, 60, 99, 120, 250, 251, 400])
  near = {(a, b) for a in kept.tolist() for b in kept.tolist() if a < b < a + 100}
  rng, times = np.random.default_rng(0), np.arange(500) / 10
  found, counts = np.unique([pair(times, (1, 99), among=kept, rng=rng) for _ in range(3000)],
                            axis=0, return_counts=True)
  assert set(map(tuple, found.tolist())) == near == {
      (0, 3), (0, 60), (0, 99), (3, 60), (3, 99), (60, 99), (60, 120), (99, 120), (250, 251)}
  assert 0.7 < counts.min() * len(near) / 3000 < counts.max() * len(near) / 3000 < 1.3


def test_independent_draws_of_the_r2v2_kind():
  """CycleContrast 3.2: the candidate is the query's own frame one time in four."""
  rng = np.random.default_rng(0)
  same = np.mean([a == b for a, b in (independent(R2V2, rng=rng) for _ in range(4000))])
  assert abs(same - 0.25) < 0.03
  assert independent([0.0], 3, rng=rng).tolist() == [0, 0, 0]
  assert sorted(independent(R2V2, 4, rng=rng, distinct=True).tolist()) == [0, 1, 2, 3]
  found = {int(i) for _ in range(50) for i in independent(STEADY, rng=rng, start=1.0, end=1.75)}
  assert found == {4, 5, 6}
  repeated = independent(np.arange(3), 7, rng=rng, distinct=True).tolist()
  assert sorted(repeated[:3]) == sorted(repeated[3:6]) == [0, 1, 2]


def test_a_query_comes_twice_and_candidates_are_drawn():
  rng = np.random.default_rng(1)
  drawn = np.array([query_and_candidates(R2V2, 2, rng=rng) for _ in range(3000)])
  assert drawn.shape == (3000, 4, 1) and drawn.dtype == np.int64
  query, again, *candidates = drawn[..., 0].T
  assert (query == again).all()
  for a, b in ((query, candidates[0]), (query, candidates[1]), candidates):
    assert abs(np.mean(a == b) - 0.25) < 0.03
  assert np.bincount(query).tolist() == pytest.approx([750] * 4, abs=100)
  drawn = np.array([query_and_candidates(R2V2, rng=rng, distinct=True) for _ in range(50)])
  assert drawn.shape == (50, 3, 1) and (drawn[:, 0] != drawn[:, 2]).all()
  assert query_and_candidates(R2V2, 0, rng=rng).shape == (2, 1)
  assert query_and_candidates([0.0], 2, rng=rng, distinct=True).tolist() == [[0]] * 4
  found = {int(i) for _ in range(50)
           for i in query_and_candidates(STEADY, rng=rng, start=1.0, end=1.75).ravel()}
  assert found == {4, 5, 6}


@pytest.mark.parametrize(("kwargs", "want"), [
    ({"n_frames": 9}, [[0, 4, 8]]),
    ({"n_frames": 20}, [[0, 4, 8]]),
    ({"n_frames": 21}, [[0, 4, 8], [12, 16, 20]]),
    ({"n_frames": 22, "first": 1}, [[1, 5, 9], [13, 17, 21]]),
    ({"n_frames": 24}, [[0, 4, 8], [12, 16, 20]]),
    ({"n_frames": 7, "n": 2, "gap": 1}, [[0, 1], [2, 3], [4, 5]]),
    ({"n_frames": 7, "n": 2, "gap": 3}, [[0, 3]]),
    ({"n_frames": 3, "n": 1, "gap": 1}, [[0], [1], [2]]),
    # Files 1, 5, 9, 13, 17, 21 strictly below 22, numbered from 1 and from 0.
    ({"n_frames": 22, "released_numbering": 1}, [[0, 4, 8], [12, 16, 20]]),
    ({"n_frames": 22, "released_numbering": 0}, [[1, 5, 9], [13, 17, 21]]),
    ({"n_frames": 21, "released_numbering": 1}, [[0, 4, 8]]),  # file 21 is not below 21
    ({"n_frames": 10, "released_numbering": 1}, [[0, 4, 8]]),
    ({"n_frames": 10, "released_numbering": 0, "gap": 2}, [[1, 3, 5]]),
])
def test_consecutive_table(kwargs, want):
  got = consecutive(**kwargs)
  assert got.tolist() == want
  assert got.dtype == np.int64


@pytest.mark.parametrize("n_frames", range(10, 60))
def test_released_rule_word_for_word(n_frames):
  entries = [i for i in range(1, n_frames) if i % 4 == 1]
  triples = [entries[k:k + 3] for k in range(0, len(entries) - 2, 3)]
  assert consecutive(n_frames, released_numbering=0).tolist() == triples
  assert (consecutive(n_frames, released_numbering=1) + 1).tolist() == triples


def test_consecutive_at_a_rate_in_real_time():
  frames = per_second(np.arange(50) / 25, 6.0)  # 0, 1/6, 1/3, ... s of 25 fps
  assert frames[consecutive(len(frames), 3, gap=1)].tolist() == [
      [0, 4, 8], [12, 16, 20], [25, 29, 33], [37, 41, 45]]


@pytest.mark.parametrize(("n_frames", "kwargs"), [
    (8, {}), (9, {"released_numbering": 1}), (9, {"released_numbering": 0}), (0, {}),
    (9, {"first": 1}),
])
def test_consecutive_says_that_a_video_is_too_short(n_frames, kwargs):
  with pytest.raises(ValueError, match=f"{n_frames} frames are too few"):
    consecutive(n_frames, **kwargs)


@pytest.mark.parametrize("call", [
    lambda: pair(STEADY, 0, rng=RNG),
    lambda: pair(STEADY, -1, rng=RNG),
    lambda: pair(STEADY, 1.5, rng=RNG),
    lambda: pair(STEADY, math.nan, rng=RNG, unit="seconds"),
    lambda: pair(STEADY, (5, 2), rng=RNG),
    lambda: pair(STEADY, (0, 0), rng=RNG),
    lambda: pair(STEADY, 1, rng=RNG, unit="minutes"),
    lambda: pair(STEADY, 1, rng=RNG, among=[]),
    lambda: pair(STEADY, 1, rng=RNG, among=[3, 10]),
    lambda: pair(STEADY, 1, rng=RNG, among=[3, 2]),
    lambda: pair(STEADY, 1, rng=RNG, among=[0, 1], start=1.0),
    lambda: independent([], rng=RNG),
    lambda: independent(R2V2, 0, rng=RNG),
    lambda: consecutive(20, 0),
    lambda: consecutive(20, 3, 0),
    lambda: consecutive(20, first=-1),
    lambda: consecutive(20, released_numbering=2),
    lambda: consecutive(20, first=1, released_numbering=1),
])
def test_nonsense_is_refused(call):
  with pytest.raises(ValueError, match=r"\w{3}"):
    call()
