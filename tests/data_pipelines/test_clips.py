"""Records to examples and batches: what is read, in what order, and what becomes of bad videos."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from data_pipelines import clips, sample
from data_pipelines.errors import DataError, VideoError
from data_pipelines.frames import BadVideos
from data_pipelines.records import Dataset, Record
from tests.data_pipelines.clips import encode, numbered, numbers

N_VIDEOS, N_FRAMES = 7, 24


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  """Videos whose frames show their number; video i has `N_FRAMES` + i of them."""
  folder, records = tmp_path_factory.mktemp("clips"), []
  for i in range(N_VIDEOS):
    path = folder / f"{i}.mp4"
    path.write_bytes(encode(numbered(N_FRAMES + i)))
    records.append(Record(f"v{i}", str(path), label=i % 3))
  return Dataset("made", "train", tuple(records))


def middle(frames, rng):
  """No augmentation, but a random number beside the picture's own."""
  out = frames.copy()
  out[:, 0, 0] = rng.integers(256)
  return out


def reader(n_clips=2, n_frames=4, stride=2):
  choose = functools.partial(sample.clips, n_clips=n_clips, n_frames=n_frames, stride=stride,
                             mode="random")
  return clips.Reader(choose, middle)


def fake(record, rng):
  """Reads nothing; bad records say so."""
  if record.text:
    raise VideoError(record.video, record.text)
  return {"x": rng.integers(1000, size=3), "label": np.int32(record.label)}


def fakes(n=10, bad=()):
  return Dataset("fake", "all", tuple(
      Record(f"r{i}", f"r{i}.mp4", label=i, text="broken" if i in bad else "") for i in range(n)))


def take(count, data, *, seed=0, read=fake, **options):
  options = dict(batch=4) | options
  return list(itertools.islice(
      clips.batches(clips.training(data, read, seed=seed), **options), count))


def assert_same(a, b):
  assert len(a) == len(b)
  for x, y in zip(a, b, strict=True):
    assert x.keys() == y.keys()
    for key in x:
      np.testing.assert_array_equal(x[key], y[key], err_msg=key)


def test_a_reader_returns_the_frames_that_were_chosen_in_their_rows(dataset):
  def choose(times, *, rng, start, end):
    assert len(times) == N_FRAMES
    return np.array([[3, 5, 7], [7, 5, 20], [0, 0, 1]])

  found = clips.Reader(choose, lambda frames, rng: frames)(dataset.records[0],
                                                           np.random.default_rng(0))
  assert found["frames"].dtype == np.uint8
  assert found["frames"].shape[:2] == (3, 3)
  assert [numbers(row) for row in found["frames"]] == [[3, 5, 7], [7, 5, 20], [0, 0, 1]]
  assert found["label"] == 0


def test_rows_are_augmented_each_by_itself(dataset):
  found = reader()(dataset.records[0], np.random.default_rng(0))["frames"]
  marks = found[:, :, 0, 0, 0]
  assert (marks == marks[:, :1]).all()  # one draw a clip
  assert marks[0, 0] != marks[1, 0]


def test_start_and_end_reach_the_sampler(dataset):
  asked = {}

  def choose(times, **given):
    asked.update(given)
    return np.array([0])

  record = Record("part", dataset.records[0].video, start=0.5, end=0.75)
  found = clips.Reader(choose, lambda frames, rng: frames)(record, np.random.default_rng(0))
  assert (asked["start"], asked["end"]) == (0.5, 0.75)
  assert found["frames"].shape[:2] == (1, 1)


def test_any_failure_of_a_video_is_a_video_error(dataset):
  def choose(times, **_):
    raise ZeroDivisionError("sampler")

  with pytest.raises(VideoError, match=r"v0: unexpected ZeroDivisionError: sampler"):
    clips.Reader(choose, middle)(dataset.records[0], np.random.default_rng(0))
  with pytest.raises(VideoError, match="file not found"):
    reader()(Record("gone", "/nowhere/gone.mp4"), np.random.default_rng(0))


def test_every_record_comes_once_an_epoch_in_a_new_order_each():
  rows = [int(i) for b in take(15, fakes()) for i in b["record"]]
  epochs = [rows[10 * e:10 * (e + 1)] for e in range(6)]
  assert all(sorted(e) == list(range(10)) for e in epochs)
  assert len({tuple(e) for e in epochs}) == 6


def test_records_may_come_several_times_an_epoch():
  examples = clips.training(fakes(), fake, seed=0, times=3)
  rows = [int(examples[i]["found"]["record"]) for i in range(60)]
  for epoch in (rows[:30], rows[30:]):
    assert sorted(epoch) == sorted(3 * list(range(10)))
    assert len(set(epoch[:10])) < 10  # not one round after another


