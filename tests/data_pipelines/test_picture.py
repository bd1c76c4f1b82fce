"""Pictures as they are shown: rotation, odd sizes, resizing, cropping."""

import itertools

import numpy as np
import pytest
from PIL import Image

from data_pipelines import picture
from data_pipelines.decode import open_video
from tests.data_pipelines.clips import decode_all, encode, numbered


def test_rotation_and_mirroring():
  image = numbered(1, 32, 64)
  image[:, :8, :16] = (250, 0, 0)
  stored = decode_all(encode(image))[0][1]
  for rotation, hflip in itertools.product((0, 90, 180, -90), (False, True)):
    with open_video(encode(image, rotation=rotation, hflip=hflip)) as video:
      want = np.rot90(stored, rotation // 90)
      want = want[:, ::-1] if hflip else want
      assert np.array_equal(video.frames([0])[0], want), (rotation, hflip)
      assert (video.height, video.width) == want.shape[:2]
      if not hflip:
        assert video.rotation == rotation
      small = video.frames([0], 16)[0].astype(int)
      assert small.shape == ((16, 32, 3) if rotation % 180 == 0 else (32, 16, 3))
      half = want.reshape(small.shape[0], 2, small.shape[1], 2, 3).mean((1, 3))
      assert np.abs(small - half).mean() < 12


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 33), (241, 321), (2, 50)])
def test_odd_sizes(height, width):
  data = encode(numbered(6, height, width), pix_fmt="yuv444p")
  reference = [image for _, image in decode_all(data)]
  with open_video(data) as video:
    assert (video.height, video.width) == (height, width)
    assert np.array_equal(video.frames([4, 1]), np.stack([reference[4], reference[1]]))
    assert min(video.frames([0], 1).shape) == 1
    assert min(video.frames([0], 7).shape[1:3]) == 7


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("short_side", "want"), [(30, (30, 45)), (128, (128, 192)),
                                                  (100, (100, 150)), (33, (33, 50))])
def test_resizing_keeps_the_picture(interpolation, short_side, want):
  y, x = np.mgrid[:100, :150]
  smooth = np.stack([120 + 80 * np.sin(x / 20), 120 + 80 * np.cos(y / 15), (x + y) / 1.2], -1)
  data = encode(smooth[None].round().astype(np.uint8), options={"crf": "2"}, pix_fmt="yuv444p")
  with open_video(data) as video:
    got = video.frames([0], short_side, interpolation=interpolation)[0]
    whole = video.frames([0])[0]
  pil = Image.fromarray(whole).resize(want[::-1], Image.Resampling[interpolation.upper()])
  assert got.shape == (*want, 3)
  assert np.abs(got.astype(int) - np.asarray(pil)).mean() < 2


def test_crop_is_the_middle():
  data = encode(numbered(3, 51, 64), pix_fmt="yuv444p")
  with open_video(data) as video:
    whole, middle = video.frames([2]), video.frames([2], crop=20)
  assert np.array_equal(middle, whole[:, 15:35, 22:42])  # floor(31 / 2), floor(44 / 2)


def test_arrays_are_resized_like_pil():
  y, x = np.mgrid[:90, :160]
  frames = np.stack([np.stack([x + t, y * 2, (x * y) // 80], -1) for t in (0, 40)])
  frames = frames.clip(0, 255).astype(np.uint8)
  got = picture.resize(frames, 45, "bicubic")
  assert got.shape == (2, 45, 80, 3)
  for image, small in zip(frames, got, strict=True):
    want = Image.fromarray(image).resize((80, 45), Image.Resampling.BICUBIC)
    assert np.abs(small.astype(int) - np.asarray(want)).mean() < 1
  assert picture.resize(frames, 90) is frames
  assert picture.resize(frames[:0], 30).shape == (0, 30, 53, 3)


@pytest.mark.parametrize(("size", "short_side", "want"), [
    ((1080, 1920), 256, (256, 455)), ((1920, 1080), 256, (455, 256)), ((7, 7), 3, (3, 3)),
    ((3, 1000), 1, (1, 333)), ((1, 1), 256, (256, 256)), ((480, 640), None, (480, 640))])
def test_scaled_size(size, short_side, want):
  assert picture.scaled_size(*size, short_side) == want
