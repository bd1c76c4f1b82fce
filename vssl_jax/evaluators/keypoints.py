"""Key points: how well features carry the first frame's joints, as on JHMDB (corrflow spec 12).

Points are finite, in pixels, and may lie outside of the picture. One that lies outside in the first
frame, by more than its map reaches in, is lost from the start: it is left out of PCK, and wrong
in the strict one. One that leaves later is measured where it truly is. Whether a point is hidden
isn't asked. The first frame is given, so a video has at least two.
"""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vssl_jax import log
from vssl_jax.evaluators.dense import Embed, Kept, checked_frames, features_of, named
from vssl_jax.evaluators.propagation import Protocol, propagate_cells
from vssl_jax.evaluators.segmentation import choose_protocol
from vssl_jax.metrics import keypoints as metrics
from vssl_jax.ops import keypoints as maps
from vssl_jax.ops import resample
from vssl_jax.types import ConfigError

Read = Callable[[Any], Iterable[np.ndarray]]  # frames of a record in order, uint8 [H, W, 3]


@dataclasses.dataclass(frozen=True)
class Report:
  """What one evaluation found.

  Attributes:
    predicted: id -> [T, J, 2] pixels (x, y), (-1, -1) for a joint that is lost.
    videos: id -> distances over all frames but the first.
    thresholds: in body sizes.
  """

  predicted: dict[str, np.ndarray]
  videos: dict[str, metrics.Video]
  thresholds: tuple[float, ...]

  @property
  def per_joint(self) -> np.ndarray:
    """PCK in percent, [thresholds, J]; lost joints are left out."""
    return metrics.pck(self.videos.values(), self.thresholds)

  @property
  def numbers(self) -> dict[str, float]:
    """`PCK@0.1`, ... as published, `strict/PCK@0.1`, ... with lost joints wrong, and `lost`."""
    out = {}
    for prefix, strict in (("", False), ("strict/", True)):
      table = metrics.pck(self.videos.values(), self.thresholds, strict=strict)
      # A joint that is lost everywhere has no value of its own.
      known = [row[~np.isnan(row)] for row in table]
      out |= {f"{prefix}PCK@{a:g}": float(row.mean()) if len(row) else 0.0
              for a, row in zip(self.thresholds, known, strict=True)}
    found = np.concatenate([v.found.ravel() for v in self.videos.values()])
    return out | {"lost": float(1 - found.mean())}


def make(data: Any, read: Read, *, protocol: str | Protocol = "jhmdb",
         changes: dict | None = None, size: int = 320, sigma: float = 0.5, top: int = 3,
         thresholds: Sequence[float] = metrics.THRESHOLDS,
         progress: bool = True) -> "KeypointEvaluator":
  """The evaluator of a data set of videos with points.

  Args:
    data: has `records`, or is a sequence of them; a record has an `id`, and `truth["points"]`
      [T, J, 2], (x, y) in pixels counted from 0, with the same J in all.
    read: yields a record's T frames.
    protocol: a name in `propagation.PROTOCOLS`, or a `Protocol`, with soft feedback.
    changes: fields of the protocol to change.
    size: pixels a side that frames are resized to, whatever their shape.
    sigma: of the points' maps, in cells.
    top: how many cells of a map make a point.
    thresholds: of PCK, in body sizes.
    progress: shows it and the remaining time, where it takes longer than seconds.

  Raises:
    ConfigError: no record, an id that occurs twice, a record without points, or an impossible
      setting.
  """
  records = tuple(getattr(data, "records", data))
  ids = [record.id for record in records]
  if not records or len(set(ids)) < len(ids):
    raise ConfigError("key points: no video to evaluate on" if not records else
                      "key points: an id occurs twice among the videos")
  protocol = choose_protocol(protocol, changes)
  if protocol.feedback != "soft":
    raise ConfigError("key points are soft labels: choose a protocol with feedback='soft'")
  if size % protocol.stride or size < protocol.stride:
    raise ConfigError(f"size={size} should be a multiple of the stride, {protocol.stride}")
  counts = {_points(record).shape[1] for record in records}
  if len(counts) > 1:
    raise ConfigError(f"key points: videos have {sorted(counts)} points; all need the same")
  return KeypointEvaluator(records, read, protocol, size, sigma, top, tuple(thresholds), progress)


