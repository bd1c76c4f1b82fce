"""The cycle's losses in float64, one query and one row at a time (cycle_contrast spec 4)."""

import math

import numpy as np


def unit(x):
  return np.asarray(x, np.float64) / np.linalg.norm(x)


def contrast(s_p, s_n, *, tau):
  """Mean over the positives of `-log(e_p / (e_p + sum e_n))`; `s_n` a list, perhaps empty."""
  terms = [math.log(1 + sum(math.exp((s - p) / tau) for s in s_n)) for p in s_p]
  return sum(terms) / len(terms)


def neighbour(q, rows, *, tau, key=None):
  """(unit vector, weights of the rows, weight of the query); `rows` a list of vectors."""
  values = [np.exp(np.dot(q, r) / tau) for r in rows]
  own = 0.0 if key is None else np.exp(np.dot(q, key) / tau)
  total = sum(values) + own
  mean = own / total * np.asarray(q, np.float64)
  for value, row in zip(values, rows, strict=True):
    mean = mean + value / total * np.asarray(row, np.float64)
  return unit(mean), [v / total for v in values], own / total


def intra(q, positives, queue, allowed, *, tau):
  return contrast([np.dot(q, p) for p in positives],
                  [np.dot(q, row) for row, a in zip(queue, allowed, strict=True) if a], tau=tau)


def cycle(q, positives, queue, allowed, chosen, *, tau, neighbour_tau, key=None):
  """`chosen`: row numbers, or None for all rows being both neighbours and negatives."""
  among = range(len(queue)) if chosen is None else chosen
  rest = [k for k in range(len(queue)) if chosen is None or k not in list(chosen)]
  n, _, _ = neighbour(q, [queue[k] for k in among if allowed[k]], tau=neighbour_tau, key=key)
  return contrast([np.dot(n, p) for p in positives],
                  [np.dot(n, queue[k]) for k in rest if allowed[k]], tau=tau)


def step(query, key, candidate, queues, record, records, draws, *, tau, neighbour_tau, weight,
         positives, mask_same_video, groups, with_self=False):
  """(intra loss, cycle loss, total) of a batch, from unit vectors by head.

  Args:
    query, key: head -> [B][D]; candidate: head -> [B][F][D]; queues: head -> [K][D].
    record: [B]; records: head -> [K].
    draws: fields of `cycle_contrast.Draws`.
  """
  source, batch = "cycle" if "cycle" in queues else "intra", len(record)

  def allowed(name, i):
    own = mask_same_video and record[i] >= 0
    return [not (own and r == record[i]) for r in records[name]]

  def positive(name, i, drawn):
    if positives == "same_frame":
      return [key[name][i]]
    return list(candidate[name][i]) if positives == "all_frames" else [candidate[name][i][drawn[i]]]

  a = [intra(query["intra"][i], positive("intra", i, draws.intra), queues["intra"],
             allowed("intra", i), tau=tau) for i in range(batch)]
  b = [cycle(query[source][i], positive(source, i, draws.cycle), queues[source],
             allowed(source, i),
             None if draws.neighbours is None else draws.neighbours[i * groups // batch], tau=tau,
             neighbour_tau=neighbour_tau, key=key[source][i] if with_self else None)
       for i in range(batch)] if weight else [0.0]
  return np.mean(a), np.mean(b), np.mean(a) + weight * np.mean(b)
