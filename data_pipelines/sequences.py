"""A record's frames in order, one at a time, with the labels that belong to them."""

from collections.abc import Iterator

import numpy as np

from data_pipelines import sample, shards
from data_pipelines.errors import VideoError
from data_pipelines.media import open_media, read_masks
from data_pipelines.records import Record


def frames(record: Record) -> Iterator[np.ndarray]:
  """uint8 [H, W, 3] of each frame of a record's part, for videos of any length.

  Raises:
    VideoError: it can't be read.
  """
  return (frame for _, frame in _numbered(shards.resolve(record)))


def labelled(record: Record) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
  """The same with the label map [H, W] of each frame, None for a frame without.

  Label maps are `record.masks`, or `truth["labels"]` uint8 [T, H, W] over the frames of the part.

  Raises:
    VideoError: it or a label map can't be read.
  """
  record = shards.resolve(record)
  known = record.truth.get("labels")
  for k, (number, frame) in enumerate(_numbered(record)):
    if known is not None:
      if k >= len(known):
        raise VideoError(record.id, f"has label maps for {len(known)} frames only")
      yield frame, known[k]
    else:
      yield frame, read_masks(record, [number])[0] if record.masks and record.masks[number] else (
          None)


def _numbered(record: Record) -> Iterator[tuple[int, np.ndarray]]:
  with open_media(record) as media:
    numbers = range(*sample.part(media.times, record.start, record.end))
    if record.frames:
      yield from ((i, media.frames([i])[0]) for i in numbers)
    else:
      yield from zip(numbers, media.stream(numbers), strict=True)
