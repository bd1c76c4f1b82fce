"""What every data set is, once it is read: videos, and for retrieval who matches whom."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Video:
  """One video, or an edited copy of one.

  Attributes:
    id: unique name within the data set.
    path: the file to decode.
    start, end: the part to use, in seconds from the first frame; None for the whole video.
    edit_seed: None, or the seed of a random edit (`edits.random_edit`) applied to the frames
      after decoding, which makes this record a near-duplicate of the same path without it.
  """

  id: str
  path: str
  start: float | None = None
  end: float | None = None
  edit_seed: int | None = None


@dataclasses.dataclass(frozen=True)
class RetrievalData:
  """Videos, training pairs and an evaluation in the form of FIVR-200K.

  Attributes:
    name: shown in reports.
    videos: id -> record, of everything below.
    pairs: (anchor, positive) ids for training.
    background: ids of videos that serve as training negatives.
    groups: id -> number; videos with the same number are never each other's negatives. Ids that
      are absent are unrelated to everything.
    queries, database: ids for evaluation. Queries and the videos relevant to them are never trained
      on; other videos of the database may be, as distractors.
    annotation: query -> label (ND, DS, CS, IS) -> relevant ids.
    note: one or two sentences for the report: what the numbers on this data set mean.
  """

  name: str
  videos: dict[str, Video]
  pairs: list[tuple[str, str]]
  background: list[str]
  groups: dict[str, int]
  queries: list[str]
  database: list[str]
  annotation: dict[str, dict[str, list[str]]]
  note: str = ""

  @property
  def train_ids(self) -> list[str]:
    """Ids used in training, sorted."""
    return sorted({i for pair in self.pairs for i in pair} | set(self.background))

  @property
  def eval_ids(self) -> list[str]:
    """Ids used in evaluation, sorted."""
    return sorted({*self.queries, *self.database})
