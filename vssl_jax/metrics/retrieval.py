"""Protocols of near-duplicate video retrieval: FIVR, CC_WEB_VIDEO, EVVE, VCDB (tca spec 11).

What their functions have in common:
  scores: [Q, N], a row per query, a column per database video; larger is more similar. Equal
    scores keep the order of the database.
  queries: Q ids, those that have results: the mean is over them.
  database: N ids.
  available: ids of the videos that exist, queries and database; default: all. Others take no rank.
  returned: [Q, N] bool, the entries the system gave a result for; default: all. Others take no
    rank, and their scores are ignored.
They raise `ValueError`, naming the query, where a ranked score isn't finite.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from vssl_jax.metrics.average_precision import (
  average_precision,
  interpolated_precision,
  ranking,
  trapezoid_average_precision,
)

TASKS = {"DSVR": ("ND", "DS"), "CSVR": ("ND", "DS", "CS"), "ISVR": ("ND", "DS", "CS", "IS"),
         "DAVR": ("DA",)}
POSITIVE_LETTERS = frozenset("ESVML")  # CC_WEB_VIDEO's; X and x are negative
CC_WEB_NUMBERS = ("cc_web", "cc_web_star", "cc_web_c", "cc_web_c_star")

Relevant = Mapping[str, Collection[str]]  # query -> ids
Annotation = Mapping[str, Mapping[str, Collection[str]]]  # query -> label -> ids


@dataclasses.dataclass(frozen=True)
class Result:
  """A mean over queries and what it is made of.

  Attributes:
    mean: of `per_query`; nan where no query could be used.
    per_query: query -> average precision, for the queries used, in the order of the rows.
    skipped: queries left out because none of their relevant videos is available.
    unavailable: database ids that don't exist.
    per_event: EVVE only: event -> mean over its queries.
  """

  mean: float
  per_query: dict[str, float]
  skipped: tuple[str, ...]
  unavailable: tuple[str, ...]
  per_event: dict[str, float] = dataclasses.field(default_factory=dict)


class _Table:
  """Scores with their ids."""

  def __init__(self, scores, queries, database, available, returned):
    shape = len(queries), len(database)
    for name, x in (("scores", scores), ("returned", returned)):
      if x is not None and np.shape(x) != shape:
        raise ValueError(f"{name} is {np.shape(x)} for {shape[0]} queries and {shape[1]} videos")
    self.column = {name: i for i, name in enumerate(database)}
    if len(self.column) < shape[1] or len(set(queries)) < shape[0]:
      raise ValueError("an id occurs twice among the queries or in the database")
    self.scores, self.returned = np.asarray(scores), returned
    self.queries, self.database = queries, database
    self.available = frozenset({*database, *queries} if available is None else available)
    self.exists = np.fromiter((name in self.available for name in database), bool, shape[1])

  @property
  def unavailable(self) -> tuple[str, ...]:
    return tuple(self.database[i] for i in np.flatnonzero(~self.exists))

  def mask(self, ids: Collection[str]) -> np.ndarray:
    """[N] bool: the columns of `ids`; ids outside the database have none."""
    mask = np.zeros(len(self.database), bool)
    mask[[self.column[name] for name in ids if name in self.column]] = True
    return mask

  def candidates(self, row: int) -> np.ndarray:
    """[N] bool: available and not the query itself."""
    return self.exists & ~self.mask([self.queries[row]])

  def order(self, row: int, keep: np.ndarray) -> np.ndarray:
    """The returned columns among `keep` [N] bool, best first."""
    columns = self.returned_of(row, keep)
    return columns[ranking(self.scores[row, columns])]

  def returned_of(self, row: int, keep: np.ndarray) -> np.ndarray:
    """The returned columns among `keep` [N] bool, in their order."""
    if self.returned is not None:
      keep = keep & self.returned[row]
    columns = np.flatnonzero(keep)
    scores = self.scores[row, columns]
    finite = np.isfinite(scores)
    if not finite.all():
      bad = int(np.argmin(finite))
      raise ValueError(f"query {self.queries[row]!r}: the score of {self.database[columns[bad]]!r}"
                       f" is {scores[bad]}; every score must be finite")
    return columns

  def wanted(self, query: str, relevant: Relevant, count_query: bool) -> set[str]:
    """The query's relevant ids that are available."""
    ids = {name for name in relevant.get(query, ()) if name in self.available}
    return ids if count_query else ids - {query}


