"""What a run says while it runs: JSON lines, TensorBoard, and a progress bar."""

import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable

import jax
import tqdm
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

PATIENCE = 3.0  # seconds before the progress of a part is shown: small sets take less
UP = "\x1b[A"  # moves a terminal's cursor to the line above


def progress(items: Iterable | None = None, *, name: str, total: int | None = None, unit: str = "",
             initial: int = 0, show: bool = True, delay: float = 0.0, leave: bool = True):
  """A progress bar with time left; plain lines every few seconds where stderr is no terminal.

  Of several processes only the first shows it.

  Args:
    show: False for none.
    delay: seconds before it is shown, for work that may be done by then.
    leave: whether a terminal keeps it at the end.
  """
  terminal = sys.stderr.isatty()
  return tqdm.tqdm(items, desc=name, total=total, unit=f" {unit}" if unit else "it",
                   initial=initial, delay=delay, leave=leave,
                   mininterval=0.1 if terminal else 5.0, dynamic_ncols=terminal,
                   file=sys.stderr if terminal else _Lines(),
                   disable=not show or jax.process_index() > 0)


def stage(items: Iterable | None = None, **options):
  """`progress` of a part of an evaluation: after some seconds, and gone at the end."""
  return progress(items, delay=PATIENCE, leave=False, **options)


class _Lines:
  """A stream on stderr on which a bar's next state stands below the one before, not over it."""

  def write(self, text: str) -> None:
    text = text.replace(UP, "").strip("\r\n ")  # of a bar within another one
    if text:
      sys.stderr.write(text + "\n")

  def flush(self) -> None:
    sys.stderr.flush()


def write(line: str) -> None:
  """Prints a line without tearing the progress bar."""
  tqdm.tqdm.write(line, file=sys.stderr)


def check_finite(step: int, loss: float) -> None:
  """Raises FloatingPointError, with what to do, if the loss is no finite number."""
  if not math.isfinite(loss):
    raise FloatingPointError(
        f"the loss is {loss} at step {step}; lower optim.learning_rate, or set optim.clip")


class Log:
  """Writes a row of numbers a step to `metrics.jsonl` and to TensorBoard; a context manager.

  Steps are counted from 1: a row tells of the state after that many updates. Rows after `start`
  are dropped from an existing file first: they belong to work that was lost in an interruption
  and is about to be done again. Of several processes only the first writes.
  """

  def __init__(self, folder: pathlib.Path, start: int = 0, **more: Callable[[], float]):
    """Opens the log after step `start`; what the functions `more` give is added to every row."""
    self._more, self._file = more, None
    if jax.process_index() > 0:
      return
    (folder / "tensorboard").mkdir(parents=True, exist_ok=True)
    self._path = folder / "metrics.jsonl"
    kept = [row for row in read(self._path) if row["step"] <= start]
    temporary = self._path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
    os.replace(temporary, self._path)
    self._file = self._path.open("a")
    # Not tensorboardX's SummaryWriter: when its thread can't write, training waits for ever.
    self._board = EventsWriter(str(folder / "tensorboard" / "events"))
    self._board.write_event(Event(step=start + 1, session_log=SessionLog(status=SessionLog.START)))

  def write(self, step: int, row: dict[str, float]) -> None:
    """Adds one row. Raises FloatingPointError if the loss is no finite number."""
    row = {k: float(v) for k, v in (row | {k: f() for k, f in self._more.items()}).items()}
    if self._file:
      self._file.write(json.dumps({"step": step, **row}) + "\n")
      self._file.flush()
    check_finite(step, row.get("loss", 0.0))
    if self._file:
      values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
      event = Event(step=step, wall_time=time.time(), summary=Summary(value=values))
      self._board.write_event(event)
      self._board.flush()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._file:
      self._file.close()
      self._board.close()


def read(path: pathlib.Path) -> list[dict]:
  """The rows of a JSON-lines file, without a last line that was cut off by a kill."""
  if not path.exists():
    return []
  rows = []
  for line in path.read_text().splitlines(keepends=True):
    if line.endswith("\n"):
      rows.append(json.loads(line))
  return rows
