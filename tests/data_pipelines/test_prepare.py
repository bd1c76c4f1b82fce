"""The program that writes shards: whole data sets, interruptions, bad files, remote output."""

import contextlib
import csv
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import fsspec
import numpy as np
import psutil
import pytest

from data_pipelines import isolate, plan, preparation, prepare, shards
from data_pipelines.decode import open_video
from data_pipelines.errors import DataError
from data_pipelines.preparation import Job
from data_pipelines.transcode import Settings
from tests.data_pipelines import clips

ROOT = pathlib.Path(__file__).resolve().parents[2]
BAD = {"cut.mp4": "incomplete mp4", "empty.mp4": "empty file", "page.mp4": "a web page"}


def write_videos(folder, n=6, **options):
  folder.mkdir(exist_ok=True)
  for k in range(n):
    (folder / f"{k}.mp4").write_bytes(clips.encode(clips.numbered(8, first=k), **options))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("videos")
  write_videos(folder)
  return folder


def job(source, output, **changes):
  return Job("folder", str(source), str(output),
             **{"settings": Settings(32), "n_shards": 3, "workers": 1} | changes)


def run(*args, **options):
  command = [sys.executable, "-m", "data_pipelines.prepare", "--dataset=folder",
             "--short_side=32", "--workers=1", *args]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


def start(*args):
  return subprocess.Popen(
      [sys.executable, "-m", "data_pipelines.prepare", "--dataset=folder", "--short_side=32",
       "--workers=2", *args], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(folder):
  """Every file below the folder but the lock, by name."""
  return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
          if p.is_file() and p.name != "lock"}


def shard_files(folder):
  return sorted(p for p in folder.iterdir() if ".array_record-" in p.name)


def test_from_the_command_line(videos, tmp_path):
  out = run(f"--input={videos}", f"--output={tmp_path}", "--shards=2")
  assert out.returncode == 0, out.stderr
  assert "6 records with 48 frames in 2 shards; 0 can't be used" in out.stdout
  assert sorted(contents(tmp_path)) == [
      "dataset_info.json", "features.json", "folder-full.array_record-00000-of-00002",
      "folder-full.array_record-00001-of-00002", "index.parquet", "manifest.json",
      "parts/folder-full.array_record-00000-of-00002.json",
      "parts/folder-full.array_record-00001-of-00002.json", "parts/preparation.json",
      "rejected.csv"]
  records = shards.read(tmp_path, "all").records
  assert [r.id for r in records] == [f"{k}.mp4" for k in range(6)]
  with open_video(shards.resolve(records[4]).video) as reader:
    assert (reader.height, reader.width) == (32, 42)
    assert clips.numbers(reader.frames(range(8))) == list(range(4, 12))
  before = contents(tmp_path)
  again = run(f"--input={videos}", f"--output={tmp_path}", "--shards=2")
  assert again.returncode == 0 and "was prepared already" in again.stdout
  assert contents(tmp_path) == before
  assert run("--verify", f"--output={tmp_path}").stdout.startswith("2 shards checked, 0 are not")


def test_same_input_same_bytes_whatever_the_workers_and_the_place(videos, tmp_path):
  assert preparation.prepare(job(videos, tmp_path / "a"))
  shutil.copytree(videos, tmp_path / "moved")
  assert preparation.prepare(job(tmp_path / "moved", tmp_path / "b", workers=2))
  assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_killed_and_started_again(tmp_path):
  write_videos(tmp_path / "videos", 12)
  preparation.prepare(job(tmp_path / "videos", tmp_path / "whole", n_shards=6))
  output = tmp_path / "killed"
  args = f"--input={tmp_path / 'videos'}", f"--output={output}", "--shards=6"
  process = start(*args)
  while process.poll() is None and not (output.is_dir() and len(shard_files(output)) >= 2):
    time.sleep(0.01)
  decoders = psutil.Process(process.pid).children()
  process.kill()
  process.communicate()
  assert not shards.is_prepared(output)
  done = {path: path.stat().st_mtime_ns for path in shard_files(output)}
  assert 2 <= len(done) < 6, "was too quick"
  gone, alive = psutil.wait_procs(decoders, 10)
  assert not alive and gone
  out = run(*args)
  assert out.returncode == 0, out.stderr
  assert "were done before" in out.stdout
  assert contents(output) == contents(tmp_path / "whole")
  finished = [p for p in done if p.stat().st_mtime_ns == done[p]]
  assert len(finished) >= len(done) - 2  # a shard may have come without its report


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_started_again(tmp_path, number):
  write_videos(tmp_path / "videos", 12)
  for attempt in range(5):  # on a busy machine it may end before the signal is sent
    output = tmp_path / f"out{attempt}"
    args = f"--input={tmp_path / 'videos'}", f"--output={output}", "--shards=6"
    process = start(*args)
    while process.poll() is None and not (output.is_dir() and shard_files(output)):
      time.sleep(0.01)
    decoders = psutil.Process(process.pid).children() if process.poll() is None else []
    begun = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate()
    if process.returncode:
      break
  assert process.returncode == 130 and time.monotonic() - begun < 20
  assert err.strip().endswith("interrupted; the same command goes on from here")
  assert "Traceback" not in err + out
  assert not psutil.wait_procs(decoders, 10)[1]
  assert not [name for name in contents(output) if name.endswith(".tmp")]
  assert run(*args).returncode == 0
  preparation.prepare(job(tmp_path / "videos", tmp_path / "whole", n_shards=6))
  assert contents(output) == contents(tmp_path / "whole")


