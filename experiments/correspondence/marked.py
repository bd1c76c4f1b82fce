"""What a user can mark in a first frame, masks or points, and how each is carried, drawn, written.

H W pixels of the video, h w of its frames as they are propagated, J points.
"""

import collections
import csv
import dataclasses
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from data_pipelines import label_image
from experiments.correspondence import drawing, results_folder
from vssl_jax.evaluators import figures_segmentation, masks
from vssl_jax.evaluators import propagation as run
from vssl_jax.evaluators.propagation import Protocol
from vssl_jax.ops import keypoints
from vssl_jax.types import ConfigError

TRAIL = 12  # frames of a point's past that are drawn
MARGIN = 2  # cells around the map, so that points are drawn at its edges as they are inside


class Masks:
  """Objects of a label map.

  Attributes:
    name: what is written, in the results' folder.
    names: of the objects, their numbers.
    small: h w.
    protocol, notes: of the propagation.
  """

  name = results_folder.MASKS

  def __init__(self, first: str, size: tuple[int, int], small: tuple[int, int],
               protocol: Protocol, video: str):
    """Reads the label map `first` of a `video` with frames of H W `size`."""
    self._labels, self.notes = label_image.read(first)
    self._check_size(first, size, video)
    self._ids = np.unique(np.append(self._labels, 0))  # numbers with gaps need no classes for them
    self._to_full = _nearest(small, size)
    self._start = np.searchsorted(self._ids, self._labels[_nearest(size, small)])
    self.names, self.small = [str(i) for i in self._ids[1:]], small
    self.protocol = protocol
    if len(gone := np.setdiff1d(np.arange(1, len(self._ids)), self._start)):
      raise ConfigError(f"--first={first}: object {self._ids[gone[0]]} vanishes in frames of "
                        f"{small[1]}x{small[0]} pixels; raise --max_side")

  def _check_size(self, first: str, size: tuple[int, int], video: str) -> None:
    (h, w), (height, width) = self._labels.shape, size
    if (h, w) != size:
      same = abs(h * width - w * height) <= max(width, height)
      raise ConfigError(
          f"--first={first} has {w}x{h} pixels, the frames of {video} have {width}x{height}; draw "
          f"on the first frame in its own size (ffmpeg -i VIDEO -frames:v 1 FRAME.png saves it)"
          + (", or resize the label map to that with nearest-neighbour sampling" if same else ""))

  def carried(self, features: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Label maps uint8 [H, W] of all frames, in the numbers of the first."""
    for i, small in enumerate(run.propagate(features, self._start, self.protocol)):
      yield self._labels if i == 0 else self._ids[small[self._to_full]].astype(np.uint8)

  def present(self, labels: np.ndarray) -> np.ndarray:
    """Which of `names` are there, bool."""
    return np.isin(self._ids[1:], labels)

  def drawn(self, frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return figures_segmentation.overlay(frame, labels)

  def written(self, folder: pathlib.Path, times: Sequence[float],
              found: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Passes label maps on, each of them written."""
    del times
    return masks.written(folder, self.name, found)


def _nearest(old: tuple[int, int], new: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
  """Index of the pixel of an `old` map in which the centre of each of a `new` one lies."""
  return np.ix_(*((2 * np.arange(n) + 1) * m // (2 * n) for m, n in zip(old, new, strict=True)))


class Points:
  """Points of a table; the attributes are those of `Masks`."""

  name = results_folder.POINTS

  def __init__(self, first: str, size: tuple[int, int], small: tuple[int, int],
               protocol: Protocol, video: str):
    """Reads the points `first` of a `video` with frames of H W `size`."""
    self.names, self._start = read_points(first, size, video)
    self.notes = []
    if protocol.feedback != "soft":
      self.notes.append("points are soft labels, and fed back as such")
      protocol = dataclasses.replace(protocol, feedback="soft")
    self.protocol, self.small, self._size = protocol, small, np.array(size[::-1])
    self._tints = drawing.colours(len(self.names))
    self._places = collections.deque(maxlen=1 + TRAIL)

  def carried(self, features: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Pixels float64 [J, 2] of all frames, (x, y); NaN for a point that is lost.

    A point is drawn into the middle of a cell; where in the cell it lay in the first frame is
    added to all that is found, so that what doesn't move stays.
    """
    grid = tuple(-(-n // self.protocol.stride) for n in self.small)
    cells = self._cells(self._start)
    inside = cells.clip(0, np.array(grid[::-1]) - 1)
    around = tuple(n + 2 * MARGIN for n in grid)
    first = keypoints.draw(inside + MARGIN, around)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    within = cells - np.asarray(keypoints.decode(first[..., 1:]))
    for i, maps in enumerate(run.propagate_cells(features, first, self.protocol)):
      found = np.asarray(keypoints.decode(maps[..., 1:]), np.float64)
      place = np.where(found < 0, np.nan, self._pixels(found + within))
      yield self._start if i == 0 else place.clip(-0.5, self._size - 0.5)

  def _cells(self, pixels: np.ndarray) -> np.ndarray:
    return ((pixels + 0.5) / self._scale - 0.5 - self._origin) / self.protocol.stride

  def _pixels(self, cells: np.ndarray) -> np.ndarray:
    return (cells * self.protocol.stride + self._origin + 0.5) * self._scale - 0.5

  @property
  def _scale(self) -> np.ndarray:
    return self._size / np.array(self.small[::-1])

  @property
  def _origin(self) -> float:
    """Where the first cell's centre lies, see `resample`."""
    return (self.protocol.stride - 1) / 2 if self.protocol.align == "half_pixel" else 0.0

  def present(self, places: np.ndarray) -> np.ndarray:
    """Which of `names` are there, bool."""
    return np.isfinite(places).all(-1)

  def drawn(self, frame: np.ndarray, places: np.ndarray) -> np.ndarray:
    self._places.append(places)
    return drawing.points(frame, self._places, self._tints)

  def written(self, folder: pathlib.Path, times: Sequence[float],
              found: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Passes points on, and writes them as a table that appears at the end."""
    temporary = folder / f".{self.name}.{os.getpid()}.tmp"
    try:
      with open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["frame", "time", "name", "x", "y", "found"])
        for i, (now, places) in enumerate(zip(times, found, strict=True)):
          for name, (x, y) in zip(self.names, places.tolist(), strict=True):
            row = [f"{x:.2f}", f"{y:.2f}", 1] if math.isfinite(x) else ["", "", 0]
            table.writerow([i, f"{now:.6f}", name, *row])
          yield places
      os.replace(temporary, folder / self.name)
    finally:
      temporary.unlink(missing_ok=True)


def read_points(path: str, size: tuple[int, int], video: str) -> tuple[list[str], np.ndarray]:
  """Names, and pixels float64 [J, 2], of a table with the header x,y or name,x,y.

  Raises:
    ConfigError: names the file and the line.
  """
  where = f"--first={path}"
  try:
    with open(path, newline="", encoding="utf-8-sig") as file:
      lines = csv.reader(file)
      rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines if any(row)]
  except (UnicodeDecodeError, csv.Error) as e:
    raise ConfigError(f"{where}: no text of comma-separated values ({e})") from e
  header = [cell.lower() for cell in rows[0][1]] if rows else []
  if sorted(header) not in (["x", "y"], ["name", "x", "y"]):
    raise ConfigError(f"{where}: line 1 should be x,y or name,x,y, is "
                      f"{','.join(header)!r}" if rows else f"{where}: is empty; line 1 should be "
                      "x,y or name,x,y, and a line for each point should follow")
  if len(rows) == 1:
    raise ConfigError(f"{where}: holds no point below its header {','.join(header)}")
  names, points = [], []
  for line, row in rows[1:]:
    if len(row) != len(header):
      raise ConfigError(f"{where}, line {line}: has {len(row)} values, the header {len(header)}")
    entry = dict(zip(header, row, strict=True))
    names.append(entry.get("name", str(len(names))))
    points.append(_point(entry, f"{where}, line {line}", size, video))
    if not names[-1] or names[-1] in names[:-1]:
      raise ConfigError(f"{where}, line {line}: the name {names[-1]!r} is "
                        f"{'taken' if names[-1] else 'empty'}; give each point its own")
  return names, np.array(points)


def _point(entry: dict[str, str], where: str, size: tuple[int, int],
           video: str) -> tuple[float, float]:
  place = []
  for key, n in (("x", size[1]), ("y", size[0])):
    try:
      value = float(entry[key])
    except ValueError as e:
      raise ConfigError(f"{where}: {key}={entry[key]!r} is no number") from e
    if not math.isfinite(value):
      raise ConfigError(f"{where}: {key}={entry[key]} is not finite; leave the point out")
    if not -0.5 <= value <= n - 0.5:
      raise ConfigError(f"{where}: {key}={value:g} is outside the picture: frames of {video} have "
                        f"{size[1]}x{size[0]} pixels, from 0 to {n - 1}")
    place.append(value)
  return tuple(place)
