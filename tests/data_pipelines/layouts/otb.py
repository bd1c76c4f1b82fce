"""OTB in small: a sequence of each kind that the real one has."""

import pathlib
from collections.abc import Callable

import numpy as np

from tests.data_pipelines.layouts import material

SPLIT = "otb100"
OPTIONS = {"allow_missing": True}
N_FRAMES = 6
# Name -> seed, number of the first picture, digits, separator of the boxes.
SEQUENCES = {"Basketball": (1, 1, 4, ","), "Jogging": (2, 1, 4, "\t"), "Board": (3, 1, 5, ","),
             "BlurCar1": (4, 247, 4, " "), "Human4": (5, 1, 4, ","), "Football1": (6, 71, 4, ",")}
ANNOTATED = {"Football1": slice(0, 4)}  # 71 to 74


def boxes(name: str, track: int = 0) -> np.ndarray:
  """[T, 4] of an object, counted from 0, whole numbers as in OTB."""
  found = material.truth(SEQUENCES[name][0], N_FRAMES).boxes[:, track].round()
  return found[ANNOTATED.get(name, slice(None))].astype(np.float64)


def write(root: pathlib.Path) -> None:
  for name, (seed, first, digits, separator) in SEQUENCES.items():
    names = [f"{first + t:0{digits}d}.jpg" for t in range(N_FRAMES)]
    material.jpegs(root / name / "img", seed, names)
    files = {"Jogging": ("groundtruth_rect.1.txt", "groundtruth_rect.2.txt"),
             "Human4": ("groundtruth_rect.2.txt",)}.get(name, ("groundtruth_rect.txt",))
    for track, file in enumerate(files):
      (root / name / file).write_text(_rows(boxes(name, track), separator.join))
  (root / "Human4" / "groundtruth_rect.1.txt").write_text("\n")


def _rows(found: np.ndarray, join: Callable[[list[str]], str]) -> str:
  return "".join(join([str(int(v)) for v in row]) + "\r\n" for row in found + (1, 1, 0, 0))
