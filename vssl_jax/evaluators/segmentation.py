"""Video object segmentation: how well features carry the first frame's masks (corrflow spec 11)."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from vssl_jax.evaluators import masks
from vssl_jax.evaluators import propagation as propagate_labels
from vssl_jax.evaluators.dense import Embed, features_of, named
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
    read: yields a record's frames and label maps, one at a time: 0 background, 1 ... objects,
      255 void.
    protocol: a name in `propagation.PROTOCOLS`, or a `Protocol`.
    changes: fields of the protocol to change.
    merge: all that isn't background is one object, as in DAVIS-2016, whose masks are 0 and 255.
    frames: use only this many of each sequence; None for all.
    progress: a bar with the remaining time, on a terminal.

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

  def report(self, embed: Embed, folder: str | pathlib.Path | None = None) -> Report:
    """Evaluates an `embed` as of `dense.features_of`.

    Args:
      embed: makes the features of a frame.
      folder: predictions are written there in DAVIS's layout; None for nowhere.
    """
    return self._report(lambda record: self.predictions(record, embed), folder)

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
      frames, seen = itertools.tee(self._frames(record))
      first = next(seen, None)
      if first is None:
        raise ValueError("no frames")
      seen = itertools.chain([first], seen)
      features = features_of((frame for frame, _ in frames), embed, self.protocol.stride)
      labels = propagate_labels.propagate(features, first[1], self.protocol)
      # The label map is asked for first, so that what waits in `tee` is one frame.
      for predicted, (frame, truth) in zip(labels, seen, strict=True):
        yield frame, truth, predicted

  def _frames(self, record: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for i, (frame, truth) in enumerate(itertools.islice(self.read(record), self.frames)):
      if truth is None:
        raise ValueError(f"frame {i} has no annotation; J and F need one for every frame")
      truth = np.asarray(truth)
      if truth.shape != np.shape(frame)[:2]:
        raise ValueError(f"frame {i}: the annotation is {truth.shape}, the frame "
                         f"{np.shape(frame)[:2]}")
      if i == 0 and not self.merge and set(np.unique(truth)) == {0, metrics.VOID}:
        raise ValueError("the annotation holds 0 and 255 alone, which is void here; "
                         "if these are masks of DAVIS-2016, set merge=True")
      yield frame, (truth > 0).astype(np.uint8) if self.merge else truth

  def _report(self, predict, folder) -> Report:
    found = {}
    for record in tqdm(self.records, unit="sequence", desc="propagate", leave=False,
                       disable=None if self.progress else True):
      truth, predicted = itertools.tee((t, p) for _, t, p in predict(record))
      predicted = (p for _, p in predicted)
      if folder is not None:
        predicted = masks.written(folder, record.id, predicted)
      found[record.id] = metrics.sequence(record.id, (t for t, _ in truth), predicted)
    return Report(found)
