"""From frames and joints to PCK."""

import dataclasses

import numpy as np
import pytest

from tests.evaluators.stopping import Stopping
from vssl_jax.evaluators import dense, keypoints
from vssl_jax.types import ConfigError


@dataclasses.dataclass(frozen=True)
class Record:
  id: str
  frames: tuple
  truth: dict


def clip(name, length=4, step=8, size=(40, 80), joints=4):
  """A picture of random blocks that moves to the right, and points on it."""
  rng = np.random.default_rng(3)
  blocks = rng.integers(0, 256, (size[0] // 4, (size[1] + step * length) // 4, 3), np.uint8)
  wide = blocks.repeat(4, 0).repeat(4, 1)
  frames = tuple(wide[:, step * (length - t):step * (length - t) + size[1]] for t in range(length))
  first = rng.uniform((10, 8), (size[1] - step * length - 10, size[0] - 8), (joints, 2))
  points = np.stack([first + (step * t, 0) for t in range(length)])
  return Record(name, frames, {"points": points.astype(np.float32)})


def make(records, **kwargs):
  changes = dict(stride=4, recent=(1,), radius=5, fixed=(), fixed_radius=5)
  changes |= kwargs.pop("changes", {})
  return keypoints.make(records, lambda r: iter(r.frames), changes=changes, size=128,
                        progress=False, **kwargs)


FLOOR = dense.lab_blocks(cell=4)


def test_points_are_followed_and_standing_still_is_not_enough():
  evaluator = make([clip("a"), clip("b", length=3)])
  report = evaluator.report(FLOOR)
  numbers, still = report.numbers, evaluator.identity().numbers
  assert numbers["PCK@0.5"] > 75 and numbers["lost"] == 0
  assert numbers["PCK@0.2"] > still["PCK@0.2"] + 20
  assert numbers["strict/PCK@0.2"] == numbers["PCK@0.2"]
  assert report.predicted["a"].shape == (4, 4, 2) and report.per_joint.shape == (5, 4)
  assert list(numbers)[:2] == ["PCK@0.1", "PCK@0.2"]


def test_an_interrupted_evaluation_goes_on(tmp_path):
  evaluator, kept = make([clip("a"), clip("b", length=3)]), {}
  with pytest.raises(KeyboardInterrupt):
    evaluator.report(Stopping(FLOOR, 6), tmp_path, kept)
  assert list(kept) == ["a"]
  report = evaluator.report(Stopping(FLOOR, 4), tmp_path, kept)  # asks for the frames of b alone
  assert report.numbers == evaluator.report(FLOOR).numbers
  assert {p.name for p in tmp_path.iterdir()} == {"a.csv", "b.csv"}


def test_a_point_outside_is_lost_and_strictly_wrong():
  record = clip("a")
  record.truth["points"][:, 0] = -500, -500
  numbers = make([record]).report(FLOOR).numbers
  assert numbers["lost"] == pytest.approx(0.25)
  assert numbers["strict/PCK@0.5"] == pytest.approx(0.75 * numbers["PCK@0.5"])
  assert (make([record]).report(FLOOR).predicted["a"][1:, 0] == -1).all()


def test_bad_records():
  good = clip("a")
  for truth, words in [({}, "a: .*absent"), ({"points": np.ones((4, 2))}, r"a: .*\(4, 2\)")]:
    with pytest.raises(ConfigError, match=words):
      make([dataclasses.replace(good, truth=truth)])
  points = good.truth["points"].copy()
  points[2, 1] = np.nan
  with pytest.raises(ConfigError, match="a: frame 2, point 1"):
    make([dataclasses.replace(good, truth={"points": points})])
  with pytest.raises(ValueError, match="a: 3 frames, but points for 4"):
    make([dataclasses.replace(good, frames=good.frames[:3])]).report(FLOOR)
  with pytest.raises(ValueError, match="a: no frames"):
    make([dataclasses.replace(good, frames=())]).report(FLOOR)
  one = dataclasses.replace(good, frames=good.frames[:1], truth={"points": points[:1]})
  with pytest.raises(ValueError, match=r"a: .*two frames"):
    make([one]).report(FLOOR)
  odd = (*good.frames[:2], good.frames[2][:20], good.frames[3])
  with pytest.raises(ValueError, match="a: frame 2 is 20 x 80 pixels, the first 40 x 80"):
    make([dataclasses.replace(good, frames=odd)]).report(FLOOR)
  odd = (good.frames[0], good.frames[1] / 255, *good.frames[2:])
  with pytest.raises(ValueError, match=r"a: frame 1: float64 .* should be uint8"):
    make([dataclasses.replace(good, frames=odd)]).report(FLOOR)


def test_a_point_that_leaves_is_measured_where_it_is():
  points = np.float32([[[10, 10], [20, 10]], [[10, 10], [20, 10]], [[-20, 10], [20, 10]]])
  report = make([Record("a", (), {"points": points})]).identity()
  assert report.videos["a"].found.all()
  np.testing.assert_allclose(report.videos["a"].distance[:, 0], [0, 30 / (0.6 * 40)])


def test_bad_settings():
  with pytest.raises(ConfigError, match="no video"):
    make([])
  with pytest.raises(ConfigError, match="twice"):
    make([clip("a"), clip("a")])
  with pytest.raises(ConfigError, match=r"\[3, 4\] points"):
    make([clip("a"), clip("b", joints=3)])
  with pytest.raises(ConfigError, match="soft"):
    make([clip("a")], changes=dict(feedback="hard"))
  with pytest.raises(ConfigError, match="multiple of the stride"):
    make([clip("a")], changes=dict(stride=7))
