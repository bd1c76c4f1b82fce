"""The command that finds bad videos: its table, its files, its exit status."""

import csv
import os
import subprocess
import sys

import pytest
from pyarrow import parquet

from data_pipelines import check, inspection, source
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record
from tests.conftest import ROOT
from tests.data_pipelines.clips import encode, numbered, zeroed

GOOD = encode(numbered(20))


@pytest.fixture
def videos(tmp_path):
  root = tmp_path / "videos"
  (root / "b").mkdir(parents=True)
  (root / "z.mp4").write_bytes(GOOD)
  (root / "b" / "page.mp4").write_bytes(b"<html>404</html>")
  (root / "b" / "Ω\n.mp4").write_bytes(GOOD)
  (root / "empty.mkv").write_bytes(b"")
  (root / "hurt.mov").write_bytes(zeroed(encode(numbered(12), "mov", "mjpeg", "yuvj420p"), [3]))
  (root / "notes.txt").write_text("no video")
  return root


def table(text):
  return [tuple(line.split("  ", 1)[0:1]) + (line.split("  ", 1)[1].strip(),)
          for line in text.splitlines()]


def test_table_file_and_status(videos, tmp_path, capsys):
  out = tmp_path / "report.csv"
  assert check.main([str(videos), "--full", "--workers=2", f"--output={out}"]) == 1
  told = capsys.readouterr()
  assert table(told.out) == [
      (f"{videos}/b/page.mp4", "not a video (a web page)"), (f"{videos}/empty.mkv", "empty file"),
      (f"{videos}/hurt.mov", "warning: 1 of 12 frames are damaged")]
  assert "5 videos checked" in told.err
  assert "3 can be read (1 of them with warnings), 2 can't:\n" in told.err
  assert "      1  empty file" in told.err
  with out.open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert [row["id"] for row in rows] == ["b/page.mp4", "b/Ω\n.mp4", "empty.mkv", "hurt.mov",
                                         "z.mp4"]
  assert list(rows[0]) == inspection.SCHEMA.names
  assert (rows[0]["ok"], rows[0]["n_frames"], rows[0]["bytes"]) == ("False", "", "16")
  assert (rows[4]["ok"], rows[4]["n_frames"], rows[4]["height"], rows[4]["width"], rows[4]["fps"],
          rows[4]["seconds"], rows[4]["codec"], rows[4]["damaged_frames"]) == (
      "True", "20", "48", "64", "25.0", "0.8", "h264", "0")
  assert rows[3]["damaged_frames"] == "1"
  assert sorted(os.listdir(tmp_path)) == ["report.csv", "videos"]


def test_parquet_has_types_and_good_videos_give_status_0(videos, tmp_path, capsys):
  (videos / "b" / "page.mp4").unlink()
  (videos / "empty.mkv").unlink()
  out = tmp_path / "report.parquet"
  assert check.main([str(videos), "--workers=1", "--limit=2", "--output", str(out)]) == 0
  read = parquet.read_table(out)
  assert read.schema == inspection.SCHEMA
  assert read["id"].to_pylist() == ["b/Ω\n.mp4", "hurt.mov"]
  assert read["n_frames"].to_pylist() == [20, 12]
  assert read["damaged_frames"].to_pylist() == [None, None]
  assert all(s > 0 for s in read["seconds_taken"].to_pylist())
  assert capsys.readouterr().out == ""


def test_one_file_and_a_limit_of_time(videos, capsys):
  assert check.main([str(videos / "z.mp4"), "--time_limit=1e-9"]) == 1
  assert capsys.readouterr().out == f"{videos}/z.mp4  took longer than 1e-09 s\n"


@pytest.mark.parametrize("flags, told", [
    (["nowhere"], "there is no such folder"),
    (["{root}/b", "--output=a.xlsx"], "a name that ends in .csv or .parquet"),
    (["{root}/b", "--output=no/such/folder/a.csv"], "No such file"),
    (["{root}/b", "--split=train"], "--split needs --dataset"),
    (["{root}", "--dataset=kinetic"], "there is no data set 'kinetic'"),
    (["{root}/none"], "no videos here"),
])
def test_wrong_input_is_one_line_and_status_2(videos, flags, told, capsys):
  (videos / "none").mkdir()
  assert check.main([f.format(root=videos) for f in flags]) == 2
  got = capsys.readouterr()
  assert got.out == ""
  assert got.err.startswith("error: ") and got.err.count("\n") == 1
  assert told in got.err


@pytest.mark.parametrize("flag", ["--workers=0", "--limit=-1", "--time_limit=x", "--time_limit=nan",
                                  "--memory_limit=0", "--wrong", "--out=a.csv"])
def test_wrong_flags(flag, capsys):
  with pytest.raises(SystemExit) as ended:
    check.main(["folder", flag])
  assert ended.value.code == 2
  assert flag.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("error, status, told", [
    (KeyboardInterrupt(), 130, "interrupted: 2 of 5 videos were checked"),
    (RuntimeError("a worker process didn't start"), 2, "didn't start: 2 of 5 videos were checked")])
def test_runs_that_stop_tell_what_they_know(error, status, told, videos, tmp_path, capsys,
                                            monkeypatch):
  def interrupted(records, **_):
    yield 3, {"path": "d", "id": "d", "ok": True, "reason": "", "warning": ""}
    yield 1, {"path": "b", "id": "b", "ok": False, "reason": "is broken", "warning": ""}
    raise error

  monkeypatch.setattr(inspection, "inspect_all", interrupted)
  out = tmp_path / "report.csv"
  assert check.main([str(videos), f"--output={out}"]) == status
  got = capsys.readouterr()
  assert got.out == "b  is broken\n"
  assert told in got.err
  assert [line.split(",")[0] for line in out.read_text().splitlines()] == ["path", "b", "d"]


def test_data_set(videos, capsys, monkeypatch):
  """What is listed and not there is bad; what several records share is read once."""
  path = str(videos / "z.mp4")
  records = [Record("second", str(videos / "empty.mkv")), Record("first", path),
             Record("edit", path, edit_seed=3), Record("part", path, start=0.2, end=0.5)]
  asked = []

  def load(*args, **options):
    asked.append((args, options))
    return Dataset("films", "train", records, missing=("gone",))

  monkeypatch.setattr(source, "load", load)
  assert check.main([str(videos), "--dataset=films", "--split=train"]) == 1
  assert asked == [(("films", str(videos), "train"), {"allow_missing": True})]
  told = capsys.readouterr()
  assert table(told.out) == [(str(videos / "empty.mkv"), "empty file"),
                             ("gone", "listed in the data set, not on disk")]
  assert "3 videos checked" in told.err


def test_errors_of_readers(videos, capsys, monkeypatch):
  def load(*_, **__):
    raise DataError("lists.csv, line 3: no label")

  monkeypatch.setattr(source, "load", load)
  assert check.main([str(videos), "--dataset=films"]) == 2
  assert capsys.readouterr().err == "error: lists.csv, line 3: no label\n"


def test_as_a_program(videos):
  done = subprocess.run([sys.executable, "-m", "data_pipelines.check", videos, "--workers=1"],
                        env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, cwd=videos,
                        capture_output=True)
  assert done.returncode == 1
  assert [why for _, why in table(done.stdout)] == ["not a video (a web page)", "empty file"]
  assert "5 videos checked" in done.stderr
  assert "Traceback" not in done.stderr
