"""Frame descriptors in float64 loops, straight from TCA specification 2.3-2.5. Maps [H, W, C]."""

import math

import numpy as np


def l2(v: np.ndarray) -> np.ndarray:
  return v / max(math.sqrt(float(np.sum(v * v))), 1e-12)


def local_l2(m: np.ndarray) -> np.ndarray:
  return np.array([[l2(v) for v in row] for row in m])


def windows(m: np.ndarray, size: int, stride: int) -> np.ndarray:
  rows = range(0, m.shape[0] - size + 1, stride)
  columns = range(0, m.shape[1] - size + 1, stride)
  return np.array(
    [[m[y:y + size, x:x + size].reshape(-1, m.shape[2]).max(0) for x in columns] for y in rows]
  )


def imac(maps: list[np.ndarray], normalise_locations: bool = True) -> np.ndarray:
  parts = []
  for m in maps:
    m = local_l2(m.astype(np.float64)) if normalise_locations else m.astype(np.float64)
    parts.append(l2(m.reshape(-1, m.shape[2]).max(0)))
  return np.concatenate(parts)


def l3_irmac(maps: list[np.ndarray]) -> np.ndarray:
  parts = []
  for m in maps:
    m = local_l2(m.astype(np.float64))
    p = int(2 * min(m.shape[:2]) / 7)
    total = np.zeros(m.shape[2])
    for row in windows(m, int(1.5 * p), p):
      for region in row:
        total += l2(region)
    parts.append(l2(total))
  return np.concatenate(parts)


def l3_imac(maps: list[np.ndarray]) -> np.ndarray:
  pooled = []
  for m, size in zip(maps, (28, 14, 6, 3), strict=True):
    pooled.append(local_l2(windows(m.astype(np.float64), size, math.ceil(size / 2))))
  height, width = pooled[-1].shape[:2]
  regions = []
  for y in range(height):
    for x in range(width):
      parts = []
      for m in pooled:
        top, bottom = y * m.shape[0] // height, math.ceil((y + 1) * m.shape[0] / height)
        left, right = x * m.shape[1] // width, math.ceil((x + 1) * m.shape[1] / width)
        parts.append(l2(m[top:bottom, left:right].reshape(-1, m.shape[2]).max(0)))
      regions.append(l2(np.concatenate(parts)))
  return np.array(regions)
