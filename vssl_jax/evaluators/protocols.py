"""How a retrieval data set is measured: one entry of `PROTOCOLS` each (tca spec 11).

A protocol reads everything from the annotation, query -> label -> ids:

  fivr           labels ND, DS, CS, IS, DA; tasks DSVR, CSVR, ISVR, DAVR, those that the labels can
                 tell apart. `micro=True` adds DSVD, ...: micro-AP over all pairs, S2VS's names
  vcdb           label DS; tasks VCDB and VCDB_micro, its micro-AP
  evve           the one label of a query is its event; task EVVE, and its means by event
  cc_web_video   letters E, S, V, M, L (relevant), X, x (not), and "excluded", the videos that the
                 cleaned tasks leave out; tasks cc_web, cc_web_star, cc_web_c, cc_web_c_star
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vssl_jax.metrics import retrieval as metrics
from vssl_jax.metrics.average_precision import interpolated_precision

EXCLUDED = "excluded"
LETTERS = ("E", "S", "V", "M", "L")  # CC_WEB_VIDEO's positive ones
NEGATIVE_LETTERS = ("X", "x")
MICRO = {task: task[:-1] + "D" for task in metrics.TASKS} | {"VCDB": "VCDB_micro"}
POINTS = 21  # of a curve

Results = dict[str, metrics.Result]
Curves = dict[str, dict[str, np.ndarray]]  # task -> query -> precision [POINTS]


@dataclasses.dataclass(frozen=True)
class Table:
  """Scores [Q, N] of the queries that exist, and what is needed to judge them."""

  scores: np.ndarray
  queries: Sequence[str]
  database: Sequence[str]
  available: Collection[str]
  annotation: metrics.Annotation

  @property
  def exists(self) -> np.ndarray:
    """[N] bool: the videos of the database that are available."""
    return np.fromiter((i in self.available for i in self.database), bool, len(self.database))


@dataclasses.dataclass(frozen=True)
class Protocol:
  """One way of measuring.

  Attributes:
    measure: (table, **args) -> task -> result.
    curves: table -> task -> query -> interpolated precision at recall 0, 0.05, ..., 1.
    labels: of relevant videos, strongest first; () where any label is one.
    shown: tasks by which single queries are shown, the first that was measured.
    fault: (queries, annotation) -> why these are no data of this protocol, or "".
  """

  measure: Callable[..., Results]
  curves: Callable[[Table], Curves]
  labels: tuple[str, ...]
  shown: tuple[str, ...]
  fault: Callable[[Sequence[str], metrics.Annotation], str]


def measure(protocol: str, scores: np.ndarray, queries: Sequence[str], database: Sequence[str],
            available: Collection[str], args: Mapping[str, Any]) -> Results:
  """Task -> result.

  Args:
    protocol: of `PROTOCOLS`.
    scores: [Q, N]; larger is more similar. Those of videos that aren't available are ignored.
    queries, database: ids. A query that isn't available has no result.
    available: ids of the videos that exist, queries and database.
    args: `annotation` (query -> label -> ids), and the protocol's options.
  """
  options = {name: value for name, value in args.items() if name != "annotation"}
  table = _table(scores, queries, database, available, args["annotation"])
  return PROTOCOLS[protocol].measure(table, **options)


def check(protocol: str, queries: Sequence[str], annotation: metrics.Annotation) -> None:
  """Raises ValueError where the annotation isn't in the protocol's form."""
  if protocol not in PROTOCOLS:
    raise ValueError(f"protocol {protocol!r} is unknown; there are {', '.join(PROTOCOLS)}")
  if not queries:
    raise ValueError("no query is there: nothing to evaluate")
  fault = PROTOCOLS[protocol].fault(queries, annotation)
  if fault:
    raise ValueError(f"{fault}: nothing to evaluate by the protocol {protocol!r}")


def label(protocol: str, entry: Mapping[str, Collection[str]], video: str) -> str | None:
  """The strongest label of a relevant video in a query's `entry` (label -> ids), or None."""
  labels = PROTOCOLS[protocol].labels or entry
  return next((name for name in labels if video in entry.get(name, ())), None)


