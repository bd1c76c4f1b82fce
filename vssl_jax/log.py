"""What a run says while it runs: JSON lines, TensorBoard, and a progress bar."""

import json
import math
import os
import pathlib
import sys
from collections.abc import Iterable

import jax
import tqdm
from tensorboardX import SummaryWriter


def progress(items: Iterable | None = None, *, name: str, total: int | None = None, unit: str = "",
             initial: int = 0):
  """A progress bar with time left; plain lines every few seconds where stderr is no terminal.

  Of several processes only the first shows it.
  """
  interval = 0.1 if sys.stderr.isatty() else 5.0
  return tqdm.tqdm(items, desc=name, total=total, unit=f" {unit}" if unit else "it",
                   initial=initial, mininterval=interval, dynamic_ncols=True, file=sys.stderr,
                   disable=jax.process_index() > 0)


def write(line: str) -> None:
  """Prints a line without tearing the progress bar."""
  tqdm.tqdm.write(line, file=sys.stderr)


class Log:
  """Writes a row of numbers a step to `metrics.jsonl` and to TensorBoard; a context manager.

  Steps are counted from 1: a row tells of the state after that many updates. Rows after `start`
  are dropped from an existing file first: they belong to work that was lost in an interruption
  and is about to be done again. Of several processes only the first writes.
  """

  def __init__(self, folder: pathlib.Path, start: int = 0, **constants: float):
    """Opens the log after step `start`; `constants` are added to every row."""
    self._constants, self._file = constants, None
    if jax.process_index() > 0:
      return
    folder.mkdir(parents=True, exist_ok=True)
    self._path = folder / "metrics.jsonl"
    kept = [row for row in read(self._path) if row["step"] <= start]
    temporary = self._path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
    os.replace(temporary, self._path)
    self._file = self._path.open("a")
    self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1, flush_secs=10)

  def write(self, step: int, row: dict[str, float]) -> None:
    """Adds one row. Raises FloatingPointError if the loss is no finite number."""
    row = {k: float(v) for k, v in (row | self._constants).items()}
    if self._file:
      self._file.write(json.dumps({"step": step, **row}) + "\n")
      self._file.flush()
    if not math.isfinite(row.get("loss", 0.0)):
      raise FloatingPointError(
          f"the loss is {row['loss']} at step {step}; lower optim.learning_rate, "
          "or set optim.clip")
    if self._file:
      for name, value in row.items():
        self._board.add_scalar(name, value, step)

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
