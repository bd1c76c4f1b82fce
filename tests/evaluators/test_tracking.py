"""From frames and first boxes to scores and files."""

import dataclasses

import numpy as np
import pytest

from tests.evaluators import moving
from vssl_jax.evaluators import toolkit_files, tracking
from vssl_jax.metrics import tracking as metrics
from vssl_jax.types import ConfigError


def make(records, **kwargs):
  return tracking.make(records, moving.frames, progress=False, **kwargs)


@pytest.fixture(scope="module")
def clips():
  return [moving.clip("a", 1), moving.clip("b", 2, length=5, step=(-3, -4))]


def test_the_ridge_filter_follows_a_moving_square(clips):
  evaluator = make(clips)
  report, still = evaluator.report(moving.colours), evaluator.identity().numbers
  assert report.numbers["success"] > 0.65 and report.numbers["precision"] == 1
  assert still["success"] < 0.45 and report.numbers["tracks"] == 2
  assert evaluator(moving.colours) == report.numbers
  assert list(report.table) == ["a", "b"] and report.fps > 1
  np.testing.assert_allclose(np.mean([row["success"] for row in report.table.values()]),
                             report.numbers["success"])


@pytest.mark.parametrize("benchmark", ["otb", "got10k"])
def test_an_interrupted_evaluation_goes_on(clips, tmp_path, benchmark):
  evaluator, kept = make(clips, benchmark=benchmark), {}
  want = evaluator.report(moving.colours)

  def stopping(inputs):
    if "a" in kept:
      raise KeyboardInterrupt
    return moving.colours(inputs)

  with pytest.raises(KeyboardInterrupt):
    evaluator.report(stopping, tmp_path, kept=kept)
  assert list(kept) == ["a"]
  kept["a"] = {**kept["a"], "seconds": 0 * kept["a"]["seconds"]}  # which tells who was asked
  report = evaluator.report(moving.colours, tmp_path, kept=kept)
  assert report.numbers == want.numbers
  assert report.tracks["a"].seconds.sum() == 0 < report.tracks["b"].seconds.sum()


def test_it_follows_a_growing_square():
  clip = moving.clip("a", 3, step=(1, 1), side=30, grow=1.03)
  sides = make([clip]).report(moving.colours).tracks["a"].boxes[:, 2]
  assert sides[0] == 30 and sides[-1] > 32


def test_got10k_drops_the_first_and_hidden_frames(clips):
  cover = np.array([8, 8, 0, 8, 0])
  record = dataclasses.replace(clips[1], truth=clips[1].truth | {"cover": cover})
  report = make([clips[0], record], benchmark="got10k").report(moving.colours)
  assert [len(t.score.values) for t in report.tracks.values()] == [7, 2]
  assert report.numbers["AO"] > 0.7 and set(report.numbers) == {"AO", "SR0.5", "SR0.75", "tracks"}


def truth_tracker(records):
  """A tracker that knows the truth of the records in turn."""
  left = iter(records)

  def track(frames, box):
    boxes = next(left).truth["boxes"]
    return ((b, 0.5) for b, _ in zip(boxes, frames, strict=True))
  return track


def test_any_tracker_can_be_evaluated(clips):
  report = make(clips).evaluate(truth_tracker(clips))
  assert report.numbers["precision"] == 1
  assert report.numbers["success"] == pytest.approx(20 / 21)  # nothing exceeds 1
  assert report.fps == 2


def test_files_of_the_toolkit(clips, tmp_path):
  named = [dataclasses.replace(clips[0], id="Jogging-2"), clips[1]]
  report = make(named).report(moving.colours, tmp_path, "ours")
  base = tmp_path / "OTB2015" / "ours"
  assert sorted(str(p.relative_to(base)) for p in base.rglob("*.*")) == [
    "Jogging.2.txt", "b.txt", "times/Jogging.2_time.txt", "times/b_time.txt"]
  read = np.loadtxt(base / "Jogging.2.txt", delimiter=",")
  np.testing.assert_array_equal(read, report.tracks["Jogging-2"].boxes)
  np.testing.assert_allclose(read[0], clips[0].truth["boxes"][0] + (1, 1, 0, 0))
  # Scores are of what the files hold.
  again = metrics.otb(clips[0].truth["boxes"] + (1, 1, 0, 0), read)
  np.testing.assert_array_equal(again.success, report.tracks["Jogging-2"].score.success)
  assert np.loadtxt(base / "times" / "b_time.txt").shape == (5,)
  make(named, benchmark="got10k").identity(tmp_path, "still")
  base = tmp_path / "GOT-10k" / "still" / "b"
  assert sorted(p.name for p in base.iterdir()) == ["b_001.txt", "b_time.txt"]
  assert (base / "b_001.txt").read_text().count(",") == 15


def test_names_that_lead_out_of_the_folder(tmp_path):
  for tracker, name in (("..", "a"), ("ours", "../a"), ("", "a"), ("ours", "a/b")):
    with pytest.raises(ValueError, match="no name of a file"):
      toolkit_files.paths(tmp_path, "otb", tracker, name)


def test_bad_records(clips):
  good = clips[1]
  for boxes, words in [(None, "absent"), (np.ones((3, 2)), r"\(3, 2\)"),
                       (np.full((5, 4), np.nan), "without an area")]:
    truth = {} if boxes is None else {"boxes": boxes}
    with pytest.raises(ConfigError, match=f"b: .*{words}"):
      make([dataclasses.replace(good, truth=truth)])
  with pytest.raises(ValueError, match="b: 4 frames, but boxes for 5"):
    make([dataclasses.replace(good, frames=good.frames[:4])]).report(moving.colours)
  odd = (*good.frames[:4], good.frames[4][:50])
  with pytest.raises(ValueError, match=r"b: frame 4 is .50, 160, 3."):
    make([dataclasses.replace(good, frames=odd)]).report(moving.colours)


def test_bad_settings(clips):
  with pytest.raises(ConfigError, match="no track"):
    make([])
  with pytest.raises(ConfigError, match="twice"):
    make([clips[0], clips[0]])
  for kwargs, words in [({"benchmark": "vot"}, "benchmark='vot'"),
                        ({"matcher": "x"}, "matcher='x'"), ({"protocol": "x"}, "protocol='x'"),
                        ({"changes": {"scales": 2}}, "odd"), ({"changes": {"typo": 2}}, "typo"),
                        ({"matcher_args": {"x": 1}}, "'x'"),
                        ({"matcher_args": {"sigma": 0.0}}, "sigma=0.0")]:
    with pytest.raises(ConfigError, match=words):
      make(clips, **kwargs)
  with pytest.raises(ValueError, match="a: embed gave"):
    make(clips, matcher="siamese").report(moving.colours)
