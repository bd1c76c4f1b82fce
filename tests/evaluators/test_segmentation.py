"""From frames to J and F: the readings of labels, the baseline, the files, bad input."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from vssl_jax.evaluators import dense, masks, segmentation
from vssl_jax.metrics import segmentation as metrics
from vssl_jax.types import ConfigError

SIZE = 37, 50


@dataclasses.dataclass(frozen=True)
class Record:
  id: str
  frames: tuple = ()


def clip(name, length=5, speed=8, label=1):
  """A bright square that moves over noise, and its label maps."""
  texture = np.random.default_rng(0).integers(0, 60, (*SIZE, 3))
  pairs = []
  for t in range(length):
    frame, labels = texture.astype(np.uint8), np.zeros(SIZE, np.uint8)
    at = slice(8, 24), slice(speed * t, speed * t + 16)
    frame[at] = 250, 40, 30
    labels[at] = label
    pairs.append((frame, labels))
  return Record(name, tuple(pairs))


def read(record):
  return iter(record.frames)


def make(records, **kwargs):
  changes = dict(stride=4, recent=(1, 2), radius=4, fixed_radius=4)
  return segmentation.make(records, read, changes=changes, progress=False, **kwargs)


FLOOR = dense.lab_blocks(cell=4, reach=1)


def test_a_square_is_followed_and_standing_still_is_not_enough(tmp_path):
  evaluator = make([clip("a/b"), clip("c", length=4)])
  report = evaluator.report(FLOOR, folder=tmp_path)
  numbers = report.numbers
  assert numbers["J-Mean"] > 0.75 and numbers["objects"] == 2
  assert numbers["J-Mean"] > evaluator.identity().numbers["J-Mean"] + 0.3
  assert numbers["J&F-Mean"] == pytest.approx((numbers["J-Mean"] + numbers["F-Mean"]) / 2)
  assert set(report.table) == {"a/b_1", "c_1"}
  assert {s.j.shape for s in report.sequences.values()} == {(1, 3), (1, 2)}
  # What was written is what was measured.
  again = metrics.sequence("c", [y for _, y in clip("c", length=4).frames],
                           [np.asarray(Image.open(p)) for p in sorted(tmp_path.glob("c/*.png"))])
  np.testing.assert_array_equal(again.j, report.sequences["c"].j)
  assert [p.name for p in sorted((tmp_path / "a/b").iterdir())] == [
      f"{i:05d}.png" for i in range(5)]


def test_identity_by_hand():
  report = make([clip("a", speed=8)]).identity()
  np.testing.assert_allclose(report.sequences["a"].j, [[8 / 24, 0, 0]])


def test_merged_objects_and_a_number_of_frames():
  records = [clip("a", label=255)]
  got = make(records, merge=True, frames=4).report(FLOOR).sequences["a"]
  assert got.j.shape == (1, 2)
  np.testing.assert_array_equal(got.j, make([clip("a")], frames=4).report(FLOOR).sequences["a"].j)
  with pytest.raises(ValueError, match=r"a: the annotation holds 0 and 255 alone.*merge=True"):
    make(records).report(FLOOR)


def spoilt(i, frame=None, labels=None):
  record = clip("seq")
  frames = list(record.frames)
  frames[i] = (frames[i][0] if frame is None else frame, labels)
  return Record("seq", tuple(frames))


@pytest.mark.parametrize("record, words", [
  (Record("seq"), "seq: no frames"),
  (spoilt(2), "seq: frame 2 has no annotation"),
  (spoilt(2, labels=np.ones((3, 4), np.uint8)), r"seq: frame 2: the annotation is \(3, 4\)"),
  (spoilt(0, labels=np.zeros(SIZE, np.uint8)), "seq: frame 0: .*no object"),
  (spoilt(0, labels=np.full(SIZE, 300)), "seq: frame 0: labels from 300"),
  (spoilt(1, frame=np.zeros((*SIZE, 3)), labels=np.ones(SIZE, np.uint8)),
   "seq: frame 1: float64.*uint8"),
  (clip("seq", length=2), "seq: 2 frame"), (clip("seq", length=1), "seq: 1 frame"),
])
def test_bad_records(record, words):
  with pytest.raises(ValueError, match=words):
    make([record]).report(FLOOR)


@pytest.mark.parametrize("embed, words", [
  (lambda x: {"video": np.ones((1, 4))}, "seq: embed gave .*features"),
  (dense.lab_blocks(cell=8), "seq: frame 0: features have 5 x 6 cells"),
])
def test_embeddings_of_another_form(embed, words):
  with pytest.raises(ValueError, match=words):
    make([clip("seq")]).report(embed)


def test_bad_settings():
  with pytest.raises(ConfigError, match="no sequence"):
    make([])
  with pytest.raises(ConfigError, match="twice"):
    make([clip("a"), clip("a")])
  with pytest.raises(ConfigError, match="'x' is not one of"):
    make([clip("a")], protocol="x")
  with pytest.raises(ConfigError, match="at least 3"):
    make([clip("a")], frames=2)


def test_floor_features_are_colours_around_a_cell():
  image = np.zeros((1, 16, 24, 3), np.uint8)
  image[:, 4:8, 8:12] = 255
  got = dense.lab_blocks(cell=4, reach=1)({"image": image})["features"]
  assert got.shape == (1, 4, 6, 27)
  light = got[0].reshape(4, 6, 9, 3)[..., 0]
  share = 100 / 24
  np.testing.assert_allclose(light[1, 2, 4], 100 - share, atol=1e-2)
  np.testing.assert_allclose(light[2, 3, 0], 100 - share, atol=1e-2)
  assert np.isclose(light, 100 - share, atol=1e-2).sum() == 9


def test_lab_of_known_colours():
  rgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
  want = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
  np.testing.assert_allclose(dense.lab(rgb), want, atol=0.05)


def test_masks_written_are_read_back(tmp_path):
  rng = np.random.default_rng(0)
  label_maps = [rng.integers(0, 256, (7, 9)).astype(np.uint8) for _ in range(3)]
  assert masks.write_masks(tmp_path, "some/seq", iter(label_maps)) == 3
  for i, want in enumerate(label_maps):
    image = Image.open(tmp_path / "some/seq" / f"{i:05d}.png")
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), want)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), masks.palette()[want])
  assert masks.palette()[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]


def test_the_palette_is_that_of_the_data_set():
  from data_pipelines.datasets import davis
  np.testing.assert_array_equal(masks.palette(), davis.palette())


@pytest.mark.parametrize("name, labels, words", [
  ("a", [np.full((2, 2), 256)], "a: frame 0: labels from 256"),
  ("a", [np.zeros((2, 2), int), np.zeros((2, 3), int)], "a: frame 1: .*those before"),
  ("a", [np.zeros((2, 2))], "a: frame 0: .*integers"),
  ("../a", [], "no name"), ("/a", [], "no name"), ("", [], "no name"),
])
def test_masks_that_cannot_be_written(tmp_path, name, labels, words):
  with pytest.raises(ValueError, match=words):
    masks.write_masks(tmp_path, name, labels)
