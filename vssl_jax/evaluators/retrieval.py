"""Video retrieval from frame descriptors, in the protocol of the data set (tca spec 10, 11)."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from vssl_jax.evaluators import protocols
from vssl_jax.evaluators.embedded import Batch, Embed, embed_videos
from vssl_jax.metrics import intervals
from vssl_jax.metrics import retrieval as metrics
from vssl_jax.metrics.average_precision import ranking
from vssl_jax.ops import similarity
from vssl_jax.types import ConfigError

SIMILARITIES = ("cosine", "chamfer", "symmetric_chamfer")
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
         similarities: Sequence[str] = SIMILARITIES, block: int = 256,
         progress: bool = True) -> "RetrievalEvaluator":
  """The evaluator of a retrieval data set.

  Args:
    data: has `queries`, `database` (ids) and `annotation` (query -> label -> ids); for other
      protocols than FIVR's also `protocol` and `protocol_args`, see `protocols`.
    descriptors: id -> [T, D] float32, each read once. An id that isn't there, or has no frame, is
      a video that could not be decoded: it is named in the report.
    similarities: which of `SIMILARITIES`.
    block: videos of up to 64 frames that are embedded and compared at once; fewer of longer ones.
      Memory for scores apart, this bounds what is held: about block * 64 database frames, all
      queries, and a product of 256 * block^2 numbers. It doesn't change the scores.
    progress: a bar with the remaining time, on a terminal.

  Raises:
    ConfigError: unknown similarity or impossible block.
    ValueError: an id occurs twice, or the annotation isn't in the protocol's form.
  """
  unknown = [name for name in similarities if name not in SIMILARITIES]
  if unknown or not similarities:
    raise ConfigError(f"similarities={list(similarities)}: choose from {', '.join(SIMILARITIES)}")
  if block < 1:
    raise ConfigError(f"block={block}: at least one video at a time")
  for what, ids in (("queries", data.queries), ("database", data.database)):
    if len(set(ids)) < len(ids):
      raise ValueError(f"an id occurs twice among the {what}")
  evaluator = RetrievalEvaluator(data, descriptors, tuple(similarities), block, progress)
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
  progress: bool

  def __call__(self, embed: Embed) -> dict[str, float]:
    """`{"DSVR/cosine": mAP, ..., "missing_videos": count}`."""
    return self.report(embed).numbers

  def report(self, embed: Embed) -> Report:
    """Embeds every video once and ranks.

    Args:
      embed: `{"x": [B, T, D] float32, "length": [B] int32}` to `{"video": [B, D'], "frames":
        [B, S, D'], "length": [B] int32, at most S}`, unit vectors. T is a power of two, at least
        8; videos are padded to it with zeros, never cut.

    Raises:
      ValueError: a descriptor or an embedding isn't finite, or frames aren't unit vectors; it
        names the video. Or no query, or no database video, has a descriptor.
    """
    queries, database = tuple(self.data.queries), tuple(self.data.database)
    scores, missing = self._scores(embed, queries, database)
    available = {*queries, *database}.difference(missing)
    if available.isdisjoint(queries) or available.isdisjoint(database):
      raise ValueError(f"{len(missing)} videos have no descriptor, and with them every query or "
                       f"the whole database; the first is {missing[:1]}")
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

  def _scores(self, embed: Embed, queries: tuple[str, ...], database: tuple[str, ...],
              ) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Similarity -> [Q, N] float32, nan for missing videos; and the ids of these."""
    row, column = ({name: i for i, name in enumerate(ids)} for ids in (queries, database))
    scores = {name: np.full((len(queries), len(database)), np.nan, np.float32)
              for name in self.similarities}
    missing = []
    others = [name for name in database if name not in row]
    with tqdm(total=len(row) + len(others), unit="video", desc="retrieval", leave=False,
              disable=None if self.progress else True) as bar:
      kept = list(embed_videos(row, self.descriptors, embed, max(1, self.block // 16), missing))
      rest = embed_videos(others, self.descriptors, embed, self.block, missing)
      for t in itertools.chain(kept, rest):
        inside = [i for i, name in enumerate(t.ids) if name in column]
        columns = [column[t.ids[i]] for i in inside]
        for q in kept if inside else ():
          rows = [row[name] for name in q.ids]
          for name, values in compare(q, t, self.similarities).items():
            scores[name][np.ix_(rows, columns)] = values[:len(rows)][:, inside]
        bar.update(len(t.ids))
      bar.update(len(missing))
    return scores, tuple(missing)


def compare(q: Batch, t: Batch, similarities: Sequence[str]) -> dict[str, np.ndarray]:
  """Similarity -> [B of q, B of t] float32, fillers included."""
  found = {}
  if "cosine" in similarities:
    found["cosine"] = similarity.cosine(q.video, t.video)
  frames = q.frames, q.length, t.frames, t.length
  if "symmetric_chamfer" in similarities:
    forward, backward = map(np.asarray, similarity.both_chamfers(*frames))
    found |= {"chamfer": forward, "symmetric_chamfer": (forward + backward) / 2}
  elif "chamfer" in similarities:
    found["chamfer"] = similarity.chamfer(*frames)
  return {name: np.asarray(found[name]) for name in similarities}


def _l2(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
