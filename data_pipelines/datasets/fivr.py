"""FIVR-200K and FIVR-5K: retrieval of near-duplicate and same-incident videos of news events.

  videos/12ixRGWyemY.mp4                      files named by YouTube id, flat or in sub-folders
  annotations/fivr.json.gz                    the lists; see docs/data/annotations.md
  annotations/fivr_200k_ids.txt.gz

Many of the links are dead: most people have 60 to 90 % of the videos. What is there is evaluated,
as the protocol says (tca spec 11), and counted in `note`.
"""

from data_pipelines.datasets import annotations as lists
from data_pipelines.datasets import layout, listed
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record, RetrievalData

SPLITS = {"200k": {"videos": 225_960}, "5k": {"videos": 5_049}}
PREPARED = ("200k",)
LABELS = ("annotation", "annotation_official_latest")

_RIGHT = "videos named by their ids: ID.mp4 or SUBFOLDER/ID.webm"


def read(root: str, split: str = "200k", *, annotations: str = "",
         allow_missing: bool = False) -> Dataset:
  """Reads a folder of FIVR's videos; ids are YouTube ids.

  Args:
    root: the folder that holds the videos.
    split: "200k" or "5k", queries and database together; the first holds the second.
      `Record.splits` has those that a video belongs to.
    annotations: the folder of `fivr.json.gz` and `fivr_200k_ids.txt.gz`; "" for `annotations`
      below `root`.
    allow_missing: go on, with a warning, where listed videos are missing.

  Raises:
    DataError: no such folder, split or list, none of the videos is there, or some are missing.
  """
  layout.check_split("fivr", split, SPLITS)
  folder = layout.root_folder("fivr", root)
  known = lists.read_fivr(lists.folder(folder, annotations))
  small = {*known.queries_5k, *known.database_5k}

  def record(video_id: str, path: str) -> Record:
    return Record(video_id, path, splits=("200k", "5k") if video_id in small else ("200k",))

  queries, database = _members(known, split)
  return listed.dataset("fivr", split, folder, (*database, *queries), expected=SPLITS[split],
                        right=_RIGHT, allow_missing=allow_missing, record=record)


def make(*, root: str, annotations: str = "", allow_missing: bool = False, split: str = "200k",
         labels: str = "annotation", hard: bool = False, micro: bool = False) -> RetrievalData:
  """The evaluation on FIVR, of the videos that are on disk; there is nothing to train on.

  Labels are ND, DS, CS, IS, and DA where `labels` has them whole. A query may be in the database;
  it is never ranked against itself.

  Args:
    root, annotations, allow_missing: as in `read`.
    split: "200k" (100 queries) or "5k" (50).
    labels: which label file, see docs/data/annotations.md: "annotation", that published systems
      are evaluated with, or "annotation_official_latest", which DAVR needs. `note` says which.
    hard: without the easy duplicates, the 'hard' variant of S2VS.
    micro: micro-AP too, over all pairs of a query and a video in one list, as S2VS has it.

  Raises:
    DataError: as `read`; or the lists have no such labels, or no easy duplicates.
  """
  if labels not in LABELS:
    raise DataError(f"data.labels={labels!r} is unknown; choose {' or '.join(LABELS)}")
  known = lists.read_fivr(lists.folder(layout.root_folder("fivr", root), annotations))
  if not getattr(known, labels):
    other = next(name for name in LABELS if name != labels)
    raise DataError(f"data.labels={labels}: fivr.json.gz has no such labels; choose {other}")
  if hard and not known.easy_duplicates:
    raise DataError("data.hard=True: fivr.json.gz has no 'easy_duplicates'; add them (see "
                    "docs/data/annotations.md), or set data.hard=False")
  found = listed.load(read, root, split, annotations=annotations,
                      allow_missing=allow_missing)
  every, database = _members(known, split)
  easy = known.easy_duplicates.difference(every) if hard else frozenset()
  videos = {r.id: r for r in found.records if r.id not in easy}
  queries, annotation = [i for i in every if i in videos], _annotation(known, labels)
  n_easy = sum(r.id in easy for r in found.records)
  notes = (f"FIVR-{split.upper()}; relevant videos are those of the label file '{labels}'.",
           f"Hard variant: {n_easy:,} easy duplicates are left out." if hard else "",
           listed.queries_note(queries, every), found.note)
  return RetrievalData(
      name="fivr", videos=videos, pairs=[], background=[], groups={}, queries=queries,
      database=[i for i in database if i in videos],
      annotation={i: annotation[i] for i in queries},
      note=" ".join(filter(None, notes)), protocol_args={"micro": micro}, missing=found.missing)


def _annotation(known: lists.Fivr, labels: str) -> dict[str, dict[str, list[str]]]:
  """The older file lists a tenth of the DA videos: no ranking can be measured by that."""
  out = {"DA"} if labels == "annotation" else set()
  return {query: {label: ids for label, ids in entry.items() if label not in out}
          for query, entry in getattr(known, labels).items()}


def _members(known: lists.Fivr, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Queries and database of a split."""
  if split == "5k" and not known.database_5k:
    raise DataError("fivr 5k: fivr.json.gz has no 'queries_5k' and 'database_5k'; add them (see "
                    "docs/data/annotations.md), or use the split 200k")
  return (getattr(known, f"queries_{split}"), getattr(known, f"database_{split}"))
