"""The packet index, and decoding from a key frame."""

import io

import av
import numpy as np
import pytest

from data_pipelines.packets import PacketIndex, Run, Unreliable, read_index
from tests.data_pipelines.clips import encode, numbered, numbers

# An open GOP, in decoding order: key 0, P 3, B 1, B 2, key 6, B 4, B 5, P 8, B 7. Frames 4 and 5
# come after the second key frame but are shown before it, so they need the first.
DECODING = [0, 3, 1, 2, 6, 4, 5, 8, 7]


def table() -> PacketIndex:
  pts = np.array(DECODING) * 10
  return PacketIndex(shown_pts=np.sort(pts), shown_place=np.argsort(pts),
                     key_pts=np.array([0, 60]), key_place=np.array([0, 4]), key_dts=[None, None],
                     all_pts=np.sort(pts), all_place=np.argsort(pts))


def test_key_frames_before():
  assert table().keys_before(np.arange(9)).tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]


def opened(data: bytes):
  container = av.open(io.BytesIO(data))
  stream = container.streams.video[0]
  stream.thread_type = "NONE"
  return container, stream, read_index(container, stream, "film", 1000)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_index_of_a_file(container):
  data = encode(numbered(30), container, options={
      "x264-params": "keyint=10:min-keyint=10:scenecut=0:bframes=2"})
  file, stream, index = opened(data)
  with file:
    seconds = (index.shown_pts - index.shown_pts[0]) * float(stream.time_base)
    np.testing.assert_allclose(seconds, np.arange(30) / 25, atol=1.1e-3)
    assert index.key_place.tolist() == [0, 10, 20]
    assert sorted(index.all_place.tolist()) == list(range(30))
    assert [index.number(p) for p in index.shown_pts.tolist()] == list(range(30))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_run_starts_at_the_key_frame_and_leaves_out_what_it_may(container):
  data = encode(numbered(30), container, options={
      "x264-params": "keyint=10:min-keyint=10:scenecut=0:bframes=2:b-pyramid=none"})
  file, stream, index = opened(data)
  with file:
    wanted = int(index.shown_pts[24])
    frames = list(Run(file, stream, index, 2, {wanted}).frames)
    images = np.stack([f.to_ndarray(format="rgb24") for f in frames])
    assert numbers(images)[0] == 20 and numbers(images)[-1] == 29  # not from an earlier key frame
    assert wanted in [f.pts for f in frames]
    assert len(frames) < 10  # frames that no other needs, and nobody wants, were skipped
    everything = list(Run(file, stream, index, 0, set(index.shown_pts.tolist())).frames)
    assert [f.pts for f in everything] == index.shown_pts.tolist()


def test_no_key_frame_to_start_from():
  file, stream, index = opened(encode(numbered(3)))
  with file, pytest.raises(Unreliable):
    next(Run(file, stream, index, -1, set()).frames)
