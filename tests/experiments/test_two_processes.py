"""The same numbers from two processes, which talk over gloo, and from four devices."""

import json
import signal
import socket

import numpy as np
import pytest

from tests.experiments import harness

CLOSE = 1e-5


def start_two(start, argv: list[str]) -> list[harness.Process]:
  """Both processes of a run on this machine, each begun by `start`."""
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
  return [start(*argv, f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process_id={i}")
          for i in range(2)]


def finish_two(start, argv: list[str]) -> list[harness.Result]:
  results = [process.wait() for process in start_two(start, argv)]
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
    for key in numbers.keys() - {"per_item"}:
      assert mine[key] == pytest.approx(numbers[key], abs=CLOSE), (name, key)


@pytest.mark.slow
def test_two_processes_from_an_empty_cache(finished, tmp_path):
  workdir = tmp_path / "run"
  argv = harness.train(workdir, tmp_path / "cache")
  first, second = finish_two(harness.Process, argv)
  assert_close(workdir, finished)
  assert "trained TCA" in first.out
  assert "mAP" not in second.out and "run folder" not in second.out
  assert len(list((workdir / "tensorboard").iterdir())) == 1
  index = [json.loads(line)["id"] for path in tmp_path.glob("cache/features/*/raw/index-*")
           for line in path.read_text().splitlines()]
  assert len(index) == len(set(index)), "a video was described twice"
  assert len(list(tmp_path.glob("cache/features/*/raw/index-*-of-00002.jsonl"))) == 2


@pytest.mark.slow
def test_one_process_continues_what_two_began_and_the_other_way_round(
    finished, cache, server, tmp_path):
  workdir = tmp_path / "run"
  argv = harness.train(workdir, cache)

  def steps():
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0

  processes = start_two(server.start, argv)
  assert processes[0].until(lambda: steps() >= 5)
  processes[1].popen.send_signal(signal.SIGTERM)  # the other one must stop at the same step
  results = [process.wait(60) for process in processes]
  assert [r.status for r in results] == [0, 0], results
  step = harness.checkpoint_steps(workdir)[-1]
  assert f"stopped at step {step} of {harness.STEPS}" in results[0].out

  process = server.start(*argv)
  assert process.until(lambda: steps() >= step + 5)
  process.popen.send_signal(signal.SIGTERM)
  result = process.wait(60)
  assert f"continuing from step {step}" in result.out
  last = harness.checkpoint_steps(workdir)[-1]
  assert step < last < harness.STEPS

  results = finish_two(server.start, argv)
  assert f"continuing from step {last}" in results[0].out
  assert_close(workdir, finished)


@pytest.mark.slow
def test_four_devices(finished, cache, server, tmp_path):
  result = server.run(*harness.train(tmp_path / "run", cache), devices=4)
  assert result.status == 0, result.err
  assert "devices: 4 x" in result.out
  assert_close(tmp_path / "run", finished)
