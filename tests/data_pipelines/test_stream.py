"""`VideoReader.stream`: the frames of `frames`, one at a time."""

import itertools

import numpy as np
import pytest

from data_pipelines.decode import open_video
from data_pipelines.errors import VideoError
from tests.data_pipelines.clips import encode, numbered, numbers, zeroed

GROUPS = {"g": "8", "bf": "2"}


@pytest.fixture(scope="module")
def seekable() -> bytes:
  return encode(numbered(40), options=GROUPS)


@pytest.mark.parametrize("container", ["mp4", "avi"])
def test_same_as_frames(container):
  data = encode(numbered(40), container, options=GROUPS)
  asked = [0, 0, 3, 4, 17, 17, 17, 30, 39]
  with open_video(data) as video:
    assert video.seekable == (container == "mp4")
    for kwargs in ({}, {"short_side": 24}, {"crop": 32}, {"short_side": 40, "crop": 24,
                                                          "interpolation": "bicubic"}):
      got = list(video.stream(asked, **kwargs))
      assert np.array_equal(np.stack(got), video.frames(asked, **kwargs))
    assert numbers(np.stack(list(video.stream(asked)))) == asked
    assert list(video.stream([])) == []


@pytest.mark.parametrize("damaged", [2, 11, 25, 33])
def test_damage_met_on_the_way(damaged):
  """The reader gives up seeking in mid-stream; every frame still comes once, as by `frames`."""
  data = zeroed(encode(numbered(40), options=GROUPS), [damaged])
  for asked in (np.arange(0, 40, 3), np.arange(40)):
    with open_video(data) as video:
      got = list(video.stream(asked))
    with open_video(data) as video:
      want = video.frames(asked)
    assert np.array_equal(np.stack(got), want)


def test_frames_come_before_the_rest_is_decoded(seekable):
  with open_video(seekable) as video:
    decoded = 0
    wanted = video._wanted

    def counted(numbers):
      nonlocal decoded
      for pair in wanted(numbers):
        decoded += 1
        yield pair

    video._wanted = counted
    first = list(itertools.islice(video.stream(np.arange(40)), 3))
    assert numbers(np.stack(first)) == [0, 1, 2]
    assert decoded == 3


def test_wrong_indices_are_refused_at_once(seekable):
  with open_video(seekable) as video:
    with pytest.raises(ValueError, match="don't decrease"):
      video.stream([3, 2])
    for outside in ([-1, 2], [0, 40]):
      with pytest.raises(IndexError, match=r"frames 0\.\.39"):
        video.stream(outside)
    with pytest.raises(ValueError, match="can't crop"):
      list(video.stream([0], crop=100))


def test_frames_that_stay_away_are_told(seekable):
  with open_video(seekable) as video:
    wanted = video._wanted
    video._wanted = lambda numbers: itertools.islice(wanted(numbers), 5)
    stream = video.stream(np.arange(40))
    assert len(list(itertools.islice(stream, 5))) == 5
    with pytest.raises(VideoError, match="any more"):
      next(stream)
