"""Video retrieval from frame descriptors, in the protocol of the data set (tca spec 10, 11)."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vssl_jax import log
from vssl_jax.evaluators import learned, protocols, search
from vssl_jax.evaluators.embedded import Embed, embed_videos
from vssl_jax.evaluators.index import Index
from vssl_jax.metrics import intervals
from vssl_jax.metrics import retrieval as metrics
from vssl_jax.metrics.average_precision import ranking
from vssl_jax.ops import chamfer, similarity
from vssl_jax.types import ConfigError

SIMILARITIES = search.SIMILARITIES
DEFAULT = ("cosine", "chamfer", "symmetric_chamfer")
DISTRACTOR = "distractor"


@dataclasses.dataclass(frozen=True)
class Report:
  """Everything one evaluation found.

  Attributes:
    queries, database: ids; the rows and columns of the scores.
    annotation: query -> label -> ids.
    scores: similarity -> [Q, N] float32; nan where either video is missing.
    results: similarity -> task -> result, with average precision by query and counts.
    missing: ids without a descriptor, queries first. They take no rank, and as queries aren't in
      the mean; whether they count as relevant is the protocol's choice.
    protocol: of `protocols.PROTOCOLS`.
  """

  queries: tuple[str, ...]
  database: tuple[str, ...]
  annotation: Mapping[str, Mapping[str, Sequence[str]]]
  scores: dict[str, np.ndarray]
  results: dict[str, dict[str, metrics.Result]]
  missing: tuple[str, ...]
  protocol: str = "fivr"

  @property
  def numbers(self) -> dict[str, float]:
    """`task/similarity` -> mAP, and `missing_videos`."""
    means = {f"{task}/{name}": result.mean
             for name, tasks in self.results.items() for task, result in tasks.items()}
    return means | {"missing_videos": float(len(self.missing))}

  @functools.cached_property
  def intervals(self) -> dict[str, tuple[float, float]]:
    """`task/similarity` -> 95 % interval of the mean over queries; micro-AP, no mean, has none."""
    return {f"{task}/{name}": intervals.bootstrap(list(result.per_query.values()))
            for name, tasks in self.results.items() for task, result in tasks.items()
            if result.per_query}

  @property
  def shown(self) -> str:
    """The task by which single queries are shown: the widest."""
    tasks = next(iter(self.results.values()))
    return next(task for task in protocols.PROTOCOLS[self.protocol].shown if task in tasks)

  def label(self, query: str, video: str) -> str:
    """The strongest label that makes `video` relevant (ND, E, an event, ...), or `distractor`."""
    entry = self.annotation.get(query, {})
    return protocols.label(self.protocol, entry, video) or DISTRACTOR

  def ranked(self, query: str, name: str, top: int | None = None) -> list[tuple[str, float]]:
    """The query's database videos and scores under similarity `name`, best first.

    Without the query itself and without missing videos; equal scores keep the database's order.
    Nothing for a missing query.
    """
    if query in self.missing:
      return []
    scores = self.scores[name][self.queries.index(query)]
    out = {query, *self.missing}
    columns = np.array([i for i, name in enumerate(self.database) if name not in out], int)
    columns = columns[ranking(scores[columns])][:top]
    return [(self.database[i], float(scores[i])) for i in columns]


def rankings(report: Report, name: str, top: int | None = None,
             ) -> Iterator[tuple[str, int, str, float]]:
  """Rows for a ranking file: (query, rank from 1, video, score) under similarity `name`."""
  for query in report.queries:
    for i, (video, score) in enumerate(report.ranked(query, name, top)):
      yield query, i + 1, video, score


def mean_pool(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The baseline embedding: nothing learnt, l2 of the frames and of their mean.

  Args:
    inputs: x [B, T, D] float, length [B] int.

  Returns:
    video [B, D]; frames [B, T, D], zero beyond the length; length [B], at most T.
  """
  x, length = np.asarray(inputs["x"], np.float32), np.asarray(inputs["length"])
  valid = (np.arange(x.shape[1]) < length[:, None])[..., None]
  x = np.where(valid, x, 0)
  mean = x.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
  return {"video": _l2(mean), "frames": _l2(x),
          "length": np.minimum(length, x.shape[1]).astype(np.int32)}


