"""The benchmark of decoders tells right frames from wrong ones and compares on the same files."""

import re

import pytest

from benchmarks import decode
from tests.data_pipelines.clips import encode, numbered


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "a.mp4").write_bytes(encode(numbered(40), options={"g": "12"}))
  (tmp_path / "b.avi").write_bytes(encode(numbered(60), "avi", "mpeg4"))
  (tmp_path / "short.mkv").write_bytes(encode(numbered(5), "matroska"))
  (tmp_path / "turned.mp4").write_bytes(encode(numbered(30), rotation=90))
  (tmp_path / "notes.txt").write_text("no video")
  return tmp_path


def late(task, indices):
  return decode.ours(task, [min(i + 1, task.n_frames - 1) for i in indices])


def brighter(task, indices):
  return decode.ours(task, indices) | 1


def broken(task, indices):
  raise RuntimeError


def test_wrong_readers_are_told(folder, monkeypatch, capsys):
  monkeypatch.setattr(decode, "READ", {
      "ours": decode.ours, "PyAV scan": decode.pyav_scan, "late": late, "brighter": brighter,
      "broken": broken})
  monkeypatch.setattr(decode, "NEEDS", dict.fromkeys(decode.READ, "av"))
  decode.main([str(folder), "--repetitions=2"])
  text = capsys.readouterr().out
  assert "4 videos" in text
  counts = {m[1]: m[2].split() for m in re.finditer(r"^(\S.*?)((?: +\d+){4})$", text, re.M)}
  assert counts == {"ours": ["4", "0", "0", "0"], "PyAV scan": ["4", "0", "0", "0"],
                    "late": ["0", "0", "4", "0"], "brighter": ["0", "4", "0", "0"],
                    "broken": ["0", "0", "0", "4"]}
  speed = text[text.index("Speed on the 4 files"):]
  assert speed.count("decode only") == 4 and "late" not in speed and "broken" not in speed
  assert len(re.findall(r"against the fastest exact reader of each of 4 files", speed)) == 2
