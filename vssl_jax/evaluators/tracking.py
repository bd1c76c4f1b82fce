"""Tracking one object by its first box, measured as on OTB or GOT-10k (cycle_contrast spec 6)."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vssl_jax import log
from vssl_jax.evaluators import matchers, toolkit_files
from vssl_jax.evaluators.dense import Embed, Kept, named
from vssl_jax.evaluators.tracker import PROTOCOLS, Protocol, track
from vssl_jax.metrics import tracking as metrics
from vssl_jax.types import ConfigError

Read = Callable[[Any], Iterable[np.ndarray]]  # frames of a record in order, uint8 [H, W, 3]
# Frames and the first box, counted from 0, to the box of each frame and the seconds it took.
Track = Callable[[Iterable[np.ndarray], np.ndarray], Iterator[tuple[np.ndarray, float]]]

MATCHERS = {"siamese": matchers.Siamese, "ridge": matchers.Ridge}
BENCHMARKS = tuple(toolkit_files.FOLDERS)


@dataclasses.dataclass(frozen=True)
class Found:
  """One object's track.

  Attributes:
    boxes: [T, 4] predicted, counted from 1, to three decimals.
    seconds: [T], of each frame.
    score: `metrics.Curves` (OTB) or `metrics.Overlaps` (GOT-10k).
  """

  boxes: np.ndarray
  seconds: np.ndarray
  score: Any


@dataclasses.dataclass(frozen=True)
class Report:
  """What one evaluation found.

  Attributes:
    benchmark: "otb" or "got10k".
    tracks: id -> track.
  """

  benchmark: str
  tracks: dict[str, Found]

  @property
  def total(self) -> Any:
    """The score of all: `metrics.Curves` or `metrics.Overlaps`."""
    total = metrics.otb_total if self.benchmark == "otb" else metrics.got10k_total
    return total(t.score for t in self.tracks.values())

  @property
  def numbers(self) -> dict[str, float]:
    """Success, precision at 20 pixels and success rate, or AO, SR0.5 and SR0.75; and `tracks`."""
    return _numbers(self.total) | {"tracks": float(len(self.tracks))}

  @property
  def table(self) -> dict[str, dict[str, float]]:
    """The same of each track."""
    return {name: _numbers(t.score) for name, t in self.tracks.items()}

  @property
  def fps(self) -> float:
    """Frames a second, reading left out."""
    return (sum(len(t.seconds) for t in self.tracks.values())
            / max(sum(t.seconds.sum() for t in self.tracks.values()), 1e-9))


def make(data: Any, read: Read, *, benchmark: str = "otb", matcher: str = "ridge",
         matcher_args: dict | None = None, protocol: str | Protocol = "corrected",
         changes: dict | None = None, progress: bool = True) -> "TrackingEvaluator":
  """The evaluator of a data set of objects' tracks.

  Args:
    data: has `records`, or is a sequence of them; a record has an `id`, and `truth["boxes"]`
      [T, 4], left, top, width and height counted from 0, NaN where the object is absent, which it
      isn't in the first frame; and perhaps `truth["cover"]` [T].
    read: yields a record's T frames.
    benchmark: "otb" or "got10k": what is measured.
    matcher: "ridge" tracks by any features, "siamese" by a trained head's projections.
    matcher_args: of `matchers.Ridge`.
    protocol: a name in `tracker.PROTOCOLS`, "released" for numbers that compare with those
      published, or a `Protocol`.
    changes: fields of the protocol to change.
    progress: shows it and the remaining time, where it takes longer than seconds.

  Raises:
    ConfigError: no record, an id that occurs twice, boxes of another form, or an impossible
      setting.
  """
  records = tuple(getattr(data, "records", data))
  ids = [record.id for record in records]
  if not records or len(set(ids)) < len(ids):
    raise ConfigError("tracking: no track to evaluate on" if not records else
                      "tracking: an id occurs twice among the tracks")
  for name, value, known in (("benchmark", benchmark, BENCHMARKS), ("matcher", matcher, MATCHERS)):
    if value not in known:
      raise ConfigError(f"tracking: {name}={value!r} is unknown; choose one of {', '.join(known)}")
  if isinstance(protocol, str) and protocol not in PROTOCOLS:
    raise ConfigError(f"tracking: protocol={protocol!r} is unknown; choose one of "
                      f"{', '.join(PROTOCOLS)}")
  for record in records:
    _boxes(record)
  try:
    chosen = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    chosen = dataclasses.replace(chosen, **(changes or {}))
    MATCHERS[matcher](None, **(matcher_args or {}))
  except (TypeError, ValueError) as e:
    raise ConfigError(f"tracking: {e}") from e
  return TrackingEvaluator(records, read, benchmark, matcher, matcher_args or {}, chosen, progress)


@dataclasses.dataclass(frozen=True)
class TrackingEvaluator:
  """Tracks every object from its first box on; see `make`."""

  records: Sequence[Any]
  read: Read
  benchmark: str
  matcher: str
  matcher_args: dict
  protocol: Protocol
  progress: bool

  def __call__(self, embed: Embed) -> dict[str, float]:
    """`{"success", "precision", "success_rate"}` or `{"AO", "SR0.5", "SR0.75"}`, and `tracks`."""
    return self.report(embed).numbers

  def report(self, embed: Embed, folder: str | pathlib.Path | None = None,
             name: str = "vssl_jax", kept: Kept | None = None) -> Report:
    """Evaluates an `embed`: `{"image": uint8 [B, H, W, 3]}` to `{"features": [B, h, w, D]}`.

    Or, for "siamese", to `{"exemplar", "search": [B, h, w, D]}`.

    Args:
      folder: results are written there in the toolkit's layout; None for nowhere.
      name: of the tracker, there.
      kept: see `evaluate`.
    """
    matcher = MATCHERS[self.matcher](embed, **self.matcher_args)
    return self.evaluate(lambda frames, box: track(frames, box, matcher, self.protocol), folder,
                         name, kept)

  def identity(self, folder: str | pathlib.Path | None = None, name: str = "identity") -> Report:
    """The baseline in which no object moves."""
    return self.evaluate(lambda frames, box: ((box, 0.0) for _ in frames), folder, name)

  def evaluate(self, tracker: Track, folder: str | pathlib.Path | None = None,
               name: str = "tracker", kept: Kept | None = None) -> Report:
    """Evaluates any tracker: from frames and the first box to boxes and seconds.

    Args:
      kept: what an earlier call that was interrupted found, by id; gets the others added.
    """
    found, kept = {}, {} if kept is None else kept
    for record in log.stage(self.records, name="track", unit="tracks", show=self.progress):
      with named(record):
        if (tracked := kept.get(record.id)) is None:
          tracked = kept[record.id] = self._tracked(record, tracker)
        found[record.id] = self._found(record, **tracked)
        if folder is not None:
          toolkit_files.write(folder, self.benchmark, name, record.id, found[record.id].boxes,
                              found[record.id].seconds)
    return Report(self.benchmark, found)

  def _tracked(self, record: Any, tracker: Track) -> dict[str, np.ndarray]:
    """Boxes as of `Found`, seconds, and the size [2] of a frame, height first."""
    truth, size = _boxes(record), None

    def frames():
      nonlocal size
      for i, frame in enumerate(self.read(record)):
        shape = np.shape(frame)
        size = size or shape
        if shape != size or len(size) != 3 or size[2] != 3:
          raise ValueError(f"frame {i} is {shape}, the first {size}; should be the same [H, W, 3]")
        yield frame

    tracked = list(tracker(frames(), truth[0]))
    if len(tracked) != len(truth):
      raise ValueError(f"{len(tracked)} frames, but boxes for {len(truth)}")
    boxes, seconds = (np.array(column, np.float64) for column in zip(*tracked, strict=True))
    return {"boxes": toolkit_files.rounded(boxes + (1, 1, 0, 0)), "seconds": seconds,
            "size": np.array(size[:2])}

  def _found(self, record: Any, boxes: np.ndarray, seconds: np.ndarray, size: np.ndarray) -> Found:
    truth = _boxes(record) + (1, 1, 0, 0)
    if self.benchmark == "otb":
      return Found(boxes, seconds, metrics.otb(truth, boxes))
    height, width = size.tolist()
    cover = record.truth.get("cover")
    return Found(boxes, seconds, metrics.got10k(truth, boxes, (width, height), cover))


def _numbers(score: Any) -> dict[str, float]:
  if isinstance(score, metrics.Curves):
    return {"success": score.success_score, "precision": score.precision_score,
            "success_rate": score.success_rate}
  return {"AO": score.ao, "SR0.5": score.sr50, "SR0.75": score.sr75}


def _boxes(record: Any) -> np.ndarray:
  boxes = record.truth.get("boxes")
  if boxes is None or np.ndim(boxes) != 2 or np.shape(boxes)[1] != 4 or not len(boxes):
    raise ConfigError(f"{record.id}: truth['boxes'] should be [T, 4], is "
                      f"{'absent' if boxes is None else np.shape(boxes)}")
  boxes = np.asarray(boxes, np.float64)
  if not np.isfinite(boxes[0]).all() or (boxes[0, 2:] <= 0).any():
    raise ConfigError(f"{record.id}: the first box is {boxes[0]}, without an area; begin where the "
                      "object is seen, or leave the track out")
  return boxes