def relevant(protocol: str, entry: Mapping[str, Collection[str]]) -> set[str]:
  """All ids in a query's `entry` (label -> ids) that are relevant in some task."""
  return set().union(*(entry.get(name, ()) for name in PROTOCOLS[protocol].labels or entry))


def mean_curves(report) -> dict[str, dict[str, np.ndarray]]:
  """Task -> similarity -> mean over the queries of interpolated precision [21].

  At recall 0, 0.05, ..., 1. FIVR's is that of its script, where videos without a result enter with
  score 0; the others rank what is there, and have precision 0 beyond the recall that is reached.
  Micro-AP has no curve here.

  Args:
    report: a `retrieval.Report`.
  """
  available = {*report.queries, *report.database}.difference(report.missing)
  means: dict[str, dict[str, np.ndarray]] = {}
  for name, scores in report.scores.items():
    table = _table(scores, report.queries, report.database, available, report.annotation)
    for task, curves in PROTOCOLS[report.protocol].curves(table).items():
      if curves:
        means.setdefault(task, {})[name] = np.mean(list(curves.values()), axis=0)
  return means


def _table(scores, queries, database, available, annotation) -> Table:
  rows = [i for i, query in enumerate(queries) if query in available]
  if len(rows) < len(queries):
    scores, queries = scores[rows], [queries[i] for i in rows]
  return Table(scores, queries, database, available, annotation)


def _micro(t: Table, relevant: metrics.Relevant) -> metrics.Result:
  """No query has a part of its own in it; nan where nothing relevant is there."""
  wanted = ({*relevant.get(q, ())} - {q} for q in t.queries)
  if all(ids.isdisjoint(t.available) for ids in wanted):
    return metrics.Result(float("nan"), {}, (), ())
  value = metrics.micro_average_precision(t.scores, t.queries, t.database, relevant,
                                          available=t.available)
  return metrics.Result(value, {}, (), ())


def _curves(lists: Iterator[tuple[str, np.ndarray, np.ndarray, int]]) -> dict[str, np.ndarray]:
  """From (query, scores [n], whether relevant [n], how many are relevant in all)."""
  return {query: interpolated_precision(scores, hits, POINTS, n_relevant=n)
          for query, scores, hits, n in lists if n}


def _ranked(t: Table, row: int, keep: np.ndarray, wanted: Collection[str],
            ) -> tuple[np.ndarray, np.ndarray]:
  """Scores and hits of the columns `keep` [N] bool."""
  hits = np.fromiter((i in wanted for i in t.database), bool, len(t.database))
  return t.scores[row][keep], hits[keep]


def _available_curves(t: Table, relevant: metrics.Relevant) -> dict[str, np.ndarray]:
  """Where relevant are available videos other than the query, which isn't ranked."""
  exists = t.exists

  def lists():
    for row, query in enumerate(t.queries):
      wanted = {i for i in relevant.get(query, ()) if i in t.available} - {query}
      keep = exists & np.fromiter((i != query for i in t.database), bool, len(t.database))
      yield query, *_ranked(t, row, keep, wanted), len(wanted)

  return _curves(lists())


# FIVR


def fivr_tasks(annotation: metrics.Annotation) -> dict[str, tuple[str, ...]]:
  """Task -> labels, for the tasks that the annotation can tell apart."""
  found = {name for entry in annotation.values() for name, ids in entry.items() if ids}
  own = {"DSVR": {"ND", "DS"}, "CSVR": {"CS"}, "ISVR": {"IS"}, "DAVR": {"DA"}}
  return {task: labels for task, labels in metrics.TASKS.items() if own[task] & found}


def _fivr(t: Table, *, micro: bool = False) -> Results:
  tasks = fivr_tasks(t.annotation)
  found = metrics.fivr(t.scores, t.queries, t.database, t.annotation, tasks=tasks,
                       available=t.available)
  if micro:
    found |= {MICRO[task]: _micro(t, metrics.relevant_ids(t.annotation, labels))
              for task, labels in tasks.items()}
  return found


def _fivr_curves(t: Table) -> Curves:
  return {task: metrics.precision_recall(
              t.scores, t.queries, t.database, metrics.relevant_ids(t.annotation, labels),
              available=t.available, points=POINTS)
          for task, labels in fivr_tasks(t.annotation).items()}