def relevant_ids(annotation: Annotation, labels: Sequence[str]) -> dict[str, set[str]]:
  """Query -> the ids under any of `labels`."""
  return {query: set().union(*(lists.get(label, ()) for label in labels))
          for query, lists in annotation.items()}


def fivr(scores: np.ndarray, queries: Sequence[str], database: Sequence[str],
         annotation: Annotation, *, tasks: Mapping[str, Sequence[str]] = TASKS,
         available: Collection[str] | None = None, returned: np.ndarray | None = None,
         count_query: bool = True) -> dict[str, Result]:
  """FIVR-200K or FIVR-5K: task -> result.

  Relevant are the available videos under a task's labels. The query itself is never ranked.
  Queries without a relevant video are skipped. (For the 'hard' variant of S2VS take the easy
  duplicates out of `available`.)

  Args:
    scores, queries, database, available, returned: as above.
    annotation: query -> label -> ids.
    tasks: name -> labels.
    count_query: whether a query listed among its own relevant videos counts in P: so in the
      reference code, where such a query can't reach 1. S2VS has False.
  """
  table = _Table(scores, queries, database, available, returned)
  relevant = {task: relevant_ids(annotation, labels) for task, labels in tasks.items()}
  return _evaluate(table, relevant, count_query, average_precision)


def precision_recall(scores: np.ndarray, queries: Sequence[str], database: Sequence[str],
                     relevant: Relevant, *, available: Collection[str] | None = None,
                     returned: np.ndarray | None = None, points: int = 21) -> dict[str, np.ndarray]:
  """FIVR's interpolated curve: query -> precision [points] at recall 0, ..., 1.

  Unlike in `fivr`, every available video without a result, and so the query itself, enters with
  score 0. `relevant`: query -> ids, as from `relevant_ids`; queries without an available one are
  left out.
  """
  table = _Table(scores, queries, database, available, returned)
  curves = {}
  for row, query in enumerate(queries):
    wanted = table.wanted(query, relevant, True)
    if not wanted:
      continue
    columns = table.returned_of(row, table.candidates(row))
    hits = table.mask(wanted)[columns]
    without = np.arange(len(table.available) - len(columns)) < len(wanted) - hits.sum()
    values = np.append(table.scores[row, columns], np.zeros(len(without)))
    hits = np.append(hits, without)
    curves[query] = interpolated_precision(values, hits, points)
  return curves


def vcdb(scores: np.ndarray, queries: Sequence[str], database: Sequence[str], partners: Relevant,
         *, available: Collection[str] | None = None, returned: np.ndarray | None = None,
         count_query: bool = False) -> Result:
  """VCDB: average precision of a core video's partners among core and background videos.

  The query itself is never ranked. `partners`: query -> ids. `count_query` counts the query among
  its own partners, as the class released with TCA does: a perfect system then gets n / (n + 1).
  """
  table = _Table(scores, queries, database, available, returned)
  if count_query:
    partners = {query: {*ids, query} for query, ids in partners.items()}
  return _evaluate(table, {"vcdb": partners}, count_query, average_precision)["vcdb"]


