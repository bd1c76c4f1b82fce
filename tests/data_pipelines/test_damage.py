"""Damaged and incomplete videos: what decodes is kept, and frames keep their places."""

import io

import av
import numpy as np
import pytest

from data_pipelines.decode import open_video
from data_pipelines.errors import VideoError
from tests.data_pipelines.clips import decode_all, encode, numbered, numbers, zeroed


@pytest.mark.parametrize("container", ["mov", "matroska", "avi"])
def test_a_bad_packet_costs_its_own_frame_only(container, capfd):
  """Every frame is a key frame here, so exactly frames 4, 5 and 9 are lost."""
  data = encode(numbered(12), container, "mjpeg", "yuvj420p")
  bad = zeroed(data, [4, 5, 9])
  kept = [0, 1, 2, 3, 6, 7, 8, 10, 11]
  assert numbers(np.stack([image for _, image in decode_all(bad)])) == kept
  on_screen = [0, 1, 2, 3, 3, 3, 6, 7, 8, 8, 10, 11]
  with open_video(bad) as video:
    want = kept if container == "avi" else on_screen
    assert video.n_frames == len(want)
    order = np.random.default_rng(0).permutation(len(want))
    assert numbers(video.frames(order)) == [want[i] for i in order]
    assert numbers(np.stack(list(video.scan()))) == want
    assert numbers(video.frames([3])) == [want[3]]
    np.testing.assert_allclose(video.times * 25, kept if container == "avi" else range(12),
                               atol=0.03)
  assert capfd.readouterr() == ("", "")  # FFmpeg keeps its remarks to itself


def test_bad_first_frame_shows_the_first_that_decodes():
  data = zeroed(encode(numbered(6), "mov", "mjpeg", "yuvj420p"), [0, 1])
  with open_video(data) as video:
    assert numbers(video.frames(range(6))) == [2, 2, 2, 3, 4, 5]


def test_damaged_h264_gives_what_a_full_decode_gives():
  data = zeroed(encode(numbered(60), options={"g": "15", "bf": "2"}), [7, 20, 21])
  decoded = dict(decode_all(data))
  assert 0 < len(decoded) < 60
  with open_video(data) as video:
    assert video.n_frames == 60
    got = {i: video.frames([i])[0] for i in (59, 3, 30, 8, 22, 12)}
    for i, image in got.items():
      shown = max((p for p in decoded if p <= i * 512), default=min(decoded))
      assert np.array_equal(image, decoded[shown]), i


def test_cut_off_files_keep_what_is_there():
  mkv = encode(numbered(40), "matroska", options={"g": "10"})
  mp4 = encode(numbered(40), options={"g": "10"}, mux={"movflags": "faststart"})
  for data in (mkv, mp4):
    with open_video(data[:len(data) * 2 // 3]) as video:
      assert 13 < video.n_frames < 40
      n = video.n_frames
      # The last packet may be half there, and frames that wait for a later one never come.
      assert numbers(video.frames(range(n - 6))) == list(range(n - 6))


def test_no_duration():
  """A live recording: the header was written before anything was known."""
  buffer = io.BytesIO()
  with av.open(buffer, "w", format="webm", options={"live": "1"}) as file:
    stream = file.add_stream("libvpx-vp9", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for image in numbered(10):
      file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    file.mux(stream.encode())
  with open_video(buffer.getvalue()) as video:
    assert numbers(video.frames([9, 2])) == [9, 2]
    assert video.times[9] == pytest.approx(0.36)


def test_file_that_changes_under_the_reader(tmp_path):
  path = tmp_path / "a.avi"
  path.write_bytes(encode(numbered(10), "avi", "mpeg4"))
  with open_video(path) as video:
    path.write_bytes(b"")
    with pytest.raises(VideoError, match="not a video"):
      next(video.scan())  # opens it again
    path.unlink()
    with pytest.raises(VideoError, match="can't be read any more"):
      next(video.scan())  # opens it again
