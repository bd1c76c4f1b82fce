"""How the work of `window_tiles` is cut, and which cells of a patch a window holds."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FAR = -1e30  # score of a cell outside of the window: no weight, but never nan


class Window(NamedTuple):
  """What is static: hashable, so that it can be an argument of a compiled function."""

  size: tuple[int, int]  # H, W
  radii: tuple  # one per reference, None for the whole map
  shape: str
  dilation: int
  top_k: int | None
  border: str


class Part(NamedTuple):
  """Consecutive references with one radius; `reach` None if each query sees the whole map."""

  references: tuple[int, int]  # first and last + 1
  radius: float | None
  reach: tuple[int, int] | None  # rows and columns that a window extends from its centre


class Plan(NamedTuple):
  """How the work is cut."""

  window: Window
  grid: tuple[int, int]  # of one residue class of the dilation
  tile: tuple[int, int]
  counts: tuple[int, int]  # tiles down and across, those that fill up the last run among them
  run: int  # tiles side by side that share a slice of the keys
  runs: int  # of a step
  back: int  # likewise, of the backward pass
  parts: tuple[Part, ...]

  def patch(self, part: Part) -> tuple[int, int]:
    """Rows and columns of the keys that the windows of a tile cover."""
    if part.reach is None:
      return self.grid
    rows, columns = (t + 2 * r for t, r in zip(self.tile, part.reach, strict=True))
    return rows, columns


def plan(window: Window, batch: int, tile: tuple[int, int], channels: int,
         budgets: tuple[int, int]) -> Plan:
  """`budgets`: numbers of a step's scores and of its keys and values, which have `channels`.

  That of the forward pass, then that of the backward pass.
  """
  grid = tuple(-(-n // window.dilation) for n in window.size)
  down, across = (-(-n // t) for n, t in zip(grid, tile, strict=True))
  whole = Plan(window, grid, tile, (down, across), across, 1, 1, _parts(window, grid))
  keys = sum((p.references[1] - p.references[0]) * math.prod(whole.patch(p)) for p in whole.parts)
  # Tiles of a step, forward and backward, which have their runs in common.
  most = [max(1, n // (keys * (math.prod(tile) + channels))) for n in budgets]
  run = -(-across // -(-across // min(most)))
  across = -(-across // run) * run
  total = batch * window.dilation ** 2 * down * across // run
  runs, back = (-(-total // -(-total // (n // run))) for n in most)
  return whole._replace(counts=(down, across), run=run, runs=runs, back=back)


def _parts(window: Window, grid: tuple[int, int]) -> tuple[Part, ...]:
  parts, first, radii = [], 0, window.radii
  for i in range(1, len(radii) + 1):
    if i == len(radii) or radii[i] != radii[first]:
      parts.append(Part((first, i), radii[first], _reach(window, radii[first], grid)))
      first = i
  return tuple(parts)


def _reach(window: Window, radius, grid) -> tuple[int, int] | None:
  if radius is None:
    return None
  reach = int(radius) if window.shape == "square" else math.ceil(radius) - 1
  if window.border != "mask":  # cells beyond the map count too
    return reach, reach
  farthest = (max(n - 1 for n in grid) if window.shape == "square"
              else math.hypot(*(n - 1 for n in grid)) + 1e-3)
  return None if radius >= farthest else tuple(min(reach, n - 1) for n in grid)


def outside_window(part: Part, how: Plan) -> np.ndarray:
  """[keys, queries]: FAR where a cell of the patch is outside of a query's window, else 0."""
  (rows, columns), (th, tw) = how.patch(part), how.tile
  dy = np.arange(rows)[:, None] - np.arange(th) - part.reach[0]
  dx = np.arange(columns)[:, None] - np.arange(tw) - part.reach[1]
  dy, dx = dy[:, None, :, None], dx[None, :, None, :]
  inside = (np.maximum(abs(dy), abs(dx)) <= part.radius if how.window.shape == "square"
            else dy ** 2 + dx ** 2 < part.radius ** 2)
  return np.where(inside, 0, FAR).astype(np.float32).reshape(rows * columns, th * tw)


def outside_map(part: Part, at, how: Plan) -> jax.Array:
  """[runs, run, keys of one reference]: FAR where a cell of the patch is beyond the map.

  [runs, 1, keys] for a whole map. `at`: frame, row and column of the first query of each run.
  """
  (rows, columns), d = how.patch(part), how.window.dilation
  frame, top, left = at
  left = left[:, None] + np.arange(how.run) * how.tile[1]
  residue = frame % (d * d)
  h, w = ((n - r + d - 1) // d  # cells of this residue class
          for n, r in zip(how.window.size, (residue // d, residue % d), strict=True))
  if part.reach is None:
    top, left = 0 * top, 0 * left[:, :1]
  else:
    top, left = top - part.reach[0], left - part.reach[1]
  y, x = top[:, None] + np.arange(rows), left[..., None] + np.arange(columns)
  inside_y = (y >= 0) & (y < h[:, None])  # [runs, rows]
  inside_x = (x >= 0) & (x < w[:, None, None])  # [runs, run, columns]
  inside = inside_y[:, None, :, None] & inside_x[:, :, None, :]
  return jnp.where(inside, 0.0, FAR).reshape(*inside.shape[:2], rows * columns)
