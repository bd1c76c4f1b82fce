"""The TCA encoder in float64 NumPy: one video, one head, one query at a time (tca spec 4)."""

import numpy as np


def layer_norm(x, scale, bias):
  """One vector, with the biased variance and eps 1e-5."""
  return (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + 1e-5) * scale + bias


def attention(p, x, valid, heads):
  """`x` [T, D] -> [T, D]; only frames with `valid` [T] are attended to."""
  steps, dim = x.shape
  size = dim // heads
  q, k, v = np.split(x @ p["in_proj"]["kernel"] + p["in_proj"]["bias"], 3, axis=1)
  out = np.zeros((steps, dim))
  for h in range(heads):
    part = slice(h * size, (h + 1) * size)
    for t in range(steps):
      scores = np.array([q[t, part] @ k[s, part] / np.sqrt(size) for s in range(steps)])[valid]
      weights = np.exp(scores - scores.max())
      out[t, part] = weights / weights.sum() @ v[valid][:, part]
  return out @ p["out_proj"]["kernel"] + p["out_proj"]["bias"]


def layer(p, x, valid, heads):
  """A post-norm layer without dropout."""
  y = x + attention(p["self_attn"], x, valid, heads)
  y = np.array([layer_norm(row, p["norm1"]["scale"], p["norm1"]["bias"]) for row in y])
  hidden = np.maximum(0, y @ p["linear1"]["kernel"] + p["linear1"]["bias"])
  z = y + hidden @ p["linear2"]["kernel"] + p["linear2"]["bias"]
  return np.array([layer_norm(row, p["norm2"]["scale"], p["norm2"]["bias"]) for row in z])


def encode(params, x, length, heads):
  """`x` [B, T, D], `length` [B] -> (video [B, D], frames [B, T, D], zero at padding)."""
  video, frames = [], np.zeros(x.shape)
  for b, (y, n) in enumerate(zip(x.astype(np.float64), length, strict=True)):
    n = min(int(n), len(y))
    valid = np.arange(len(y)) < n
    for i in range(len(params)):
      y = layer(params[f"layers_{i}"], y, valid, heads)
    mean = y[:n].mean(axis=0)
    video.append(mean / np.linalg.norm(mean))
    frames[b, :n] = y[:n] / np.linalg.norm(y[:n], axis=1, keepdims=True)
  return np.array(video), frames