def make(data: Any, descriptors: Mapping[str, np.ndarray], *,
         similarities: Sequence[str] = DEFAULT, block: int = 256, dtype: str = "float32",
         shortlist: float = search.SHORTLIST, memory: float = 2.0,
         progress: bool = True) -> "RetrievalEvaluator":
  """The evaluator of a retrieval data set.

  Args:
    data: has `queries`, `database` (ids) and `annotation` (query -> label -> ids); for other
      protocols than FIVR's also `protocol` and `protocol_args`, see `protocols`.
    descriptors: id -> [T, D] float32, each read once. An id that isn't there, or has no frame, is
      a video that could not be decoded: it is named in the report.
    similarities: which of `SIMILARITIES`; "two_stage" is Chamfer on a shortlist by cosine.
    block: videos of up to 64 frames that are embedded at once; fewer of longer ones. It doesn't
      change the scores.
    dtype: of the products that Chamfer with all videos is made of: "float32", or "bfloat16", which
      is faster on accelerators and changes scores by about 0.005.
    shortlist: share of the database that "two_stage" compares by frames, in (0, 1].
    memory: GiB of embedded frames that are kept in memory; more of them go to disk, into the
      folder given to `report`, or a temporary one. Besides, what is held are the queries' frames,
      a few blocks of some thousand frames, and the scores.
    progress: shows it and the remaining time, where it takes longer than seconds.

  Raises:
    ConfigError: unknown similarity or impossible block.
    ValueError: an id occurs twice, or the annotation isn't in the protocol's form.
  """
  unknown = [name for name in similarities if name not in SIMILARITIES]
  if unknown or not similarities:
    raise ConfigError(f"similarities={list(similarities)}: choose from {', '.join(SIMILARITIES)}")
  if block < 1:
    raise ConfigError(f"block={block}: at least one video at a time")
  if dtype not in chamfer.DTYPES:
    raise ConfigError(f"dtype={dtype!r}: choose from {', '.join(chamfer.DTYPES)}")
  if not 0 < shortlist <= 1:
    raise ConfigError(f"shortlist={shortlist} is a share of the database: above 0, at most 1")
  if not memory >= 0:
    raise ConfigError(f"memory={memory} must be at least 0 GiB")
  for what, ids in (("queries", data.queries), ("database", data.database)):
    if len(set(ids)) < len(ids):
      raise ValueError(f"an id occurs twice among the {what}")
  evaluator = RetrievalEvaluator(data, descriptors, tuple(similarities), block, dtype, shortlist,
                                 memory, progress)
  protocols.check(evaluator.protocol, data.queries, data.annotation)
  return evaluator


