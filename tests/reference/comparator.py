"""The comparator written for the eye: float64, one matrix, one output entry at a time."""

import numpy as np

from tests.reference.retrieval import chamfer as frame_chamfer


def region_matrix(x, y):
  """x [T, R, D], y [S, R', D]: the mean over the regions of x's frame of the best of y's frame."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  return np.array([[frame_chamfer(a, b) for b in y] for a in x])


def network(params, s):
  """The CNN on s [n, m], at least 4 x 4, before the clip; kernels are [3, 3, in, out]."""
  maps = [np.asarray(s, np.float64)]
  for layer in ("conv1", "conv2", "conv3"):
    maps = [np.maximum(m, 0) for m in convolve(maps, params[layer])]
    if layer != "conv3":
      maps = [max_pool(m) for m in maps]
  kernel, bias = np.float64(params["fconv"]["kernel"]), np.float64(params["fconv"]["bias"])
  return sum(m * k for m, k in zip(maps, kernel[0, 0, :, 0], strict=True)) + bias[0]


def convolve(maps, layer):
  """3 x 3 cross-correlation of every map; outside the border lie the nearest entries."""
  kernel, bias = np.float64(layer["kernel"]), np.float64(layer["bias"])
  height, width = maps[0].shape
  out = [np.full((height, width), b) for b in bias]
  for i in range(height):
    for j in range(width):
      for di in range(3):
        for dj in range(3):
          a = min(max(i + di - 1, 0), height - 1)
          b = min(max(j + dj - 1, 0), width - 1)
          near = np.array([m[a, b] for m in maps])
          for o, value in enumerate(near @ kernel[di, dj]):
            out[o][i, j] += value
  return out


def max_pool(m):
  """2 x 2 windows at stride 2; an odd last row or column is left out."""
  return np.array([[m[2 * i:2 * i + 2, 2 * j:2 * j + 2].max() for j in range(m.shape[1] // 2)]
                   for i in range(m.shape[0] // 2)])


def doubled(x):
  """A video x [T, ...] after its frames were said again until there are four."""
  while len(x) < 4:
    x = np.concatenate([x, x])
  return x


def compare(params, s, rescale=False):
  """s [n, m] of two whole videos -> (output, similarity, excess)."""
  s = doubled(doubled(np.asarray(s, np.float64)).T).T
  y = network(params, s)
  excess = np.maximum(y - 1, 0).sum() + np.maximum(-1 - y, 0).sum()
  y = np.clip(y, -1, 1)
  if rescale:
    y = y / 2 + 0.5
  return y, y.max(axis=1).mean(), excess
