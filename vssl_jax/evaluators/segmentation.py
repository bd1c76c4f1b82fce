"""Video object segmentation: how well features carry the first frame's masks (corrflow spec 11).

Label maps have the size of their frames: 0 background, 1 ... K objects, 255 void. What is asked of
a prediction is what the official tool asks:
- Objects are 1 ... K, the largest label of the first annotation. Those that appear only later, with
  larger labels, are background: nobody told where they are.
- Numbers that the first annotation leaves out (1 and 5, say) are objects that nothing is predicted
  for: 1 in frames where they aren't, 0 where they are. A warning says so.
- An object that leaves the picture counts as 1 while neither truth nor prediction shows it; when it
  comes back it is measured as before.
- Void is background, in the first frame and later.
- The first and the last frame don't count, so a sequence has at least three.
"""

import collections
import dataclasses
import itertools
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vssl_jax import log
from vssl_jax.evaluators import masks
from vssl_jax.evaluators import propagation as propagate_labels
from vssl_jax.evaluators.dense import Embed, Kept, checked, features_of, named
from vssl_jax.metrics import segmentation as metrics
from vssl_jax.types import ConfigError

# Frames of a record in order: uint8 [H, W, 3], and integer labels [H, W] or None.
Read = Callable[[Any], Iterable[tuple[np.ndarray, np.ndarray | None]]]


@dataclasses.dataclass(frozen=True)
class Report:
  """What one evaluation found.

  Attributes:
    sequences: name -> J and F [K, T-2] of every object and frame but the first and the last.
  """

  sequences: dict[str, metrics.Sequence]

  @property
  def numbers(self) -> dict[str, float]:
    """`metrics.NAMES` over all objects, and `objects`."""
    count = sum(len(s.j) for s in self.sequences.values())
    return metrics.total(self.sequences) | {"objects": float(count)}

  @property
  def table(self) -> dict[str, dict[str, metrics.Statistics]]:
    """`SEQUENCE_OBJECT` -> {"J", "F"} -> mean, recall and decay."""
    return {f"{name}_{k + 1}": {"J": metrics.statistics(s.j[k]), "F": metrics.statistics(s.f[k])}
            for name, s in self.sequences.items() for k in range(len(s.j))}


def make(data: Any, read: Read, *, protocol: str | propagate_labels.Protocol = "crw",
         changes: dict | None = None, merge: bool = False, frames: int | None = None,
         progress: bool = True) -> "SegmentationEvaluator":
  """The evaluator of a data set of sequences with label maps.

  Args:
    data: has `records`, or is a sequence of them; a record has an `id`.
    read: yields a record's frames and label maps, one at a time; see the module for what they
      may hold.
    protocol: a name in `propagation.PROTOCOLS`, or a `Protocol`.
    changes: fields of the protocol to change.
    merge: all that isn't background is one object, as in DAVIS-2016, whose masks are 0 and 255.
    frames: use only this many of each sequence; None for all.
    progress: shows it and the remaining time, where it takes longer than seconds.

  Raises:
    ConfigError: no record, an id that occurs twice, or an impossible protocol.
  """
  records = tuple(getattr(data, "records", data))
  ids = [record.id for record in records]
  if not records or len(set(ids)) < len(ids):
    raise ConfigError("segmentation: no sequence to evaluate on" if not records else
                      "segmentation: an id occurs twice among the sequences")
  if frames is not None and frames < 3:
    raise ConfigError(f"frames={frames}: J and F leave out the first and the last, so at least 3")
  return SegmentationEvaluator(records, read, choose_protocol(protocol, changes), merge, frames,
                               progress)


def choose_protocol(protocol, changes) -> propagate_labels.Protocol:
  """The named or given protocol, with changes."""
  try:
    if isinstance(protocol, str):
      return propagate_labels.protocol(protocol, **(changes or {}))
    return dataclasses.replace(protocol, **(changes or {}))
  except (TypeError, ValueError) as e:
    raise ConfigError(str(e)) from e


