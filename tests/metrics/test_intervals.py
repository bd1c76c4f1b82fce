import numpy as np
import pytest

from tests.reference import intervals as reference
from vssl_jax.metrics import intervals


@pytest.mark.parametrize("n", [2, 7, 30])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_against_the_twin(n, level):
  values = np.random.default_rng(n).random(n)
  got = intervals.bootstrap(values, seed=3, resamples=500, level=level)
  assert got == pytest.approx(reference.bootstrap(values, 3, 500, level), abs=1e-12)


def test_by_hand():
  # Of four draws from 0, 0, 0, 1 none hits the 1 with probability 0.316, at most two with 0.949,
  # at most three with 0.996: so 0.025 and 0.975 fall on means of 0 and 3/4.
  assert intervals.bootstrap([0, 0, 0, 1]) == (0, 0.75)


def test_many_queries_are_nearly_normal():
  values = np.random.default_rng(0).random(3000) ** 2
  low, high = intervals.bootstrap(values)
  half = 1.96 * values.std() / np.sqrt(len(values))
  assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
  assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_what_cannot_vary_has_no_width():
  assert intervals.bootstrap([0.3]) == (0.3, 0.3)
  assert intervals.bootstrap([0.5] * 9) == (0.5, 0.5)


def test_the_seed_decides_and_blocks_do_not(monkeypatch):
  values = np.random.default_rng(1).random(10)
  first = intervals.bootstrap(values)
  assert intervals.bootstrap(values) == first != intervals.bootstrap(values, seed=1)
  monkeypatch.setattr(intervals, "_BLOCK", 170)
  assert intervals.bootstrap(values) == first


def test_the_difference_is_paired():
  rng = np.random.default_rng(2)
  hard = {f"q{i}": x for i, x in enumerate(rng.random(40))}
  better = {q: x + 0.1 + 0.01 * rng.standard_normal() for q, x in reversed(hard.items())}
  mean, low, high = intervals.difference(better, hard)
  assert mean == pytest.approx(np.mean([better[q] - hard[q] for q in hard]))
  assert 0.09 < low < mean < high < 0.11  # unpaired it would be as wide as the queries differ
  assert np.subtract(*intervals.bootstrap(list(hard.values()))[::-1]) > 0.1
  back = intervals.difference({q: hard[q] for q in better}, better)
  assert back == pytest.approx((-mean, -high, -low), abs=1e-12)
  assert intervals.difference(hard, hard) == (0, 0, 0)


@pytest.mark.parametrize(("values", "words"), [
  ([], r"finite values, not \(0,\)"), ([0.5, np.nan], "values that are not"),
  ([[0.5]], r"not \(1, 1\)")])
def test_values_of_no_use_are_refused(values, words):
  with pytest.raises(ValueError, match=words):
    intervals.bootstrap(values)


def test_settings_and_queries_of_no_use_are_refused():
  with pytest.raises(ValueError, match="resamples=0"):
    intervals.bootstrap([1.0], resamples=0)
  with pytest.raises(ValueError, match="level=95"):
    intervals.bootstrap([1.0], level=95)
  with pytest.raises(ValueError, match="not the same queries: 'b' and 1 more"):
    intervals.difference({"a": 1.0, "b": 0.5}, {"a": 1.0, "c": 0.5})