def test_a_killed_decoder_costs_nothing(tmp_path):
  write_videos(tmp_path / "videos", 12)
  preparation.prepare(job(tmp_path / "videos", tmp_path / "whole", n_shards=1))
  killed = []

  def kill(progress):
    if progress.done == 4 and not killed:
      killed.extend(psutil.Process().children())
      for child in killed:
        with contextlib.suppress(psutil.Error):  # another test's, that has ended
          if "spawn_main" in " ".join(child.cmdline()):
            child.kill()

  progress = preparation.Progress(kill)
  preparation.prepare(job(tmp_path / "videos", tmp_path / "out", n_shards=1), progress)
  assert killed and progress.rejected == []
  assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_bad_files_are_listed_and_left_out(videos, tmp_path):
  shutil.copytree(videos, tmp_path / "videos")
  whole = (videos / "0.mp4").read_bytes()
  (tmp_path / "videos" / "cut.mp4").write_bytes(whole[:len(whole) // 2])
  (tmp_path / "videos" / "empty.mp4").touch()
  (tmp_path / "videos" / "page.mp4").write_text("<html>404</html>")
  args = f"--input={tmp_path / 'videos'}", f"--output={tmp_path / 'out'}", "--shards=2"
  out = run(*args)
  assert out.returncode == 2 and "Traceback" not in out.stderr
  assert "9 records (" in out.stderr and "max_bad_fraction=0.05" in out.stderr
  assert not shards.is_prepared(tmp_path / "out")
  out = run(*args, "--max_bad_fraction=0.4")
  assert out.returncode == 0, out.stderr
  assert "6 records with 48 frames in 2 shards; 3 can't be used (see rejected.csv)" in out.stdout
  rows = list(csv.DictReader((tmp_path / "out" / "rejected.csv").open()))
  assert [row["id"] for row in rows] == sorted(BAD)
  for row in rows:
    assert BAD[row["id"]] in row["reason"] and BAD[row["id"]] in out.stdout
    assert row["path"] == str(tmp_path / "videos" / row["id"]) and row["path"] in out.stdout
  dataset = shards.read(tmp_path / "out", "all")
  assert dataset.missing == tuple(sorted(BAD)) and len(dataset.records) == 6


def test_mended_files_and_those_that_are_tried_again(videos, tmp_path):
  shutil.copytree(videos, tmp_path / "videos")
  bad, output = tmp_path / "videos" / "2.mp4", tmp_path / "out"
  data = bad.read_bytes()
  bad.write_bytes(data[:-200])
  mine = job(tmp_path / "videos", output, max_bad_fraction=0.5)
  preparation.prepare(mine)
  assert shards.read(output, "all").missing == ("2.mp4",)
  bad.write_bytes(bytes(100) + data[100:-200])  # of the same size, and still bad
  assert not preparation.prepare(mine)
  kept = {p: p.stat().st_mtime_ns for p in shard_files(output)}
  assert preparation.prepare(job(tmp_path / "videos", output, max_bad_fraction=0.5,
                                 retry_rejected=True))
  assert sum(p.stat().st_mtime_ns == kept[p] for p in kept) == 2
  bad.write_bytes(data)
  with pytest.raises(DataError, match=r"the input has changed since.*--overwrite"):
    preparation.prepare(mine)
  kept = {p: p.stat().st_mtime_ns for p in shard_files(output)}
  preparation.prepare(job(tmp_path / "videos", output, overwrite=True))
  assert shards.read(output, "all").missing == ()
  assert sum(p.stat().st_mtime_ns == kept[p] for p in kept) == 2  # the third was written again
  preparation.prepare(job(videos, tmp_path / "fresh"))
  assert contents(output) == contents(tmp_path / "fresh")


def test_another_data_set_is_not_replaced_by_accident(videos, tmp_path):
  preparation.prepare(job(videos, tmp_path))
  before = contents(tmp_path)
  for changes, words in ((dict(settings=Settings(24)), "settings short_side was 32, is 24"),
                         (dict(n_shards=2), "n_shards all was 3, is 2"),
                         (dict(options={"by_class": False}), "by_class was None, is False")):
    with pytest.raises(DataError, match=words):
      preparation.prepare(job(videos, tmp_path, **changes))
  assert contents(tmp_path) == before
  preparation.prepare(job(videos, tmp_path, n_shards=2, overwrite=True))
  assert [p.name for p in shard_files(tmp_path)] == [
      f"folder-full.array_record-0000{k}-of-00002" for k in range(2)]
  assert len(contents(tmp_path)) == 10
  (tmp_path / "parts" / "preparation.json").unlink()
  with pytest.raises(DataError, match="nothing that says how it was made"):
    preparation.prepare(job(videos, tmp_path, n_shards=2))


def test_a_lost_or_changed_shard_is_written_again(videos, tmp_path):
  preparation.prepare(job(videos, tmp_path))
  before, (first, second, _) = contents(tmp_path), shard_files(tmp_path)
  first.unlink()
  second.write_bytes(second.read_bytes()[:-1])
  out = run("--verify", f"--output={tmp_path}")
  assert out.returncode == 1
  assert f"{first.name}  is missing" in out.stdout and second.name in out.stdout
  assert preparation.prepare(job(videos, tmp_path))
  assert contents(tmp_path) == before


def test_shards_are_no_input(videos, tmp_path):
  preparation.prepare(job(videos, tmp_path / "a"))
  with pytest.raises(DataError, match="holds prepared shards"):
    preparation.prepare(job(tmp_path / "a", tmp_path / "b"))


def test_leftovers_are_removed(videos, tmp_path):
  preparation.prepare(job(videos, tmp_path))
  before = contents(tmp_path)
  shard_files(tmp_path)[0].unlink()
  (tmp_path / "parts" / "folder-full.array_record-00000-of-00003.abc.tmp").write_bytes(b"part")
  preparation.prepare(job(videos, tmp_path))
  assert contents(tmp_path) == before


def test_remote_output(videos, tmp_path):
  fs = fsspec.filesystem("memory")
  preparation.prepare(job(videos, "memory://bucket/out/", workers=2))
  preparation.prepare(job(videos, tmp_path / "local"))
  fs.get("/bucket/out", str(tmp_path / "copy"), recursive=True)
  assert contents(tmp_path / "copy") == contents(tmp_path / "local")
  assert not preparation.prepare(job(videos, "memory://bucket/out"))
  fs.rm("/bucket/out/folder-full.array_record-00001-of-00003")
  assert list(shards.verify("memory://bucket/out").values()) == ["is missing"]
  assert preparation.prepare(job(videos, "memory://bucket/out"))
  assert shards.verify("memory://bucket/out") == {}


def test_remote_output_of_an_unknown_kind(videos):
  with pytest.raises(DataError, match="nonsense"):
    preparation.prepare(job(videos, "nonsense://a/b"))


def test_two_at_a_time_are_one_too_many(videos, tmp_path):
  (tmp_path / "parts").mkdir()
  with preparation._only_one(str(tmp_path)), pytest.raises(DataError, match="another process"):
    preparation.prepare(job(videos, tmp_path))


def test_a_crash_a_hang_and_a_glutton_cost_one_video_each(videos, tmp_path, monkeypatch):
  reasons = {"1.mp4": "the decoder crashed (signal 11, SIGSEGV)", "3.mp4": "took longer than 3 s"}

  def outcomes(function, items, *, workers, time_limit):
    assert workers == 1 and time_limit == 3
    for place, record in enumerate(items):
      reason = reasons.get(record.id, "")
      yield place, isolate.Outcome(None if reason else function(record), reason, 0.1, 0)

  monkeypatch.setattr(isolate, "run", outcomes)
  progress = preparation.Progress()
  preparation.prepare(job(videos, tmp_path, time_limit=3, max_bad_fraction=0.4), progress)
  assert {row["id"]: row["reason"] for row in progress.rejected} == reasons
  assert [r.id for r in shards.read(tmp_path, "all").records] == [
      "0.mp4", "2.mp4", "4.mp4", "5.mp4"]


def test_full_disk(videos, tmp_path):
  script = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000));"
            "from data_pipelines import prepare; sys.exit(prepare.main(sys.argv[1:]))")
  out = subprocess.run([sys.executable, "-c", script, "--dataset=folder", f"--input={videos}",
                        f"--output={tmp_path}", "--workers=1", "--shards=1"],
                       cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert out.returncode == 2
  assert "full.array_record-00000-of-00001: can't be written" in out.stderr
  assert "Traceback" not in out.stderr and not shard_files(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_without_permission(videos, tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(DataError, match="Permission denied"):
    preparation.prepare(job(videos, tmp_path / "out"))


@pytest.mark.parametrize(("args", "words"), [
    (["--dataset=foldr", "--input=.", "--output=o"], "did you mean 'folder'"),
    (["--dataset=folder", "--input=nowhere", "--output=o"], "nowhere"),
    (["--dataset=folder", "--input=.", "--output=."], "the same folder"),
    (["--dataset=folder", "--input=.", "--output=o", "--short_side=7"], "even"),
    (["--dataset=folder", "--input=.", "--output=o", "--split=trian"], "trian"),
    (["--dataset=folder", "--input=.", "--output=o", "--option=colour=1"], "colour"),
    (["--dataset=folder", "--input=.", "--output=o", "--option=colour"], "KEY=VALUE"),
    (["--dataset=folder", "--input=.", "--output=o", "--shards=0"], "positive"),
    (["--verify", "--output=o"], "no finished data set"),
])
def test_wrong_input_is_one_line(args, words, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert prepare.main(args) == 2
  err = capsys.readouterr().err
  assert err.startswith("error: ") and err.count("\n") == 1 and words in err
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("args", "words"), [
    (["--dataset=folder"], "needs --input, --output"), (["--verify"], "needs --output"),
    (["--dataset=folder", "--input=.", "--output=o", "--shard=1"], "unknown: --shard=1"),
])
def test_wrong_flags(args, words, capsys):
  with pytest.raises(SystemExit) as exit_:
    prepare.main(args)
  assert exit_.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize(("text", "expected"), [
    ("a=1", 1), ("a=0.5", 0.5), ("a=true", True), ("a=none", None), ("a=b/c d", "b/c d"),
    ("a='1'", "1"), ("a=(1, 2)", (1, 2)), ("a=x=y", "x=y"), ("a=", "")])
def test_options(text, expected):
  assert prepare._option(text) == ("a", expected)


def test_shards_follow_from_bytes_and_ids(videos, tmp_path):
  n_bytes = sum(p.stat().st_size for p in videos.iterdir())
  preparation.prepare(job(videos, tmp_path, n_shards=None, shard_mb=n_bytes / 3.5e6))
  assert len(shard_files(tmp_path)) == 4
  counts = [s["examples"] for s in json.loads((tmp_path / "manifest.json").read_text())["shards"]]
  assert sorted(counts) == [1, 1, 2, 2]
  order = [r.video for r in shards.read(tmp_path, "all").records]
  assert order != sorted(order)  # neighbours on disk are not neighbours in shards


def test_plans_survive_the_way_to_other_machines(tmp_path):
  from data_pipelines.records import Dataset, Record
  truth = {"boxes": np.array([[np.nan, 1, 2, 3.25]], np.float32), "visible": np.array([True])}
  records = [Record("a", b"\0\xff", start=0.1, splits=("x", "y"), text="ä"),
             Record("b", frames=("/a/\udcff.jpg", b"\1"), fps=25.0, masks=("", b"2"), truth=truth)]
  (tmp_path / plan.PARTS).mkdir()
  made = plan.plan_split("n", Dataset("n", "all", records), str(tmp_path), Settings(64, "all", 3),
                         shard_bytes=1, n_shards=1, time_limit=7.5)
  staged = plan.load(plan.stage(made.shards[0]))
  assert staged.settings == Settings(64, "all", 3) and staged.time_limit == 7.5
  assert (staged.key, staged.file) == (made.shards[0].key, made.shards[0].file)
  assert list(staged.records) == list(made.shards[0].records)
  got = {r.id: r for r in staged.records}["b"].truth
  assert {k: v.dtype for k, v in got.items()} == {k: v.dtype for k, v in truth.items()}
  np.testing.assert_array_equal(got["boxes"], truth["boxes"])