def evve(scores: np.ndarray, queries: Sequence[str], database: Sequence[str],
         event_of: Mapping[str, str], positives: Relevant, *,
         available: Collection[str] | None = None, returned: np.ndarray | None = None) -> Result:
  """EVVE: `mean` is over queries, the number papers report; large events dominate it.

  Average precision is by the trapezoid rule; P counts the available positives of the event.
  `event_of`: query -> event; `positives`: event -> ids.
  """
  table = _Table(scores, queries, database, available, returned)
  relevant = {query: positives[event_of[query]] for query in queries}
  result = _evaluate(table, {"evve": relevant}, False, trapezoid_average_precision)["evve"]
  groups = {event: [] for event in positives}
  for query, value in result.per_query.items():
    groups[event_of[query]].append(value)
  means = {event: float(np.mean(values)) for event, values in groups.items() if values}
  return dataclasses.replace(result, per_event=means)


def cc_web_video(scores: np.ndarray, queries: Sequence[str], database: Sequence[str],
                 labels: Mapping[str, Mapping[str, str]], excluded: Relevant, *,
                 returned: np.ndarray | None = None) -> dict[str, Result]:
  """CC_WEB_VIDEO's four numbers: `cc_web`, `cc_web_star`, `cc_web_c`, `cc_web_c_star`.

  Without a star only the videos labelled for the query are ranked, with it the whole database;
  'c' leaves out the query's `excluded` videos. The query itself is in the database under its own
  letter E, and counts. P holds all positives by letter, in the database or not.

  `labels`: query -> id -> letter, positive are E, S, V, M, L; `excluded`: query -> ids.
  """
  table = _Table(scores, queries, database, None, returned)
  per_query = {name: {} for name in CC_WEB_NUMBERS}
  for row, query in enumerate(queries):
    positive = {name for name, letter in labels[query].items() if letter in POSITIVE_LETTERS}
    labelled, out = table.mask(labels[query]), set(excluded.get(query, ()))
    kept, everything = ~table.mask(out), np.ones(len(database), bool)
    for name, wanted, keep in (
        ("cc_web", positive, labelled), ("cc_web_star", positive, everything),
        ("cc_web_c", positive - out, labelled & kept), ("cc_web_c_star", positive - out, kept)):
      ranks = np.flatnonzero(table.mask(wanted)[table.order(row, keep)])
      per_query[name][query] = average_precision(ranks, len(wanted))
  return {name: Result(_mean(values), values, (), ()) for name, values in per_query.items()}


def micro_average_precision(scores: np.ndarray, queries: Sequence[str], database: Sequence[str],
                            relevant: Relevant, *, available: Collection[str] | None = None,
                            returned: np.ndarray | None = None) -> float:
  """Average precision over all query-video pairs in one list, so that scores must be comparable.

  The query itself is neither ranked nor counted. `relevant`: query -> ids. Equal scores keep the
  order of the queries, then of the database.
  """
  table = _Table(scores, queries, database, available, returned)
  values, hits, total = [], [], 0
  for row, query in enumerate(queries):
    wanted = table.wanted(query, relevant, False)
    order = table.order(row, table.candidates(row))
    values.append(table.scores[row, order])
    hits.append(table.mask(wanted)[order])
    total += len(wanted)
  order = ranking(np.concatenate(values))
  return average_precision(np.flatnonzero(np.concatenate(hits)[order]), total)


def _evaluate(table: _Table, relevant: Mapping[str, Relevant], count_query: bool,
              measure: Callable[[np.ndarray, int], float]) -> dict[str, Result]:
  """Ranks every query's candidates once and measures each of `relevant` on them."""
  per_query = {name: {} for name in relevant}
  skipped = {name: [] for name in relevant}
  for row, query in enumerate(table.queries):
    order = table.order(row, table.candidates(row))
    for name, ids in relevant.items():
      wanted = table.wanted(query, ids, count_query)
      if wanted:
        ranks = np.flatnonzero(table.mask(wanted)[order])
        per_query[name][query] = measure(ranks, len(wanted))
      else:
        skipped[name].append(query)
  return {name: Result(_mean(per_query[name]), per_query[name], tuple(skipped[name]),
                       table.unavailable) for name in relevant}


def _mean(values: Mapping[str, float]) -> float:
  return float(np.mean(list(values.values()))) if values else float("nan")