def _fivr_fault(queries: Sequence[str], annotation: metrics.Annotation) -> str:
  del queries  # some may have no label: they are ranked only
  return "" if fivr_tasks(annotation) else "the annotation holds none of ND, DS, CS, IS, DA"


# VCDB


def _partners(annotation: metrics.Annotation) -> metrics.Relevant:
  return {query: entry["DS"] for query, entry in annotation.items()}


def _vcdb(t: Table) -> Results:
  partners = _partners(t.annotation)
  result = metrics.vcdb(t.scores, t.queries, t.database, partners, available=t.available)
  return {"VCDB": result, MICRO["VCDB"]: _micro(t, partners)}


def _vcdb_curves(t: Table) -> Curves:
  return {"VCDB": _available_curves(t, _partners(t.annotation))}


def _vcdb_fault(queries: Sequence[str], annotation: metrics.Annotation) -> str:
  bad = [q for q in queries if set(annotation.get(q, ())) != {"DS"}]
  return f"query {bad[0]!r} should have partners under the label DS" if bad else ""


# EVVE


def _events(t: Table) -> tuple[dict[str, str], dict[str, Collection[str]]]:
  """Query -> event, and event -> ids, of the events that have a query."""
  entries = {query: next(iter(t.annotation[query].items())) for query in t.queries}
  return {query: event for query, (event, _) in entries.items()}, dict(entries.values())


def _evve(t: Table) -> Results:
  return {"EVVE": metrics.evve(t.scores, t.queries, t.database, *_events(t),
                               available=t.available)}


def _evve_curves(t: Table) -> Curves:
  event_of, positives = _events(t)
  return {"EVVE": _available_curves(t, {q: positives[event_of[q]] for q in t.queries})}


def _evve_fault(queries: Sequence[str], annotation: metrics.Annotation) -> str:
  bad = [q for q in queries if len(annotation.get(q, ())) != 1]
  return f"query {bad[0]!r} should belong to one event" if bad else ""


# CC_WEB_VIDEO


def _letters(entry: Mapping[str, Collection[str]]) -> dict[str, str]:
  """Id -> letter."""
  return {i: letter for letter, ids in entry.items() if letter != EXCLUDED for i in ids}


def _cc_web_video(t: Table) -> Results:
  """Missing videos get no result; they count as not found."""
  labels = {query: _letters(t.annotation[query]) for query in t.queries}
  excluded = {query: t.annotation[query].get(EXCLUDED, ()) for query in t.queries}
  return metrics.cc_web_video(t.scores, t.queries, t.database, labels, excluded,
                              returned=np.broadcast_to(t.exists, t.scores.shape))


def _cc_web_curves(t: Table) -> Curves:
  exists = t.exists

  def lists(labelled_only: bool, cleaned: bool):
    for row, query in enumerate(t.queries):
      entry = t.annotation[query]
      out = set(entry.get(EXCLUDED, ())) if cleaned else set()
      wanted, known = relevant("cc_web_video", entry) - out, _letters(entry)
      keep = [i not in out and (i in known or not labelled_only) for i in t.database]
      yield query, *_ranked(t, row, exists & keep, wanted), len(wanted)

  return {name: _curves(lists("star" not in name, "_c" in name.removeprefix("cc_web")))
          for name in metrics.CC_WEB_NUMBERS}


def _cc_web_fault(queries: Sequence[str], annotation: metrics.Annotation) -> str:
  allowed = {*LETTERS, *NEGATIVE_LETTERS, EXCLUDED}
  for query in queries:
    entry = annotation.get(query, {})
    if set(entry) - allowed or not relevant("cc_web_video", entry):
      return f"query {query!r} should have labels {', '.join(LETTERS)}"
  return ""


PROTOCOLS = {
    "fivr": Protocol(_fivr, _fivr_curves, ("ND", "DS", "CS", "IS", "DA"),
                     ("ISVR", "CSVR", "DSVR", "DAVR"), _fivr_fault),
    "vcdb": Protocol(_vcdb, _vcdb_curves, ("DS",), ("VCDB",), _vcdb_fault),
    "evve": Protocol(_evve, _evve_curves, (), ("EVVE",), _evve_fault),
    "cc_web_video": Protocol(_cc_web_video, _cc_web_curves, LETTERS, ("cc_web_star",),
                             _cc_web_fault),
}
