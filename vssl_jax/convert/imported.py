"""What the readers of methods' checkpoints give."""

from typing import NamedTuple


class Imported(NamedTuple):
  """The variables that a checkpoint holds.

  Attributes:
    kind: which model it is of those that the method can be made of.
    params, batch_stats: variables of the method, float32 NumPy; `batch_stats` may be empty.
    settings: those of the model's settings that follow from the shapes.
    optional: groups of variables ("params.head") that a file may lack, each wholly there or wholly
      missing; the model's own stay.
  """

  kind: str
  params: dict
  batch_stats: dict
  settings: dict[str, int]
  optional: tuple[str, ...] = ()
