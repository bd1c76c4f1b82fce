"""The pipeline for feature extraction: order, edits, parts of videos, bad videos."""

import threading

import numpy as np
import pytest
from PIL import Image

from data_pipelines import edits, frames
from data_pipelines.decode import open_video
from data_pipelines.errors import DataError
from data_pipelines.frames import BadVideos, frame_sequences
from data_pipelines.records import Record
from tests.data_pipelines.clips import encode, numbered, numbers, sound_only

SIZE = {"short_side": 48, "crop": 48}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Videos of 5 frames a second, 64 x 48 pixels, their frames numbered from 0, and bad ones."""
  place = tmp_path_factory.mktemp("clips")
  for name, n in (("long", 31), ("short", 6), ("one", 1)):
    (place / f"{name}.mp4").write_bytes(encode(numbered(n), fps=5, options={"g": "8"}))
  (place / "old.avi").write_bytes(encode(numbered(12), "avi", "mpeg4", fps=5))
  (place / "page.mp4").write_text("<html>Not found</html>")
  (place / "sound.mp4").write_bytes(sound_only())
  return place


def records(folder, *names, **kwargs) -> list[Record]:
  return [Record(name, str(folder / name), **kwargs) for name in names]


def shown(item) -> list[int]:
  """The numbers of the frames of an item of 64 x 48 videos cropped to their middle 48 x 48."""
  padded = np.pad(item["frames"], ((0, 0), (0, 0), (8, 8), (0, 0)))
  return [n >> 1 & 63 for n in numbers(padded)]  # bits 0 and 7 are cropped away


def test_order_and_content(folder):
  names = ["short.mp4", "page.mp4", "long.mp4", "one.mp4", "gone.mp4", "old.avi", "sound.mp4"]
  for threads in (0, 1, 3):
    got = list(frame_sequences(records(folder, *names), **SIZE, threads=threads, buffer=2))
    assert [item["id"] for item in got] == names
    assert [item["index"] for item in got] == list(range(7))
    assert [item["ok"] for item in got] == [True, False, True, True, False, True, False]
    assert [item["reason"] for item in got] == [
        "", "not a video (a web page)", "", "", "file not found", "", "no video stream"]
    assert shown(got[0]) == [0, 5 >> 1]
    assert shown(got[2]) == [n >> 1 for n in range(0, 31, 5)]
    assert shown(got[3]) == [0]
    assert shown(got[5]) == [0, 5 >> 1, 10 >> 1]
    for item in got:
      assert item["frames"].dtype == np.uint8 and item["frames"].shape[1:] == (48, 48, 3)
      assert item["ok"] == (len(item["frames"]) > 0)


@pytest.mark.parametrize(("kwargs", "want"), [
    ({}, [0, 5, 10, 15, 20, 25, 30]),
    ({"fps": 0.5}, [0, 10, 20, 30]),
    ({"fps": 2.5}, list(range(0, 31, 2))),
    ({"max_frames": 3}, [0, 10, 20]),
    ({"max_frames": 1}, [0]),
    ({"max_frames": 99}, [0, 5, 10, 15, 20, 25, 30]),
    ({"parity": True}, [0, 4, 9, 14, 19, 24, 29, 29]),
    ({"start": 2.0, "end": 4.4}, [10, 15, 20]),
    ({"start": 5.1}, [25]),  # the last frame comes at 6 s
    ({"start": 5.0}, [25, 30]),
    ({"end": 0.0}, [0]),
    ({"start": 2.0, "end": 4.4, "parity": True}, [10, 14, 19, 19]),
])
def test_which_frames(folder, kwargs, want):
  part = {k: kwargs.pop(k) for k in ("start", "end") if k in kwargs}
  item, = frame_sequences(records(folder, "long.mp4", **part), **SIZE, **kwargs)
  assert item["reason"] == ""
  with open_video(folder / "long.mp4") as video:
    whole = video.frames(range(31), crop=48)
  assert np.array_equal(item["frames"], whole[want])


@pytest.mark.parametrize("part", [{"start": 6.5}, {"start": 4.0, "end": 3.0}, {"end": -1.0}])
def test_part_that_is_not_there(folder, part):
  item, = frame_sequences(records(folder, "long.mp4", **part), **SIZE)
  assert not item["ok"] and "the video lasts 6.20 s" in item["reason"]


def test_resize_then_middle(folder):
  item, = frame_sequences(records(folder, "long.mp4"), short_side=24, crop=15)
  with open_video(folder / "long.mp4") as video:
    whole = video.frames([10])[0]
  small = np.asarray(Image.fromarray(whole).resize((32, 24), Image.Resampling.BICUBIC))
  want = small[4:19, 8:23]  # floor((24 - 15) / 2), floor((32 - 15) / 2)
  assert item["frames"].shape == (7, 15, 15, 3)
  assert np.abs(item["frames"][2].astype(int) - want).mean() < 5
  shifted = small[5:20, 9:24]
  assert np.abs(item["frames"][2].astype(int) - shifted).mean() > 10


def test_edits(folder):
  """Edited copies are the edit of what the original gives, brought back to size."""
  plain = Record("a", str(folder / "long.mp4"))
  copies = [Record(f"a#{s}", plain.video, edit_seed=s) for s in range(6)]
  first = list(frame_sequences([plain, *copies], **SIZE))
  again = list(frame_sequences([plain, *copies], **SIZE, threads=0))
  assert all(np.array_equal(a["frames"], b["frames"]) for a, b in zip(first, again, strict=True))
  assert all(item["ok"] and item["frames"].shape[1:] == (48, 48, 3) for item in first)
  with open_video(plain.video) as video:
    whole = video.frames(range(0, 31, 5), 48, interpolation="bicubic")
  for copy, item in zip(copies, first[1:], strict=True):
    edited = edits.random_edit(whole, copy.edit_seed)
    assert len(item["frames"]) == len(edited)
    scale = 48 / min(edited.shape[1:3])
    size = [max(48, round(side * scale)) for side in edited.shape[1:3]]
    y, x = (size[0] - 48) // 2, (size[1] - 48) // 2
    for got, image in zip(item["frames"], edited, strict=True):
      small = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
      assert np.abs(got.astype(int) - small[y:y + 48, x:x + 48]).mean() < 4
  different = [len(c["frames"]) != 7 or not np.array_equal(c["frames"], first[0]["frames"])
               for c in first[1:]]
  assert all(different)


def test_any_error_is_an_item(folder, monkeypatch):
  def fail(images, seed):
    raise ZeroDivisionError("edit broke")

  monkeypatch.setattr(edits, "random_edit", fail)
  videos = [*records(folder, "long.mp4"), *records(folder, "short.mp4", edit_seed=3)]
  good, bad = frame_sequences(videos, **SIZE)
  assert good["ok"]
  assert bad["reason"] == "unexpected ZeroDivisionError: edit broke"


def test_threads_end_with_the_iterator(folder):
  def workers():
    return [t for t in threading.enumerate() if t.name.startswith("grain-prefetch")]

  before = set(workers())
  items = frame_sequences(records(folder, *["long.mp4"] * 20), **SIZE)
  assert next(items)["index"] == 0
  started = set(workers()) - before
  assert started
  items.close()
  for thread in started:
    thread.join(10)
  assert not any(t.is_alive() for t in started)


def test_no_more_than_the_buffer_is_read_ahead(folder, monkeypatch):
  read, lock = [], threading.Lock()

  def count(video, *args):
    with lock:
      read.append(video.id)
    return np.zeros((1, 48, 48, 3), np.uint8)

  monkeypatch.setattr(frames, "read_frames", count)
  videos = [Record(str(i), "") for i in range(50)]
  items = frame_sequences(videos, **SIZE, threads=2, buffer=3)
  for i in range(10):
    assert next(items)["id"] == str(i)
    assert len(read) <= i + 1 + 3
  items.close()


def test_nothing_to_read():
  assert list(frame_sequences([], **SIZE)) == []


@pytest.mark.parametrize("bad", [{"crop": 49}, {"crop": 0}, {"fps": 0.0}, {"max_frames": 0}])
def test_settings_that_make_no_sense(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    frame_sequences([], **{**SIZE, **bad})


def item(name, reason=""):
  return {"id": name, "ok": not reason, "reason": reason}


def test_bad_videos_are_reported_once():
  lines = []
  bad = BadVideos(lines.append)
  results = [bad.add(i) for i in (item("a"), item("b", "empty file"), item("b", "empty file"),
                                  item("c", "no moov"), item("a"), item("d"))]
  assert results == [True, False, False, False, True, True]
  assert lines == ["can't use b: empty file", "can't use c: no moov"]
  assert (len(bad), bad.n_videos) == (2, 4)
  assert bad.reasons == {"b": "empty file", "c": "no moov"}


def test_too_many_bad_videos():
  bad = BadVideos(lambda line: None)
  bad.check(0.0)
  for k in range(7):
    bad.add(item(f"bad{k}", f"reason {k}"))
  for k in range(13):
    bad.add(item(f"good{k}"))
  bad.check(0.35)  # 7 of 20 is no more than that
  bad.check(0.07, n_videos=100)
  bad.check(1.0)
  with pytest.raises(DataError) as caught:
    bad.check(0.3)
  message = str(caught.value)
  assert "7 of 20 videos (35.0%)" in message and "data.max_bad_fraction=0.3" in message
  assert "bad0: reason 0" in message and "bad4: reason 4" in message and "bad5" not in message
  assert "and 2 more" in message
  with pytest.raises(DataError, match=r"7 of 100 videos"):
    bad.check(0.05, n_videos=100)
  first = BadVideos(lambda line: None)
  first.add(item("x", "why"))
  with pytest.raises(DataError, match=r"1 of 1 videos \(100\.0%\).*\n  x: why\nMend"):
    first.check(0.0)


def test_bad_videos_are_logged_by_default(caplog):
  BadVideos().add(item("a.mp4", "empty file"))
  assert [r.getMessage() for r in caplog.records] == ["can't use a.mp4: empty file"]
