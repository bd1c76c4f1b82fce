"""Scores of queries against an index of any size: everything, or a shortlist only (tca spec 10).

The index is read in blocks of videos of like length. Scores go into arrays that may lie on disk, so
memory is bounded by a block and the queries' frames, and an interrupted search goes on with the
block it was at. Scores are float32; equal ones keep the order of the database when they are ranked.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from tqdm import tqdm

from vssl_jax.evaluators.index import Index
from vssl_jax.ops import chamfer, similarity

SIMILARITIES = ("cosine", "chamfer", "symmetric_chamfer", "two_stage")
SHORTLIST, LEAST = 0.03, 50  # of the database, and never fewer videos than these
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
  """The lengths that videos are padded to: four steps an octave from 16, multiples of 4 below.

  On average a tenth of the work is on padding, and 30 lengths, each compiled once, go up to 1,024.
  """
  n = np.maximum(np.asarray(n), 1)
  step = 2 ** np.maximum(np.ceil(np.log2(n)).astype(int) - 3, 2)
  return -(-n // step) * step


def blocks(index: Index, at: np.ndarray, rows: int = BLOCK_ROWS) -> Iterator[Block]:
  """The videos `at` of an index, those of like length together; a function of the arguments.

  The last block of a length holds fillers up to a power of two of videos: few shapes in all.
  """
  frames, weights, length, start = (index.rows("frames"), index.rows("weights"), index.length,
                                    index.start)
  lengths = padded_length(length[at])
  for s in np.unique(lengths):
    group, most = at[lengths == s], max(1, rows // int(s))
    for i in range(0, len(group), most):
      part = group[i:i + most]
      size = most if len(part) == most else min(most, 1 << (len(part) - 1).bit_length())
      x = np.zeros((size, s, frames.shape[1]), np.float32)
      w = None if weights is None else np.zeros((size, s), np.float32)
      for row, k in enumerate(part):
        x[row, :length[k]] = frames[start[k]:start[k] + length[k]]
        if w is not None:
          w[row, :length[k]] = weights[start[k]:start[k] + length[k], 0]
      count = np.ones(size, np.int32)
      count[:len(part)] = length[part]
      yield Block(part, x, count, w)


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
              dtype: str = "float32", progress: bool = False) -> np.ndarray:
  """Chamfer similarity of each query to the `size` videos that `first` ranks highest.

  Args:
    first: [Q, N] cosines of video descriptors.

  Returns:
    [Q, N] float32: Chamfer for the shortlist; for the others the cosine less 2, so that they come
    behind it in the order of the first stage.
  """
  scores = first - np.float32(2)
  length, start, frames = queries.length, queries.start, queries.rows("frames")
  weights = queries.rows("weights")
  with tqdm(total=len(queries), unit="query", desc="shortlists", leave=False,
            disable=None if progress else True) as bar:
    for q in range(len(queries)):
      own = slice(start[q], start[q] + length[q])
      rows = max(64, 1 << (int(length[q]) - 1).bit_length())
      packed = chamfer.pack([frames[own]], dtype=dtype, rows=rows,
                            weights=None if weights is None else [weights[own, 0]])
      # Equal scores: the database's order, as everywhere.
      at = np.sort(np.argsort(-first[q], kind="stable")[:size])
      for block in blocks(database, at, rows=2048):
        forward, _ = chamfer.block_chamfer(packed, block.frames, block.length, symmetric=False)
        scores[q, block.at] = np.asarray(forward)[0, :len(block.at)]
      bar.update()
  return scores


class Scores:
  """Score tables [N, Q] by name, in memory or in a folder, and how many blocks are done.

  Attributes:
    tables: name -> [N, Q] float32.
    done: blocks that were finished before; a new search begins behind them.
  """

  def __init__(self, names: Iterable[str], shape: tuple[int, int],
               folder: str | os.PathLike | None = None, meta: dict | None = None):
    """Opens the tables; those in `folder` begin anew unless they were made from the same `meta`."""
    self._folder, self._meta, self.done = folder and pathlib.Path(folder), meta, 0
    if self._folder is None:
      self.tables = {name: np.full(shape, np.nan, np.float32) for name in names}
      return
    self._folder.mkdir(parents=True, exist_ok=True)
    self._state = self._folder / "scores.json"
    known = json.loads(self._state.read_text()) if self._state.is_file() else {}
    same = known.get("meta") == meta and known.get("names") == sorted(names)
    self._names, self.done = sorted(names), known["done"] if same else 0
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
    temporary.write_text(json.dumps({"meta": self._meta, "names": self._names, "done": self.done}))
    os.replace(temporary, self._state)


Learned = Callable[[Index, Block], dict[str, np.ndarray]]  # -> name -> [Q, N]


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
  parts = blocks(database, np.arange(len(database)))
  with tqdm(total=int(database.length.sum()), unit="frame", unit_scale=True, desc="search",
            leave=False, disable=None if progress else True) as bar:
    for number, block in enumerate(ahead(parts)):
      if number >= scores.done:
        found = learned(queries, block) if learned else {}
        if packed is not None:
          found |= _chamfers(packed, block, "symmetric_chamfer" in names)
        for name in names:
          scores.tables[name][block.at] = np.asarray(found[name])[:, :len(block.at)].T
        scores.finish_block()
      bar.update(int(block.length[:len(block.at)].sum()))


def _packed(queries: Index, dtype: str) -> chamfer.Queries:
  ends = np.cumsum(queries.length)[:-1]
  weights = queries.rows("weights")
  return chamfer.pack(np.split(queries.rows("frames"), ends), dtype=dtype,
                      weights=None if weights is None else np.split(weights[:, 0], ends))


def _chamfers(packed: chamfer.Queries, block: Block, symmetric: bool) -> dict[str, np.ndarray]:
  forward, backward = chamfer.block_chamfer(packed, block.frames, block.length, block.weights,
                                            symmetric=symmetric)
  found = {"chamfer": np.asarray(forward)}
  if symmetric:
    found["symmetric_chamfer"] = (found["chamfer"] + np.asarray(backward)) / 2
  return found