@dataclasses.dataclass(frozen=True)
class SegmentationEvaluator:
  """Propagates the first frame's labels through every sequence and measures J and F; see `make`."""

  records: Sequence[Any]
  read: Read
  protocol: propagate_labels.Protocol
  merge: bool
  frames: int | None
  progress: bool

  def __call__(self, embed: Embed) -> dict[str, float]:
    """`{"J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", ..., "objects"}`."""
    return self.report(embed).numbers

  def report(self, embed: Embed, folder: str | pathlib.Path | None = None,
             kept: Kept | None = None) -> Report:
    """Evaluates an `embed` as of `dense.features_of`.

    Args:
      embed: makes the features of a frame.
      folder: predictions are written there in DAVIS's layout; None for nowhere.
      kept: what an earlier call that was interrupted found, by id, when it wrote these; gets the
        others added.
    """
    return self._report(lambda record: self.predictions(record, embed), folder, kept)

  def identity(self, folder: str | pathlib.Path | None = None) -> Report:
    """The baseline that repeats the first label map."""
    def repeated(record):
      first = None
      with named(record):
        for frame, truth in self._frames(record):
          first = np.where(truth == metrics.VOID, 0, truth) if first is None else first
          yield frame, truth, first
    return self._report(repeated, folder)

  def predictions(self, record: Any, embed: Embed) -> Iterator[tuple]:
    """Yields frame, annotation and prediction [H, W] of each frame of one record."""
    with named(record):
      pairs = self._frames(record)
      first = next(pairs, None)
      if first is None:
        raise ValueError("no frames")
      waiting = collections.deque()  # not itertools.tee, which keeps 57 frames alive

      def frames():
        for pair in itertools.chain([first], pairs):
          waiting.append(pair)
          yield pair[0]

      features = features_of(frames(), embed, self.protocol.stride)
      for predicted in propagate_labels.propagate(features, first[1], self.protocol):
        yield *waiting.popleft(), predicted

  def _frames(self, record: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames and label maps, checked; all that isn't as the module says is a ValueError."""
    size = None
    for i, (frame, truth) in enumerate(itertools.islice(self.read(record), self.frames)):
      frame = checked(frame, i, size)
      size = frame.shape[:2]
      truth = _checked(truth, i, size, self.merge)
      if i == 0:
        _check_first(record.id, truth)
      yield frame, truth

  def _report(self, predict, folder, kept: Kept | None = None) -> Report:
    found, kept = {}, {} if kept is None else kept
    for record in log.stage(self.records, name="propagate", unit="sequences", show=self.progress):
      if (known := kept.get(record.id)) is not None:
        found[record.id] = metrics.Sequence(**known)
        continue
      truth, predicted = itertools.tee((t, p) for _, t, p in predict(record))
      predicted = (p for _, p in predicted)
      if folder is not None:
        predicted = masks.written(folder, record.id, predicted, _frame_names(record))
      found[record.id] = metrics.sequence(record.id, (t for t, _ in truth), predicted)
      kept[record.id] = found[record.id]._asdict()
    return Report(found)


def _frame_names(record) -> list[str]:
  """Of the files of a record's label maps, by which the official tool looks for predictions."""
  files = getattr(record, "masks", ())
  known = all(isinstance(file, str) and file for file in files)
  return [pathlib.PurePath(file).stem for file in files] if known else []


def _checked(truth, i: int, size: tuple[int, int], merge: bool) -> np.ndarray:
  """The label map of frame i as integers; with `merge`, uint8 0 and 1."""
  if truth is None:
    raise ValueError(f"frame {i} has no annotation; J and F need one for every frame. Leave the "
                     "sequence out, or cut it with frames=. A test set without published masks "
                     "is carried on sequence by sequence, as a video of your own")
  truth = np.asarray(truth)
  if truth.shape != size:
    raise ValueError(f"frame {i}: the annotation is {truth.shape}, the frame {size}; read both in "
                     "the same size, label maps by the nearest pixel")
  if truth.dtype.kind not in "iub":
    raise ValueError(f"frame {i}: the annotation is {truth.dtype}; give integers, the number of "
                     "the object at each pixel")
  if merge:
    return (truth > 0).astype(np.uint8)
  if truth.min() < 0 or truth.max() > metrics.VOID:
    raise ValueError(f"frame {i}: labels from {truth.min()} to {truth.max()}; number the objects "
                     "anew, 1 ... 254 (255 is void), or set merge=True if they are one object")
  return truth.astype(np.uint8)


def _check_first(name: str, truth: np.ndarray) -> None:
  """Is there an object, and are they numbered without gaps?"""
  labels = set(np.unique(truth).tolist()) - {0, metrics.VOID}
  if not labels and (truth == metrics.VOID).any():
    raise ValueError("frame 0: the annotation holds 0 and 255 alone, which is void here; "
                     "if these are masks of DAVIS-2016, set merge=True")
  if not labels:
    raise ValueError("frame 0: the label map shows no object; there is nothing to propagate. Begin "
                     "the sequence at a frame that shows one, or leave it out")
  if absent := sorted(set(range(1, max(labels))) - labels):
    warnings.warn(f"{name}: frame 0: the largest label is {max(labels)}, but {absent} are absent. "
                  "As in the official tool they count as objects, which nothing is predicted for; "
                  "number the objects 1 ... K if that isn't meant", stacklevel=2)
