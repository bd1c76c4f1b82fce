"""What is found out about one video, and about many whose decoders crash or hang."""

import ctypes
import io
import time

import av
import pytest
from PIL import Image

from data_pipelines import inspection
from data_pipelines.records import Record
from tests.data_pipelines.clips import encode, numbered, zeroed

WHOLE = encode(numbered(30), options={"g": "10"}, mux={"movflags": "faststart"})
MJPEG = {c: encode(numbered(12), c, "mjpeg", "yuvj420p") for c in ("mov", "avi")}


def test_facts_of_a_good_video():
  turned = encode(numbered(24, 48, 64), fps=12, rotation=90)
  assert inspection.inspect(Record("a", turned), full=True) == {
      "ok": True, "reason": "", "warning": "", "n_frames": 24, "damaged_frames": 0, "seconds": 2.0,
      "fps": 12.0, "height": 64, "width": 48, "rotation": 90, "codec": "h264", "seekable": True}
  facts = inspection.inspect(Record("a", MJPEG["avi"]))
  assert "damaged_frames" not in facts
  assert (facts["codec"], facts["seekable"], facts["warning"]) == ("mjpeg", False, "")


@pytest.mark.parametrize("data, quick, full", [
    (zeroed(MJPEG["mov"], [4, 5, 9]), "", "3 of 12 frames are damaged"),
    (zeroed(MJPEG["mov"], [6]), "damaged: seeking fails, so frames are decoded from the start",
     "1 of 12 frames are damaged"),
    (zeroed(MJPEG["avi"], [4, 5, 9]), "3 of the 12 frames that its header states are not there",
     ""),
])
def test_damage_is_told(data, quick, full):
  for whole, told in ((False, quick), (True, "; ".join(filter(None, (quick, full))))):
    facts = inspection.inspect(Record("a", data), full=whole)
    assert (facts["ok"], facts["warning"]) == (True, told)


def test_cut_off_matroska():
  facts = inspection.inspect(Record("a", encode(numbered(75), "matroska")[:6000]), full=True)
  assert facts["ok"]
  assert 3 < facts["n_frames"] < 50
  assert facts["warning"] == f"cut off: lasts {facts['n_frames'] / 25:.1f} s, its header says 3.0 s"


