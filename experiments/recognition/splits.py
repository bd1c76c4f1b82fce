"""Evaluations on several splits of a data set: their mean and spread are what is published."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Spread:
  """What several splits have in common.

  Attributes:
    mean: of them.
    std: of a sample of splits.
    splits: how many.
  """

  mean: float
  std: float
  splits: int

  def __str__(self) -> str:
    return "-" if np.isnan(self.mean) else f"{self.mean:.1f} ± {self.std:.1f}"


def groups(evals: Mapping, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
  """"linear" -> ("linear1", "linear2", ...): evaluations that are one on several splits.

  Their names differ by the number at the end, and their settings by `data.train` and `data.test`.

  Args:
    evals: the group of a config.
    names: in it, of those that are evaluated.
  """
  by_stem: dict[str, list[str]] = {}
  for name in names:
    if found := re.fullmatch(r"(.*\D)\d+", name):
      by_stem.setdefault(found[1], []).append(name)
  return {stem: tuple(members) for stem, members in by_stem.items()
          if len(members) > 1 and all(_rest(evals[name]) == _rest(evals[members[0]])
                                      for name in members)
          and len({(evals[name].data.train, evals[name].data.test) for name in members}) == len(
              members)}


def _rest(settings) -> dict:
  """All settings of an evaluation but its split."""
  settings = settings.to_dict()
  return settings | {"data": {k: v for k, v in settings["data"].items()
                              if k not in ("train", "test")}}


def over(splits: Iterable[Mapping[str, float]]) -> dict[str, Spread]:
  """Mean and spread of each number that all splits have."""
  splits = list(splits)
  columns = {key: [x[key] for x in splits] for key in splits[0] if all(key in x for x in splits)}
  return {key: Spread(float(np.mean(column)), float(np.std(column, ddof=1)), len(column))
          for key, column in columns.items()}