@dataclasses.dataclass(frozen=True)
class RetrievalEvaluator:
  """Scores every query against the database and measures the rankings; see `make`.

  Tasks are those of the data set's protocol. Equal scores keep the order of the database.
  """

  data: Any
  descriptors: Mapping[str, np.ndarray]
  similarities: tuple[str, ...]
  block: int
  dtype: str
  shortlist: float
  memory: float
  progress: bool

  def __call__(self, embed: Embed, score: learned.Score | None = None) -> dict[str, float]:
    """`{"DSVR/cosine": mAP, ..., "missing_videos": count}`."""
    return self.report(embed, score).numbers

  def report(self, embed: Embed, score: learned.Score | None = None,
             folder: pathlib.Path | None = None, origin: dict | None = None) -> Report:
    """Embeds every video once and ranks.

    Args:
      score: similarities of the model's own, which are measured besides `similarities`.
      folder: where embedded videos and scores are kept while they are made, so that the same call
        continues after an interruption; it may be deleted afterwards.
      origin: what `embed` is, in JSON's types; a folder made with another one is refused.
      embed: `{"x": [B, T, D] float32, "length": [B] int32}` to `{"video": [B, D'], "frames":
        [B, S, D'], "length": [B] int32, at most S}`, unit vectors. T is a power of two, at least
        8; videos are padded to it with zeros, never cut.

    Raises:
      ValueError: a descriptor or an embedding isn't finite, or frames aren't unit vectors; it
        names the video. Or no query, or no database video, has a descriptor.
    """
    by_frames = set(self.similarities) != {"cosine"} or score is not None
    meta = {"origin": origin, "dtype": self.dtype, "frames": by_frames,
            "videos": _digest(self.data.queries, self.data.database)}
    asked, found, missing = self.embedded(embed, folder, meta, keep_frames=by_frames)
    return self.measured(asked, found, self._search(asked, found, score, folder, meta), missing)

  def embedded(self, embed: Embed, folder: pathlib.Path | None = None, meta: dict | None = None, *,
               keep_frames: bool = True) -> tuple[Index, Index, tuple[str, ...]]:
    """Queries and database as indexes, and the ids of videos without a descriptor.

    `folder` and `meta` are those of the database's index.

    Raises:
      ValueError: as `report`.
    """
    queries, database, missing = self.data.queries, self.data.database, []
    asked = self._index(embed, queries, missing, None, None, keep_frames, self.block // 16)
    found = self._index(embed, database, missing, folder, meta, keep_frames, self.block)
    if not len(asked) or not len(found):
      raise ValueError(f"{len(set(missing))} videos have no descriptor, and with them every query "
                       f"or the whole database; the first is {missing[:1]}")
    return asked, found, tuple(dict.fromkeys(missing))

  def measured(self, asked: Index, found: Index, tables: Mapping[str, np.ndarray],
               missing: tuple[str, ...]) -> Report:
    """The report of score tables: name -> [queries of `asked`, videos of `found`]."""
    queries, database = tuple(self.data.queries), tuple(self.data.database)
    row, column = ({name: i for i, name in enumerate(ids)} for ids in (queries, database))
    at = np.ix_([row[i] for i in asked.ids], [column[i] for i in found.ids])
    scores = {}
    for name, table in tables.items():
      scores[name] = np.full((len(queries), len(database)), np.nan, np.float32)
      scores[name][at] = table
    available = {*queries, *database}.difference(missing)
    args = {**getattr(self.data, "protocol_args", {}), "annotation": self.data.annotation}
    results = {name: protocols.measure(self.protocol, s, queries, database, available, args)
               for name, s in scores.items()}
    return Report(queries, database, self.data.annotation, scores, results, missing, self.protocol)

  @property
  def protocol(self) -> str:
    """Name of the data set's protocol."""
    return getattr(self.data, "protocol", "fivr")

  def frame_matrix(self, embed: Embed, query: str, video: str) -> np.ndarray:
    """[T, S] inner products of the frames of two videos; `ValueError` where one is missing."""
    missing = []
    ids = dict.fromkeys((query, video))
    batches = embed_videos(ids, self.descriptors, embed, 1, missing)
    frames = {b.ids[0]: b.frames[0, :b.length[0]] for b in batches}
    if missing:
      raise ValueError(f"{missing[0]!r} has no descriptor")
    return np.asarray(similarity.frame_matrix(frames[query], frames[video]))

  def _index(self, embed: Embed, ids: Sequence[str], missing: list[str], folder, meta,
             keep_frames: bool, block: int) -> Index:
    """The embedded videos `ids`; those that an index on disk already has aren't embedded again."""
    index = Index(folder, meta=meta, keep_frames=keep_frames, memory=self.memory)
    known = set(index.ids)
    left = [i for i in ids if i not in known]
    batches = embed_videos(left, self.descriptors, embed, max(1, block), missing)
    with log.stage(name="embed", total=len(ids), initial=len(ids) - len(left), unit="videos",
                   show=self.progress) as bar:
      for batch in batches:
        index.add([batch])
        bar.update(len(batch.ids))
    return index

  def _search(self, asked: Index, found: Index, score, folder, meta) -> dict[str, np.ndarray]:
    """Similarity -> [queries of `asked`, videos of `found`]."""
    wanted, tables = [*self.similarities, *(score.names if score else ())], {}
    if {"cosine", "two_stage"} & set(wanted):
      tables["cosine"] = search.cosine(asked, found)
    if "two_stage" in wanted:
      size = search.shortlist_size(len(found), self.shortlist)
      tables["two_stage"] = search.two_stage(asked, found, tables["cosine"], size,
                                             progress=self.progress)
    if whole := [name for name in wanted if name not in ("cosine", "two_stage")]:
      # Not all of the data set's may have been there when the search began.
      compared = meta | {"compared": _digest(asked.ids, found.ids)}
      scores = search.Scores(whole, (len(found), len(asked)), folder, compared)
      search.exhaustive(asked, found, scores, dtype=self.dtype, progress=self.progress,
                        learned=learned.over(score, asked, found) if score else None)
      tables |= {name: table.T for name, table in scores.tables.items()}
    return {name: tables[name] for name in wanted}


def _digest(queries: Sequence[str], database: Sequence[str]) -> str:
  """A hash of which queries are compared with which videos."""
  return hashlib.sha256("\n".join([*queries, "", *database]).encode()).hexdigest()


def _l2(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
