"""Lists of pictures: the same pixels whatever the encoding, sizes, damage; label maps."""

import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines import picture, pictures
from data_pipelines.errors import DataError, VideoError
from data_pipelines.pictures import PictureReader, read_labels
from tests.data_pipelines.clips import numbered, numbers

# Levels that 8 bits of grey, a palette and CMYK can hold.
y, x = np.mgrid[:24, :40]
GREY = (x * 6 % 256).astype(np.uint8)
COLOUR = np.stack([x // 10 * 80, y // 8 * 100, (x + y) // 32 * 200], 2).clip(0, 255)
COLOUR = COLOUR.astype(np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
  file = io.BytesIO()
  (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
  return file.getvalue()


def read(data: bytes, **options) -> np.ndarray:
  return PictureReader([data]).frames([0], **options)[0]


def test_read_like_a_video(tmp_path):
  images = numbered(12)
  for t, image in enumerate(images):
    Image.fromarray(image).save(tmp_path / f"{t}.png")
  paths = [str(tmp_path / f"{t}.png") for t in range(12)]
  for frames in (paths, [tmp_path / f"{t}.png" for t in range(12)],
                 [(tmp_path / f"{t}.png").read_bytes() for t in range(12)]):
    reader = PictureReader(frames, 8)
    assert (reader.n_frames, reader.fps, reader.rotation) == (12, 8.0, 0)
    assert (reader.height, reader.width) == (48, 64)
    assert reader.times.tolist() == [t / 8 for t in range(12)]
    np.testing.assert_array_equal(reader.frames([7, 0, 7, 11]), images[[7, 0, 7, 11]])
    assert reader.frames([]).shape == (0, 48, 64, 3)
    assert reader.frames([], 24, crop=20).shape == (0, 20, 20, 3)
    for bad in ([12], [-1]):
      with pytest.raises(IndexError, match=r"frames 0\.\.11"):
        reader.frames(bad)
  assert PictureReader(paths).fps == 25
  assert PictureReader(paths).name == paths[0]
  with pytest.raises(VideoError, match="holds no picture"):
    PictureReader([])


def test_only_what_is_asked_for_is_decoded_and_once(monkeypatch):
  frames = [encoded(image) for image in numbered(4)]
  reader = PictureReader([b"", *frames, b"\xff\xd8\xff"])
  opened = []
  real = Image.open
  monkeypatch.setattr(Image, "open", lambda *args, **kw: opened.append(1) or real(*args, **kw))
  assert numbers(reader.frames([2, 4, 2, 2])) == [1, 3, 1, 1]
  assert len(opened) == 2


def test_every_mode_becomes_rgb():
  grey = np.stack(3 * [GREY], 2)
  deep = GREY.astype(np.uint16) * 257
  half = np.full_like(GREY, 128)
  palette = Image.fromarray(COLOUR).quantize(64)
  np.testing.assert_array_equal(np.asarray(palette.convert("RGB")), COLOUR)
  np.testing.assert_array_equal(read(encoded(COLOUR)), COLOUR)
  np.testing.assert_array_equal(read(encoded(palette)), COLOUR)
  np.testing.assert_array_equal(read(encoded(palette, transparency=b"\0\x7f\xff")), COLOUR)
  np.testing.assert_array_equal(read(encoded(GREY)), grey)
  np.testing.assert_array_equal(read(encoded(GREY > 127)), (grey > 127) * np.uint8(255))
  np.testing.assert_array_equal(read(encoded(np.stack([GREY, half], 2))), grey)
  np.testing.assert_array_equal(read(encoded(np.dstack([COLOUR, half]))), COLOUR)
  for kind in ("PNG", "TIFF", "PPM"):
    np.testing.assert_array_equal(read(encoded(deep, kind)), grey, kind)
  for change in (-128, 128):  # less than half a step
    changed = (deep.astype(int) + change).clip(0).astype(np.uint16)
    np.testing.assert_array_equal(read(encoded(changed)), grey)
  cmyk = Image.fromarray(COLOUR).convert("CMYK")
  assert np.abs(read(encoded(cmyk, "JPEG", quality=100)).astype(int) - COLOUR).mean() < 2
  with pytest.raises(VideoError, match="range is unknown"):
    read(encoded(GREY.astype(np.float32), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_orientation(kind):
  image = np.kron(np.arange(6).reshape(2, 3) * 40, np.ones((16, 16))).astype(np.uint8)
  image = np.stack(3 * [image], 2)
  turned = {1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1],
            5: image.swapaxes(0, 1), 6: np.rot90(image, -1),
            7: np.rot90(image, 2).swapaxes(0, 1), 8: np.rot90(image)}
  for orientation, want in turned.items():
    note = Image.Exif()
    note[0x0112] = orientation
    reader = PictureReader([encoded(image, kind, exif=note)])
    assert (reader.height, reader.width) == want.shape[:2], orientation
    assert np.abs(reader.frames([0])[0].astype(int) - want).max() < 6, orientation
  assert np.abs(read(encoded(image, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff")).astype(int)
                - image).max() < 6


def test_resizing_and_cropping():
  image = numbered(1, 51, 90)[0]
  small = read(encoded(image), short_side=17)
  np.testing.assert_array_equal(small, picture.resize(image[None], 17)[0])
  cubic = read(encoded(image), short_side=17, interpolation="bicubic")
  np.testing.assert_array_equal(cubic, picture.resize(image[None], 17, "bicubic")[0])
  assert (small != cubic).any()
  np.testing.assert_array_equal(read(encoded(image), crop=20), image[15:35, 35:55])
  with pytest.raises(ValueError, match="crop 60x60"):
    read(encoded(image), crop=60)


def test_sizes_that_differ(tmp_path):
  for t, image in enumerate((numbered(1), numbered(1), numbered(1, 64, 48))):
    Image.fromarray(image[0]).save(tmp_path / f"{t}.png")
  reader = PictureReader([str(tmp_path / f"{t}.png") for t in range(3)])
  assert reader.frames([0, 1]).shape == (2, 48, 64, 3)
  assert reader.frames([2]).shape == (1, 64, 48, 3)
  assert reader.frames([0, 2], 32, crop=30).shape == (2, 30, 30, 3)
  with pytest.raises(VideoError, match=r"2\.png: has 48x64 pixels, picture 1 has 64x48"):
    reader.frames([2, 1])


WHOLE = encoded(numbered(1)[0], "JPEG")


@pytest.mark.parametrize("data, reason", [
    (b"", "empty file"), (b"<!DOCTYPE html><html>", "not a picture"),
    (bytes(500), "not a picture"), (WHOLE[:20], "picture"),
    (WHOLE[:len(WHOLE) * 2 // 3], "damaged picture: .*truncated"),
    (encoded(COLOUR)[:100], "damaged picture"),
    (encoded(COLOUR)[:60] + bytes(40) + encoded(COLOUR)[100:], "damaged picture"),
    (encoded(COLOUR)[:16] + b"\0\1\0\0\0\1\0\0" + encoded(COLOUR)[24:], "picture|pixels"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
])
def test_damage(tmp_path, data, reason):
  path = tmp_path / "a.jpg"
  path.write_bytes(data)
  for source, name in ((str(path), str(path)), (data, "pictures in memory, picture 0")):
    with pytest.raises(VideoError, match=reason) as caught:
      PictureReader([source]).frames([0])
    assert caught.value.name == name
    assert "\n" not in caught.value.reason and len(caught.value.reason) < 120


def test_paths_that_are_no_files(tmp_path):
  for name, reason in (("missing.jpg", "file not found"), ("", "is a folder")):
    with pytest.raises(VideoError, match=reason):
      PictureReader([str(tmp_path / name)]).frames([0])


def test_pictures_that_are_too_large(monkeypatch):
  monkeypatch.setattr(pictures, "MAX_PIXELS", 24 * 40)
  assert read(encoded(COLOUR)).shape == COLOUR.shape
  with pytest.raises(VideoError, match="80x80 pixels are too many"):
    read(encoded(np.zeros((80, 80), np.uint8)))
  with pytest.raises(VideoError, match="4000x100 pixels are too many"):
    read(encoded(COLOUR[:1]), short_side=100)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
  with pytest.raises(VideoError, match="too many pixels"):
    read(encoded(COLOUR))


def test_one_by_one_like_all_at_once():
  data = [encoded(image) for image in numbered(4)]
  reader = PictureReader(data)
  order = [2, 0, 0, 3]
  options = dict(short_side=24, crop=20)
  stream = reader.stream(order, **options)
  assert iter(stream) is stream
  np.testing.assert_array_equal(np.stack(list(stream)), reader.frames(order, **options))
  with pytest.raises(IndexError, match=r"0\.\.3"):
    reader.stream([4])
  mixed = PictureReader([data[0], encoded(COLOUR)], name="mixed")
  frames = mixed.stream([0, 1])
  assert next(frames).shape == (48, 64, 3)
  with pytest.raises(VideoError, match="mixed, picture 1: has 40x24 pixels, picture 0 has 64x48"):
    next(frames)


# Label maps.


def label_map(array: np.ndarray, mode: str) -> bytes:
  image = Image.frombytes(mode, array.shape[1::-1], array.astype(np.uint8).tobytes())
  if mode == "P":
    image.putpalette(np.random.default_rng(0).bytes(768))
  return encoded(image)


def test_labels_of_every_kind_of_png(tmp_path):
  labels = np.array([[0, 1, 2], [3, 255, 0]])
  np.testing.assert_array_equal(read_labels(label_map(labels, "P")), labels)
  np.testing.assert_array_equal(read_labels(label_map(labels, "L")), labels)
  (tmp_path / "a.png").write_bytes(label_map(labels, "P"))
  np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)
  few = Image.fromarray(np.array([[0, 1, 3]], np.uint8)).convert("P")
  np.testing.assert_array_equal(read_labels(encoded(few, bits=2)), [[0, 1, 3]])
  grey = np.array([[0, 255, 0], [255, 255, 0]])  # DAVIS-2016
  np.testing.assert_array_equal(read_labels(label_map(grey, "P")), grey)  # 255 is void
  for mode, planes in (("L", grey), ("LA", np.stack([grey, 255 + 0 * grey], 2)),
                       ("RGB", np.stack(3 * [grey], 2)),
                       ("RGBA", np.stack([grey, grey, grey, 255 + 0 * grey], 2))):
    np.testing.assert_array_equal(read_labels(label_map(planes, mode)), grey // 255, mode)
  np.testing.assert_array_equal(read_labels(encoded(np.array([[False, True]]))), [[0, 1]])


def test_bad_label_maps(tmp_path):
  colours = np.zeros((2, 2, 3))
  colours[0, 0, 1] = 128
  with pytest.raises(DataError, match="colours but no palette"):
    read_labels(label_map(colours, "RGB"))
  with pytest.raises(VideoError, match="labels above 255"):
    read_labels(encoded(np.full((2, 2), 300, np.uint16)))
  (tmp_path / "a.png").write_bytes(label_map(np.zeros((9, 9)), "P")[:60])
  with pytest.raises(DataError, match=r"a\.png: can't read this label map \(damaged"):
    read_labels(str(tmp_path / "a.png"))
  with pytest.raises(DataError, match=r"b\.png: can't read this label map \(file not found"):
    read_labels(tmp_path / "b.png")
