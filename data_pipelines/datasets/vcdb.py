"""VCDB: partial copies among 528 core videos, and some 100,000 background videos.

  core_dataset/baggio_penalty_1994/5c5714c0a56fd2a96f99db2f59b0d03659d77cdf.flv
  background_dataset/.../12ixRGWyemY.mp4
  annotations/vcdb.json.gz                    the lists; see docs/data/annotations.md

Videos are found by the ids in the lists, wherever they lie below the folder (see `listed`).
"""

import numpy as np

from data_pipelines.datasets import annotations as lists
from data_pipelines.datasets import layout, listed
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record, RetrievalData

SPLITS = {"all": {"videos": 100_306}, "core": {"videos": 528}, "background": {"videos": 99_778},
          "distractors": {"videos": 99_176}}
PREPARED = ("all",)
DATABASES = ("core", "all")

_RIGHT = "core_dataset/QUERY/ID.flv and background_dataset/ID.mp4"


def read(root: str, split: str = "all", *, annotations: str = "",
         allow_missing: bool = False) -> Dataset:
  """Reads a folder of VCDB's videos; ids are file names without suffix.

  Args:
    root: the folder that holds the videos.
    split: "core", "background", "distractors" (the background that training uses) or "all".
      `Record.splits` has those that a video belongs to, besides "all".
    annotations: the folder of `vcdb.json.gz`; "" for `annotations` below `root`.
    allow_missing: go on, with a warning, where listed videos are missing.

  Raises:
    DataError: no such folder, split or list, none of the videos is there, or some are missing.
  """
  layout.check_split("vcdb", split, SPLITS)
  folder = layout.root_folder("vcdb", root)
  known = lists.read_vcdb(lists.folder(folder, annotations))
  members = {"core": known.core, "background": known.background, "distractors": known.distractors}
  splits: dict[str, tuple[str, ...]] = {}
  for name, ids in members.items():
    splits |= {i: (*splits.get(i, ()), name) for i in set(ids)}
  ids = members.get(split, (*known.core, *known.background))
  return listed.dataset("vcdb", split, folder, ids, expected=SPLITS[split], right=_RIGHT,
                        allow_missing=allow_missing,
                        record=lambda i, path: Record(i, path, splits=splits[i]))


def make(*, root: str, annotations: str = "", allow_missing: bool = False,
         database: str = "core", holdout: float = 0.0, seed: int = 0) -> RetrievalData:
  """Training and evaluation on VCDB (tca spec 8 and 11), of the videos that are on disk.

  Training pairs are the published ones in stored orientation, the background are the distractors.
  Core videos that pairs link, directly or over others, are one group. Evaluation: every core video
  is a query for those that share a segment with it (label DS), among the other core videos and,
  if wanted, the background.

  Args:
    root, annotations, allow_missing: as in `read`.
    database: "core", or "all" for the background too, as the released code has it.
    holdout: share of the core's groups that are kept from training and that alone are queries. At
      0, the paper's recipe, all pairs are trained on, and the evaluation is on training videos.
    seed: of the choice of groups.

  Raises:
    DataError: as `read`; or a setting is out of range.
  """
  if database not in DATABASES:
    raise DataError(f"data.database={database!r} is unknown; choose {' or '.join(DATABASES)}")
  if not 0 <= holdout < 1:
    raise DataError(f"data.holdout is a share of the groups, at least 0 and below 1, got {holdout}")
  known = lists.read_vcdb(lists.folder(layout.root_folder("vcdb", root), annotations))
  found = listed.load(read, root, "all", annotations=annotations,
                      allow_missing=allow_missing)
  videos, groups, partners = {r.id: r for r in found.records}, known.groups, known.partners
  held_out = _held_out(len(set(groups.values())), holdout, seed)
  core = [i for i in known.core if i in videos]
  queries = [i for i in core if not held_out or groups[i] in held_out]
  background = [i for i in videos if i not in groups]
  return RetrievalData(
      name="vcdb",
      videos=videos,
      pairs=[pair for pair in known.pairs
             if groups[pair[0]] not in held_out and pair[0] in videos and pair[1] in videos],
      background=[i for i in dict.fromkeys(known.distractors) if i in videos],
      groups={i: groups[i] for i in core},
      queries=queries,
      database=core + background if database == "all" else core,
      annotation={i: {"DS": list(partners[i])} for i in queries},
      note=found.note,
      training_note=_note(held_out, len(queries)),
      protocol="vcdb", missing=found.missing)


def _held_out(n_groups: int, holdout: float, seed: int) -> set[int]:
  """Numbers of the groups that are kept from training; at least one where any are wanted."""
  count = min(max(1, round(holdout * n_groups)), n_groups - 1) if holdout else 0
  return set(np.random.default_rng(seed).permutation(n_groups)[:count].tolist())


def _note(held_out: set[int], n_queries: int) -> str:
  if held_out:
    return (f"The queries are the {n_queries} core videos of {len(held_out)} groups that were kept "
            "from training.")
  return ("All core videos were trained on, so these numbers show how well training went, not how "
          "well it serves other videos: for that evaluate on FIVR, or set data.holdout.")
