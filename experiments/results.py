"""What a retrieval run leaves to read: the table, a figure, rankings, results.json."""

import csv
import functools
import json
import os
import pathlib
import textwrap
from collections.abc import Mapping

import numpy as np

from vssl_jax.evaluators import figures
from vssl_jax.evaluators.retrieval import Report
from vssl_jax.evaluators.retrieval import rankings as ranking_rows

TOP = 20  # rows a query in the ranking file
MEANING = {
    "DSVR": "near duplicates and duplicate scenes",
    "CSVR": "those and complementary scenes (the same scene from another time or camera)",
    "ISVR": "those and incident scenes (the same kind of scene and motion)",
}
SIMILARITY = {  # name -> heading, meaning
    "cosine": ("cosine", "dot product of video vectors"),
    "chamfer": ("chamfer", "mean over the query's frames of the best frame in the other video"),
    "symmetric_chamfer": ("symm.", "symmetric Chamfer, the mean of both directions"),
}


def table(task, reports: Mapping[str, Report]) -> str:
  """Rows of mAP by task and similarity, and what they mean."""
  first = next(iter(reports.values()))
  names, tasks = list(first.results), list(next(iter(first.results.values())))
  wide, size = max(len("mAP"), *(len(name) for name in reports)), 9
  columns = [(t, s) for t in tasks for s in names]

  def line(name: str, cells) -> str:
    groups = [cells[i:i + len(names)] for i in range(0, len(cells), len(names))]
    return f"{name:<{wide}} " + " |".join("".join(f"{c:>{size}}" for c in g) for g in groups)

  head = [line("", [t if s == names[0] else "" for t, s in columns]),
          line("mAP", [SIMILARITY[s][0] for _, s in columns])]
  body = [line(name, [f"{r.results[s][t].mean:.3f}" for t, s in columns])
          for name, r in reports.items()]
  own = _own_queries(list(reports.values())[-1])
  return "\n".join([*head, *body, "", *_explain(task, first, tasks, names), *own])


def _explain(task, report: Report, tasks, names) -> list[str]:
  result = report.results[names[0]][tasks[-1]]
  data, c = task.data, task.config
  kind = "" if set(data.queries) & set(data.train_ids) else "held-out "
  lines = [
      f"mAP is the mean over {len(result.per_query)} {kind}queries of average precision: 1.000 "
      "means that every relevant video stands before all others among "
      f"{len(report.database)}. Relevant are, for",
      *(f"  {t}: {MEANING[t]}" for t in tasks), "Videos are compared by",
      *(f"  {SIMILARITY[s][0]}: {SIMILARITY[s][1]}" for s in names),
      f"Seed {c.seed}; {len(data.pairs)} training pairs, {len(data.background)} background videos."]
  if not c.features.weights:
    lines.append(f"The backbone ({c.features.backbone}, width {c.features.width}) has random "
                 "weights; pretrained ones, features.weights=FILE, describe frames far better.")
  if data.note:
    lines.append(data.note)
  if result.skipped:
    lines.append(f"{len(result.skipped)} queries have no relevant video and are ranked only.")
  if report.missing:
    shown = ", ".join(report.missing[:3]) + (", ..." if len(report.missing) > 3 else "")
    lines.append(f"{len(report.missing)} videos could not be read and are not ranked: {shown}")
  return [textwrap.fill(line, 98, subsequent_indent="    " if line[0] == " " else "")
          for line in lines]


def _own_queries(report: Report, top: int = 3) -> list[str]:
  """The first videos for each query that has no labels: the user's own."""
  similarity = _ranking_similarity(report)
  own = [q for q in report.queries if q not in report.annotation]
  lines = [f"  {q}: " + (", ".join(f"{v} ({s:.3f})" for v, s in report.ranked(q, similarity, top))
                         or "could not be read") for q in own]
  return ["", f"First videos for your queries, by {similarity}:", *lines] if own else []


def _ranking_similarity(report: Report) -> str:
  """What rankings are shown by: Chamfer, which also finds copied parts, where it was computed."""
  return "chamfer" if "chamfer" in report.scores else next(iter(report.scores))


def figure(task, reports: Mapping[str, Report], embeds: Mapping):
  """The page of `retrieval.png`: the first and the last row compared on a pair and some queries."""
  names = list(reports)
  chosen = {name: reports[name] for name in dict.fromkeys((names[0], names[-1]))}
  last = reports[names[-1]]
  similarity = _ranking_similarity(last)
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


def save_figure(page, folder: pathlib.Path) -> pathlib.Path:
  """Writes `retrieval.png`."""
  path = folder / "retrieval.png"
  figures.save(page, path)
  return path


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


def check_equal(live: Report, exported: Report) -> float:
  """The largest difference of a score; raises where the export gives other numbers."""
  worst = max(float(np.nanmax(np.abs(live.scores[s] - exported.scores[s]))) for s in live.scores)
  a, b = live.numbers, exported.numbers
  off = [k for k in a if abs(a[k] - b[k]) > 1e-6]
  if off or worst > 1e-5:
    raise RuntimeError(f"the export differs from the model: scores by up to {worst}, and {off}")
  return worst


def save(path: pathlib.Path, text: str, reports: Mapping[str, Report], **facts) -> None:
  """Writes results.json, whose presence marks the run as finished."""
  rows = {name: {**r.numbers, "average_precision": _per_query(r)} for name, r in reports.items()}
  temporary = path.with_suffix(".tmp")
  temporary.write_text(json.dumps({"text": text, "rows": rows, **facts}, indent=1))
  os.replace(temporary, path)


def _per_query(report: Report) -> dict:
  return {f"{t}/{s}": r.per_query for s, tasks in report.results.items() for t, r in tasks.items()}