def test_batches_from_disk_hold_the_records_labels_and_frames(dataset):
  for batch in take(4, dataset, read=reader(), batch=3):
    assert batch["frames"].shape[:3] == (3, 2, 4)
    for record, label, frames in zip(batch["record"], batch["label"], batch["frames"], strict=True):
      assert label == record % 3
      for clip in frames:
        shown = numbers(clip)
        assert (np.diff(shown) == 2).all()
        assert 0 <= shown[0] <= shown[-1] < N_FRAMES + record


@pytest.mark.parametrize("options", [dict(threads=1), dict(threads=8, buffer=1), dict(threads=0)])
def test_threads_change_nothing(dataset, options):
  assert_same(take(4, dataset, read=reader(), batch=3, **options),
              take(4, dataset, read=reader(), batch=3))


@pytest.mark.slow
def test_worker_processes_change_nothing(dataset):
  whole = take(6, fakes(bad=(2,)), seed=5)
  for workers in (1, 2):
    notes = BadVideos(lambda line: None)
    assert_same(take(6, fakes(bad=(2,)), seed=5, workers=workers, bad=notes, threads=1), whole)
    assert notes.reasons == {"r2": "broken"}
  assert_same(take(3, fakes(bad=(2,)), seed=5, workers=2, first_step=3, threads=1), whole[3:])


@pytest.mark.parametrize("count", [2, 4])
def test_the_global_batch_is_the_same_for_any_number_of_processes(count):
  data = fakes(bad=(1, 7))
  parts = [take(5, data, process=(p, count), threads=1 + p) for p in range(count)]
  for step, whole in enumerate(take(5, data)):
    for key, value in whole.items():
      np.testing.assert_array_equal(np.concatenate([p[step][key] for p in parts]), value)


def test_starting_later_continues_exactly(dataset):
  whole = take(6, dataset, read=reader(), batch=3)
  assert_same(take(2, dataset, read=reader(), batch=3, first_step=4, threads=3), whole[4:])


def test_in_place_of_a_bad_record_another_is_drawn_and_the_bad_one_is_named_once():
  lines, data = [], fakes(bad=(2, 5))
  notes = BadVideos(lines.append)
  rows = [int(i) for b in take(25, data, bad=notes) for i in b["record"]]
  assert not {2, 5} & set(rows)
  assert len(rows) == 100
  untouched = [int(i) for b in take(25, fakes()) for i in b["record"]]
  assert all(a == b for a, b in zip(rows, untouched, strict=True) if b not in (2, 5))
  assert sorted(lines) == ["can't use r2: broken", "can't use r5: broken"]


def test_too_many_bad_records_stop_the_run():
  with pytest.raises(DataError, match=r"2 of 10 videos \(20.0%\) can't be used"):
    take(50, fakes(bad=(2, 5)), max_bad_fraction=0.1, n_records=10)
  take(50, fakes(bad=(2, 5)), max_bad_fraction=0.2, n_records=10)
  with pytest.raises(DataError, match=r"fake all: 100 records in a row can't be read, first:\n"):
    take(1, fakes(bad=range(10)))
  with pytest.raises(DataError, match="made train: no records"):
    clips.training(Dataset("made", "train", ()), fake, seed=0)


def test_in_order_reads_every_record_once_and_tells_of_bad_ones(dataset):
  data = fakes(bad=(3,))
  found = list(clips.in_order(data, fake))
  assert [f["index"] for f in found] == list(range(10))
  assert [f["id"] for f in found] == [r.id for r in data.records]
  assert [f["ok"] for f in found] == [i != 3 for i in range(10)]
  assert found[3]["reason"] == "broken"
  assert found[3]["found"] is None
  again = list(clips.in_order(data, fake, threads=0))
  for a, b in zip(found, again, strict=True):
    assert a["ok"] is False or (a["found"]["x"] == b["found"]["x"]).all()
  shares = [list(clips.in_order(data, fake, part=(p, 3))) for p in range(3)]
  assert sorted(f["index"] for s in shares for f in s) == list(range(10))
  for one in itertools.chain(*shares):
    if one["ok"]:
      np.testing.assert_array_equal(one["found"]["x"], found[one["index"]]["found"]["x"])


def test_what_is_kept_is_what_is_decoded(dataset, monkeypatch):
  def take_all(kept):
    read = dataclasses.replace(reader(), kept=kept)
    return [read(r, np.random.default_rng([i, k]))["frames"] for k in range(2)
            for i, r in enumerate(dataset.records)]

  plain, kept = take_all(None), clips.Kept(2**30)
  np.testing.assert_array_equal(take_all(kept), plain)
  assert kept.room < 2**30
  with monkeypatch.context() as patch:  # nothing is opened again
    patch.setattr(clips, "open_media", None)
    np.testing.assert_array_equal(take_all(kept), plain)
  for room, longest in ((1, clips.WHOLE), (2**30, 1)):
    little = clips.Kept(room)
    monkeypatch.setattr(clips, "WHOLE", longest)
    np.testing.assert_array_equal(take_all(little), plain)
    assert little.room == room
