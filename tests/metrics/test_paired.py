import numpy as np
import pytest

from tests.reference import paired as reference
from vssl_jax.metrics.paired import difference


def data(seed=0, seeds=3, queries=8):
  rng = np.random.default_rng(seed)
  hard = rng.uniform(size=queries)  # shared by both: what pairing takes out
  return (hard + 0.1 * rng.standard_normal((seeds, queries)) + 0.02,
          hard + 0.1 * rng.standard_normal((seeds, queries)))


def test_values():
  a, b = data()
  mean, low, high = difference(a, b, samples=20_000, level=0.9)
  want = reference.difference(a.tolist(), b.tolist(), 4_000, 0.9, seed=1)
  assert mean == pytest.approx(want[0])
  assert (low, high) == pytest.approx(want[1:], abs=0.006)
  assert low < mean < high and high - low > 0.03


def test_the_other_way_round_is_the_mirror_image():
  a, b = data()
  mean, low, high = difference(a, b)
  assert difference(b, a) == pytest.approx((-mean, -high, -low))


def test_a_constant_difference_is_certain():
  a, _ = data()
  assert difference(a + 0.25, a) == pytest.approx((0.25,) * 3)


def test_seeds_that_disagree_widen_the_interval():
  a = np.zeros((4, 50))
  b = np.array([[0.1], [-0.1], [0.1], [-0.1]]) * np.ones((4, 50))
  _, low, high = difference(a, b)
  assert low < -0.04 and high > 0.04
  assert difference(a.mean(0, keepdims=True), b.mean(0, keepdims=True)) == pytest.approx((0, 0, 0))


def test_wrong_input():
  for a, b, words in ((np.ones((2, 3)), np.ones((1, 3)), "the same"),
                      (np.ones((0, 3)), np.ones((0, 3)), "the same"),
                      (np.full((1, 1), np.nan), np.ones((1, 1)), "finite")):
    with pytest.raises(ValueError, match=words):
      difference(a, b)
