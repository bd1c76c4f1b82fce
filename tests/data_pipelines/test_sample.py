"""Sampling of frames against tables worked by hand."""

import math

import numpy as np
import pytest

from data_pipelines.sample import per_second, tca_parity

STEADY = np.arange(10) / 4  # 4 frames a second, the last one appears at 2.25 s
VARIABLE = [0.0, 0.1, 1.4, 1.5, 4.2]


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
