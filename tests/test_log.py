"""Rows of numbers: what is written, what is dropped on resuming, what stops a run."""

import json
import math

import jax
import pytest
from tensorboardX.proto import event_pb2

from vssl_jax import log as logs


def steps(path):
  return [row["step"] for row in logs.read(path)]


def test_rows_are_written_at_once_and_read_back(tmp_path):
  path = tmp_path / "deep" / "run" / "metrics.jsonl"
  with logs.Log(path.parent, devices=lambda: 4) as log:
    log.write(3, {"loss": 1.5, "top1": 0.25})
    assert logs.read(path) == [{"step": 3, "loss": 1.5, "top1": 0.25, "devices": 4.0}]
    log.write(7, {"eval/map": 1})
  assert logs.read(path)[1:] == [{"step": 7, "eval/map": 1.0, "devices": 4.0}]
  assert path.read_text().count("\n") == 2


def test_resuming_drops_what_is_about_to_be_done_again(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with logs.Log(tmp_path) as log:
    for step in (1, 3, 5):
      log.write(step, {"loss": step})
  with logs.Log(tmp_path, start=3) as log:  # the state after three steps, of which row 3 tells
    assert steps(path) == [1, 3]
    log.write(5, {"loss": 50.0})
  assert [(row["step"], row["loss"]) for row in logs.read(path)] == [(1, 1), (3, 3), (5, 50)]
  with logs.Log(tmp_path):
    assert steps(path) == []


def test_a_last_line_cut_off_by_a_kill_is_dropped(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with logs.Log(tmp_path) as log:
    log.write(1, {"loss": 1.0})
    log.write(2, {"loss": 2.0})
  whole = path.read_bytes()
  for cut in range(whole.index(b"\n") + 1, len(whole)):
    path.write_bytes(whole[:cut])
    assert steps(path) == [1]
  with logs.Log(tmp_path, start=2) as log:
    log.write(3, {"loss": 3.0})
  assert steps(path) == [1, 3]


def test_no_file_is_no_row(tmp_path):
  assert logs.read(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_and_says_what_to_do(tmp_path, loss):
  with (pytest.raises(FloatingPointError, match=r"at step 4; lower optim\.learning_rate"),
        logs.Log(tmp_path) as log):
    log.write(4, {"loss": loss})
  row = json.loads((tmp_path / "metrics.jsonl").read_text())
  assert row["step"] == 4
  assert not math.isfinite(row["loss"])


def test_tensorboard_gets_the_same_numbers(tmp_path):
  with logs.Log(tmp_path) as log:
    log.write(3, {"loss": 1.5})
    log.write(4, {"loss": 2.5, "eval/map": 0.5})
  files = list((tmp_path / "tensorboard").iterdir())
  assert len(files) == 1
  data, at, seen = files[0].read_bytes(), 0, set()
  while at < len(data):  # length, its checksum, the event, its checksum
    size = int.from_bytes(data[at:at + 8], "little")
    event = event_pb2.Event.FromString(data[at + 12:at + 12 + size])
    seen |= {(event.step, v.tag, v.simple_value) for v in event.summary.value}
    at += 16 + size
  assert {(3, "loss", 1.5), (4, "loss", 2.5), (4, "eval/map", 0.5)} <= seen


def test_of_several_processes_only_the_first_writes_and_all_notice_a_bad_loss(
    tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  with logs.Log(tmp_path / "run") as log:
    log.write(1, {"loss": 1.0})
    with pytest.raises(FloatingPointError):
      log.write(2, {"loss": math.nan})
  assert not (tmp_path / "run").exists()
  assert list(logs.progress([1, 2], name="x")) == [1, 2]
  assert capsys.readouterr().err == ""


def test_progress_counts_from_where_it_resumes(capsys):
  bar = logs.progress(name="train", total=10, initial=4, unit="steps")
  bar.update(6)
  bar.close()
  assert "10/10" in capsys.readouterr().err
  assert list(logs.progress([1, 2], name="x")) == [1, 2]
