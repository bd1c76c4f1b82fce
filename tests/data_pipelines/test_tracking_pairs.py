"""Which pictures of a sequence a tracker is trained with."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines import clips, sample, tracking_pairs
from data_pipelines.errors import VideoError
from data_pipelines.frames import BadVideos
from data_pipelines.records import Dataset, Record

IMAGE = (480, 640)  # height, width


@pytest.mark.parametrize("width, height, kept", [
  (100, 100, True), (20, 20, True), (19.9, 30, False), (30, 19.9, False),  # sides from 20
  (320, 240, True), (320.1, 200, False), (200, 240.1, False),  # half of the picture
  (20, 80, True), (20, 80.1, False), (80, 20, True), (80.1, 20, False),  # one to four
  (np.nan, np.nan, False), (0, 0, False), (50, 0, False)])
def test_limits_of_boxes(width, height, kept):
  boxes = np.array([[5, 5, 60, 60], [1, 1, width, height]])
  assert tracking_pairs.usable(boxes, IMAGE).tolist() == [0, 1][:1 + kept]


def test_limits_that_large_pictures_show():
  boxes = np.array([[0, 0, 500, 500], [0, 0, 501, 400], [0, 0, 25, 25], [0, 0, 25, 24]])
  assert tracking_pairs.usable(boxes, (2500, 2000)).tolist() == [0, 2]  # 1 % of 2500 is 25


@pytest.mark.parametrize("cover, kept", [
  ([8, 7, 3, 2, 1, 0], [0, 1, 2]),  # more than 2.4
  ([3, 2, 1, 0, 2, 1], [0, 1, 4]),  # more than 1
  ([1, 1, 1, 0, 1, 1], [])])
def test_hidden_objects(cover, kept):
  boxes = np.tile([10.0, 10, 50, 60], (6, 1))
  assert tracking_pairs.usable(boxes, IMAGE, np.array(cover)).tolist() == kept


def test_empty_sequence():
  assert tracking_pairs.usable(np.zeros((0, 4)), IMAGE, np.zeros(0)).tolist() == []


def test_pairs_are_drawn_among_them():
  rng, times = np.random.default_rng(0), np.arange(900) / 30

  def draw(frames):
    return tuple(sample.pair(times, (1, 99), among=np.array(frames), rng=rng).tolist())

  assert {draw([3, 50, 120, 400, 410]) for _ in range(300)} == {(3, 50), (50, 120), (400, 410)}
  assert draw([7, 800]) == (7, 800)
  assert {draw([0, 100, 200]) for _ in range(60)} == {(0, 0), (100, 100), (200, 200)}


def sequence(n=6, box=(30, 20, 24, 24), **truth):
  """PNGs of a target that jumps to the right."""
  boxes = np.array([(box[0] + 8 * t, *box[1:]) for t in range(n)], np.float32)
  files = []
  for x, y, w, h in boxes.astype(int):
    image = np.full((80, 120, 3), 30, np.uint8)
    image[y:y + h, x:x + w] = (250, 20, 20)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    files.append(file.getvalue())
  return Record("s", frames=tuple(files), fps=10.0, truth={"boxes": boxes} | truth)


def test_pairs_of_crops():
  read = tracking_pairs.Pairs()
  for seed in range(3):
    pair = read(sequence(), np.random.default_rng(seed))
    for name, side in (("exemplar", 120), ("search", 239)):
      crop = pair[name]
      assert crop.dtype == np.uint8 and crop.shape == (side, side, 3)
      middle, far = crop[side // 2, side // 2], crop[side // 2, side // 2 + 50]
      assert middle[0] > 200 and middle[1] < 60 and far[0] < 60
  again = read(sequence(), np.random.default_rng(2))
  np.testing.assert_array_equal(again["search"], pair["search"])
  assert tracking_pairs.Pairs(exemplar=127)(sequence(), np.random.default_rng(0))[
    "exemplar"].shape == (127, 127, 3)


def test_jittered_pairs_say_where_the_target_is():
  far = []
  for seed in range(6):
    pair = tracking_pairs.Pairs(shift=0.2, zoom=0.05)(sequence(), np.random.default_rng(seed))
    red = (pair["search"][..., 0] > 150) & (pair["search"][..., 1] < 80)
    y, x = np.nonzero(red)
    found = np.array([(v.min() + v.max()) / 2 - 119 for v in (y, x)])
    # The crop's own shift is up to 4, and a pixel of the picture 2.5.
    np.testing.assert_allclose(found, pair["offset"], atol=7)
    far.append(np.abs(found).max())
    middle = pair["exemplar"][60, 60]
    assert middle[0] > 200 and middle[1] < 60
  assert max(far) > 12
  plain = tracking_pairs.Pairs()(sequence(), np.random.default_rng(0))
  assert set(plain) == {"exemplar", "search"}


def test_boxes_are_of_the_part():
  whole = sequence()
  part = dataclasses.replace(whole, start=0.2, end=0.5,
                             truth={"boxes": whole.truth["boxes"][2:5]})
  for seed in range(3):
    pair = tracking_pairs.Pairs()(part, np.random.default_rng(seed))
    assert pair["search"][119, 119, 0] > 200 and pair["exemplar"][60, 60, 0] > 200
  with pytest.raises(VideoError, match="3 boxes for 6 picture"):
    tracking_pairs.Pairs()(dataclasses.replace(part, start=None, end=None),
                           np.random.default_rng(0))


def test_only_usable_pictures_are_shown():
  """All but two are hidden: those come, whatever is drawn."""
  cover = np.array([8, 0, 0, 8, 0, 0])
  record = sequence(cover=cover)
  damaged = tuple(f if c else b"" for f, c in zip(record.frames, cover, strict=True))
  record = dataclasses.replace(record, frames=damaged)
  for seed in range(3):
    tracking_pairs.Pairs()(record, np.random.default_rng(seed))
  with pytest.raises(VideoError, match=r"1 usable picture.s. of 6"):
    tracking_pairs.Pairs()(sequence(cover=np.array([8, 0, 0, 0, 0, 0])), np.random.default_rng(0))
  with pytest.raises(VideoError, match="no boxes"):
    tracking_pairs.Pairs()(Record("x", frames=(b"",)), np.random.default_rng(0))


def test_batches_of_pairs():
  data = Dataset("made", "train", [sequence(), sequence(cover=np.zeros(6))])
  bad = BadVideos()
  examples = clips.training(data, tracking_pairs.Pairs(), seed=0)
  batches = clips.batches(examples, batch=3, bad=bad, threads=1, buffer=1)
  batch = next(batches)
  batches.close()
  assert batch["exemplar"].shape == (3, 120, 120, 3) and batch["search"].shape == (3, 239, 239, 3)
  assert set(batch["record"].tolist()) == {0}  # the other one has no usable picture
