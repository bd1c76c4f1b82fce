"""H.264 in memory and on disk."""

import errno
import os
import resource

import numpy as np
import pytest

from data_pipelines.encode import decode_bytes, encode_bytes, mp4_writer, write_mp4
from data_pipelines.errors import DataError, VideoError


def smooth_frames(n=6, height=48, width=64, seed=0):
  """A colour gradient that moves to the right, with a bright square that moves down."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width]
  tone = rng.uniform(60, 120, 3)
  frames = []
  for t in range(n):
    frame = 100 + 60 * np.sin((x + 2 * t) / 9)[..., None] * np.cos(y / 11)[..., None] + tone / 4
    frame[4 + t : 20 + t, 10:26] = 220
    frames.append(frame)
  return np.clip(frames, 0, 255).astype(np.uint8)


def psnr(a, b):
  return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def test_round_trip_keeps_frames_in_order_and_channels_apart():
  frames = smooth_frames()
  frames[..., 2] //= 3  # so that swapped channels show
  decoded = decode_bytes(encode_bytes(frames, fps=8, crf=10))
  assert decoded.shape == frames.shape and decoded.dtype == np.uint8
  assert psnr(decoded, frames) > 30
  assert all(psnr(decoded[t], frames[t]) > psnr(decoded[t], frames[t - 1]) + 3 for t in range(6))


def test_same_frames_same_bytes():
  frames = smooth_frames()
  assert encode_bytes(frames, 8) == encode_bytes(frames.copy(), 8)
  assert encode_bytes(frames, 8) == encode_bytes(frames[:, :, ::-1][:, :, ::-1], 8)
  assert encode_bytes(frames, 8) != encode_bytes(frames[::-1], 8)


def test_bytes_don_t_depend_on_what_memory_held_before():
  frames = smooth_frames(20, 90, 106)
  first = encode_bytes(frames, 8)
  held = []
  for i in range(40):
    held = [*held[-5:], np.random.default_rng(i).bytes(60_000 + 1000 * i)]
    assert encode_bytes(frames, 8) == first


def test_higher_crf_is_smaller_and_worse():
  grey = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 1), dtype=np.uint8)
  frames = grey.repeat(3, 3)  # colour would be lost to 4:2:0 at any crf
  good, bad = encode_bytes(frames, 8, crf=10), encode_bytes(frames, 8, crf=45)
  assert len(bad) < len(good) / 3
  assert psnr(decode_bytes(bad), frames) < psnr(decode_bytes(good), frames) - 3


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 17, 31), (1, 2, 7)])
def test_odd_sizes_repeat_the_last_row_and_column(shape):
  frames = np.full((*shape, 3), 90, np.uint8)
  frames[:, -1] = frames[:, :, -1] = 200
  decoded = decode_bytes(encode_bytes(frames, fps=2, crf=4)).astype(int)
  n, height, width = shape
  assert decoded.shape == (n, height + height % 2, width + width % 2, 3)
  if height % 2:
    np.testing.assert_allclose(decoded[:, height], decoded[:, height - 1], atol=12)
  if width % 2:
    np.testing.assert_allclose(decoded[:, :, width], decoded[:, :, width - 1], atol=12)


def test_frame_rate_is_stored(tmp_path):
  import av

  write_mp4(tmp_path / "a.mp4", smooth_frames(6), fps=2.5)
  with av.open(str(tmp_path / "a.mp4")) as container:
    assert float(container.streams.video[0].average_rate) == 2.5
    times = [float(f.pts * f.time_base) for f in container.decode(video=0)]
  np.testing.assert_allclose(times, np.arange(6) / 2.5, atol=1e-3)


@pytest.mark.parametrize(
  "frames",
  [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8),
   np.zeros((2, 8, 8, 4), np.uint8)],
)  # fmt: skip
def test_wrong_frames_are_refused(frames):
  with pytest.raises(ValueError, match=r"uint8 \[T, H, W, 3\]"):
    encode_bytes(frames, 8)


def test_wrong_rate_is_refused():
  with pytest.raises(ValueError, match="fps"):
    encode_bytes(smooth_frames(1), 0)


@pytest.mark.parametrize("data", [b"", b"not a video" * 50])
def test_damaged_bytes_give_a_video_error(data):
  with pytest.raises(VideoError, match="video in memory"):
    decode_bytes(data)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
  path = tmp_path / "a.mp4"
  write_mp4(path, smooth_frames(1), 8)
  before = path.read_bytes()

  def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, "replace", full)
  with pytest.raises(DataError, match=r"a\.mp4.*No space left"):
    write_mp4(path, smooth_frames(3), 8)
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_missing_folder_is_named(tmp_path):
  with pytest.raises(DataError, match="nowhere"):
    write_mp4(tmp_path / "nowhere" / "a.mp4", smooth_frames(1), 8)


def test_frame_by_frame_gives_the_same_file(tmp_path):
  for shape in [(6, 48, 64), (2, 17, 31)]:
    frames = smooth_frames(*shape)
    with mp4_writer(tmp_path / "a.mp4", 8) as write:
      for frame in frames:
        write(frame)
        assert not list(tmp_path.glob("a.mp4"))
    assert (tmp_path / "a.mp4").read_bytes() == encode_bytes(frames, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    (tmp_path / "a.mp4").unlink()


@pytest.mark.parametrize("frames, error, message", [
    ([], ValueError, "at least one frame"),
    ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], ValueError,
     "a frame has 9x8 pixels, the first 8x8"),
    ([np.zeros((8, 8, 3))], ValueError, r"uint8 \[H, W, 3\]"),
    ([np.zeros((8, 8, 3), np.uint8), None], KeyboardInterrupt, "^$")])
def test_what_ends_early_leaves_the_old_file(tmp_path, frames, error, message):
  (tmp_path / "a.mp4").write_bytes(b"old")
  with pytest.raises(error, match=message), mp4_writer(tmp_path / "a.mp4", 8) as write:
    for frame in frames:
      if frame is None:
        raise KeyboardInterrupt
      write(frame)
  assert (tmp_path / "a.mp4").read_bytes() == b"old"
  assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_full_disk_is_told(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  with pytest.raises(DataError, match=r"can't write .*a\.mp4: File too large"):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
      with mp4_writer(tmp_path / "a.mp4", 8) as write:
        for frame in noise:
          write(frame)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert not list(tmp_path.iterdir())
  with (pytest.raises(DataError, match="nowhere"),
        mp4_writer(tmp_path / "nowhere" / "a.mp4", 8) as write):
    write(noise[0])
