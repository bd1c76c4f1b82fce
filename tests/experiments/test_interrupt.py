"""Kills and signals: whatever comes, the same command ends with the same bits.

VSSL_SLOW=1 kills more often.
"""

import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

from tests.experiments import harness

KILLS = 10 if os.environ.get("VSSL_SLOW") == "1" else 5


def n_rows(workdir: pathlib.Path) -> int:
  """Whole lines in metrics.jsonl."""
  path = workdir / "metrics.jsonl"
  return path.read_bytes().count(b"\n") if path.exists() else 0


def half_written(workdir: pathlib.Path) -> list[pathlib.Path]:
  """Checkpoints that are being written."""
  return list((workdir / "checkpoints").glob("*tmp*"))


def drawn_files(cache: pathlib.Path) -> dict[str, str]:
  """Name -> hash of the drawn videos and their ground truth."""
  return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
          for path in cache.glob("procedural-*/*") if path.suffix in (".mp4", ".npz")}


def described_videos(cache: pathlib.Path) -> list[str]:
  """A name for each video in the store of raw features."""
  return [json.loads(line)["id"] for index in cache.glob("features/*/raw/index-*")
          for line in index.read_text().splitlines()]


def processes_about(text: str) -> list[str]:
  """Command lines, other than this process's, that contain `text`."""
  lines = subprocess.run(["ps", "-eww", "-o", "pid=,args="], capture_output=True, text=True).stdout
  return [line for line in lines.splitlines()
          if text in line and int(line.split()[0]) != os.getpid()]


def assert_no_orphans(text: str, seconds: float) -> None:
  """Nothing that was started runs on, at the latest after `seconds`."""
  end = time.monotonic() + seconds
  while (left := processes_about(text)) and time.monotonic() < end:
    time.sleep(0.05)
  assert not left, left


def kill_when(condition, server, argv, delay: float = 0.0) -> bool:
  """Starts a run and kills it `delay` seconds after `condition()`; False where it ended before."""
  process = server.start(*argv)
  killed = process.until(condition)
  if killed:
    time.sleep(delay)
    killed = process.popen.poll() is None
    process.popen.kill()
  process.popen.wait()
  return killed


@pytest.mark.slow
def test_kills_while_training_change_nothing(finished, cache, server, tmp_path):
  rng, workdir = random.Random(0), tmp_path / "run"
  argv = harness.train(workdir, cache)
  kills = 0
  for attempt in range(KILLS):
    if attempt % 2:
      def condition():
        return half_written(workdir)
    else:
      at = rng.randint(n_rows(workdir) + 1, min(n_rows(workdir) + 12, harness.STEPS))

      def condition(at=at):
        return n_rows(workdir) >= at
    kills += kill_when(condition, server, argv, delay=rng.uniform(0, 0.1))
  assert kills == KILLS
  kills += kill_when((workdir / "export").exists, server, argv, delay=rng.uniform(0, 0.5))
  assert not (workdir / "results.json").exists()
  result = server.run(*argv)
  assert result.status == 0, result.err
  harness.assert_same_run(workdir, finished)
  assert not half_written(workdir)


@pytest.mark.slow
def test_signals_while_training_save_and_leave(finished, cache, server, tmp_path):
  workdir = tmp_path / "run"
  argv = harness.train(workdir, cache)
  for number, at, start in (
      (signal.SIGINT, 4, harness.Process), (signal.SIGTERM, 20, server.start)):
    process = start(*argv)
    assert process.until(lambda at=at: n_rows(workdir) >= at)
    process.popen.send_signal(number)
    result = process.wait(60)
    step = harness.checkpoint_steps(workdir)[-1]
    assert result.status == 0, result.err
    assert f"stopped at step {step} of {harness.STEPS}; the same command continues" in result.out
    assert at <= step < harness.STEPS
    assert n_rows(workdir) == step
    assert "Traceback" not in result.err
  result = server.run(*argv)
  assert result.status == 0, result.err
  assert f"continuing from step {step} of {harness.STEPS}" in result.out
  harness.assert_same_run(workdir, finished)


@pytest.mark.slow
def test_kills_and_signals_while_drawing_and_describing(finished, cache, server, tmp_path):
  fresh, workdir = tmp_path / "cache", tmp_path / "run"
  argv = harness.train(workdir, fresh)

  def drawn():
    return len(list(fresh.glob("procedural-*/*.mp4")))

  def described():
    return sum(p.stat().st_size for p in fresh.glob("features/*/raw/frames-*"))

  for number, amount in (
      (signal.SIGKILL, drawn), (signal.SIGINT, drawn),
      (signal.SIGKILL, described), (signal.SIGTERM, described)):
    before = amount()
    process = server.start(*argv)
    assert process.until(lambda amount=amount, before=before: amount() > before)
    process.popen.send_signal(number)
    start = time.monotonic()
    result = process.wait(60)
    assert_no_orphans(str(fresh), seconds=20)
    if number != signal.SIGKILL:
      assert result.status == 0, result.err
      assert "stopped; the same command continues from here" in result.err
      assert "Traceback" not in result.err
      assert time.monotonic() - start < 20
  result = server.run(*argv)
  assert result.status == 0, result.err
  assert len(drawn_files(fresh)) > 50
  assert drawn_files(fresh) == drawn_files(cache)
  names = described_videos(fresh)
  assert len(set(names)) == len(names) == len(list(fresh.glob("procedural-*/*.mp4")))
  harness.assert_same_run(workdir, finished)  # which it could not be with other features


def test_a_second_run_in_the_same_folder_is_refused(cache, server, tmp_path):
  workdir = tmp_path / "run"
  argv = harness.train(workdir, cache)
  process = server.start(*argv)
  assert process.until((workdir / ".lock").exists)
  second = server.run(*argv)
  assert second.status == 2
  assert f"--workdir={workdir}: another process is at work here" in second.err
  process.popen.kill()
  process.popen.wait()