@dataclasses.dataclass(frozen=True)
class KeypointEvaluator:
  """Propagates the first frame's points through every video and measures PCK; see `make`."""

  records: Sequence[Any]
  read: Read
  protocol: Protocol
  size: int
  sigma: float
  top: int
  thresholds: tuple[float, ...]
  progress: bool

  def __call__(self, embed: Embed) -> dict[str, float]:
    """`{"PCK@0.1": percent, ..., "strict/PCK@0.1": percent, ..., "lost": share}`."""
    return self.report(embed).numbers

  def report(self, embed: Embed, folder: str | pathlib.Path | None = None,
             kept: Kept | None = None) -> Report:
    """Evaluates an `embed` as of `dense.features_of`.

    Args:
      embed: makes the features of a frame.
      folder: predictions are written there, `ID.csv` for each video; None for nowhere.
      kept: what an earlier call that was interrupted found, by id; gets the others added.
    """
    return self._report(lambda record: self._predict(record, embed), folder, kept)

  def identity(self, folder: str | pathlib.Path | None = None) -> Report:
    """The baseline in which no point moves."""
    def still(record):
      points = _points(record)
      return np.broadcast_to(points[:1], points.shape)
    return self._report(still, folder)

  def _report(self, predict, folder, kept: Kept | None = None) -> Report:
    predicted, videos, kept = {}, {}, {} if kept is None else kept
    for record in log.stage(self.records, name="propagate", unit="videos", show=self.progress):
      with named(record):
        known = kept.get(record.id)
        predicted[record.id] = predict(record) if known is None else known["points"]
        videos[record.id] = metrics.distances(_points(record), predicted[record.id])
      if folder is not None:
        write(pathlib.Path(folder) / f"{record.id}.csv", predicted[record.id])
      if known is None:
        kept[record.id] = {"points": predicted[record.id]}
    return Report(predicted, videos, self.thresholds)

  def _predict(self, record: Any, embed: Embed) -> np.ndarray:
    """[T, J, 2] pixels."""
    points, side = _points(record), self.size // self.protocol.stride
    frames = checked_frames(self.read(record))
    frame = next(frames, None)
    if frame is None:
      raise ValueError("no frames")
    scale = np.array([frame.shape[1], frame.shape[0]]) / side  # pixels of a cell
    first = maps.draw(points[0] / scale, (side, side), self.sigma)

    resized = map(self._resize, itertools.chain([frame], frames))
    features = features_of(resized, embed, self.protocol.stride)
    cells = [np.asarray(maps.decode(x[..., 1:], self.top))
             for x in propagate_cells(features, first, self.protocol)]
    if len(cells) != len(points):
      raise ValueError(f"{len(cells)} frames, but points for {len(points)}; give points for every "
                       "frame")
    cells = np.stack(cells)
    return np.where(cells < 0, -1.0, cells * scale)

  def _resize(self, frame: np.ndarray) -> np.ndarray:
    resized = resample.bilinear(frame, (self.size, self.size))
    return np.asarray(resized).round().astype(np.uint8)


def write(path: pathlib.Path, points: np.ndarray) -> None:
  """Writes points [T, J, 2] as csv: frame, point, x, y; whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [f"{t},{j},{x:.3f},{y:.3f}" for t, row in enumerate(points)
           for j, (x, y) in enumerate(row)]
  part = path.with_name(path.name + ".part")
  part.write_text("\n".join(["frame,point,x,y", *lines, ""]))
  os.replace(part, path)


def _points(record: Any) -> np.ndarray:
  points = record.truth.get("points")
  if points is None or np.ndim(points) != 3 or np.shape(points)[-1] != 2 or not len(points):
    raise ConfigError(f"{record.id}: truth['points'] should be [T, J, 2] pixels, is "
                      f"{'absent' if points is None else np.shape(points)}")
  points = np.asarray(points, np.float64)
  if not np.isfinite(points).all():
    t, j = np.argwhere(~np.isfinite(points).all(-1))[0]
    raise ConfigError(f"{record.id}: frame {t}, point {j} isn't finite; leave the video out")
  return points
