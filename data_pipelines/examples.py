"""Records as examples in the serialised form of TFDS, and back. Needs no TensorFlow.

All data sets have the same features. Videos, pictures and masks are whole encoded files; numbers
that are not known are NaN, what a record doesn't have is empty. The form knows no float64: `start`,
`end` and `fps` are rounded to 24 bits, and exact in the index of the shards.
"""

import functools
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer

from data_pipelines.errors import DataError, VideoError
from data_pipelines.records import Record
from data_pipelines.transcode import Stored

MAX_BYTES = 2_000_000_000  # of one example; protocol buffers end at 2 GiB
# As stored -> as in `Record.truth`.
_TRUTH = {"boxes": (np.float32, np.float32), "points": (np.float32, np.float32),
          "visible": (np.int64, np.bool_), "cover": (np.int64, np.int64),
          "numbers": (np.int64, np.int64)}
_NO_JOINTS = 0


@functools.cache
def features() -> tfds.features.FeaturesDict:
  """What every example holds.

  T frames with J points each: "boxes" [T, 4]; "points" [T * J, 2], frame after frame; "visible" [T]
  or [T * J]; "cover" and "numbers" [T]. "n_points" is J, "n_visible" 0 where `visible` is [T], else
  J. Everything else is as in `records.Record` and `transcode.Stored`.
  """
  kinds = tfds.features
  file = functools.partial(kinds.Tensor, shape=(), dtype=np.object_)
  whole, real = kinds.Scalar(np.int64), kinds.Scalar(np.float32)
  return kinds.FeaturesDict({
      "id": kinds.Text(), "label": whole, "text": kinds.Text(),
      "splits": kinds.Sequence(kinds.Text()),
      "video": file(), "frames": kinds.Sequence(file()), "masks": kinds.Sequence(file()),
      "start": real, "end": real, "fps": real,
      "n_frames": whole, "height": whole, "width": whole, "rotation": whole,
      "boxes": kinds.Tensor(shape=(None, 4), dtype=np.float32),
      "points": kinds.Tensor(shape=(None, 2), dtype=np.float32),
      "visible": kinds.Tensor(shape=(None,), dtype=np.int64),
      "cover": kinds.Tensor(shape=(None,), dtype=np.int64),
      "numbers": kinds.Tensor(shape=(None,), dtype=np.int64),
      "n_points": whole, "n_visible": whole,
  })


def encode(stored: Stored) -> bytes:
  """Serialises an example; reads the files that its record names by path.

  Raises:
    VideoError: one of them can't be read (any more), or the example would be above 2 GB.
    DataError: the record has a truth of a name or shape that shards can't hold, or an edit.
  """
  record = stored.record
  if record.edit_seed is not None:
    raise DataError(f"{record.id}: records with an edit_seed can't be stored; store the video and "
                    "set edit_seed on what is read")
  files = {"video": _file(record.video), "frames": [_file(f) for f in record.frames],
           "masks": [_file(m) for m in record.masks]}
  size = len(files["video"]) + sum(map(len, files["frames"])) + sum(map(len, files["masks"]))
  if size > MAX_BYTES:
    raise VideoError(record.id, f"would take {size / 1e9:.1f} GB, more than the 2 GB that an "
                                "example can have")
  example = features().encode_example({
      "id": record.id, "label": record.label, "text": record.text, "splits": list(record.splits),
      **files,
      "start": _number(record.start), "end": _number(record.end), "fps": _number(stored.fps),
      "n_frames": stored.n_frames, "height": stored.height, "width": stored.width,
      "rotation": stored.rotation, **_flat(record)})
  # In TFDS's own bytes the order of the features differs from process to process.
  return _serializer().get_tf_example(example).SerializeToString(deterministic=True)


def decode(data: bytes) -> Record:
  """The record that `encode` was given, with bytes in place of paths; raises ValueError."""
  return to_record(features().deserialize_example_np(data))


def to_record(example: Mapping[str, Any]) -> Record:
  """An element of `tfds.data_source(...)` as a record."""
  frames = tuple(example["frames"])
  fps = float(example["fps"])
  return Record(
      id=example["id"].decode(), video=example["video"] or "", frames=frames,
      start=_unless_nan(example["start"]), end=_unless_nan(example["end"]),
      fps=_unless_nan(fps) if frames else None, label=int(example["label"]),
      text=example["text"].decode(), splits=tuple(s.decode() for s in example["splits"]),
      masks=tuple(mask or "" for mask in example["masks"]), truth=_truth(example))


@functools.cache
def _serializer() -> example_serializer.ExampleSerializer:
  return example_serializer.ExampleSerializer(features().get_serialized_info())


def _file(source: str | bytes) -> bytes:
  """The bytes of a file; b"" for "", where there is none."""
  if isinstance(source, bytes) or not source:
    return source or b""
  try:
    with open(source, "rb") as file:
      return file.read()
  except OSError as e:
    raise VideoError(os.fspath(source), f"can't be read ({e.strerror})") from e


def _flat(record: Record) -> dict[str, Any]:
  for name, array in record.truth.items():
    shape = np.shape(array)
    right = {"boxes": shape[1:] == (4,), "points": len(shape) == 3 and shape[2] == 2,
             "visible": len(shape) in (1, 2), "cover": len(shape) == 1, "numbers": len(shape) == 1}
    if not right.get(name):
      raise DataError(f"{record.id}: shards can't hold truth {name!r} of shape {list(shape)}")
  found = {name: np.asarray(record.truth.get(name, []), stored)
           for name, (stored, _) in _TRUTH.items()}
  points, visible = found["points"], found["visible"]
  return {**found, "boxes": found["boxes"].reshape(-1, 4), "points": points.reshape(-1, 2),
          "visible": visible.reshape(-1),
          "n_points": points.shape[1] if points.ndim == 3 else _NO_JOINTS,
          "n_visible": visible.shape[1] if visible.ndim == 2 else _NO_JOINTS}


def _truth(example: Mapping[str, Any]) -> dict[str, np.ndarray]:
  found = {}
  for name, (_, own) in _TRUTH.items():
    array = np.asarray(example[name])
    if array.size:
      found[name] = array.astype(own)
  if "points" in found:
    found["points"] = found["points"].reshape(-1, int(example["n_points"]), 2)
  if "visible" in found and int(example["n_visible"]) != _NO_JOINTS:
    found["visible"] = found["visible"].reshape(-1, int(example["n_visible"]))
  return found


def _number(value: float | None) -> float:
  return math.nan if value is None else value


def _unless_nan(value: float) -> float | None:
  return None if math.isnan(value) else float(value)
