"""Sampling of frames against tables worked by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest

from data_pipelines.sample import (
  clip,
  clips,
  independent,
  pair,
  part,
  per_second,
  tca_parity,
  uniform,
)

STEADY = np.arange(10) / 4  # 4 frames a second, the last one appears at 2.25 s
VARIABLE = [0.0, 0.1, 1.4, 1.5, 4.2]  # mean gap 1.05 s: taken to end at 5.25 s
R2V2 = np.arange(4) * 5.0  # four pictures of a video


@pytest.mark.parametrize(("times", "kwargs", "want"), [
    (STEADY, {}, [0, 4, 8]),
    (STEADY, {"fps": 2}, [0, 2, 4, 6, 8]),
    (STEADY, {"fps": 0.5}, [0, 8]),
    (STEADY, {"fps": 0.1}, [0]),
    (STEADY, {"fps": 8}, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9]),
    (STEADY, {"start": 0.6}, [2, 6]),  # 0.6 s shows frame 2, 1.6 s frame 6; 2.6 s is over
    (STEADY, {"end": 2.0}, [0, 4]),
    (STEADY, {"end": 2.1}, [0, 4, 8]),
    (STEADY, {"start": 1.0, "end": 2.0, "fps": 4}, [4, 5, 6, 7]),
    (STEADY, {"start": 1.0, "end": 1.0}, [4]),
    (STEADY, {"start": 9.0}, [9]),
    (STEADY, {"start": -3.0, "end": 99.0}, [0, 4, 8]),
    # At 1 s frame 1 is still shown; at 2, 3 and 4 s frame 3; frame 4 comes at 4.2 s.
    (VARIABLE, {}, [0, 1, 3, 3, 3]),
    (VARIABLE, {"fps": 5}, [0, 1, 1, 1, 1, 1, 1, *[2], *[3] * 13, 4]),
    (VARIABLE, {"start": 1.3}, [1, 3, 3]),
    ([0.0], {}, [0]),
    ([0.0, 5.0], {}, [0, 0, 0, 0, 0, 1]),
])
def test_per_second_table(times, kwargs, want):
  assert per_second(np.asarray(times), **kwargs).tolist() == want


@pytest.mark.parametrize("fps", [25.0, 30000 / 1001, 50.0, 60.0])
def test_times_rounded_to_milliseconds_count_as_on_time(fps):
  rounded = np.round(np.arange(600) / fps, 3)
  assert per_second(rounded, fps).tolist() == list(range(600))
  assert per_second(rounded, fps / 3).tolist() == list(range(0, 600, 3))
  # The first frame's own time is rounded too, by up to half a millisecond.
  late = np.where(np.arange(600) == 0, rounded, rounded + 0.0005)
  assert per_second(late, fps / 25).tolist() == list(range(0, 600, 25))


def test_frame_is_the_one_on_screen():
  rng = np.random.default_rng(0)
  times = np.concatenate([[0.0], np.cumsum(rng.exponential(0.4, 80) + 0.01)])
  got = per_second(times, fps=3.0, start=1.7, end=20.0)
  want = [max(i for i, t in enumerate(times) if t <= 1.7 + k / 3.0)
          for k in range(200) if 1.7 + k / 3.0 < min(20.0, times[-1])]
  assert got.tolist() == want


@pytest.mark.parametrize("bad", [{"times": []}, {"times": [0.0], "fps": 0},
                                 {"times": [0.0], "fps": -1.0}])
def test_per_second_refuses_nothing_to_sample(bad):
  with pytest.raises(ValueError, match="fps > 0"):
    per_second(**bad)


@pytest.mark.parametrize(("n", "fps", "want"), [
    (12, 5.0, [0, 4, 9, 9]),
    (10, 5.0, [0, 4, 9, 9]),
    (9, 5.0, [0, 4, 4]),
    (6, 2.6, [0, 2, 5, 5]),  # round(2.6) = 3
    (5, 25.0, [0, 0]),
    (1, 30.0, [0, 0]),
    (4, 1.0, [0, 1, 2, 3, 3]),
    (3, 0.2, [0, 1, 2, 2]),  # round(0.2) = 0 would keep nothing
    (60, 144.0, [0, 0]),
    (60, 145.0, [0, 24, 49, 49]),
    (60, 0.0, [0, 24, 49, 49]),
    (60, None, [0, 24, 49, 49]),
    (60, math.nan, [0, 24, 49, 49]),
])
def test_tca_parity_table(n, fps, want):
  assert tca_parity(n, fps).tolist() == want


def test_tca_parity_needs_a_frame():
  with pytest.raises(ValueError, match="at least one frame"):
    tca_parity(0, 25.0)


def test_very_fast_video_begins_with_its_first_frame():
  """1,000 frames a second: a millisecond is no rounding error there."""
  times = np.arange(100) / 1000
  assert per_second(times, 500.0)[:4].tolist() == [0, 2, 4, 6]
  assert clip(times, 4, 2, place=0, fps=1000).tolist() == [0, 2, 4, 6]


# In frames: place * (number of places), rounded down; place 1 is the last.
@pytest.mark.parametrize(("n_frames", "stride", "place", "want"), [
    (4, 1, 0, [0, 1, 2, 3]),
    (4, 2, 0, [0, 2, 4, 6]),
    (4, 2, 1, [3, 5, 7, 9]),  # of the 4 places 0..3
    (4, 2, 0.5, [2, 4, 6, 8]),
    (4, 2, 0.49, [1, 3, 5, 7]),
    (4, 3, 0, [0, 3, 6, 9]),  # fits exactly
    (4, 3, 0.7, [0, 3, 6, 9]),
    (10, 1, 0.3, [*range(10)]),
    (1, 1, 0, [0]),
    (1, 1, 1, [9]),
    (1, 7, 0.55, [5]),
    (2, 9, 1, [0, 9]),
])
def test_clip_by_frames_table(n_frames, stride, place, want):
  got = clip(STEADY, n_frames, stride, place=place)
  assert got.tolist() == want
  assert got.dtype == np.int64
  # Frames don't care when they are shown.
  odd_times = np.cumsum([0, 1, 5, 0.1, 0.1, 2, 3, 1, 1, 0.01])
  assert clip(odd_times, n_frames, stride, place=place).tolist() == want


# STEADY lasts 2.5 s; the first moment is place * (2.5 - time from first to last moment).
@pytest.mark.parametrize(("times", "n_frames", "stride", "fps", "place", "want"), [
    (STEADY, 4, 1, 4, 0, [0, 1, 2, 3]),
    (STEADY, 4, 2, 4, 1, [3, 5, 7, 9]),  # the same as by frames
    (STEADY, 4, 2, 4, 0.5, [2, 4, 6, 8]),
    (STEADY, 4, 1, 2, 0, [0, 2, 4, 6]),  # 0, 0.5, 1, 1.5 s
    (STEADY, 4, 1, 2, 0.5, [2, 4, 6, 8]),  # 0.5, 1, 1.5, 2 s
    (STEADY, 4, 1, 8, 0, [0, 0, 1, 1]),  # faster than the video
    (STEADY, 3, 1, 3, 0, [0, 1, 2]),  # 0, 0.33, 0.67 s
    (STEADY, 3, 3, 3, 0, [0, 4, 8]),  # 0, 1, 2 s
    (STEADY, 3, 3, 3, 1, [1, 5, 9]),  # just before 0.5, 1.5, 2.5 s
    (VARIABLE, 4, 1, 1, 0, [0, 1, 3, 3]),  # 0, 1, 2, 3 s
    (VARIABLE, 4, 2, 2, 0, [0, 1, 3, 3]),
    (VARIABLE, 4, 1, 1, 1, [3, 3, 4, 4]),  # just before 2.25, 3.25, 4.25, 5.25 s
    (VARIABLE, 4, 1, 1, 0.2, [1, 2, 3, 3]),  # 0.45, 1.45, 2.45, 3.45 s
    (VARIABLE, 2, 1, 10, 0, [0, 1]),
    ([0.0], 1, 1, 30, 0.5, [0]),
])
def test_clip_in_real_time_table(times, n_frames, stride, fps, place, want):
  assert clip(np.asarray(times), n_frames, stride, fps=fps, place=place).tolist() == want


@pytest.mark.parametrize(("times", "n_frames", "stride", "fps", "loop", "hold"), [
    (STEADY, 12, 1, None, [*range(10), 0, 1], [*range(10), 9, 9]),
    (STEADY, 5, 3, None, [0, 3, 6, 9, 0], [0, 3, 6, 9, 9]),
    (STEADY, 5, 4, None, [0, 4, 8, 0, 4], [0, 4, 8, 9, 9]),
    (STEADY, 3, 20, None, [0, 0, 0], [0, 9, 9]),
    ([0.0], 3, 1, None, [0, 0, 0], [0, 0, 0]),
    ([0.0, 0.5], 5, 1, None, [0, 1, 0, 1, 0], [0, 1, 1, 1, 1]),
    # In real time 2.5 s hold the moments 0, 1, 2 s.
    (STEADY, 5, 1, 1, [0, 4, 8, 0, 4], [0, 4, 8, 9, 9]),
    (STEADY, 7, 1, 2, [0, 2, 4, 6, 8, 0, 2], [0, 2, 4, 6, 8, 9, 9]),  # 2.5 s itself is over
    (VARIABLE, 8, 1, 1, [0, 1, 3, 3, 3, 4, 0, 1], [0, 1, 3, 3, 3, 4, 4, 4]),
    ([0.0], 3, 1, 30, [0, 0, 0], [0, 0, 0]),
])
def test_short_videos_table(times, n_frames, stride, fps, loop, hold):
  for place in (0, 0.5, 1):
    for short, want in (("loop", loop), ("hold", hold)):
      got = clip(np.asarray(times), n_frames, stride, fps=fps, place=place, short=short)
      assert got.tolist() == want


# Frames 3..7 of STEADY appear at 0.75, 1, 1.25, 1.5, 1.75 s.
@pytest.mark.parametrize(("kwargs", "want"), [
    ({"start": 0.75, "end": 2.0, "place": 0}, [3, 4, 5]),
    ({"start": 0.75, "end": 2.0, "place": 1}, [5, 6, 7]),
    ({"start": 0.9, "end": 1.8, "place": 1}, [5, 6, 7]),  # 3 is on screen at 0.9 s
    ({"start": 0.75, "end": 1.25, "place": 1}, [3, 4, 3]),
    ({"start": 0.75, "end": 1.25, "place": 1, "short": "hold"}, [3, 4, 4]),
    ({"start": 1.0, "end": 1.0, "place": 0}, [4, 4, 4]),
    ({"start": 2.3, "place": 0}, [9, 9, 9]),
    ({"start": 9.0, "place": 0}, [9, 9, 9]),
    ({"start": 9.0, "end": 12.0, "place": 0}, [9, 9, 9]),
    ({"start": -5.0, "end": 99.0, "place": 1}, [7, 8, 9]),
    ({"end": -1.0, "start": -2.0, "place": 1}, [0, 0, 0]),
    ({"start": 1.5, "place": 1}, [7, 8, 9]),
    ({"end": 1.0, "place": 1}, [1, 2, 3]),
])
def test_start_and_end_table(kwargs, want):
  assert clip(STEADY, 3, **kwargs).tolist() == want
  assert clip(STEADY, 3, fps=4, **kwargs).tolist() == want


def test_real_time_part_begins_at_start_itself():
  # 0.9, 1.4, 1.9 s show 3, 5, 7; a clip of whole frames would begin with 3 at 0.75 s: 3, 5, 7 too.
  assert clip(STEADY, 3, fps=2, start=0.9, place=0).tolist() == [3, 5, 7]
  # 0.9, 1.2, 1.5 s: frames 3, 4, 6.
  assert clip(STEADY, 3, 3, fps=10, start=0.9, place=0).tolist() == [3, 4, 6]


@pytest.mark.parametrize(("start", "end", "want"), [
    (None, None, (0, 10)), (0.0, 2.5, (0, 10)), (0.25, None, (1, 10)), (0.3, None, (1, 10)),
    (0.249, None, (1, 10)),  # a millisecond too early is rounding
    (0.245, None, (0, 10)), (None, 2.25, (0, 9)), (None, 2.26, (0, 10)), (None, 2.251, (0, 9)),
    (1.0, 1.0, (4, 5)), (1.1, 1.2, (4, 5)), (99.0, None, (9, 10)), (-9.0, -8.0, (0, 1)),
    (None, 0.0, (0, 1)),
])
def test_part_table(start, end, want):
  assert part(STEADY, start, end) == want


# 10 frames leave 4 places (0..3) to 4 frames 2 apart, 10 to one frame.
@pytest.mark.parametrize(("n_clips", "n_frames", "stride", "firsts"), [
    (1, 4, 2, [2]),
    (2, 4, 2, [1, 3]),
    (4, 4, 2, [0, 1, 2, 3]),
    (3, 4, 2, [0, 2, 3]),  # 4/6, 12/6, 20/6
    (8, 4, 2, [0, 0, 1, 1, 2, 2, 3, 3]),
    (3, 4, 3, [0, 0, 0]),
    (5, 1, 1, [1, 3, 5, 7, 9]),
])
def test_uniform_clips_table(n_clips, n_frames, stride, firsts):
  want = [[first + k * stride for k in range(n_frames)] for first in firsts]
  assert clips(STEADY, n_clips, n_frames, stride).tolist() == want
  assert clips(STEADY, n_clips, n_frames, stride, fps=4).tolist() == want


def test_uniform_clips_of_a_short_video_repeat_each_other():
  assert clips(STEADY[:3], 2, 4, 1).tolist() == [[0, 1, 2, 0]] * 2
  assert clips(STEADY[:3], 2, 4, 1, short="hold").tolist() == [[0, 1, 2, 2]] * 2


def test_ten_test_views_of_a_ucf_clip():
  """180 frames at 25 a second, 32 frames at 16 fps: 31/16 s of 7.2 s, so 5.2625 s to begin in."""
  got = clips(np.arange(180) / 25, 10, 32, fps=16)
  # (k + 1/2) * 0.52625 s * 25 frames/s; the last is 124.98, less than a millisecond before 125.
  assert got[:, 0].tolist() == [6, 19, 32, 46, 59, 72, 85, 98, 111, 125]
  assert got[:, -1].tolist() == [55, 68, 81, 94, 107, 120, 133, 147, 160, 173]


@pytest.mark.parametrize(("times", "n", "want"), [
    (STEADY, 1, [5]),
    (STEADY, 2, [2, 7]),
    (STEADY, 3, [1, 5, 8]),
    (STEADY, 4, [1, 3, 6, 8]),
    (STEADY, 5, [1, 3, 5, 7, 9]),
    (STEADY, 10, [*range(10)]),
    (STEADY, 15, [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9]),
    (VARIABLE, 3, [1, 3, 4]),  # 0.875, 2.625, 4.375 s
    (VARIABLE, 5, [1, 3, 3, 3, 4]),  # 0.525, 1.575, 2.625, 3.675, 4.725 s
    ([0.0], 3, [0, 0, 0]),
])
def test_uniform_table(times, n, want):
  assert uniform(np.asarray(times), n).tolist() == want


def test_uniform_within_a_part():
  assert uniform(STEADY, 2, start=1.0, end=2.0).tolist() == [5, 7]  # 1.25 and 1.75 s
  assert uniform(STEADY, 2, start=1.1, end=1.2).tolist() == [4, 4]


@pytest.mark.parametrize("m", [7, 30, 97, 300])
@pytest.mark.parametrize("n", [1, 4, 10, 13])
@pytest.mark.parametrize("fps", [24000 / 1001, 25, 30000 / 1001, 60])
def test_uniform_is_the_centre_of_each_part_at_any_rate(m, n, fps):
  late = Fraction(3, 2000) * Fraction(fps)  # in frames
  want = [math.floor(Fraction((2 * k + 1) * m, 2 * n) + late) for k in range(n)]
  assert uniform(np.arange(m) / fps, n).tolist() == want
  # Rounding to a millisecond may move a boundary, but by no more than a frame.
  rounded = uniform(np.round(np.arange(m) / fps, 3), n)
  assert np.abs(rounded - want).max() <= 1


RANDOM = {
    "clip": lambda t, rng: clip(t, 4, 2, rng=rng),
    "clip in real time": lambda t, rng: clip(t, 4, 2, rng=rng, fps=7.0),
    "part of a clip": lambda t, rng: clip(t, 4, 2, rng=rng, fps=7.0, start=0.3, end=2.9),
    "clips": lambda t, rng: clips(t, 3, 16, 2, mode="random", rng=rng, short="hold"),
    "pair": lambda t, rng: pair(t, 3, rng=rng),
    "pair in seconds": lambda t, rng: pair(t, 0.7, rng=rng, unit="seconds"),
    "pair in a range": lambda t, rng: pair(t, (2, 6), rng=rng),
    "pair in a range of seconds": lambda t, rng: pair(t, (0.1, 0.4), rng=rng, unit="seconds"),
    "independent": lambda t, rng: independent(t, 3, rng=rng),
    "distinct": lambda t, rng: independent(t, 3, rng=rng, distinct=True),
}


@pytest.mark.parametrize("name", RANDOM)
def test_always_in_range_and_the_same_for_the_same_rng(name):
  rng = np.random.default_rng(5)
  draws = RANDOM[name]
  for seed in range(60):
    times = np.concatenate([[0.0], np.cumsum(rng.exponential(0.1, rng.integers(0, 30)) + 1e-3)])
    got = draws(times, np.random.default_rng(seed))
    assert got.size
    assert got.dtype == np.int64
    assert 0 <= got.min() <= got.max() < len(times)
    assert np.array_equal(got, draws(times, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", RANDOM)
def test_other_rng_other_result(name):
  times = np.arange(3000) / 25
  different = {tuple(RANDOM[name](times, np.random.default_rng(seed)).ravel())
               for seed in range(20)}
  assert len(different) > 1


@pytest.mark.parametrize(("draw", "n_outcomes"), [
    (lambda rng: clip(STEADY, 4, 2, rng=rng), 4),
    (lambda rng: clip(STEADY, 4, 2, rng=rng, fps=4), 4),
    (lambda rng: clips(STEADY, 2, 4, 2, rng=rng, mode="random"), 16),  # independent
    (lambda rng: pair(STEADY, 7, rng=rng), 3),
    (lambda rng: pair(STEADY, (7, 8), rng=rng), 5),  # 3 pairs 7 apart, 2 pairs 8 apart
    (lambda rng: pair(STEADY, (1.75, 2.0), unit="seconds", rng=rng), 5),
    (lambda rng: pair(STEADY, 1.75, unit="seconds", rng=rng), 3),
    (lambda rng: pair(STEADY, (2, 4), among=np.array([0, 1, 4, 9]), rng=rng), 2),  # 0 4, 1 4
    (lambda rng: independent(R2V2, rng=rng), 16),
    (lambda rng: independent(R2V2, rng=rng, distinct=True), 12),
])
def test_outcomes_are_equally_likely(draw, n_outcomes):
  rng, n = np.random.default_rng(11), 4000
  found, counts = np.unique([draw(rng).ravel() for _ in range(n)], axis=0, return_counts=True)
  assert len(found) == n_outcomes
  expected = n / n_outcomes
  chi2 = float(((counts - expected) ** 2).sum() / expected)
  assert chi2 < n_outcomes + 5 * math.sqrt(2 * n_outcomes)  # five sigma


def test_copies_at_30_and_60_fps_give_the_same_moments():
  slow, fast = np.arange(90) / 30, np.arange(180) / 60
  for seed in range(50):
    by_fps = [clip(t, 8, 3, fps=20, rng=np.random.default_rng(seed), start=0.21, end=2.8)
              for t in (slow, fast)]
    assert (by_fps[1] // 2).tolist() == by_fps[0].tolist()
    too_short = [clip(t, 8, 13, fps=25, rng=np.random.default_rng(seed)) for t in (slow, fast)]
    assert (too_short[1] // 2).tolist() == too_short[0].tolist()
  for n in (1, 3, 10):
    assert (clips(fast, n, 8, 8, fps=30) // 2).tolist() == clips(slow, n, 8, 8, fps=30).tolist()
    assert (uniform(fast, n) // 2).tolist() == uniform(slow, n).tolist()
  assert (per_second(fast, 4.0) // 2).tolist() == per_second(slow, 4.0).tolist()


def test_provico_clip_at_30_fps_is_the_stride_itself():
  for fps in (30, 30000 / 1001):
    times = np.arange(300) / fps
    assert np.diff(clip(times, 8, 8, fps=fps, rng=np.random.default_rng(0))).tolist() == [8] * 7
  # At 25 fps the same 7 * 8 / 30 s are 46.7 frames.
  got = clip(np.arange(250) / 25, 8, 8, fps=30, place=0)
  assert got.tolist() == [0, 6, 13, 20, 26, 33, 40, 46]


def test_frames_shown_are_those_on_screen():
  rng = np.random.default_rng(3)
  times = np.concatenate([[0.0], np.cumsum(rng.exponential(0.08, 200) + 0.01)])
  for place in (0, 0.31, 0.77):
    got = clip(times, 16, 2, fps=12.5, place=place)
    lasts = times[-1] * len(times) / (len(times) - 1)
    first = place * (lasts - 15 * 2 / 12.5)
    want = [max(i for i, t in enumerate(times) if t <= first + k * 2 / 12.5 + 1.5e-3)
            for k in range(16)]
    assert got.tolist() == want


RNG = np.random.default_rng(0)


@pytest.mark.parametrize("call", [
    lambda: clip([], 4, place=0),
    lambda: clip([[0.0, 1.0]], 4, place=0),
    lambda: clip([0.0, math.nan], 4, place=0),
    lambda: clip([0.0, 1.0, 1.0], 4, place=0),
    lambda: clip([1.0, 0.0], 4, place=0),
    lambda: clip([-1.0, 0.0], 4, place=0),
    lambda: clip(STEADY, 0, place=0),
    lambda: clip(STEADY, 2.5, place=0),
    lambda: clip(STEADY, 4, 0, place=0),
    lambda: clip(STEADY, 4, -2, place=0),
    lambda: clip(STEADY, 4, 1.5, place=0),
    lambda: clip(STEADY, 4, place=-0.1),
    lambda: clip(STEADY, 4, place=1.1),
    lambda: clip(STEADY, 4, place=math.nan),
    lambda: clip(STEADY, 4),
    lambda: clip(STEADY, 4, place=0, rng=RNG),
    lambda: clip(STEADY, 4, place=0, fps=0),
    lambda: clip(STEADY, 4, place=0, fps=math.inf),
    lambda: clip(STEADY, 4, place=0, short="mirror"),
    lambda: clip(STEADY, 4, place=0, start=2.0, end=1.0),
    lambda: clip(STEADY, 4, place=0, start=math.nan),
    lambda: clips(STEADY, 0, 4),
    lambda: clips(STEADY, 2, 4, mode="random"),
    lambda: clips(STEADY, 2, 4, mode="even"),
    lambda: uniform(STEADY, 0),
])
def test_nonsense_is_refused(call):
  with pytest.raises(ValueError, match=r"\w{3}"):
    call()
