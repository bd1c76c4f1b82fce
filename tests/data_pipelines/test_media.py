"""One function for the pixels of every record: videos, bytes, lists of pictures, label maps."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from data_pipelines import picture, torchcodec_reader
from data_pipelines.decode import VideoReader, open_video
from data_pipelines.errors import DataError, VideoError
from data_pipelines.media import open_media, read_masks
from data_pipelines.records import Record
from tests.data_pipelines.clips import encode, numbered, numbers

DATA = encode(numbered(20))


def png(image: np.ndarray, mode: str = "RGB") -> bytes:
  file = io.BytesIO()
  picture = Image.frombytes(mode, image.shape[1::-1], image.astype(np.uint8).tobytes())
  if mode == "P":
    picture.putpalette(np.arange(768) % 251)
  picture.save(file, "PNG")
  return file.getvalue()


def test_every_kind_of_record_is_read_alike(tmp_path):
  path = tmp_path / "a.mp4"
  path.write_bytes(DATA)
  pictures = tuple(png(image) for image in numbered(20))
  for record in (Record("a", str(path)), Record("a", DATA), Record("a", frames=pictures, fps=25.0),
                 Record("a", DATA, start=0.2, end=0.4)):  # these are the caller's to apply
    with open_media(record) as media:
      assert (media.n_frames, media.fps, media.rotation) == (20, 25.0, 0)
      assert (media.height, media.width) == (48, 64)
      np.testing.assert_allclose(media.times, np.arange(20) / 25)
      assert numbers(media.frames([13, 2, 13])) == [13, 2, 13]
      small = media.frames([5], 24, crop=20, interpolation="bicubic")
      assert small.shape == (1, 20, 20, 3)
  with pytest.raises(ValueError, match="closed"), open_media(Record("a", DATA)) as media:
    media.close()
    media.frames([0])


def test_videos_are_closed():
  with open_media(Record("a", DATA)) as media:
    assert isinstance(media, VideoReader)
  with pytest.raises(ValueError, match="is closed"):
    media.frames([0])


def test_problems_are_named(tmp_path):
  for record, reason in (
      (Record("clip7"), "clip7: has neither a video nor pictures"),
      (Record("a", str(tmp_path / "b.mp4")), r"b\.mp4: file not found"),
      (Record("a", frames=(b"", b"")), "a, picture 1: empty file"),
      (Record("a", frames=(str(tmp_path / "1.jpg"),) * 2), r"1\.jpg: file not found")):
    with pytest.raises(VideoError, match=reason), open_media(record) as media:
      media.frames([1])
  with pytest.raises(DataError, match="shard"):
    with open_media(Record("a", f"{tmp_path}/a-all.array_record-00000-of-00001#3")):
      pass
  with pytest.raises(ValueError, match=r"one of \['pyav', 'torchcodec'\], got 'fast'"):
    open_media(Record("a", DATA), backend="fast").__enter__()


def test_a_backend_that_is_not_installed_is_an_error(monkeypatch):
  """Never another decoder in silence."""
  monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
  with pytest.raises(DataError, match=r"torchcodec can't be used.*install vssl_jax\[torchcodec\]"):
    open_media(Record("a", DATA), backend="torchcodec").__enter__()
  with open_media(Record("a", DATA)) as media:
    assert numbers(media.frames([3])) == [3]


class StandIn:
  """torchcodec's interface as far as it is used, so that its reader is tested without it."""

  def __init__(self, source, *, stream_index, seek_mode, dimension_order, num_ffmpeg_threads):
    assert (seek_mode, dimension_order, num_ffmpeg_threads) == ("exact", "NHWC", 1)
    with open_video(source) as video:
      self._frames, self._times = video.frames(range(video.n_frames)), video.times
    self.metadata = types.SimpleNamespace(num_frames=len(self._times),
                                          begin_stream_seconds_from_content=2.0)

  def get_frames_at(self, indices):
    def tensor(array):
      return types.SimpleNamespace(numpy=lambda: array)

    return types.SimpleNamespace(data=tensor(self._frames[indices] ^ 1),  # to know its frames by
                                 pts_seconds=tensor(self._times[indices] + 2.0))


def test_the_other_backend(monkeypatch):
  monkeypatch.setattr(torchcodec_reader, "_decoder_type", lambda: StandIn)
  for data, refusal in ((DATA, ""), (encode(numbered(20), "avi", "mpeg4"), "can't be trusted"),
                        (encode(numbered(20), pts=range(-3, 17)), "an edit list hides frames")):
    record = Record("a", data)
    with open_media(record) as media, open_media(record, backend="torchcodec") as other:
      assert refusal in other.refusal and bool(refusal) == bool(other.refusal)
      asked = [13, 2, 13, 0]
      want = media.frames(asked) ^ np.uint8(not refusal)
      np.testing.assert_array_equal(other.frames(asked), want)
      small = other.frames(asked, 24, crop=20)
      if not refusal:
        want = picture.resize(want, 24)[:, 2:22, 6:26]
        np.testing.assert_array_equal(small, want)


def test_masks(tmp_path):
  labels = np.random.default_rng(0).integers(0, 4, (3, 6, 8))
  (tmp_path / "1.png").write_bytes(png(labels[1], "L"))
  record = Record("swan", frames=(b"",) * 4, masks=(
      png(labels[0], "P"), str(tmp_path / "1.png"), png(labels[2], "P"), ""))
  got = read_masks(record, [2, 0, 1, 2])
  assert got.dtype == np.uint8
  np.testing.assert_array_equal(got, labels[[2, 0, 1, 2]])
  np.testing.assert_array_equal(read_masks(record, [1], (3, 4)), labels[1:2, 1::2, 1::2])
  np.testing.assert_array_equal(read_masks(record, [0], (12, 16)),
                                labels[:1].repeat(2, 1).repeat(2, 2))
  odd = read_masks(record, [0], (5, 3))[0]  # rows 0.6, 1.8, 3, 4.2, 5.4; columns 1.3, 4, 6.7
  np.testing.assert_array_equal(odd, labels[0][[0, 1, 3, 4, 5]][:, [1, 4, 6]])
  assert read_masks(record, []).shape == (0, 0, 0)
  assert read_masks(record, [], (3, 4)).shape == (0, 3, 4)


def test_bad_masks(tmp_path):
  small, large = np.zeros((2, 2)), np.zeros((3, 2))
  record = Record("swan", masks=(png(small, "P"), png(large, "P"), "", b"\x89PNG",
                                 str(tmp_path / "4.png")))
  for indices, reason in (([0, 1], "swan: mask 1 has 2x3 pixels, mask 0 2x2: give a size"),
                          ([2], "swan: frame 2 has no mask"), ([5], "swan: frame 5 has no mask"),
                          ([-1], "swan: frame -1 has no mask"),
                          ([3], "swan, mask 3: can't read this label map"),
                          ([4], r"4\.png: can't read this label map \(file not found\)")):
    with pytest.raises(VideoError, match=reason):
      read_masks(record, indices)
  assert read_masks(record, [0, 1], (2, 2)).shape == (2, 2, 2)
