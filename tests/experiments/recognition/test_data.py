"""Views of videos: shapes, the test's frames, what can't be used, what embedding them gives."""

import numpy as np
import pytest

from data_pipelines.records import Record
from experiments.recognition import data
from tests.experiments.recognition import videos
from vssl_jax.types import ConfigError

KINDS = ("frames", "clips")


@pytest.fixture(scope="module")
def some(tmp_path_factory):
  return videos.dataset(tmp_path_factory.mktemp("videos"), [1, -1, 0, 1])


def made(some, kind, **changes):
  return data.Views(some, videos.views(kind, **changes), videos.training(kind), "evals.x.views")


@pytest.mark.parametrize("kind, wanted", [("frames", (4, 1, 8, 8, 3)), ("clips", (3, 4, 8, 8, 3))])
def test_training_views(some, kind, wanted):
  config = videos.training(kind)
  read = data.reader(config)
  found = read(some.records[0], np.random.default_rng(0))
  assert found["frames"].shape == data.shape(config) == wanted
  assert found["frames"].dtype == np.uint8 and found["label"] == 1
  assert data.input_shape(config) == (wanted[2:] if kind == "frames" else wanted[1:])
  again, other = (read(some.records[0], np.random.default_rng(seed))["frames"] for seed in (0, 1))
  np.testing.assert_array_equal(found["frames"], again)
  assert (found["frames"] != other).any()


def test_training_frames_are_one_twice_and_others():
  for distinct, least in ((True, 3), (False, 1)):
    choose = data.reader(videos.training("frames", distinct=distinct)).sample
    rows = np.stack([choose(np.arange(3) / 4, rng=np.random.default_rng(s))[:, 0]
                     for s in range(20)])
    np.testing.assert_array_equal(rows[:, 0], rows[:, 1])
    assert rows.shape == (20, 4) and min(len(set(row)) for row in rows.tolist()) == least


@pytest.mark.parametrize("kind, changes, words", [
    ("frames", dict(name="frame"), "views.name='frame'; did you mean 'frames'"),
    ("frames", dict(size=4), "views.size=4"), ("clips", dict(short_side=-1), "short_side=-1"),
    ("frames", dict(candidates=-1), "views.candidates=-1"),
    ("clips", dict(clips=0), "views.clips=0"),
    ("clips", dict(frames=0), "views.frames=0"), ("clips", dict(stride=0), "views.stride=0"),
    ("clips", dict(fps=-1.0), "views.fps=-1"),
    ("clips", dict(short="loob"), "views.short='loob'; did you mean 'loop'"),
    ("clips", dict(augment=dict(sgima=(0.1, 2.0))), "views.augment: .*sgima"),
    ("frames", dict(augment=dict(area=(2.0, 1.0))), "views.augment: ")])
def test_impossible_training_views(kind, changes, words):
  with pytest.raises(ConfigError, match=words):
    data.reader(videos.training(kind, **changes))


@pytest.mark.parametrize("kind", KINDS)
def test_test_views_are_the_middles_of_frames_evenly_spread(some, kind):
  views = made(some, kind)
  found = list(views)
  assert [(id_, label) for id_, label, _ in found] == [("v0", 1), ("v2", 0), ("v3", 1)]
  assert views.skipped == 1 and not views.bad.reasons
  left = (videos.WIDTH - 16) // 2
  for id_, _, x in found:
    if kind == "frames":  # the frames of the middles of two halves
      numbers = np.array([3, 9])
    else:  # a clip spans 7 frames; the room of 5 is cut in two
      numbers = np.array([[1], [4]]) + 2 * np.arange(4)
    assert x.shape == (*numbers.shape, 16, 16, 3)
    wanted = videos.frames(int(id_[1]))[numbers][..., left:left + 16, :]
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize("short, numbers", [
    ("hold", [0, 5, 10, 11, 11, 11]), ("loop", [0, 5, 10, 0, 5, 10])])
