"""Frames of tracks in order, and tracks of the drawn data set.

    tracking.make(otb.read(root), tracks.frames)
    tracking.make(tracks.drawn(procedural.read(cache, "eval", truth=True)), tracks.frames)
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from data_pipelines import sample
from data_pipelines.datasets.procedural import truth_path
from data_pipelines.errors import DataError
from data_pipelines.media import open_media
from data_pipelines.records import Dataset, Record
from data_pipelines.render import load_truth


def frames(record: Record) -> Iterator[np.ndarray]:
  """The frames of a record's part one by one, uint8 [H, W, 3].

  Raises:
    VideoError: it can't be read.
  """
  with open_media(record) as media:
    numbers = range(*sample.part(media.times, record.start, record.end))
    if hasattr(media, "stream"):
      yield from media.stream(np.array(numbers))
    else:
      for number in numbers:
        yield media.frames([number])[0]


def drawn(data: Dataset, *, least: int = 8, side: float = 8) -> Dataset:
  """The main objects of the procedural data set while they are to be seen, one track a shot.

  A track never crosses a cut, ends before the object disappears, and has an id like `q003#2`, the
  second of its video. `truth["boxes"]` is of the track's frames alone. Edited videos have no truth
  and are left out.

  Args:
    data: of `procedural.read` with truth=True.
    least: frames of the shortest track.
    side: least width and height of a first box, in pixels.

  Raises:
    DataError: no track is left.
  """
  records = [track for record in data.records if "boxes" in record.truth
             for track in _tracks(record, least, side)]
  if not records:
    raise DataError(f"{data.name} {data.split}: no track of {least} frames; read it with "
                    "truth=True, or ask for shorter ones")
  return dataclasses.replace(data, records=records)


def _tracks(record: Record, least: int, side: float) -> Iterator[Record]:
  boxes, shot = record.truth["boxes"], load_truth(truth_path(record.video)).shot
  with open_media(record) as media:
    times = media.times
  seen = np.isfinite(boxes).all(1)
  cut = np.flatnonzero((np.diff(shot) != 0) | (np.diff(seen.astype(int)) != 0)) + 1
  ends = [0, *cut.tolist(), len(boxes)]
  count = 0
  for first, stop in itertools.pairwise(ends):
    if seen[first] and stop - first >= least and (boxes[first, 2:] >= side).all():
      count += 1
      end = float(times[stop]) if stop < len(times) else None
      yield Record(f"{record.id}#{count}", record.video, start=float(times[first]), end=end,
                   truth={"boxes": boxes[first:stop]})
