"""EVVE: given a video of an event, find the others of the same event.

  strokkur+geyser/1IHwLTip1nI.mp4             files named by YouTube id, flat or in sub-folders
  annotations/evve.json.gz                    the lists; see docs/data/annotations.md
"""

import dataclasses

from data_pipelines.datasets import annotations as lists
from data_pipelines.datasets import layout, listed
from data_pipelines.records import Dataset, Record, RetrievalData

SPLITS = {"all": {"videos": 2_993}, "queries": {"videos": 620}, "database": {"videos": 2_373}}
PREPARED = ("all",)

_RIGHT = "videos named by their ids: EVENT/ID.mp4 or ID.webm"


def read(root: str, split: str = "all", *, annotations: str = "",
         allow_missing: bool = False) -> Dataset:
  """Reads a folder of EVVE's videos; ids are YouTube ids.

  `label` and `text` are the event of a query or of a positive; -1 and "" for other videos.

  Args:
    root: the folder that holds the videos.
    split: "queries", "database" or "all"; `Record.splits` has which of the two a video is in.
    annotations: the folder of `evve.json.gz`; "" for `annotations` below `root`.
    allow_missing: go on, with a warning, where listed videos are missing.

  Raises:
    DataError: no such folder, split or list, none of the videos is there, or some are missing.
  """
  layout.check_split("evve", split, SPLITS)
  folder = layout.root_folder("evve", root)
  known = lists.read_evve(lists.folder(folder, annotations))
  events = sorted(known.positives)
  number = {event: i for i, event in enumerate(events)}
  event_of = known.event_of | {i: event for event, ids in known.positives.items() for i in ids}
  queries = frozenset(known.queries)

  def record(video_id: str, path: str) -> Record:
    event = event_of.get(video_id, "")
    return Record(video_id, path, label=number.get(event, -1), text=event,
                  splits=("queries" if video_id in queries else "database",))

  ids = {"queries": known.queries, "database": known.database}
  found = listed.dataset("evve", split, folder, ids.get(split, (*known.queries, *known.database)),
                         expected=SPLITS[split], right=_RIGHT, allow_missing=allow_missing,
                         record=record)
  return dataclasses.replace(found, classes=tuple(events))


def make(*, root: str, annotations: str = "", allow_missing: bool = False) -> RetrievalData:
  """The evaluation on EVVE, of the videos that are on disk; there is nothing to train on.

  The label of a query's relevant videos is the name of its event: query -> event -> ids.
  Arguments and errors as in `read`.
  """
  found = listed.load(read, root, "all", annotations=annotations,
                      allow_missing=allow_missing)
  known = lists.read_evve(lists.folder(layout.root_folder("evve", root), annotations))
  videos = {r.id: r for r in found.records}
  queries = [i for i in known.queries if i in videos]
  return RetrievalData(
      name="evve", videos=videos, pairs=[], background=[], groups={}, queries=queries,
      database=[i for i in known.database if i in videos],
      annotation={i: {known.event_of[i]: list(known.positives[known.event_of[i]])}
                  for i in queries},
      note=" ".join(filter(None, (listed.queries_note(queries, known.queries), found.note))),
      protocol="evve", missing=found.missing)
