"""CC_WEB_VIDEO: near-duplicates of 24 popular web videos, each with labels of its own.

  Videos/1/1_1_Y.flv                          QUERYSET_NUMBER_SOURCE, flat or in sub-folders
  annotations/cc_web_video.json.gz            the lists; see docs/data/annotations.md
"""

from collections.abc import Mapping

from data_pipelines.datasets import annotations as lists
from data_pipelines.datasets import layout, listed
from data_pipelines.records import Dataset, RetrievalData

SPLITS = {"all": {"videos": 13_115}}
PREPARED = ("all",)
EXCLUDED = "excluded"

_RIGHT = "Videos/1/1_1_Y.flv, ..."


def read(root: str, split: str = "all", *, annotations: str = "",
         allow_missing: bool = False) -> Dataset:
  """Reads a folder of CC_WEB_VIDEO's videos; ids are file names without suffix.

  Args:
    root: the folder that holds the videos.
    split: "all": the database, which the 24 queries are in.
    annotations: the folder of `cc_web_video.json.gz`; "" for `annotations` below `root`.
    allow_missing: go on, with a warning, where listed videos are missing.

  Raises:
    DataError: no such folder, split or list, none of the videos is there, or some are missing.
  """
  layout.check_split("cc_web_video", split, SPLITS)
  folder = layout.root_folder("cc_web_video", root)
  known = lists.read_cc_web_video(lists.folder(folder, annotations))
  return listed.dataset("cc_web_video", split, folder, known.database, expected=SPLITS[split],
                        right=_RIGHT, allow_missing=allow_missing)


def make(*, root: str, annotations: str = "", allow_missing: bool = False) -> RetrievalData:
  """The evaluation on CC_WEB_VIDEO, of the videos that are on disk; there is nothing to train on.

  Labels are the data set's letters, of negatives too (E exact duplicate, S similar, V different
  version, M major change, L long version, X and x not alike), and "excluded", the videos that the
  'cleaned' numbers leave out; the lists also name videos that aren't there. `protocol` gives what
  `metrics.retrieval.cc_web_video` needs. Arguments and errors as in `read`.
  """
  found = listed.load(read, root, "all", annotations=annotations,
                      allow_missing=allow_missing)
  known = lists.read_cc_web_video(
      lists.folder(layout.root_folder("cc_web_video", root), annotations))
  videos = {r.id: r for r in found.records}
  queries = [i for i in known.queries if i in videos]
  note = ("Relevant videos that are missing count as not found, as the protocol has it."
          if found.missing else "")
  return RetrievalData(
      name="cc_web_video", videos=videos, pairs=[], background=[], groups={}, queries=queries,
      database=[i for i in known.database if i in videos],
      annotation={i: _by_letter(known.labels[i]) | {EXCLUDED: list(known.excluded[i])}
                  for i in queries},
      note=" ".join(filter(None, (listed.queries_note(queries, known.queries), found.note, note))),
      protocol="cc_web_video", missing=found.missing)


def _by_letter(labels: Mapping[str, str]) -> dict[str, list[str]]:
  found: dict[str, list[str]] = {}
  for video_id, letter in labels.items():
    found.setdefault(letter, []).append(video_id)
  return found
