"""Pictures moved by homographies: places are exact, frames stay inside, clips are reproducible."""

import pickle

import numpy as np
import pytest
from PIL import Image

from data_pipelines import source
from data_pipelines.datasets import homography
from data_pipelines.errors import DataError
from data_pipelines.media import open_media
from tests.data_pipelines.layouts import davis as davis_layout
from tests.data_pipelines.layouts import homography as made
from tests.data_pipelines.layouts import material


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  root = tmp_path_factory.mktemp("homography")
  made.write(root)
  return root


def read(root, **options):
  return homography.read(str(root), **(dict(frames=3, size=48, points=4) | options))


def clip(record):
  with open_media(record) as media:
    return media.frames(np.arange(media.n_frames))


def dots(centres, size, sigma=2.0):
  """Grey picture with a bright Gaussian at each (x, y)."""
  y, x = np.mgrid[:size[0], :size[1]]
  light = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma ** 2)) for cx, cy in centres)
  return np.repeat((20 + 200 * np.minimum(light, 1))[..., None], 3, -1).round().astype(np.uint8)


def centroid(image, at, reach=7):
  """(x, y) of the light near a place."""
  x, y = np.round(at).astype(int)
  part = image[y - reach:y + reach + 1, x - reach:x + reach + 1, 0].astype(float) - 20
  part = part * (part > 8)
  rows, columns = np.mgrid[y - reach:y + reach + 1, x - reach:x + reach + 1]
  return np.array([(columns * part).sum(), (rows * part).sum()]) / part.sum()


