"""Displaced windows and whole videos, cell by cell in float64."""

import numpy as np


def between(x, y, at):
  """[H, W, C] at a place between cells, bilinear, 0 beyond the map."""
  h, w, _ = x.shape
  top, left = int(np.floor(y)), int(np.floor(at))
  out = np.zeros(x.shape[-1])
  for i in (top, top + 1):
    for j in (left, left + 1):
      if 0 <= i < h and 0 <= j < w:
        out += (1 - abs(y - i)) * (1 - abs(at - j)) * x[i, j]
  return out


def displaced(query, keys, values, offsets, valid, radius, temperature=1.0):
  """As `ops.displaced.attend`."""
  query, keys, values = (np.asarray(a, np.float64) for a in (query, keys, values))
  h, w, _ = query.shape
  out = np.zeros((h, w, values.shape[-1]))
  side = range(-radius, radius + 1)
  for y, x in np.ndindex(h, w):
    scores, copied = [], []
    for r in np.flatnonzero(valid):
      for i in side:
        for j in side:
          place = y + i + float(offsets[r, y, x, 0]), x + j + float(offsets[r, y, x, 1])
          scores.append(query[y, x] @ between(keys[r], *place) / temperature)
          copied.append(between(values[r], *place))
    weights = np.exp(np.array(scores) - max(scores))
    out[y, x] = weights @ np.array(copied) / weights.sum()
  return out


def expected_offset(query, key, radius, dilation):
  """As `ops.displaced.expected_offset`."""
  query, key = (np.asarray(a, np.float64) for a in (query, key))
  h, w, _ = query.shape
  out = np.zeros((h, w, 2))
  side = range(-radius * dilation, radius * dilation + 1, dilation)
  for y, x in np.ndindex(h, w):
    shifts = np.array([(i, j) for i in side for j in side])
    scores = np.array([query[y, x] @ between(key, y + i, x + j) for i, j in shifts])
    weights = np.exp(scores - scores.max())
    out[y, x] = weights @ shifts / weights.sum()
  return out


def references(protocol, target):
  """Numbers of the frames that count, as a set where none counts twice, else as a list."""
  fixed = [n for n in protocol.fixed if n < target]
  recent = [target - age for age in protocol.recent]
  if protocol.missing == "repeat":
    return fixed + [max(0, n) for n in recent]
  return sorted({*fixed, *(n for n in recent if n >= 0)})
