"""Tracking results in the files of the GOT-10k toolkit, which its `report` reads.

  OTB2015/TRACKER/Basketball.txt                 a row a frame: left, top, width, height, from 1
                  times/Basketball_time.txt      seconds of each frame
  GOT-10k/TRACKER/GOT-10k_Val_000001/GOT-10k_Val_000001_001.txt      alike, _001 for the first run
                                     GOT-10k_Val_000001_time.txt
"""

import os
import pathlib
import re

import numpy as np

FOLDERS = {"otb": "OTB2015", "got10k": "GOT-10k"}


def rounded(boxes: np.ndarray) -> np.ndarray:
  """Boxes as they are read back: three decimals."""
  return np.char.mod("%.3f", np.asarray(boxes, np.float64)).astype(np.float64)


def paths(folder: str | os.PathLike, benchmark: str, tracker: str,
          name: str) -> tuple[pathlib.Path, pathlib.Path]:
  """Where the boxes and the times of a track belong.

  Args:
    benchmark: a key of `FOLDERS`.
    tracker: its name.
    name: of the track; the toolkit calls the second of two in one sequence `Jogging.2`, our
      readers `Jogging-2`.

  Raises:
    ValueError: a name that isn't one of a file.
  """
  for word in (tracker, name):
    if not word or word != pathlib.PurePath(word).name or word in (".", ".."):
      raise ValueError(f"{word!r} is no name of a file")
  base = pathlib.Path(folder, FOLDERS[benchmark], tracker)
  if benchmark == "otb":
    name = re.sub(r"^(Jogging|Skating2)-([12])$", r"\1.\2", name)
    return base / f"{name}.txt", base / "times" / f"{name}_time.txt"
  return base / name / f"{name}_001.txt", base / name / f"{name}_time.txt"


def write(folder: str | os.PathLike, benchmark: str, tracker: str, name: str, boxes: np.ndarray,
          seconds: np.ndarray) -> None:
  """Writes one track: boxes [T, 4] counted from 1, and seconds [T]."""
  files = paths(folder, benchmark, tracker, name)
  for path, array, form in zip(files, (boxes, seconds), ("%.3f", "%.8f"), strict=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    np.savetxt(part, array, fmt=form, delimiter=",")
    os.replace(part, path)
