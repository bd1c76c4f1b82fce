"""What a reader of a published layout does first: find the folder, know the split, read a list."""

import difflib
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data_pipelines.errors import DataError


def root_folder(dataset: str, root: str) -> pathlib.Path:
  """The absolute path of the folder that the user gave.

  Raises:
    DataError: there is no such folder.
  """
  if not root:
    raise DataError(f"{dataset}: no folder given; say where the data set lies")
  folder = pathlib.Path(root).expanduser().absolute()
  if not folder.is_dir():
    what = "is a file, not a folder" if folder.exists() else "doesn't exist"
    raise DataError(f"{dataset}: {folder} {what}; give the folder that holds the data set")
  return folder


def first_folder(dataset: str, root: pathlib.Path, names: Sequence[str],
                 right: str) -> pathlib.Path:
  """The first of `names` (relative; "." for `root` itself) that is a folder.

  Raises:
    DataError: none is; says what was looked for, and by `right` what a right layout looks like.
  """
  for name in names:
    if (root / name).is_dir():
      return root / name
  looked = " or ".join(f"{name}/" for name in names)
  inside = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))[:6]
  raise DataError(f"{dataset}: no {looked} in {root}, which holds {', '.join(inside) or 'nothing'};"
                  f" give the folder that holds {right}")


def check_split(dataset: str, split: str, splits: Mapping[str, object]) -> None:
  """Raises DataError, with the nearest name, where the data set has no such split."""
  if split not in splits:
    near = difflib.get_close_matches(str(split), splits, 1, 0)
    raise DataError(f"{dataset}: no split {split!r}; did you mean {near[0]!r}? "
                    f"It has {', '.join(splits)}")


def read_lines(path: pathlib.Path, what: str) -> list[str]:
  """The lines of a text file, stripped, without the empty ones; `what` it is, for the message.

  Raises:
    DataError: it can't be read, or is empty.
  """
  try:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
  except FileNotFoundError:
    raise DataError(f"{path}: no such file; it should be {what}") from None
  except (OSError, UnicodeDecodeError) as e:
    raise DataError(f"{path}: can't read it ({e}); it should be {what}") from e
  found = [line.strip() for line in lines if line.strip()]
  if not found:
    raise DataError(f"{path}: is empty; it should be {what}")
  return found


def read_numbers(path: pathlib.Path, columns: int, what: str) -> np.ndarray:
  """Rows of numbers between commas, tabs or spaces: float64 [rows, columns].

  Raises:
    DataError: it can't be read, is empty, or has a row of another length or form; names the line.
  """
  rows = [line.replace(",", " ").split() for line in read_lines(path, what)]
  try:
    return np.array(rows, np.float64).reshape(len(rows), columns)
  except ValueError:
    number, row = next((n, row) for n, row in enumerate(rows, 1) if not _numeric(row, columns))
    raise DataError(f"{path}: row {number} is {' '.join(row)[:60]!r}, should be {columns} "
                    f"number(s): {what}") from None


def _numeric(row: Iterable[str], columns: int) -> bool:
  try:
    return len([float(x) for x in row]) == columns
  except ValueError:
    return False
