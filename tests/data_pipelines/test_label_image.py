"""Label maps that users draw: every kind of PNG, and what is no label map."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_pipelines import label_image
from data_pipelines.datasets.davis import palette
from data_pipelines.errors import DataError

# Areas of 0, 1, 3.
AREAS = np.zeros((12, 20), np.uint8)
AREAS[2:8, 2:8], AREAS[4:11, 12:18] = 1, 3


def read(tmp_path, image, kind="PNG", **options):
  if not isinstance(image, Image.Image):
    image = Image.fromarray(image)
  image.save(tmp_path / "m.png", kind, **options)
  return label_image.read(tmp_path / "m.png")


def colour(*tints):
  """AREAS in three colours."""
  return np.select([AREAS[..., None] == k for k in (0, 1, 3)],
                   [np.uint8(t) for t in tints]).astype(np.uint8)


def indexed(labels):
  image = Image.fromarray(labels).convert("P")
  image.putdata(labels.ravel().tolist())
  image.putpalette(np.random.default_rng(0).bytes(768))
  return image


def test_numbers_are_kept(tmp_path):
  rgb = np.stack([AREAS] * 3, -1)
  for image in (AREAS, indexed(AREAS), AREAS.astype(np.uint16), rgb,
                np.stack([AREAS, 0 * AREAS + 255], -1)):
    labels, notes = read(tmp_path, image)
    assert labels.dtype == np.uint8 and notes == []
    np.testing.assert_array_equal(labels, AREAS)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_numbers_too(tmp_path, bits):
  labels, _ = read(tmp_path, indexed(AREAS), bits=bits)
  np.testing.assert_array_equal(labels, AREAS)
  # Grey of few bits, which Pillow reads but doesn't write: the header's kind is changed to grey.
  data = bytearray((tmp_path / "m.png").read_bytes())
  assert (data[24], data[25]) == (bits, 3)
  data[25] = 0
  crc = zlib.crc32(data[12:29]).to_bytes(4, "big")
  data[29:33] = crc
  start = data.index(b"PLTE") - 4
  del data[start:start + 12 + int.from_bytes(data[start:start + 4], "big")]
  (tmp_path / "grey.png").write_bytes(data)
  with Image.open(io.BytesIO(data)) as image:
    assert image.mode == "L" and np.array(image).max() > 3
  np.testing.assert_array_equal(label_image.read(tmp_path / "grey.png")[0], AREAS)


@pytest.mark.parametrize("white", [
    lambda m: np.where(m, 255, 0).astype(np.uint8), lambda m: m > 0,
    lambda m: indexed(np.where(m, 255, 0).astype(np.uint8)),
    lambda m: np.where(m, 65535, 0).astype(np.uint16),
    lambda m: np.where(m[..., None], 255, 0).astype(np.uint8).repeat(3, -1)])
def test_what_is_drawn_in_white_is_one_object(tmp_path, white):
  labels, notes = read(tmp_path, white(AREAS))
  np.testing.assert_array_equal(labels, AREAS > 0)
  assert notes == [] or "taken for object 1" in notes[0]


def test_void_beside_objects_is_background(tmp_path):
  labels, notes = read(tmp_path, np.where(AREAS == 3, 255, AREAS).astype(np.uint8))
  np.testing.assert_array_equal(labels, AREAS == 1)
  assert notes == ["255 is void, taken for background"]


def test_colours_of_davis_are_its_numbers(tmp_path):
  labels, notes = read(tmp_path, palette()[AREAS])
  np.testing.assert_array_equal(labels, AREAS)
  assert notes == ["colours are those of DAVIS: #800000 is 1, #808000 is 3"]


def test_other_colours_are_numbered_as_they_come(tmp_path):
  labels, notes = read(tmp_path, colour((0, 0, 0), (255, 0, 0), (0, 0, 250)))
  np.testing.assert_array_equal(labels, np.array([0, 1, 0, 2])[AREAS])
  assert notes == ["colours were numbered as they come: #ff0000 is 1, #0000fa is 2"]


def test_what_is_transparent_is_background(tmp_path):
  tints = colour((9, 8, 7), (255, 0, 0), (0, 0, 250))
  clear = np.where(AREAS > 0, 255, 0).astype(np.uint8)[..., None]
  labels, _ = read(tmp_path, np.concatenate([tints, clear], -1))
  np.testing.assert_array_equal(labels, np.array([0, 1, 0, 2])[AREAS])


def smooth(mode, fill):
  """A disc with smooth edges: drawn large, then made smaller."""
  image = Image.new(mode, (320, 320))
  ImageDraw.Draw(image).ellipse((40, 40, 260, 250), fill=fill)
  return image.resize((64, 64), Image.Resampling.BICUBIC)


NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)


@pytest.mark.parametrize("image, message", [
    (NOISE, r"has 1\d\d\d colours, so it is no label map; save a PNG"),
    (NOISE[..., 0] // 8, "looks like a photograph"),
    (smooth("RGB", (255, 0, 0)), "labels are lines a pixel wide, as the edges of smoothed"),
    (smooth("L", 255), "lines a pixel wide"),
    (np.where(AREAS, 300, 0).astype(np.uint16), "labels up to 300; an indexed PNG holds 1 to 254"),
    (0 * AREAS, "shows no object, all of it is background"),
    (np.where(AREAS == 1, 7, 7).astype(np.uint8), "is 7 everywhere, with no background"),
    (colour((9, 9, 9), (255, 0, 0), (0, 0, 250)), "has no black"),
])
def test_what_is_no_label_map(tmp_path, image, message):
  with pytest.raises(DataError, match=rf"m\.png: .*{message}"):
    read(tmp_path, image)


def test_other_kinds_of_files(tmp_path):
  with pytest.raises(DataError, match=r"m\.png: is a JPEG picture"):
    read(tmp_path, AREAS, "JPEG")
  (tmp_path / "m.png").write_text("text")
  with pytest.raises(DataError, match=r"m\.png: not a picture"):
    label_image.read(tmp_path / "m.png")
  with pytest.raises(DataError, match="file not found"):
    label_image.read(tmp_path / "no.png")
