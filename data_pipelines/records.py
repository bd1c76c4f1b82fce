"""What every data set is, once it is read: videos, and for retrieval who matches whom."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
  """One example of any data set: a video, a part of one, a list of pictures, or one picture.

  Pixel coordinates are (x, y), x to the right; integers are pixel centres, (0, 0) the first pixel.
  Readers subtract 1 from data sets that count from 1.

  Attributes:
    id: unique name within the data set.
    video: a video file's path, or the bytes of a whole file, or the address of an example in
      prepared shards (`SHARD#ROW`), which holds everything else below; "" where `frames` is given.
    frames: encoded pictures (JPEG, PNG) in order, by path or as bytes; () for a video.
    start, end: the part to use, in seconds from the first frame; None for the whole.
    fps: pictures a second in `frames`; None where it isn't known, or for a video.
    label: class number, an index into the data set's `classes`; -1 for none.
    text: the class's name, a caption or a search term; "" for none.
    splits: the official splits that it belongs to, where these overlap.
    masks: label maps (PNG, indexed or grey) by path or as bytes, one for each of `frames`, "" for
      a frame without; () for none.
    truth: arrays over the T frames, as far as the data set has them:
      "boxes" float32 [T, 4], x and y of the first pixel, width, height; NaN where absent;
      "points" float32 [T, J, 2]; "visible" bool [T, J] or [T]; "cover" int [T], 0 (hidden) to 8;
      "numbers" int64 [T], numbers of the frames in the video that they were taken from.
    edit_seed: None, or the seed of a random edit (`edits.random_edit`) applied to the frames
      after decoding, which makes this record a near-duplicate of the same video without it.
    edit_strength: of that edit, a key of `edits.STRENGTHS`: "" or "strong".
  """

  id: str
  video: str | bytes = ""
  frames: tuple[str | bytes, ...] = ()
  start: float | None = None
  end: float | None = None
  fps: float | None = None
  label: int = -1
  text: str = ""
  splits: tuple[str, ...] = ()
  masks: tuple[str | bytes, ...] = ()
  truth: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, compare=False)
  edit_seed: int | None = None
  edit_strength: str = ""


@dataclasses.dataclass(frozen=True)
class Dataset:
  """One split of a data set, on disk or in shards.

  Attributes:
    name: of the data set.
    split: of the data set.
    records: random access; those whose files are there.
    classes: class names in the order of their numbers; () where there are none.
    missing: ids that the data set lists and that are not on disk, sorted.
    note: a sentence for reports, for example what was left out and why; "" for none.
  """

  name: str
  split: str
  records: Sequence[Record]
  classes: tuple[str, ...] = ()
  missing: tuple[str, ...] = ()
  note: str = ""


@dataclasses.dataclass(frozen=True)
class RetrievalData:
  """Videos, training pairs and an evaluation.

  Attributes:
    name: shown in reports.
    videos: id -> record, of everything below.
    pairs: (anchor, positive) ids for training.
    background: ids of videos that serve as training negatives.
    groups: id -> number; videos with the same number are never each other's negatives. Ids that
      are absent are unrelated to everything.
    queries, database: ids for evaluation. Queries and the videos relevant to them are not trained
      on, unless `note` says so; other videos of the database may be, as distractors.
    annotation: query -> label (ND, DS, CS, IS) -> relevant ids; other protocols have other labels.
    note: one or two sentences for the report: what the numbers on this data set mean.
    training_note: the same for a model that was trained on its pairs.
    protocol: how it is measured, a name in `vssl_jax.evaluators.protocols`, which also says what
      the annotation holds; protocol_args: options of it.
    missing: ids that the lists name and that are not on disk; none of them is in the above.
  """

  name: str
  videos: dict[str, Record]
  pairs: list[tuple[str, str]]
  background: list[str]
  groups: dict[str, int]
  queries: list[str]
  database: list[str]
  annotation: dict[str, dict[str, list[str]]]
  note: str = ""
  training_note: str = ""
  protocol: str = "fivr"
  protocol_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  missing: tuple[str, ...] = ()

  @property
  def train_ids(self) -> list[str]:
    """Ids used in training, sorted."""
    return sorted({i for pair in self.pairs for i in pair} | set(self.background))

  @property
  def eval_ids(self) -> list[str]:
    """Ids used in evaluation, sorted."""
    return sorted({*self.queries, *self.database})