@pytest.mark.parametrize("shape", [(90, 130), (260, 220)])  # enlarged, and shrunk before
def test_dots_are_where_the_truth_says(tmp_path, shape):
  """To a fifth of a pixel, in every frame, whatever the order of the steps."""
  h, w = shape
  centres = np.array([(x, y) for x in range(w // 4, w, w // 4) for y in range(h // 4, h, h // 4)])
  unit = min(shape) / 96
  Image.fromarray(dots(centres, shape, 2 * unit)).save(tmp_path / "a.png")
  rng = np.random.default_rng(0)
  motion = homography.plan(shape, rng, 4, 96, 1.0)
  image = Image.fromarray(dots(centres, shape, 2 * unit))
  small = np.asarray(image.resize(motion.shape[::-1], Image.Resampling.LANCZOS))
  scale = np.array(motion.shape[::-1]) / (w, h)
  places = homography.apply(np.linalg.inv(motion.homographies), (centres + 0.5) * scale - 0.5)
  found = 0
  for h_t, at in zip(motion.homographies, places, strict=True):
    frame = homography.warp(small, h_t, 96)
    for place in at[((at > 10) & (at < 85)).all(-1)]:
      assert np.abs(centroid(frame, place) - place).max() < 0.2
      found += 1
  assert found > 8
  # And so through the reader: the corners it chooses are carried along with the dots.
  record, = read(tmp_path, frames=4, size=96, points=3).records
  frames, points = clip(record), record.truth["points"]
  assert np.abs(points[-1] - points[0]).max() > 3
  for j in range(points.shape[1]):
    colours = [frames[t][tuple(np.round(points[t, j]).astype(int)[::-1])] for t in range(4)]
    assert np.ptp(np.array(colours, int), axis=0).max() < 80


def test_colours_at_points_are_those_of_the_picture(written):
  """Sampled between pixels, against the first frame, in which points lie at whole ones."""
  record = next(r for r in read(written, frames=5, size=96).records if r.id == "c")
  frames, points = clip(record).astype(float), record.truth["points"]
  np.testing.assert_array_equal(points[0], np.round(points[0]))
  smooth = [sum(f[dy:dy + 92, dx:dx + 92] for dy in range(5) for dx in range(5)) / 25
            for f in frames]
  at = [[smooth[t][tuple(np.round(p - 2).astype(int)[::-1])] for p in points[t]]
        for t in range(5)]
  off = np.abs(np.array(at) - at[0]).mean()
  shuffled = np.abs(np.array(at) - np.roll(at[0], 1, 0)).mean()
  assert off < 12 and off < shuffled / 2


def test_frames_lie_inside_and_points_inside_frames():
  for seed in range(20):
    shape = [(40, 300), (300, 40), (64, 64)][seed % 3]
    motion = homography.plan(shape, np.random.default_rng(seed), 9, 64, 2.0)
    edge = np.array([[0, 0], [63, 0], [0, 63], [63, 63]], float)
    for offset in (-0.25, 0.25):
      got = homography.apply(motion.homographies, edge + offset)
      assert got.min() >= 0 and (got <= np.array(motion.shape[::-1]) - 1).all()
    assert motion.shape[0] <= shape[0] and motion.shape[1] <= shape[1]
    response = np.random.default_rng(seed).uniform(size=(64, 64))
    points = homography.choose(response, motion.homographies, 5)
    assert points.shape == (9, 5, 2)
    assert (points >= homography.EDGE).all() and (points <= 63 - homography.EDGE).all()
    pairs = np.linalg.norm(points[0][:, None] - points[0], axis=-1)[np.triu_indices(5, 1)]
    assert pairs.min() >= 1


def test_corners_are_corners():
  image = np.zeros((40, 40, 3), np.uint8)
  image[10:25, 8:30] = 255
  response = homography.corners(image)
  best = np.stack(np.unravel_index(np.argsort(response.ravel())[-12:], (40, 40)), -1)
  true = np.array([(10, 8), (10, 29), (24, 8), (24, 29)])
  nearest = np.abs(best[:, None] - true).max(-1)
  assert nearest.min(1).max() <= 3 and len(set(nearest.argmin(1))) == 4
  assert response[17, 8] < response.max() / 100 and response[35, 35] == 0


def test_no_motion_and_smooth_motion():
  rng = np.random.default_rng(0)
  still = homography.plan((64, 64), rng, 4, 64, 0.0).homographies
  np.testing.assert_allclose(still, still[:1].repeat(4, 0))
  image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
  assert (homography.warp(image, np.eye(3), 64)[1:-1, 1:-1].astype(int).std()
          < image[1:-1, 1:-1].std())  # a mean over each pixel
  moved = homography.plan((256, 256), rng, 17, 128, 1.0).homographies
  path = homography.apply(np.linalg.inv(moved), np.array([[60.0, 60.0]]))[:, 0]
  steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
  assert steps.max() < 12 and np.abs(np.diff(path, 2, axis=0)).max() < 4


def test_clips_depend_on_seed_and_id_alone(written, tmp_path):
  first, again = read(written).records, read(written).records
  assert [r.id for r in first] == ["a.mp4", "c", "deep/b.mp4", "deep/d"]
  made.write(tmp_path)
  material.jpegs(tmp_path / "0", 9, ["1.jpg"])
  more = {r.id: r for r in read(tmp_path).records}
  for a, b in zip(first, again, strict=True):
    assert a.frames == b.frames == more[a.id].frames
    np.testing.assert_array_equal(a.truth["points"], more[a.id].truth["points"])
    assert a.truth["points"].dtype == np.float32 and a.truth["points"].shape == (3, 4, 2)
    assert a.truth["visible"].all() and a.truth["visible"].shape == (3, 4)
    assert clip(a).shape == (3, 48, 48, 3)
  other = read(written, seed=1).records[0]
  assert other.frames != first[0].frames
  assert pickle.loads(pickle.dumps(first))[1].frames == first[1].frames


def test_what_clips_are_made_of(written, tmp_path):
  davis_layout.write(tmp_path / "davis")
  data = source.load("homography", str(tmp_path / "davis"), "all", frames=1, size=32, points=2)
  assert [r.id for r in data.records] == sorted(davis_layout.SEEDS)
  ids = [r.id for r in read(written, each=True, frames=1).records]
  assert ids == ["a.mp4", "c/1.jpg", "c/2.jpg", "deep/b.mp4", "deep/d/1.jpg", "deep/d/2.jpg"]
  assert [r.id for r in read(written, each=True, frames=1, pattern="2*").records] == [
      "a.mp4", "c/2.jpg", "deep/b.mp4", "deep/d/2.jpg"]
  assert [r.id for r in read(written / "c", frames=1).records] == ["."]


def test_bad_pictures_and_settings(written, tmp_path):
  material.jpegs(tmp_path / "a", 0, ["1.jpg"])
  (tmp_path / "b.mp4").write_bytes(b"nothing of the kind")
  material.jpegs(tmp_path / "c", 0, ["1.jpg"], size=(16, 64))
  with pytest.raises(DataError, match=r"2 of 3 can't be used, first: .*b\.mp4.*allow_missing"):
    read(tmp_path)
  data = read(tmp_path, allow_missing=True)
  assert [r.id for r in data.records] == ["a"] and data.missing == ("b.mp4", "c")
  (tmp_path / "empty").mkdir()
  with pytest.raises(DataError, match="no videos or pictures"):
    read(tmp_path / "empty")
  for name, value in [("frames", 0), ("points", 0), ("seed", -1), ("size", 8), ("strength", -1),
                      ("strength", 3), ("strength", float("nan"))]:
    with pytest.raises(DataError, match=f"homography: {name}="):
      read(written, **{name: value})
  with pytest.raises(DataError, match="points don't fit"):
    _ = read(written, points=10_000).records[0]