def test_cut_off_mp4():
  facts = inspection.inspect(Record("a", WHOLE[:len(WHOLE) * 2 // 3]), full=True)
  assert facts["ok"]
  assert 10 < facts["n_frames"] < 30
  assert f"{30 - facts['n_frames']} of the 30 frames that its header states" in facts["warning"]


def test_frames_that_the_decoder_mends_are_counted():
  data = encode(numbered(12, 96, 128), options={"bf": "0", "crf": "10"})
  with av.open(io.BytesIO(data)) as file:
    packets = [bytes(p) for p in file.demux(video=0) if p.size]
  counts = []
  for packet in packets[1:]:
    half = len(packet) // 2
    bad = data.replace(packet, packet[:half] + bytes(len(packet) - half))
    with av.open(io.BytesIO(bad)) as file:
      counts.append(sum(frame.is_corrupt for frame in file.decode(video=0)))
    assert inspection.inspect(Record("a", bad), full=True)["damaged_frames"] == counts[-1]
  assert 1 in counts


@pytest.mark.parametrize("start, end, ok", [
    (None, None, True), (0.5, 1.0, True), (1.1, None, True), (None, 9.0, True), (0.0, 0.0, True),
    (1.3, None, False), (0.9, 0.4, False)])
def test_the_part_that_a_record_uses(start, end, ok):
  facts = inspection.inspect(Record("a", WHOLE, start=start, end=end))
  assert facts["ok"] == ok
  assert facts["n_frames"] == 30
  assert ok or facts["reason"] == (
      f"nothing between start={start} s and end={end} s: it lasts 1.20 s")


def pictures(folder, sizes, mask_size=(48, 64)):
  """JPEGs of these (height, width), each with a mask."""
  for i, (height, width) in enumerate(sizes):
    Image.new("RGB", (width, height), "red").save(folder / f"{i}.jpg")
    Image.new("P", mask_size[::-1]).save(folder / f"{i}.png")
  return Record("a", frames=tuple(str(folder / f"{i}.jpg") for i in range(len(sizes))), fps=5.0,
                masks=tuple(str(folder / f"{i}.png") for i in range(len(sizes))))


def test_pictures(tmp_path):
  record = pictures(tmp_path, [(48, 64)] * 5)
  good = {"ok": True, "reason": "", "warning": "", "n_frames": 5, "seconds": 1.0, "fps": 5.0,
          "height": 48, "width": 64, "rotation": 0}
  assert inspection.inspect(record) == good | {"damaged_frames": None}
  assert inspection.inspect(record, full=True) == good | {"damaged_frames": 0}
  (tmp_path / "1.jpg").write_bytes(b"<html>")
  assert inspection.inspect(record)["ok"]
  found = inspection.inspect(record, full=True)
  assert (found["ok"], found["reason"], found["n_frames"]) == (False, "1.jpg: not a picture", 5)
  (tmp_path / "4.png").write_bytes(b"")
  found = inspection.inspect(record)
  assert not found["ok"]
  assert "4.png: can't read this label map" in found["reason"]
  (tmp_path / "0.jpg").unlink()
  assert inspection.inspect(record)["reason"] == "0.jpg: file not found"


def test_sizes_of_pictures_and_masks(tmp_path):
  record = pictures(tmp_path, [(48, 64), (50, 60), (48, 64)])
  assert inspection.inspect(record)["reason"] == (
      "0.jpg: picture 1 has 60x50 pixels, its mask 64x48")
  plain = Record("a", frames=record.frames)
  assert inspection.inspect(plain)["warning"] == "pictures of several sizes"


def test_shards_that_are_not_there(tmp_path):
  address = f"{tmp_path}/a-all.array_record-00000-of-00001#3"
  found = inspection.inspect(Record("a", address))
  assert not found["ok"]
  assert address.partition("#")[0] in found["reason"]
  assert inspection._known(Record("a", address))["path"] == address


def accident(record):
  """In place of `inspect`: some names are fatal."""
  if record.id == "crash":
    ctypes.string_at(0)
  if record.id == "hang":
    time.sleep(100)
  return {"ok": True, "reason": "", "warning": "", "n_frames": 7}


def test_crashes_and_hangs_are_rows_like_others(tmp_path, monkeypatch):
  monkeypatch.setattr(inspection, "inspect", accident)
  (tmp_path / "a.mp4").write_bytes(b"12345")
  records = [Record(i, str(tmp_path / "a.mp4")) for i in ("a", "hang", "b", "crash", "c")]
  rows = dict(inspection.inspect_all(records, workers=2, time_limit=1))
  assert [(rows[i]["id"], rows[i]["ok"], rows[i]["reason"], rows[i].get("n_frames"))
          for i in range(5)] == [
      ("a", True, "", 7), ("hang", False, "took longer than 1 s", None), ("b", True, "", 7),
      ("crash", False, "the decoder crashed (signal 11, SIGSEGV)", None), ("c", True, "", 7)]
  assert {(row["path"], row["bytes"]) for row in rows.values()} == {(str(tmp_path / "a.mp4"), 5)}
  assert 1 <= rows[1]["seconds_taken"] < 2
  assert all(set(row) <= set(inspection.SCHEMA.names) for row in rows.values())


@pytest.mark.parametrize("record, path, size", [
    (Record("a", "no/such.mp4"), "no/such.mp4", None),
    (Record("a", b"1234"), "a", 4),
    (Record("a", frames=(b"12", b"345")), "a", 5),
    (Record("a", frames=("no/b/1.jpg", "no/b/2.jpg")), "no/b", None),
    (Record("a", "\udce9.mp4"), r"\xe9.mp4", None)])
def test_what_a_row_says_of_a_file_that_was_not_opened(record, path, size):
  assert inspection._known(record) == {"path": path, "id": "a", "bytes": size}
