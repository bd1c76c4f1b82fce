"""The same numbers from two processes, which talk over gloo, and from four devices."""

import json
import signal
import socket

import numpy as np
import pytest

from tests.experiments import harness

CLOSE = 1e-5


def start_two(argv: list[str]) -> list[harness.Process]:
  """Both processes of a run on this machine."""
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
  return [harness.Process(*argv, f"--coordinator=127.0.0.1:{port}", "--processes=2",
                          f"--process_id={i}") for i in range(2)]


def finish_two(argv: list[str]) -> list[harness.Result]:
  results = [process.wait() for process in start_two(argv)]
  for result in results:
    assert result.status == 0, result.err
    assert "Traceback" not in result.err
  return results


def assert_close(a, b) -> None:
  """Same rows, logged numbers and final state to within 1e-5."""
  rows_a, rows_b = harness.metrics(a), harness.metrics(b)
  assert [row.keys() for row in rows_a] == [row.keys() for row in rows_b]
  for x, y in zip(rows_a, rows_b, strict=True):
    np.testing.assert_allclose(list(x.values()), list(y.values()), rtol=CLOSE, atol=CLOSE)
  for name, numbers in harness.rows(b).items():
    mine = harness.rows(a)[name]
    assert mine.keys() == numbers.keys()
    for key in numbers.keys() - {"average_precision"}:
      assert mine[key] == pytest.approx(numbers[key], abs=CLOSE), (name, key)


def stop_at(condition, argv: list[str], number: int) -> harness.Result:
  """Runs one process until `condition()`, sends it a signal, and waits for its end."""
  process = harness.Process(*argv)
  assert process.until(condition)
  process.popen.send_signal(number)
  return process.wait(60)


def stop_two_at(condition, argv: list[str], number: int, which: list[int]) -> list[harness.Result]:
  """The same for two processes, of which those of `which` get the signal."""
  processes = start_two(argv)
  assert processes[0].until(condition)
  for i in which:
    processes[i].popen.send_signal(number)
  return [process.wait(60) for process in processes]


@pytest.mark.slow
def test_two_processes_from_an_empty_cache(finished, tmp_path):
  workdir = tmp_path / "run"
  argv = harness.train(workdir, tmp_path / "cache")

  def described():
    return any(p.stat().st_size for p in tmp_path.glob("cache/features/*/raw/frames-*"))

  results = stop_two_at(described, argv, signal.SIGTERM, [0, 1])
  assert [r.status for r in results] == [0, 0], results
  assert all("Traceback" not in r.err for r in results), results

  first, second = finish_two(argv)
  assert_close(workdir, finished)
  assert "trained TCA" in first.out
  assert "mAP" not in second.out and "run folder" not in second.out
  assert len(list((workdir / "tensorboard").iterdir())) == 1
  index = [json.loads(line)["id"] for path in tmp_path.glob("cache/features/*/raw/index-*")
           for line in path.read_text().splitlines()]
  assert len(index) == len(set(index)), "a video was described twice"
  assert len(list(tmp_path.glob("cache/features/*/raw/index-*-of-00002.jsonl"))) == 2


@pytest.mark.slow
def test_two_processes_go_on_where_one_stopped_and_the_other_way_round(finished, cache, tmp_path):
  workdir = tmp_path / "run"
  argv = harness.train(workdir, cache)

  def rows(n):
    path = workdir / "metrics.jsonl"
    return lambda: path.exists() and path.read_bytes().count(b"\n") >= n

  result = stop_at(rows(5), argv, signal.SIGTERM)
  stopped = harness.checkpoint_steps(workdir)[-1]
  assert f"stopped at step {stopped} of" in result.out

  first, second = stop_two_at(rows(15), argv, signal.SIGKILL, [1])
  assert f"continuing from step {stopped}" in first.out
  assert first.status == 1, "the first process can't go on alone, and must not wait for ever"
  assert second.status == -signal.SIGKILL

  results = stop_two_at(rows(25), argv, signal.SIGTERM, [1])  # both must stop at the same step
  assert [r.status for r in results] == [0, 0], results
  step = harness.checkpoint_steps(workdir)[-1]
  assert 25 <= step < harness.STEPS
  assert f"stopped at step {step} of {harness.STEPS}" in results[0].out

  result = harness.run(*argv)
  assert f"continuing from step {step}" in result.out
  assert_close(workdir, finished)


@pytest.mark.slow
def test_four_devices(finished, cache, tmp_path):
  result = harness.run(*harness.train(tmp_path / "run", cache), devices=4)
  assert "devices: 4 x" in result.out
  assert_close(tmp_path / "run", finished)
