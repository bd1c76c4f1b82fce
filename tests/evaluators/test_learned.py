"""Learned similarities in tiles: every pair once, in few shapes."""

import numpy as np
import pytest

from vssl_jax.evaluators import learned
from vssl_jax.evaluators.embedded import Batch
from vssl_jax.types import ConfigError


def batch(seed, rows, ids=None, frames=8, width=3):
  rng = np.random.default_rng(seed)
  names = tuple(f"{seed}/{i}" for i in range(rows if ids is None else ids))
  return Batch(names, rng.standard_normal((rows, width)).astype(np.float32),
               rng.standard_normal((rows, frames, width)).astype(np.float32),
               rng.integers(1, frames + 1, rows).astype(np.int32))


class Recorder:
  """Two scores that need all of an embedding, and what shapes they were asked for."""

  def __init__(self, change=lambda found: found):
    self.shapes, self.change = set(), change

  def __call__(self, query, target):
    self.shapes.add((len(query["length"]), len(target["length"])))
    weighed = [side["video"] * side["length"][:, None] + side["frames"].sum(axis=1)
               for side in (query, target)]
    product = np.einsum("qd,nd->qn", *weighed)  # no warning at NaN
    return self.change({"a": product, "b": -2 * product})


@pytest.mark.parametrize("block, shapes", [
    (1, {(1, 1)}), (4, {(4, 4), (4, 2), (1, 4), (1, 2)}), (6, {(6, 6)}), (64, {(8, 8)})])
def test_tiles_give_what_all_at_once_gives(block, shapes):
  q, t = batch(0, 5), batch(1, 6)
  score = Recorder()
  got = learned.pairs(score, q, t, block)
  want = Recorder()(vars(q), vars(t))
  assert got.keys() == want.keys()
  assert score.shapes == shapes
  for name in want:
    assert got[name].dtype == np.float32
    np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5)


def test_fillers_may_be_anything_and_real_videos_may_not():
  q, t = batch(0, 4, ids=3), batch(1, 4, ids=2)
  q.video[3], t.frames[2] = np.nan, np.nan
  got = learned.pairs(Recorder(), q, t, 4)
  assert np.isfinite(got["a"][:3, :2]).all()
  q.video[1] = np.nan
  with pytest.raises(ValueError, match="the a of '0/1' and '1/0' isn't finite"):
    learned.pairs(Recorder(), q, t, 4)


@pytest.mark.parametrize("change, reason", [
    (lambda found: {}, "score gave nothing"),
    (lambda found: found | {"b": found["b"][:, :1]}, r"'b': \(2, 1\)}; every similarity should be"),
    (lambda found: (found["a"].shape == (2, 2) and found) or {"a": found["a"]},
     r"score gave \['a'\], and before \['a', 'b'\]")])
def test_a_score_of_another_form_is_refused(change, reason):
  with pytest.raises(ValueError, match=reason):
    learned.pairs(Recorder(change), batch(0, 2), batch(1, 3), 2)


def test_an_impossible_block_is_named():
  with pytest.raises(ConfigError, match="block=0"):
    learned.pairs(Recorder(), batch(0, 2), batch(1, 3), 0)
