"""The optional backend gives what PyAV gives; run where torchcodec is installed."""

import types

import numpy as np
import pytest

from data_pipelines import picture
from data_pipelines.decode import open_video
from data_pipelines.errors import VideoError
from tests.data_pipelines.clips import encode, numbered, zeroed

try:
  from torchcodec.decoders import VideoDecoder  # noqa: F401
except (ImportError, OSError, RuntimeError) as e:
  pytest.skip(f"torchcodec can't be used here: {e}".splitlines()[0], allow_module_level=True)

from data_pipelines import torchcodec_reader

N = 40
ORDINARY = {
    "h264": dict(options={"g": "12", "bf": "3"}),
    "h264 mkv": dict(container="matroska", options={"g": "12"}),
    "open gop": dict(options={"x264-params": "open-gop=1:keyint=10:bframes=3"}),
    "fragmented": dict(options={"g": "10"}, mux={"movflags": "frag_keyframe+empty_moov"}),
    "hevc": dict(codec="libx265", options={
        "x265-params": "log-level=none:keyint=10:open-gop=1"}),
    "mpeg4": dict(codec="mpeg4", options={"bf": "2", "g": "9"}),
    "vp9": dict(container="webm", codec="libvpx-vp9", options={"g": "15"}),
    "full range": dict(container="mov", codec="mjpeg", pix_fmt="yuvj420p"),
    "turned": dict(rotation=90),
    "with sound": dict(sound=True, options={"g": "12"}),
    "start above zero": dict(pts=range(100, 100 + N)),
}
LEFT_TO_PYAV = {
    "avi": (dict(container="avi", codec="mpeg4", options={"bf": "2"}), "can't be trusted"),
    "mpegts": (dict(container="mpegts"), "can't be trusted"),
    "edit list": (dict(pts=range(-5, N - 5), options={"g": "12", "bf": "2"}), "edit list"),
    "10 bit": (dict(pix_fmt="yuv420p10le"), "its pixels are yuv420p10le of 64x48"),
    "4:4:4": (dict(pix_fmt="yuv444p"), "its pixels are yuv444p"),
}


def compare(source) -> str:
  """Compares frames asked for in several ways; why PyAV read them, or ""."""
  with open_video(source) as want, torchcodec_reader.open_video(source) as got:
    assert got.n_frames == want.n_frames
    np.testing.assert_array_equal(got.times, want.times)
    n = want.n_frames
    rng = np.random.default_rng(n)
    for indices in (rng.integers(0, n, 5), [n - 1], [0], [n // 2, n // 2, 0], []):
      np.testing.assert_array_equal(got.frames(indices), want.frames(indices), str(indices))
    small = got.frames([n // 2], 40, crop=32)
    expected = (want.frames([n // 2], 40, crop=32) if got.refusal else
                picture.centre_crop(picture.resize(want.frames([n // 2]), 40), 32))
    np.testing.assert_array_equal(small, expected)
    return got.refusal


@pytest.mark.parametrize("name", ORDINARY)
def test_the_same_frames(name, tmp_path):
  data = encode(numbered(N), **ORDINARY[name])
  assert compare(data) == ""
  path = tmp_path / "100% ü.mp4"
  path.write_bytes(data)
  assert compare(path) == ""


@pytest.mark.parametrize("name", LEFT_TO_PYAV)
def test_what_is_left_to_pyav(name):
  how, reason = LEFT_TO_PYAV[name]
  assert reason in compare(encode(numbered(N), **how))


def test_arguments_and_errors():
  data = encode(numbered(N))
  with torchcodec_reader.open_video(data) as video:
    for bad in ([N], [-1]):
      with pytest.raises(IndexError, match=r"frames 0\.\.39"):
        video.frames(bad)
    with pytest.raises(ValueError, match="crop 49x49"):
      video.frames([0], crop=49)
    assert video.frames(np.arange(N), 24).shape == (N, 24, 32, 3)  # in several parts
  with pytest.raises(ValueError, match="is closed"):
    video.frames([0])
  with pytest.raises(VideoError, match="no frame could be decoded"):
    with torchcodec_reader.open_video(zeroed(data, range(N))):
      pass
  with pytest.raises(VideoError, match="more than 9 frames"):
    with torchcodec_reader.open_video(data, max_frames=9):
      pass


def test_a_decoder_that_disagrees_is_left(monkeypatch):
  """Whatever differs from PyAV's index and times: PyAV reads the file."""
  data, whole = encode(numbered(N)), torchcodec_reader._decoder_type()

  class Fewer(whole):
    def __init__(self, *args, **kwargs):
      super().__init__(*args, **kwargs)
      self.metadata = types.SimpleNamespace(num_frames=N - 1, begin_stream_seconds_from_content=0)

  class Late(whole):
    def get_frames_at(self, indices):
      found = super().get_frames_at(indices)
      found.pts_seconds[:] += 0.04
      return found

  class Broken(whole):
    def get_frames_at(self, indices):
      raise RuntimeError("could not push packet\nand more")

  for kind, reason in ((Fewer, "counts 39 frames, not 40"), (Late, "other times"),
                       (Broken, "fails: could not push packet")):
    monkeypatch.setattr(torchcodec_reader, "_decoder_type", lambda kind=kind: kind)
    assert reason in compare(data)


def test_real_clips(data_dir):
  """Every clip that torchcodec reads: frames in full size are PyAV's, bit by bit."""
  folder = data_dir / "clips"
  if not folder.is_dir():
    pytest.skip(f"no real clips: {folder} is missing")
  refusals = {}
  for path in sorted(folder.iterdir()):
    if path.is_file() and path.stat().st_size < 1_000_000:
      try:
        refusals[path.name] = compare(path)
      except VideoError:
        continue  # no video
  read = [name for name, reason in refusals.items() if not reason]
  print({name: reason for name, reason in refusals.items() if reason})
  assert len(read) > len(refusals) / 2
