"""What a retrieval run leaves to read: the table, a figure, rankings, results.json."""

import collections
import csv
import functools
import pathlib
import textwrap
from collections.abc import Mapping

import numpy as np

from vssl_jax.evaluators import figures, protocols
from vssl_jax.evaluators.retrieval import Report
from vssl_jax.evaluators.retrieval import rankings as ranking_rows
from vssl_jax.metrics import intervals

TOP = 20  # rows a query in the ranking file
WIDTH, CELL = 100, 8  # of the table, and of a number in it
TASKS = {  # name -> heading, meaning
    "DSVR": ("DSVR", "near duplicates and duplicate scenes"),
    "CSVR": ("CSVR", "those and complementary scenes (the same scene from another time or camera)"),
    "ISVR": ("ISVR", "those and incident scenes (the same kind of scene and motion)"),
    "DAVR": ("DAVR", "videos with the same sound, though nothing here listens to it"),
    "VCDB": ("VCDB", "videos that share a copied segment with the query"),
    "VCDB_micro": ("micro-AP", ""),
    "EVVE": ("EVVE", "videos of the query's event; large events weigh most"),
    "cc_web": ("CC_WEB", "near duplicates, among the videos labelled for the query"),
    "cc_web_star": ("CC_WEB*", "the same, among all videos"),
    "cc_web_c": ("CC_WEBc", "as CC_WEB, without the videos that cleaning took out"),
    "cc_web_c_star": ("CC_WEBc*", "as CC_WEB*, without these"),
}
MICRO = frozenset(protocols.MICRO.values())
SIMILARITY = {  # name -> heading, meaning
    "cosine": ("cosine", "dot product of video vectors"),
    "chamfer": ("chamfer", "mean over the query's frames of the best frame in the other video"),
    "symmetric_chamfer": ("symm.", "symmetric Chamfer, the mean of both directions"),
    "two_stage": ("2-stage", "Chamfer on a shortlist by cosine, the others behind it"),
    "region_chamfer": ("regions", "Chamfer of frames, each compared by Chamfer of its regions"),
    "comparator": ("compar.", "Chamfer of the frame-to-frame matrix that the network has refined"),
    "symmetric_comparator": ("comp.sym", "the same, the mean of both directions"),
}


