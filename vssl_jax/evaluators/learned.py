"""Learned similarities of embedded videos, computed in tiles of few shapes."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from vssl_jax.evaluators.embedded import SHORTEST, Batch, power_of_two
from vssl_jax.evaluators.index import Index
from vssl_jax.evaluators.search import Block, Learned
from vssl_jax.types import ConfigError

# (query, target), each a dict of `video`, `frames`, `length`, to {name: [Q, N]}
Pairs = Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], Mapping[str, np.ndarray]]

TILE = 64  # videos a side that are compared by one call


@dataclasses.dataclass(frozen=True)
class Score:
  """A model's own similarities.

  Attributes:
    names: of them.
    pairs: the host function that computes them.
  """

  names: tuple[str, ...]
  pairs: Pairs


def over(score: Score, asked: Index, found: Index, tile: int = TILE) -> Learned:
  """The similarities of all queries to a block of the database, for `search.exhaustive`.

  Videos are padded to powers of two, at least 8: each pair of lengths is compiled.
  """
  sizes, queries = np.array([power_of_two(int(n), SHORTEST) for n in asked.length]), []
  for size in np.unique(sizes).tolist():
    at = np.flatnonzero(sizes == size)
    frames = asked.padded("frames", at, (len(at), size))
    queries.append((at, Batch(tuple(asked.ids[k] for k in at), asked.rows("video")[at], frames,
                              asked.length[at].astype(np.int32))))

  def scores(block: Block) -> dict[str, np.ndarray]:
    rows, s = block.frames.shape[:2]
    frames = np.pad(block.frames, ((0, 0), (0, power_of_two(s, SHORTEST) - s), (0, 0)))
    video = np.zeros((rows, asked.rows("video").shape[1]), np.float32)
    video[:len(block.at)] = found.rows("video")[block.at]
    target = Batch(tuple(found.ids[k] for k in block.at), video, frames, block.length)
    tables = {name: np.empty((len(asked), rows), np.float32) for name in score.names}
    for at, query in queries:
      for name, values in pairs(score.pairs, query, target, tile).items():
        tables[name][at] = values
    return tables

  return scores


def pairs(score: Pairs, q: Batch, t: Batch, block: int) -> dict[str, np.ndarray]:
  """Every video of one batch against every one of another.

  Args:
    score: a host function; it sees up to `block` videos a side, always a power of two of them or
      `block`, so that few shapes are compiled.
    q, t: embedded videos; fillers are compared as well.
    block: most videos a side of one call.

  Returns:
    {name: [Bq, Bt] float32}.

  Raises:
    ValueError: the score gave other shapes or names, or numbers that aren't finite for real videos.
  """
  if block < 1:
    raise ConfigError(f"block={block}: at least one video at a time")
  rows, columns = len(q.length), len(t.length)
  found = {}
  for i in range(0, rows, block):
    query = _tile(q, i, block)
    for j in range(0, columns, block):
      target = _tile(t, j, block)
      tile = score(query, target)
      shape = len(query["length"]), len(target["length"])
      _check_tile(tile, shape, found)
      for name, values in tile.items():
        out = found.setdefault(name, np.empty((rows, columns), np.float32))
        part = out[i:i + block, j:j + block]
        part[:] = np.asarray(values)[:part.shape[0], :part.shape[1]]
  for name, values in found.items():
    bad = np.argwhere(~np.isfinite(values[:len(q.ids), :len(t.ids)]))
    if len(bad):
      raise ValueError(f"the {name} of {q.ids[bad[0][0]]!r} and {t.ids[bad[0][1]]!r} isn't finite")
  return found


def _tile(batch: Batch, start: int, block: int) -> dict[str, np.ndarray]:
  """Videos from `start` on; what is missing to the tile's size repeats the first of them."""
  n = min(block, len(batch.length) - start)
  size = min(block, power_of_two(n))
  index = start + np.where(np.arange(size) < n, np.arange(size), 0)
  return {"video": batch.video[index], "frames": batch.frames[index],
          "length": batch.length[index]}


def _check_tile(tile, shape, found) -> None:
  shapes = {name: np.shape(values) for name, values in tile.items()}
  if not shapes or any(s != shape for s in shapes.values()):
    raise ValueError(f"score gave {shapes or 'nothing'}; every similarity should be {list(shape)}")
  if found and found.keys() != shapes.keys():
    raise ValueError(f"score gave {sorted(shapes)}, and before {sorted(found)}")