def test_clips_of_short_videos(some, short, numbers):
  changes = dict(frames=6, stride=5, short=short)
  training = videos.training("clips", **changes)
  rows = data.reader(training).sample(np.arange(12) / 4, rng=np.random.default_rng(0))
  assert rows.tolist() == [numbers] * 3
  views = data.Views(some, videos.views("clips", **changes), training, "evals.x.views")
  left = (videos.WIDTH - 16) // 2
  for id_, _, x in views:
    wanted = videos.frames(int(id_[1]))[numbers][..., left:left + 16, :]
    np.testing.assert_array_equal(x, np.stack([wanted] * 2))


def test_crops_are_views_of_their_own(some):
  (_, _, one), *_ = made(some, "clips")
  (_, _, x), *_ = made(some, "clips", crops=3)
  assert x.shape == (6, 4, 16, 16, 3)
  np.testing.assert_array_equal(x[1::3], one)
  np.testing.assert_array_equal(x[::3], videos.frames(0)[
      np.array([[1], [4]]) + 2 * np.arange(4)][..., :16, :])


def test_small_sets_are_read_once(some, tmp_path, monkeypatch):
  views = made(some, "frames")
  first = list(views)
  monkeypatch.setattr(data.clips, "in_order", None)
  assert [x is y for x, y in zip(first, views, strict=True)] == [True] * 3
  monkeypatch.undo()
  monkeypatch.setattr(data, "KEPT", 3 * 2 * 16 * 16 * 3 - 1)
  views = made(some, "frames")
  again = [next(iter(list(views)))[2] for _ in range(2)]
  assert again[0] is not again[1] and not views._kept
  np.testing.assert_array_equal(*again)


def test_videos_that_cannot_be_read_are_left_out(some, tmp_path, capsys):
  (tmp_path / "bad.mp4").write_bytes(b"no video")
  bad = Record("bad", str(tmp_path / "bad.mp4"), label=2)
  views = made(type(some)("some", "test", [some.records[0], bad, some.records[2]]), "clips")
  for _ in range(2):
    assert [id_ for id_, _, _ in views] == ["v0", "v2"]
  assert set(views.bad.reasons) == {"bad"}
  assert capsys.readouterr().err.count("bad") == 1


@pytest.mark.parametrize("kind, changes, words", [
    ("frames", dict(frames=2),
     r"evals\.x\.views\.frames=2.*takes pictures.*evals\.x\.views\.clips"),
    ("clips", dict(clips=0), r"evals\.x\.views\.clips=0"),
    ("clips", dict(frames=0), r"evals\.x\.views\.frames=0"),
    ("clips", dict(stride=0), r"evals\.x\.views\.stride=0"),
    ("clips", dict(fps=-2.0), r"evals\.x\.views\.fps=-2"),
    ("clips", dict(short="holt"), r"evals\.x\.views\.short='holt'; did you mean 'hold'"),
    ("clips", dict(size=17), r"evals\.x\.views\.size=17 .*evals\.x\.views\.short_side=16"),
    ("frames", dict(size=0), r"evals\.x\.views\.size=0"),
    ("clips", dict(crops=0), r"evals\.x\.views\.crops=0")])
def test_impossible_test_views(some, kind, changes, words):
  with pytest.raises(ConfigError, match=words):
    made(some, kind, **changes)


def test_a_set_without_labels_is_refused(some):
  with pytest.raises(ConfigError, match=r"evals\.x\.views: no video of some test has a label"):
    made(type(some)("some", "test", [some.records[1]]), "frames")


def test_the_floor_has_mean_colours_of_cells():
  x = np.random.default_rng(0).integers(0, 256, (2, 3, 10, 9, 3), np.uint8)
  found = data.pixels({"clip": x}, cells=2)
  np.testing.assert_array_equal(found["features"], found["video"])
  wanted = np.stack([[[x[b, t, 5 * i:5 * i + 5, 4 * j:4 * j + 4].mean((0, 1)) / 255
                       for i in range(2) for j in range(2)] for t in range(3)] for b in range(2)])
  np.testing.assert_allclose(found["features"], wanted.reshape(2, -1), rtol=1e-6)
  picture = data.pixels({"image": x[:, 0]}, cells=2)["features"]
  np.testing.assert_array_equal(picture, found["features"][:, :12])
  assert picture.dtype == np.float32
