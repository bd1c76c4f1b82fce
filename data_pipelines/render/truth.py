"""What is known about every frame of a drawn video, and its file beside the mp4."""

import dataclasses
import io
import os
import zipfile

import numpy as np

from data_pipelines.encode import write_atomic
from data_pipelines.errors import DataError


@dataclasses.dataclass(frozen=True)
class Truth:
  """Ground truth of T frames of H x W pixels, with up to K objects of P key points.

  Pixel coordinates: (x, y), x to the right; integers are pixel centres, (0, 0) the first pixel.

  Attributes:
    labels: uint8 [T, H, W]; 0 ground, k + 1 object k where it is seen. Object 0 is the main one.
    points: float32 [T, K, P, 2]; where material points of the objects are, also when unseen;
      NaN for objects that the shot doesn't have.
    visible: bool [T, K, P]; the point is in the frame and not hidden by another object.
    boxes: float32 [T, K, 4]; x, y of the first column and row of what is seen of the object, then
      width and height in pixels; zeros where nothing is seen.
    motion, appearance: int16 [T]; class of the main object (`MOTIONS`, `APPEARANCES`), -1 in
      stock shots.
    shot: int16 [T]; number of the shot within the video.
    stock: int16 [T]; which stock shot this is a part of, -1 in scenes.
    scene: int64 [T]; seed of the scene, -1 in stock shots.
  """

  labels: np.ndarray
  points: np.ndarray
  visible: np.ndarray
  boxes: np.ndarray
  motion: np.ndarray
  appearance: np.ndarray
  shot: np.ndarray
  stock: np.ndarray
  scene: np.ndarray


def join_truth(parts: list[Truth]) -> Truth:
  """The truth of shots played one after another; K becomes the largest, shots are renumbered."""
  k = max(p.points.shape[1] for p in parts)

  def grow(a, fill):
    gap = k - a.shape[1]
    return np.pad(a, [(0, 0), (0, gap)] + [(0, 0)] * (a.ndim - 2), constant_values=fill)

  columns = {f.name: [getattr(p, f.name) for p in parts] for f in dataclasses.fields(Truth)}
  columns["points"] = [grow(a, np.nan) for a in columns["points"]]
  columns["visible"] = [grow(a, False) for a in columns["visible"]]
  columns["boxes"] = [grow(a, 0) for a in columns["boxes"]]
  columns["shot"] = [np.full_like(a, i) for i, a in enumerate(columns["shot"])]
  return Truth(**{name: np.concatenate(arrays) for name, arrays in columns.items()})


def take_truth(truth: Truth, frames: slice) -> Truth:
  """The truth of some of the frames."""
  return Truth(**{f.name: getattr(truth, f.name)[frames] for f in dataclasses.fields(Truth)})


def truth_bytes(truth: Truth) -> bytes:
  """An .npz file in memory, the same bytes for the same truth."""
  buffer = io.BytesIO()
  # np.savez writes the time of day, and compresses harder than label maps need.
  with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    for field in dataclasses.fields(Truth):
      array = io.BytesIO()
      np.lib.format.write_array(array, getattr(truth, field.name), allow_pickle=False)
      entry = zipfile.ZipInfo(f"{field.name}.npy")
      archive.writestr(entry, array.getvalue(), zipfile.ZIP_DEFLATED, 1)
  return buffer.getvalue()


def save_truth(path: str | os.PathLike, truth: Truth) -> None:
  """Writes an .npz file, all or nothing.

  Raises:
    DataError: the folder can't be written to, or the disk is full.
  """
  write_atomic(path, truth_bytes(truth))


def load_truth(path: str | os.PathLike) -> Truth:
  """Reads what `save_truth` wrote.

  Raises:
    DataError: the file is missing or isn't such a file.
  """
  try:
    with np.load(path, allow_pickle=False) as data:
      return Truth(**{f.name: data[f.name] for f in dataclasses.fields(Truth)})
  except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
    raise DataError(f"{path} is not a ground truth file ({error}); render it again") from error
