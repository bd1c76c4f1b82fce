"""Window attention cell by cell in float64."""

import numpy as np


def cells(y, x, size, radius, shape, dilation):
  """Cells (y, x) of one query's window by row and column; those beyond the map included."""
  reach = max(size) if radius is None else int(np.ceil(radius))
  for i in range(-reach, reach + 1):
    for j in range(-reach, reach + 1):
      near = radius is None or (
        max(abs(i), abs(j)) <= radius if shape == "square" else i * i + j * j < radius ** 2)
      if near:
        yield y + i * dilation, x + j * dilation


def attend(query, key, value, radii, shape="square", dilation=1, temperature=1.0, top_k=None,
           border="mask"):
  """query [B,H,W,D], key [B,R,H,W,D], value [B,R,H,W,C], one radius a reference -> [B,H,W,C]."""
  query, key, value = (np.asarray(a, np.float64) for a in (query, key, value))
  b, h, w, _ = query.shape
  out = np.zeros((b, h, w, value.shape[-1]))
  for n, y, x in np.ndindex(b, h, w):
    scores, copied = [], []
    for r, radius in enumerate(radii):
      for ky, kx in cells(y, x, (h, w), radius, shape, dilation):
        inside = 0 <= ky < h and 0 <= kx < w
        if inside:
          scores.append(query[n, y, x] @ key[n, r, ky, kx] / temperature)
          copied.append(value[n, r, ky, kx])
        elif border == "zero":
          scores.append(0.0)
          copied.append(np.zeros(value.shape[-1]))
        elif border == "released":
          scores.append(0.0)
          copied.append(value[n, r, np.clip(ky, 0, h - 1), np.clip(kx, 0, w - 1)])
    out[n, y, x] = _copy(np.array(scores), np.array(copied), top_k, border)
  return out


def _copy(scores, copied, top_k, border):
  if border == "released":
    scores = np.where(scores == 0, -1e10, scores)
  if top_k is not None:
    best = np.argsort(-scores, kind="stable")[:top_k]
    scores, copied = scores[best], copied[best]
  weights = np.exp(scores - scores.max())
  return weights @ copied / weights.sum()


def correlation(query, key, radius, dilation=1):
  """[B,H,W,D] twice -> [B,H,W,(2M+1)^2]."""
  query, key = (np.asarray(a, np.float64) for a in (query, key))
  b, h, w, _ = query.shape
  out = np.zeros((b, h, w, (2 * radius + 1) ** 2))
  for n, y, x in np.ndindex(b, h, w):
    for k, (ky, kx) in enumerate(cells(y, x, (h, w), radius, "square", dilation)):
      if 0 <= ky < h and 0 <= kx < w:
        out[n, y, x, k] = query[n, y, x] @ key[n, ky, kx]
  return out


def gradients(query, key, value, cotangent, radii, shape="square", dilation=1, temperature=1.0):
  """Of `sum(attend * cotangent)`, by the rules of softmax and products, border="mask"."""
  query, key, value, ct = (np.asarray(a, np.float64) for a in (query, key, value, cotangent))
  b, h, w, _ = query.shape
  dq, dk, dv = (np.zeros_like(a) for a in (query, key, value))
  for n, y, x in np.ndindex(b, h, w):
    seen = [(n, r, ky, kx) for r, radius in enumerate(radii)
            for ky, kx in cells(y, x, (h, w), radius, shape, dilation)
            if 0 <= ky < h and 0 <= kx < w]
    scores = np.array([query[n, y, x] @ key[k] for k in seen]) / temperature
    p = np.exp(scores - scores.max())
    p /= p.sum()
    dp = np.array([ct[n, y, x] @ value[k] for k in seen])
    ds = p * (dp - p @ dp) / temperature
    for k, weight, slope in zip(seen, p, ds, strict=True):
      dv[k] += weight * ct[n, y, x]
      dk[k] += slope * query[n, y, x]
      dq[n, y, x] += slope * key[k]
  return dq, dk, dv
