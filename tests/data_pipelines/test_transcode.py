"""What is stored of a record: pass through or re-encode, sizes, times, cuts, pictures."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from data_pipelines.decode import open_video
from data_pipelines.errors import DataError, VideoError
from data_pipelines.records import Record
from data_pipelines.transcode import KEY_FRAME_EVERY, Settings, even_size, transcode
from tests.data_pipelines import clips

SMALL = Settings(short_side=32)


def psnr(a, b):
  return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def stored_frames(stored):
  with open_video(stored.record.video) as reader:
    return reader.frames(np.arange(reader.n_frames)), reader.times


def jpeg(array, exif=None, mode=None, kind="JPEG"):
  buffer = io.BytesIO()
  image = Image.fromarray(array)
  image = image.convert(mode) if mode else image
  image.save(buffer, kind, **({"exif": exif} if exif else {}))
  return buffer.getvalue()


def smooth(height, width):
  """A picture that survives scaling: red grows to the right, green to the bottom."""
  y, x = np.mgrid[:height, :width]
  return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), 0 * x], -1).astype(np.uint8)


@pytest.mark.parametrize(("size", "short_side", "expected"), [
    ((48, 64), 32, (32, 42)),  # 42.67: 42 and 44 are even, 42.67 is nearer to 42
    ((1080, 1920), 256, (256, 456)),  # 455.1
    ((1920, 1080), 256, (456, 256)),
    ((47, 63), 0, (48, 64)),
    ((45, 61), 0, (44, 60)),  # halves to the multiple of four
    ((241, 321), 256, (240, 320)),
    ((1, 1), 256, (2, 2)),
    ((100, 9000), 50, (50, 4500)),
])
def test_even_size(size, short_side, expected):
  assert even_size(*size, short_side) == expected


@pytest.mark.parametrize("settings", [Settings(64), Settings(48), Settings(0), Settings(2**14)])
def test_a_small_video_passes_through_unaltered(settings):
  data = clips.encode(clips.numbered(9))
  stored = transcode(Record("a", data), settings)
  assert stored.record.video == data
  assert (stored.n_frames, stored.height, stored.width, stored.rotation) == (9, 48, 64, 0)
  assert stored.fps == 25


def test_a_path_that_passes_through_stays_a_path(tmp_path):
  path = tmp_path / "a.mp4"
  path.write_bytes(clips.encode(clips.numbered(3)))
  assert transcode(Record("a", str(path)), Settings()).record.video == str(path)


def test_a_large_video_is_scaled_down_frame_by_frame():
  frames = clips.numbered(40)
  stored = transcode(Record("a", clips.encode(frames)), SMALL)
  got, times = stored_frames(stored)
  assert (stored.n_frames, stored.height, stored.width) == (40, 32, 42) == got.shape[:3]
  assert clips.numbers(got) == list(range(40))
  np.testing.assert_allclose(times, np.arange(40) / 25, atol=1e-6)


def test_quality_follows_crf_and_all_re_encodes_small_ones():
  data = clips.encode(clips.numbered(8), options={"crf": "1"})
  with open_video(data) as reader:
    frames = reader.frames(range(8))
  sizes, quality = [], []
  for crf in (5, 20, 40):
    stored = transcode(Record("a", data), Settings(0, "all", crf))
    assert stored.record.video != data
    sizes.append(len(stored.record.video))
    quality.append(psnr(stored_frames(stored)[0], frames))
  assert sizes == sorted(sizes, reverse=True) and quality == sorted(quality, reverse=True)
  assert quality[0] > max(35, quality[2] + 6)


def test_same_video_same_bytes():
  data = clips.encode(clips.numbered(40))
  first = transcode(Record("a", data), SMALL).record.video
  held = []
  for i in range(5):  # what memory held before has no influence
    held = [*held[-2:], np.random.default_rng(i).bytes(100_000)]
    assert transcode(Record("a", data), SMALL).record.video == first


def test_key_frames_and_no_sound():
  data = clips.encode(clips.numbered(100), sound=True)
  video = transcode(Record("a", data), SMALL).record.video
  with av.open(io.BytesIO(video)) as file:
    assert [s.type for s in file.streams] == ["video"]
    assert file.streams.video[0].codec_context.pix_fmt == "yuv420p"
    keys = [i for i, p in enumerate(p for p in file.demux(video=0) if p.size) if p.is_keyframe]
  assert keys[0] == 0 and max(np.diff([*keys, 100])) <= KEY_FRAME_EVERY


def test_variable_frame_rate_is_kept():
  pts = [0, 33, 66, 400, 401, 900, 1000, 5000]  # in milliseconds
  data = clips.encode(clips.numbered(8), "matroska", pts=pts, time_base=Fraction(1, 1000))
  with open_video(data) as reader:
    expected = reader.times
  np.testing.assert_allclose(expected, np.array(pts) / 1000, atol=1e-9)
  got, times = stored_frames(transcode(Record("a", data), SMALL))
  assert clips.numbers(got) == list(range(8))
  np.testing.assert_allclose(times, expected, atol=1 / 90_000)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_is_applied(rotation):
  data = clips.encode(clips.numbered(5), rotation=rotation)
  stored = transcode(Record("a", data), Settings())
  assert stored.rotation == 0 and stored.record.video != data
  with open_video(data) as reader:
    assert reader.rotation == rotation
    expected = reader.frames(range(5))
  got, _ = stored_frames(stored)
  assert got.shape == expected.shape
  assert (stored.height, stored.width) == ((48, 64) if rotation == 180 else (64, 48))
  assert psnr(got, expected) > 25


@pytest.mark.parametrize("gop", ["5", "250"])
@pytest.mark.parametrize(("start", "end", "first", "stop"), [
    (0.4, 1.2, 10, 30), (None, 0.2, 0, 5), (1.0, None, 25, 40), (0.41, 0.43, 10, 11),
    (0.59, 0.61, 14, 16)])
def test_a_part_is_cut_out(start, end, first, stop, gop):
  data = clips.encode(clips.numbered(40), options={"g": gop})
  stored = transcode(Record("a", data, start=start, end=end), Settings())
  got, times = stored_frames(stored)
  assert clips.numbers(got) == list(range(first, stop))
  assert stored.n_frames == stop - first
  np.testing.assert_allclose(times, np.arange(stop - first) / 25, atol=1e-6)
  assert stored.record.start is stored.record.end is None


def test_a_part_that_is_the_whole_is_no_cut():
  data = clips.encode(clips.numbered(10))
  stored = transcode(Record("a", data, start=0.0, end=99.0), Settings())
  assert stored.record == Record("a", data)


@pytest.mark.parametrize(("start", "end"), [(5.0, None), (1.0, 0.5)])
def test_a_part_without_frames_is_an_error(start, end):
  data = clips.encode(clips.numbered(10))
  with pytest.raises(VideoError, match=r"nothing between start=.* lasts 0\.40 s"):
    transcode(Record("a", data, start=start, end=end), Settings())


def test_none_keeps_everything_and_looks_at_it_all_the_same():
  data = clips.encode(clips.numbered(30), rotation=90)
  record = Record("a", data, start=0.2, end=0.4)
  stored = transcode(record, Settings(16, "none"))
  assert stored.record == record
  assert (stored.n_frames, stored.height, stored.width, stored.rotation) == (30, 64, 48, 90)
  with pytest.raises(VideoError, match="not a video"):
    transcode(Record("a", b"\0\1\2" * 99), Settings(16, "none"))


def test_truth_keeps_a_video_as_it_is():
  data = clips.encode(clips.numbered(6))
  record = Record("a", data, start=0.04, truth={"boxes": np.zeros((6, 4), np.float32)})
  stored = transcode(record, SMALL)
  assert stored.record.video == data and stored.record.start == 0.04


def test_damage_in_mid_file_shows_what_a_scan_shows():
  data = clips.zeroed(clips.encode(clips.numbered(40), options={"g": "10", "bf": "0"}), [14, 15])
  stored = transcode(Record("a", data), Settings(0, "all", 5))
  with open_video(data) as reader:
    expected = np.stack(list(reader.scan()))
  got, _ = stored_frames(stored)
  assert len(got) == 40
  assert min(psnr(a, b) for a, b in zip(got, expected, strict=True)) > 28
  cut = transcode(Record("a", data, start=0.2, end=1.0), Settings(0, "all", 5))
  got, _ = stored_frames(cut)
  assert min(psnr(a, b) for a, b in zip(got, expected[5:25], strict=True)) > 28


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (17, 31)])
def test_tiny_and_odd_videos(shape):
  frames = np.full((3, *shape, 3), 90, np.uint8)
  data = clips.encode(frames, "avi", "ffv1", "bgr0")
  stored = transcode(Record("a", data), Settings(0, "all", 1))
  got, _ = stored_frames(stored)
  assert got.shape == (3, *even_size(*shape, 0), 3)
  np.testing.assert_allclose(got.astype(int), 90, atol=6)


@pytest.mark.parametrize(("container", "codec", "pixels"), [
    ("mp4", "libx265", "yuv444p10le"), ("matroska", "ffv1", "yuva420p"), ("mp4", "png", "rgba")])
def test_ten_bits_and_alpha_become_plain(container, codec, pixels):
  data = clips.encode(clips.numbered(5), container, codec, pixels)
  stored = transcode(Record("a", data), SMALL)
  got, _ = stored_frames(stored)
  assert clips.numbers(got) == list(range(5))


@pytest.mark.parametrize(("video", "reason"), [
    (b"", "has no video"), ("/nowhere/a.mp4", "file not found"),
    (clips.sound_only(), "no video stream"), (clips.encode(clips.numbered(5))[:600], "incomplete")])
def test_bad_videos(video, reason):
  with pytest.raises(VideoError, match=reason):
    transcode(Record("a", video), Settings())


@pytest.mark.parametrize(("bad", "word"), [
    (dict(short_side=31), "even"), (dict(short_side=-2), "even"), (dict(encode="some"), "needed"),
    (dict(crf=52), "crf")])
def test_bad_settings(bad, word):
  with pytest.raises(DataError, match=word):
    Settings(**bad)


# Pictures.


def test_large_pictures_are_scaled_down_and_small_ones_kept():
  large, small = jpeg(smooth(60, 90)), jpeg(smooth(32, 50))
  stored = transcode(Record("a", frames=(large, small), fps=12.0), SMALL)
  assert stored.record.frames[1] == small and stored.record.frames[0] != large
  assert (stored.n_frames, stored.height, stored.width, stored.fps) == (2, 32, 48, 12.0)
  with Image.open(io.BytesIO(stored.record.frames[0])) as image:
    assert image.format == "JPEG" and image.size == (48, 32)
    assert psnr(np.asarray(image), smooth(32, 48)) > 30


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"),
                                            ("RGBA", "PNG"), ("LA", "PNG")])
def test_pictures_of_all_kinds_become_rgb(mode, kind):
  data = jpeg(smooth(60, 90), mode=mode, kind=kind)
  with Image.open(io.BytesIO(data)) as image:
    assert image.mode == mode
    expected = np.asarray(image.convert("RGB").resize((48, 32)))
  stored = transcode(Record("a", frames=(data,)), SMALL)
  with Image.open(io.BytesIO(stored.record.frames[0])) as image:
    assert image.mode == "RGB"
    assert psnr(np.asarray(image), expected) > 25


def test_sixteen_bits_are_scaled_not_clipped():
  deep = (np.linspace(0, 65535, 60 * 90).reshape(60, 90)).astype(np.uint16)
  stored = transcode(Record("a", frames=(jpeg(deep, kind="PNG"),)), SMALL)
  with Image.open(io.BytesIO(stored.record.frames[0])) as image:
    grey = np.asarray(image)[..., 0].astype(int)
  np.testing.assert_allclose(grey[:, 24], np.linspace(2, 253, 32), atol=6)


def test_exif_orientation_is_applied_where_a_picture_is_scaled():
  exif = Image.Exif()
  exif[274] = 6  # to be turned clockwise
  data = jpeg(smooth(60, 90), exif)
  stored = transcode(Record("a", frames=(data,)), SMALL)
  assert (stored.height, stored.width) == (48, 32)
  with Image.open(io.BytesIO(stored.record.frames[0])) as image:
    assert not image.getexif().get(274)
    assert psnr(np.asarray(image), np.rot90(smooth(32, 48), -1)) > 28
  kept = transcode(Record("a", frames=(data,)), Settings(0))
  assert kept.record.frames == (data,) and (kept.height, kept.width) == (90, 60)


@pytest.mark.parametrize("extra", [
    dict(masks=(jpeg(smooth(60, 90), kind="PNG"),)),
    dict(truth={"boxes": np.zeros((1, 4), np.float32)}),
    dict(truth={"points": np.zeros((1, 2, 2), np.float32)})])
def test_annotated_pictures_keep_their_size(extra):
  data = jpeg(smooth(60, 90))
  stored = transcode(Record("a", frames=(data,), **extra), SMALL)
  assert stored.record.frames == (data,) and (stored.height, stored.width) == (60, 90)


def test_numbers_of_frames_don_t_keep_pictures_large():
  record = Record("a", frames=(jpeg(smooth(60, 90)),), truth={"numbers": np.array([7])})
  assert transcode(record, SMALL).height == 32


def test_bad_pictures_are_named(tmp_path):
  good, cut, text = (tmp_path / f"{name}.jpg" for name in ("good", "cut", "text"))
  good.write_bytes(jpeg(smooth(60, 90)))
  cut.write_bytes(good.read_bytes()[:-200])
  text.write_bytes(b"<html>")
  for bad, reason in ((cut, "truncated"), (text, "not a picture"),
                      (tmp_path / "no.jpg", "file not found")):
    with pytest.raises(VideoError, match=reason) as error:
      transcode(Record("a", frames=(str(good), str(bad))), SMALL)
    assert error.value.name == str(bad)
  with pytest.raises(VideoError, match=r"text\.jpg"):
    transcode(Record("a", frames=(str(good),), masks=("", str(text))), SMALL)


@pytest.mark.parametrize("name", [
    "tc_bt709_full_range.mp4", "tc_nasa_13013_hdr.mp4", "tc_nasa_13013_rotated.mp4",
    "kinetics_armwrestle.mp4", "mma_test.avi", "decord_video_90.mov", "scene_cuts.mp4"])
def test_real_videos_keep_frames_times_and_colours(data_dir, name):
  path = data_dir / "clips" / name
  stored = transcode(Record(name, str(path)), Settings(encode="all"))
  with open_video(path) as before, open_video(stored.record.video) as after:
    assert after.n_frames == before.n_frames == stored.n_frames and after.rotation == 0
    np.testing.assert_allclose(after.times, before.times, atol=1 / 90_000)
    assert (after.height, after.width) == even_size(before.height, before.width, 256)
    for i in (0, before.n_frames // 2, before.n_frames - 1):
      expected = Image.fromarray(before.frames([i])[0]).resize((after.width, after.height),
                                                               Image.Resampling.BICUBIC)
      got = after.frames([i])[0]
      assert psnr(got, np.asarray(expected)) > 25
      bias = got.mean((0, 1)) - np.asarray(expected).mean((0, 1))
      assert np.abs(bias).max() < 3.5, "a wrong colour matrix or range is off by 5 to 20"