def table(task, reports: Mapping[str, Report]) -> str:
  """Rows of mAP by task and similarity with their intervals, and what they mean."""
  first = next(iter(reports.values()))
  names = list(dict.fromkeys(s for r in reports.values() for s in r.results))
  tasks = list(next(iter(first.results.values())))
  wide = max(len("   95 % interval"), *(len(name) for name in reports))
  headings = [*map(_task, tasks), *map(_similarity, names)]
  size = max(CELL, *(len(heading) + 1 for heading, _ in headings))
  # As many tasks side by side as fit, in blocks of like size.
  fit = max(1, (WIDTH - wide + 1) // (size * len(names) + 2))
  each = -(-len(tasks) // -(-len(tasks) // fit))
  blocks = [tasks[i:i + each] for i in range(0, len(tasks), each)]

  def line(name: str, block, cell) -> str:
    groups = ["".join(f"{cell(t, s):>{size}}" for s in names) for t in block]
    return f"{name:<{wide}} {' |'.join(groups)}".rstrip()

  lines = []
  for block in blocks:
    lines += ["", line("", block, lambda t, s: _task(t)[0] if s == names[0] else ""),
              line("mAP", block, lambda t, s: _similarity(s)[0])]
    for name, r in reports.items():
      lines += [line(name, block, functools.partial(_mean, r)),
                line("   95 % interval", block, functools.partial(_interval, r))]
  own = _own_queries(list(reports.values())[-1])
  return "\n".join([*lines[1:], *_events(first, reports, wide, size), "",
                    *_explain(task, reports, tasks, names), *own])


def _mean(report: Report, task: str, similarity: str) -> str:
  return f"{report.results[similarity][task].mean:.3f}" if similarity in report.results else "-"


def _interval(report: Report, task: str, similarity: str) -> str:
  low, high = report.intervals.get(f"{task}/{similarity}", (None, None))
  return "" if low is None else f"±{(high - low) / 2:.3f}"


def _task(name: str) -> tuple[str, str]:
  return TASKS.get(name, (name, ""))


def _similarity(name: str) -> tuple[str, str]:
  return SIMILARITY.get(name, (name, ""))


def _events(first: Report, reports: Mapping[str, Report], wide: int, size: int) -> list[str]:
  """A row an event of EVVE, by the last row's similarities."""
  results = list(reports.values())[-1].results
  events = sorted({e for tasks in results.values() for r in tasks.values() for e in r.per_event})
  if not events:
    return []
  counts = collections.Counter(next(iter(first.annotation[q])) for q in first.queries
                               if q not in first.missing)
  wide = max(wide, *(len(e) for e in events))
  rows = [f"{e:<{wide}} " + "".join(f"{results[s]['EVVE'].per_event[e]:>{size}.3f}"
                                    for s in results) + f"   {counts[e]:>4}"
          for e in events if all(e in results[s]["EVVE"].per_event for s in results)]
  return ["", f"{'by event':<{wide}} " + "".join(f"{_similarity(s)[0]:>{size}}" for s in results)
          + "   queries", *rows]


def _explain(task, reports: Mapping[str, Report], tasks, names) -> list[str]:
  report = list(reports.values())[-1]
  result = report.results[names[0]][report.shown]
  data, c = task.data, task.config
  kind = "" if task.trained_on or set(data.queries) & set(data.train_ids) else "held-out "
  lines = [
      f"mAP is the mean over {len(result.per_query)} {kind}queries of average precision: 1.000 "
      "means that every relevant video stands before all others among "
      f"{len(report.database):,}. ± is half the width of its 95 % interval for other queries of "
      "this kind (bootstrap). Relevant are, for",
      *(f"  {_task(t)[0]}: {_task(t)[1]}" for t in tasks if t not in MICRO)]
  if micro := [_task(t)[0] for t in tasks if t in MICRO]:
    lines.append(f"  {', '.join(micro)}: the same; micro-AP, the average precision of all pairs of "
                 "a query and a video in one list, so that scores must be comparable between "
                 "queries")
  lines += ["Videos are compared by", *(f"  {_similarity(s)[0]}: {_similarity(s)[1]}"
                                        for s in names)]
  if len(reports) > 1 and result.per_query:
    lines.append(_gain(reports))
  lines.append(f"The run was trained on the data set {task.trained_on!r} (seed {c.seed})."
               if task.trained_on else
               f"Seed {c.seed}; {len(data.pairs)} training pairs, {len(data.background)} "
               "background videos.")
  if not c.features.weights:
    lines.append(f"The backbone ({c.features.backbone}, width {c.features.width}) has random "
                 "weights; pretrained ones, features.weights=FILE, describe frames far better.")
  here = task.trained_on in ("", c.data.name)
  lines += filter(None, (data.training_note if here else "", data.note))
  if result.skipped:
    lines.append(f"{len(result.skipped)} queries have no relevant video and are ranked only.")
  if report.missing:
    shown = ", ".join(report.missing[:3]) + (", ..." if len(report.missing) > 3 else "")
    lines.append(f"{len(report.missing)} videos could not be read and are not ranked: {shown}")
  return [textwrap.fill(line, 98, subsequent_indent="    " if line[0] == " " else "")
          for line in lines]


def _gain(reports: Mapping[str, Report]) -> str:
  """The last row against the first, on the same queries."""
  (base, a), *_, (name, b) = reports.items()
  parts = []
  for s in (s for s in b.results if s in a.results):
    mean, low, high = intervals.difference(b.results[s][b.shown].per_query,
                                           a.results[s][b.shown].per_query)
    parts.append(f"{mean:+.3f} by {_similarity(s)[0]} (95 %: {low:+.3f} to {high:+.3f})")
  return f"{name} against {base}, {_task(b.shown)[0]}: {', '.join(parts)}."


def _own_queries(report: Report, top: int = 3) -> list[str]:
  """The first videos for each query that has no labels: the user's own."""
  similarity = _ranking_similarity(report)
  own = [q for q in report.queries if q not in report.annotation]
  lines = [f"  {q}: " + (", ".join(f"{v} ({s:.3f})" for v, s in report.ranked(q, similarity, top))
                         or "could not be read") for q in own]
  return ["", f"First videos for your queries, by {similarity}:", *lines] if own else []


def _ranking_similarity(report: Report) -> str:
  """What rankings are shown by: what was learnt, or Chamfer, which also finds copied parts."""
  for name in ("symmetric_comparator", "chamfer"):
    if name in report.scores:
      return name
  return next(iter(report.scores))


def figure(task, reports: Mapping[str, Report], embeds: Mapping):
  """The page of `retrieval.png`: the first and the last row compared on a pair and some queries."""
  last = list(reports.values())[-1]
  similarity = _ranking_similarity(last)
  names = [name for name, report in reports.items() if similarity in report.scores]
  chosen = {name: reports[name] for name in dict.fromkeys((names[0], names[-1]))}
  pair = figures.best_match(last, similarity)
  matrices = {name: task.evaluator.frame_matrix(embeds[name], *pair) for name in chosen}

  @functools.lru_cache(maxsize=256)
  def strip(video_id: str) -> np.ndarray:
    item = next(iter(task.model.extractor.sequences([task.data.videos[video_id]])))
    return item["frames"]

  def thumbnail(video_id: str) -> np.ndarray:
    frames = strip(video_id)
    return frames[len(frames) // 2]

  return figures.retrieval_figure(chosen, matrices=matrices, pair=pair, thumbnail=thumbnail,
                                  strip=strip, similarity=similarity)


def files(task, reports: Mapping[str, Report], folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes the tables that a run leaves besides its results."""
  del task
  return [rankings(reports, folder), curves(reports, folder)]


def rankings(reports: Mapping[str, Report], folder: pathlib.Path) -> pathlib.Path:
  """`rankings.csv`: the first videos for every query, by the last row's best similarity."""
  report = list(reports.values())[-1]
  similarity = _ranking_similarity(report)
  path = folder / "rankings.csv"
  with path.open("w", newline="") as f:
    out = csv.writer(f)
    out.writerow(["query", "rank", "video", similarity, "label"])
    for query, rank, video, score in ranking_rows(report, similarity, TOP):
      out.writerow([query, rank, video, f"{score:.6f}", report.label(query, video)])
  return path


def curves(reports: Mapping[str, Report], folder: pathlib.Path) -> pathlib.Path:
  """`curves.csv`: mean interpolated precision of every row, task and similarity."""
  path = folder / "curves.csv"
  with path.open("w", newline="") as f:
    out = csv.writer(f)
    out.writerow(["row", "task", "similarity", "recall", "precision"])
    for name, report in reports.items():
      for task, found in protocols.mean_curves(report).items():
        for similarity, precision in found.items():
          recall = np.linspace(0, 1, len(precision))
          out.writerows([name, task, similarity, f"{r:.2f}", f"{p:.6f}"]
                        for r, p in zip(recall, precision, strict=True))
  return path


def check_equal(live: Report, exported: Report) -> str:
  """How equal they are, in words; raises where the export gives other numbers."""
  # Of two stages, the last of a shortlist may be another video for a difference in the last digit.
  names = [s for s in live.scores if s != "two_stage"]
  worst = max(float(np.nanmax(np.abs(live.scores[s] - exported.scores[s]))) for s in names)
  a, b = live.numbers, exported.numbers
  off = [k for k in a if abs(a[k] - b[k]) > (1e-3 if k.endswith("/two_stage") else 1e-6)]
  if off or worst > 1e-5:
    raise RuntimeError(f"the export differs from the model: scores by up to {worst}, and {off}")
  return f"the same mAP, scores equal to within {worst:.0e}"


def numbers(report: Report) -> dict:
  """A row of results.json."""
  return {**report.numbers, **_ends(report), "per_item": _per_query(report), **_per_event(report)}


def _per_query(report: Report) -> dict:
  return {f"{t}/{s}": r.per_query for s, tasks in report.results.items() for t, r in tasks.items()}


def _ends(report: Report) -> dict[str, float]:
  return {f"{name}_{end}": value for name, interval in report.intervals.items()
          for end, value in zip(("low", "high"), interval, strict=True)}


def _per_event(report: Report) -> dict:
  found = {f"{t}/{s}": r.per_event for s, tasks in report.results.items()
           for t, r in tasks.items() if r.per_event}
  return {"per_event": found} if found else {}
