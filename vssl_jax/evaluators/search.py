"""Scores of queries against an index of any size: everything, or a shortlist only (tca spec 10).

The index is read in blocks of videos of like length. Scores go into arrays that may lie on disk, so
memory is bounded by a block and the queries' frames, and an interrupted search goes on with the
block it was at. Scores are float32; equal ones keep the order of the database when they are ranked.
"""

import collections
import concurrent.futures
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from vssl_jax import log
from vssl_jax.evaluators.embedded import power_of_two
from vssl_jax.evaluators.index import Index
from vssl_jax.ops import chamfer, similarity

SIMILARITIES = ("cosine", "chamfer", "symmetric_chamfer", "two_stage")
SHORTLIST, LEAST = 0.02, 50  # of the database, and never fewer videos than these
BLOCK_ROWS = 8192  # database frames that are compared at once


@dataclasses.dataclass(frozen=True)
class Block:
  """Some videos of an index, padded to a common length.

  Attributes:
    at: [n] their numbers in the index; the arrays below may have more rows, fillers.
    frames: [N, S, D] float32.
    length: [N] int32.
    weights: [N, S] float32, or None.
  """

  at: np.ndarray
  frames: np.ndarray
  length: np.ndarray
  weights: np.ndarray | None


def padded_length(n: np.ndarray) -> np.ndarray:
  """The lengths that videos are padded to: multiples of 4 up to 64, then eight steps an octave.

  So long videos cost at most an eighth more, and 48 lengths, each compiled once, go up to 1,024.
  """
  n = np.maximum(np.asarray(n), 1)
  step = 2 ** np.maximum(np.ceil(np.log2(n)).astype(int) - 4, 2)
  return -(-n // step) * step


def groups(index: Index, at: np.ndarray, rows: int = BLOCK_ROWS) -> list[tuple[int, np.ndarray]]:
  """The videos `at` of an index in blocks of like length: (padded length, their numbers).

  A block of videos padded to S frames holds `videos_a_block(S)` of them, the last one of a length
  fewer.
  """
  lengths, found = padded_length(index.length[at]), []
  for s in np.unique(lengths).tolist():
    group, most = at[lengths == s], videos_a_block(s, rows)
    found += [(s, group[i:i + most]) for i in range(0, len(group), most)]
  return found


def videos_a_block(s: int, rows: int = BLOCK_ROWS) -> int:
  """`rows // s`, or less: whole tiles of `ops.chamfer`, which would be filled up otherwise."""
  most, tile = max(1, rows // s), chamfer.rows_a_tile(s)
  return most - most % tile if most > tile else most


def block(index: Index, s: int, at: np.ndarray, rows: int = BLOCK_ROWS) -> Block:
  """One of `groups`; with fillers up to whole tiles, or within one to a power of two of videos."""
  tile = chamfer.rows_a_tile(s)
  size = -(-len(at) // tile) * tile if len(at) > tile else power_of_two(len(at))
  size = min(videos_a_block(s, rows), size)
  length = np.ones(size, np.int32)
  length[:len(at)] = index.length[at]
  frames, weights = (index.padded(name, at, (size, s)) for name in ("frames", "weights"))
  return Block(at, frames, length, None if weights is None else weights[..., 0])


def ahead(items: Iterable, count: int = 2) -> Iterator:
  """The same items, made `count` ahead in another thread: the disk works while devices do."""
  iterator = iter(items)
  end = object()
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    waiting = [pool.submit(next, iterator, end) for _ in range(count)]
    while (item := waiting.pop(0).result()) is not end:
      waiting.append(pool.submit(next, iterator, end))
      yield item


def cosine(queries: Index, database: Index, rows: int = 65536) -> np.ndarray:
  """[Q, N] float32 cosines of video descriptors."""
  q, y = queries.rows("video"), database.rows("video")
  parts = [similarity.cosine(q, y[i:i + rows]) for i in range(0, len(y), rows)]
  return np.concatenate([np.asarray(part) for part in parts], axis=1)


def shortlist_size(n: int, share: float = SHORTLIST, least: int = LEAST) -> int:
  """How many of n videos are compared by frames in a two-stage search."""
  return min(n, max(least, int(np.ceil(share * n))))


def two_stage(queries: Index, database: Index, first: np.ndarray, size: int, *,
              progress: bool = False) -> np.ndarray:
  """Chamfer similarity of each query to the `size` videos that `first` ranks highest.

  On the host: a shortlist's frames lie all over the database, so fetching them costs as much as
  comparing them with one query, and NumPy takes them in any lengths.

  Args:
    first: [Q, N] cosines of video descriptors.

  Returns:
    [Q, N] float32: Chamfer for the shortlist; for the others the cosine less 2, so that they come
    behind it in the order of the first stage.
  """
  scores, rows = first - np.float32(2), database.rows("frames")
  start, length = database.start, database.length
  with log.stage(name="shortlists", total=len(queries), unit="queries", show=progress) as bar:
    for q, (frames, shares) in enumerate(_with_shares(queries)):
      # Equal scores: the database's order, as everywhere.
      at = np.sort(np.argsort(-first[q], kind="stable")[:size])
      for part in _parts(at, length[at]):
        found = np.concatenate([rows[start[k]:start[k] + length[k]] for k in part])
        first_rows = np.cumsum(length[part]) - length[part]
        best = np.maximum.reduceat(found @ frames.T, first_rows, axis=0)
        scores[q, part] = best @ shares
      bar.update()
  return scores


def _with_shares(index: Index) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Frames [T, D] of each video, and the share of each in a mean [T]."""
  frames, weights = index.rows("frames"), index.rows("weights")
  for start, n in zip(index.start, index.length, strict=True):
    w = np.ones(n) if weights is None else weights[start:start + n, 0].astype(np.float64)
    yield frames[start:start + n], (w / w.sum()).astype(np.float32)


def _parts(at: np.ndarray, length: np.ndarray) -> Iterator[np.ndarray]:
  """Videos in runs of about `BLOCK_ROWS` frames."""
  return np.split(at, np.flatnonzero(np.diff(np.cumsum(length) // BLOCK_ROWS)) + 1)


class Scores:
  """Score tables [N, Q] by name, in memory or in a folder, and how many blocks are done.

  Attributes:
    tables: name -> [N, Q] float32.
    done: blocks that were finished before; a new search begins behind them.
  """

  def __init__(self, names: Iterable[str], shape: tuple[int, int],
               folder: str | os.PathLike | None = None, meta: dict | None = None):
    """Opens the tables; those in `folder` begin anew unless all is as when they were made.

    Args:
      names: of the tables.
      shape: N videos of the database, Q queries.
      meta: what is compared, in JSON's types.
    """
    self._folder, self.done = folder and pathlib.Path(folder), 0
    self._made_from = {"names": sorted(names), "shape": list(shape), "meta": meta}
    if self._folder is None:
      self.tables = {name: np.full(shape, np.nan, np.float32) for name in names}
      return
    self._folder.mkdir(parents=True, exist_ok=True)
    self._state = self._folder / "scores.json"
    known = json.loads(self._state.read_text()) if self._state.is_file() else {}
    done, same = known.pop("done", 0), known == self._made_from
    self.done = done if same else 0
    if not same:
      self._state.unlink(missing_ok=True)
    mode = "r+" if same else "w+"
    self.tables = {name: np.memmap(self._folder / f"{name}.f32", "<f4", mode, shape=shape)
                   for name in names}

  def finish_block(self) -> None:
    """Takes note that one more block's scores are in the tables."""
    self.done += 1
    if self._folder is None:
      return
    for table in self.tables.values():
      table.flush()
    temporary = self._state.with_suffix(".tmp")
    temporary.write_text(json.dumps({**self._made_from, "done": self.done}))
    os.replace(temporary, self._state)


Learned = Callable[[Block], dict[str, np.ndarray]]  # -> name -> [Q, N]


def exhaustive(queries: Index, database: Index, scores: Scores, *, dtype: str = "float32",
               learned: Learned | None = None, progress: bool = False) -> None:
  """Fills `scores` with those of every query against every video.

  Args:
    scores: tables "chamfer", "symmetric_chamfer" (either or both), and what `learned` gives.
    dtype: of the products, "float32" or, faster on accelerators, "bfloat16".
    learned: a similarity of the model's own, of all queries to a block.
  """
  names = set(scores.tables)
  packed = _packed(queries, dtype) if names & {"chamfer", "symmetric_chamfer"} else None
  parts = groups(database, np.arange(len(database)))

  def compute(t: Block):
    found = learned(t) if learned else {}
    if packed is not None:
      found |= _chamfers(packed, t, "symmetric_chamfer" in names)
    return t, found

  left = (block(database, *part) for part in parts[scores.done:])
  with log.stage(name="search", total=len(parts), initial=scores.done, unit="blocks",
                 show=progress) as bar:
    for t, found in _one_ahead(map(compute, ahead(left))):
      for name in names:
        scores.tables[name][t.at] = np.asarray(found[name])[:, :len(t.at)].T
      scores.finish_block()
      bar.update()


def _one_ahead(items: Iterable) -> Iterator:
  """The same items, one late: devices compute one while the one before is taken from them."""
  waiting = collections.deque()
  for item in items:
    waiting.append(item)
    if len(waiting) > 1:
      yield waiting.popleft()
  yield from waiting


def _packed(queries: Index, dtype: str) -> chamfer.Queries:
  ends = np.cumsum(queries.length)[:-1]
  weights = queries.rows("weights")
  return chamfer.pack(np.split(queries.rows("frames"), ends), dtype=dtype,
                      weights=None if weights is None else np.split(weights[:, 0], ends))


def _chamfers(packed: chamfer.Queries, t: Block, symmetric: bool) -> dict[str, Any]:
  forward, backward = chamfer.block_chamfer(packed, t.frames, t.length, t.weights,
                                            symmetric=symmetric)
  found = {"chamfer": forward}
  return found | {"symmetric_chamfer": (forward + backward) / 2} if symmetric else found
