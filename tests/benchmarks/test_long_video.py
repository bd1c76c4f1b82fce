"""A long video is sampled in memory that doesn't grow with the frames taken."""

import pytest

from benchmarks import long_video
from data_pipelines.decode import open_video


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory):
  path = tmp_path_factory.mktemp("long") / "ten_minutes.mp4"
  long_video.render(path, 600)
  return path


def test_ten_minutes_in_bounded_memory(ten_minutes):
  """5 fps: 3,000 frames would be 124 MB at once; the index of 15,000 packets is a tenth of it."""
  found = long_video.measure_apart(ten_minutes, 5.0)
  assert (found["frames"], found["wrong"]) == (3000, 0)
  assert found["peak_mb"] - found["first_mb"] < 50
  assert found["peak_mb"] < 200


def test_frames_show_their_numbers(ten_minutes):
  """Else the measurement would not notice a wrong frame."""
  asked = [0, 1, 2, 249, 250, 251, 7777, 14998, 14999]
  with open_video(ten_minutes) as video:
    assert video.n_frames == 15_000
    assert video.seekable
    assert [long_video.number(image) for image in video.frames(asked)] == asked
