"""From frames to J and F: the readings of labels, the baseline, the files, bad input."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.evaluators.stopping import Stopping
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


def test_an_interrupted_evaluation_goes_on(tmp_path):
  evaluator, kept = make([clip("a/b"), clip("c", length=4)]), {}
  with pytest.raises(KeyboardInterrupt):
    evaluator.report(Stopping(FLOOR, 7), tmp_path, kept)
  assert list(kept) == ["a/b"]
  report = evaluator.report(Stopping(FLOOR, 5), tmp_path, kept)  # asks for the frames of c alone
  want = evaluator.report(FLOOR)
  assert report.numbers == want.numbers and list(report.sequences) == ["a/b", "c"]
  assert list(kept) == ["a/b", "c"] and len(list(tmp_path.glob("**/*.png"))) == 9


def test_identity_by_hand():
  report = make([clip("a", speed=8)]).identity()
  np.testing.assert_allclose(report.sequences["a"].j, [[8 / 24, 0, 0]])


def test_merged_objects_and_a_number_of_frames():
  records = [clip("a", label=255)]
  got = make(records, merge=True, frames=4).report(FLOOR).sequences["a"]
  assert got.j.shape == (1, 2)
  np.testing.assert_array_equal(got.j, make([clip("a")], frames=4).report(FLOOR).sequences["a"].j)
  with pytest.raises(ValueError, match=r"a: frame 0: .* holds 0 and 255 alone.*merge=True"):
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
  (spoilt(3, labels=np.full(SIZE, 300)), "seq: frame 3: labels from 300 to 300; number"),
  (spoilt(3, labels=np.full(SIZE, -1)), "seq: frame 3: labels from -1"),
  (spoilt(1, labels=np.ones(SIZE)), "seq: frame 1: the annotation is float64"),
  (spoilt(2, frame=np.zeros((20, 30, 3), np.uint8), labels=np.ones((20, 30), np.uint8)),
   "seq: frame 2 is 20 x 30 pixels, the first 37 x 50; resize"),
  (clip("seq", length=2), "seq: 2 frame"), (clip("seq", length=1), "seq: 1 frame"),
])
def test_bad_records(record, words):
  with pytest.raises(ValueError, match=words):
    make([record]).report(FLOOR)


def relabelled(changes, **kwargs):
  """`clip("seq")` with label maps changed: frame -> what changes the array."""
  record = clip("seq", **kwargs)
  for i, (_, labels) in enumerate(record.frames):
    if i in changes:
      changes[i](labels)
  return record


def paint(label, at=np.s_[28:36, 40:48]):
  def change(labels):
    labels[at] = label
  return change


def test_labels_of_16_bits(tmp_path):
  deep = np.zeros(SIZE, np.uint16)
  deep[8:24, :16] = 300
  Image.fromarray(deep).save(tmp_path / "a.png")
  labels = np.asarray(Image.open(tmp_path / "a.png"))
  record = Record("seq", tuple((frame, labels) for frame, _ in clip("a").frames))
  with pytest.raises(ValueError, match=r"seq: frame 0: labels from 0 to 300.*merge=True"):
    make([record]).identity()
  np.testing.assert_array_equal(make([record], merge=True).identity().sequences["seq"].j, 1)


def test_an_object_that_leaves_and_comes_back():
  here, gone = clip("a", length=2, speed=SIZE[1]).frames
  record = Record("seq", (here, here, gone, gone) * 2)
  evaluator = make([record])
  assert evaluator.identity().sequences["seq"].j.tolist() == [[1, 0, 0, 1, 1, 0]]

  def colours(x):  # not less the frame's, which the square changes
    _, h, w, _ = x["image"].shape
    return {"features": x["image"].reshape(1, h // 4, 4, w // 4, 4, 3).mean((2, 4)) - 100}

  got = evaluator.report(colours).sequences["seq"].j[0]
  assert (got[[1, 2, 5]] == 1).all()  # nothing is there and nothing is predicted
  assert (got[[0, 3, 4]] > 0.75).all()


def test_an_object_that_appears_later_is_background():
  plain = make([clip("seq")]).identity().sequences["seq"]
  late = make([relabelled({2: paint(2), 3: paint(9)})]).identity().sequences["seq"]
  np.testing.assert_array_equal(late.j, plain.j)


def test_labels_with_gaps_count_as_in_the_official_tool():
  record = relabelled({t: paint(5) for t in range(5)}, speed=0)
  evaluator = make([record])
  with pytest.warns(UserWarning, match=r"seq: frame 0: .*\[2, 3, 4\] are absent.*1 \.\.\. K"):
    report = evaluator.identity()
  np.testing.assert_array_equal(report.sequences["seq"].j, np.ones((5, 3)))
  assert set(report.table) == {f"seq_{k}" for k in range(1, 6)}
  with pytest.warns(UserWarning, match="absent"):
    predicted = [p for _, _, p in evaluator.predictions(record, FLOOR)]
  assert set(np.unique(predicted)) == {0, 1, 5}
  late = relabelled({0: paint(0, np.s_[:]), 2: paint(0, np.s_[:])}, speed=0)
  paint(2)(late.frames[0][1])
  with pytest.warns(UserWarning, match=r"\[1\] are absent"):
    got = make([late]).identity().sequences["seq"].j
  assert got.tolist() == [[0, 1, 0], [0, 0, 0]]


def test_void_is_background():
  record = relabelled({0: paint(255), 2: paint(255, np.s_[:])}, speed=0)
  evaluator = make([record])
  got = [p for _, _, p in evaluator.predictions(record, FLOOR)]
  assert set(np.unique(got)) == {0, 1}
  assert evaluator.identity().sequences["seq"].j.tolist() == [[1, 0, 1]]


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
  plain = dense.lab_blocks(cell=4, reach=1, centre=False)({"image": image})["features"]
  np.testing.assert_allclose(plain[..., ::3] - share, got[..., ::3], atol=1e-2)


def test_lab_of_known_colours():
  rgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
  want = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
  np.testing.assert_allclose(dense.lab(rgb), want, atol=0.05)


def test_masks_are_called_as_the_annotations_are(tmp_path):
  """The official tool looks for predictions by the names of the annotations."""
  @dataclasses.dataclass(frozen=True)
  class Listed(Record):
    masks: tuple = ()

  plain = clip("c", length=4)
  files = [f"Annotations/c/{5 + 2 * t:05d}.png" for t in range(4)]
  for masks_, want in [(files, ["00005", "00007", "00009", "00011"]),
                       ([b"bytes"] * 4, ["00000", "00001", "00002", "00003"])]:
    listed = Listed(plain.id, plain.frames, tuple(masks_))
    make([listed]).report(FLOOR, folder=tmp_path / want[0])
    assert [p.stem for p in sorted((tmp_path / want[0] / "c").iterdir())] == want


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


def test_cosine_features_of_any_protocol():
  x = np.random.default_rng(0).normal(size=(1, 2, 3, 5)).astype(np.float32)
  x[0, 0, 0] = 0
  got = dense.cosine(lambda inputs: {"features": x}, temperature=0.25)({})["features"][0]
  unit = x[0] / np.maximum(np.linalg.norm(x[0], axis=-1, keepdims=True), 1e-9)
  np.testing.assert_allclose(got @ got[1, 2], unit @ unit[1, 2] / 0.25, atol=1e-5)
  assert not got[0, 0].any()
