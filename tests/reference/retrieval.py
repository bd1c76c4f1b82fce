"""Retrieval measures written for the eye: float64, one video and one rank at a time.

Results are `{query: {video: score}}`, in the order in which ties are to stay.
"""

import math

import numpy as np


def cosine(x, y):
  """x [D], y [D]."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  return float(x @ y / (math.sqrt(x @ x) * math.sqrt(y @ y)))


def chamfer(x, y):
  """x [T, D], y [S, D], without padding: mean over x of the best of y."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  total = 0.0
  for frame in x:
    best = -math.inf
    for other in y:
      best = max(best, float(frame @ other))
    total += best
  return total / len(x)


def symmetric_chamfer(x, y):
  return (chamfer(x, y) + chamfer(y, x)) / 2


def ranked(scores):
  """Ids of `{id: score}` from best to worst; Python's sort is stable."""
  return [video for video, _ in sorted(scores.items(), key=lambda item: -float(item[1]))]


def average_precision(order, relevant, n_relevant):
  found, total = 0, 0.0
  for rank, video in enumerate(order, start=1):
    if video in relevant:
      found += 1
      total += found / rank
  return total / n_relevant


def trapezoid(order, relevant, n_relevant):
  area, recall, precision = 0.0, 0.0, 1.0
  found = 0
  for rank, video in enumerate(order):
    before = 1.0 if rank == 0 else found / rank
    if video in relevant:
      found += 1
      precision = found / (rank + 1)
      area += (found / n_relevant - recall) * (before + precision) / 2
      recall = found / n_relevant
  return area


def interpolated(scores, relevant, points=21):
  """Best precision at each recall; 0 where relevant ids are not in `{id: score}` to reach it."""
  curve = [(0.0, 1.0)]  # (recall, precision) of nothing retrieved
  for threshold in set(scores.values()):
    shown = [video for video, score in scores.items() if score >= threshold]
    hits = sum(video in relevant for video in shown)
    curve.append((hits / len(relevant), hits / len(shown)))
  step = 1 / (points - 1)
  return [max((p for r, p in curve if r >= i * step), default=0.0) for i in range(points)]


def fivr(results, annotation, labels, available, count_query=True):
  """(query -> average precision, skipped queries) for the task of `labels`."""
  values, skipped = {}, []
  for query, scores in results.items():
    relevant = set()
    for label in labels:
      for video in annotation[query].get(label, []):
        if video in available and (count_query or video != query):
          relevant.add(video)
    if not relevant:
      skipped.append(query)
      continue
    kept = {v: s for v, s in scores.items() if v in available and v != query}
    values[query] = average_precision(ranked(kept), relevant, len(relevant))
  return values, skipped


def micro(results, relevant, available):
  """Average precision of all pairs in one list."""
  pairs, good = {}, set()
  for query, scores in results.items():
    for video, score in scores.items():
      if video != query and video in available:
        pairs[query, video] = score
    good |= {(query, v) for v in relevant[query] if v != query and v in available}
  return average_precision(ranked(pairs), good, len(good))


def evve(results, event_of, positives, available):
  """(query -> average precision, event -> mean)."""
  values, groups = {}, {}
  for query, scores in results.items():
    event = event_of[query]
    relevant = {v for v in positives[event] if v in available}
    if not relevant:
      continue
    kept = {v: s for v, s in scores.items() if v in available}
    values[query] = trapezoid(ranked(kept), relevant, len(relevant))
    groups.setdefault(event, []).append(values[query])
  return values, {event: sum(v) / len(v) for event, v in groups.items()}


def cc_web_video(results, labels, excluded):
  """The four means, in the order of the protocol's names."""
  means = []
  for clean in (False, True):
    for whole in (False, True):
      values = []
      for query, scores in results.items():
        out = set(excluded[query]) if clean else set()
        relevant = {v for v, x in labels[query].items() if x in "ESVML"} - out
        kept = {v: s for v, s in scores.items()
                if v not in out and (whole or v in labels[query])}
        values.append(average_precision(ranked(kept), relevant, len(relevant)))
      means.append(sum(values) / len(values))
  return means
