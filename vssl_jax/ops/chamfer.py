"""Chamfer similarity of many queries with a block of videos: what a search at size runs on.

All frames of all queries are one matrix, so that a block of videos costs one matrix product,
whatever lengths the queries have: a query's padding repeats its own frames, which changes no
maximum, and has no share in its mean.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

CHUNK = 8  # a query's rows are padded to a multiple of this, for the maxima over its frames
CPU_ROWS = 1024  # database rows at a time on a CPU: the products of one tile stay in the cache
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Queries:
  """Frames of Q videos as one matrix; make it with `pack`.

  Attributes:
    rows: [R, D] unit vectors, video after video, each padded with its last frame.
    mean: [Q, R], the share of each row in video q's mean: 1 / T_q at its T_q true rows (or by
      weight), else 0.
    chunks: [Q, C] int32, which runs of `CHUNK` rows are video q's; the first is repeated.
  """

  rows: jax.Array
  mean: jax.Array
  chunks: jax.Array


def pack(videos: Sequence[np.ndarray], *, weights: Sequence[np.ndarray] | None = None,
         dtype: str = "float32", rows: int | None = None) -> Queries:
  """Packs the frames of queries.

  Args:
    videos: Q arrays [T_q, D] of unit vectors, T_q >= 1.
    weights: Q arrays [T_q] >= 0, not all 0: how much each frame counts in the mean; default: all
      alike.
    dtype: of the products' operands, "float32" or "bfloat16"; sums are float32 in either case.
    rows: pad to so many rows, that several packs have one shape; default: as few as hold them.

  Raises:
    ValueError: a video has no frame, or `rows` are too few.
  """
  counts = [-(-len(x) // CHUNK) for x in videos]
  if not counts or min(counts) < 1:
    raise ValueError("every query needs at least one frame")
  total = CHUNK * sum(counts)
  if rows is not None and rows < total:
    raise ValueError(f"the queries fill {total} rows, more than {rows}")
  packed = np.zeros((rows or total, videos[0].shape[1]), np.float32)
  mean = np.zeros((len(videos), len(packed)), np.float32)
  chunks = np.empty((len(videos), len(packed) // CHUNK if rows else max(counts)), np.int32)
  start = 0
  for q, (x, count) in enumerate(zip(videos, counts, strict=True)):
    stop = start + CHUNK * count
    packed[start:start + len(x)], packed[start + len(x):stop] = x, x[-1]
    mean[q, start:start + len(x)] = 1 / len(x) if weights is None else _shares(weights[q])
    first = start // CHUNK
    chunks[q] = first
    chunks[q, :count] = first + np.arange(count)
    start = stop
  return Queries(jnp.asarray(packed, DTYPES[dtype]), jnp.asarray(mean), jnp.asarray(chunks))


def _shares(weights: np.ndarray) -> np.ndarray:
  weights = np.asarray(weights, np.float64)
  if weights.min() < 0 or not weights.sum() > 0:
    raise ValueError("frame weights must be at least 0, and not all 0")
  return weights / weights.sum()


@functools.partial(jax.jit, static_argnames=("symmetric",))
def block_chamfer(queries: Queries, frames: jax.Array, length: jax.Array,
                  weights: jax.Array | None = None, *,
                  symmetric: bool = True) -> tuple[jax.Array, jax.Array | None]:
  """`chamfer(query, video)` of every pair, and `chamfer(video, query)` if `symmetric`.

  Equal to `similarity.both_chamfers` on the same videos, without its [Q, T, N, S] product: a tile
  of the videos at a time.

  Args:
    frames: [N, S, D] unit vectors; what lies beyond the length, NaN included, changes nothing.
    length: [N] int, valid frames of each, at least 1.
    weights: [N, S], as in `pack`.

  Returns:
    Two [Q, N] float32 arrays, the second None unless `symmetric`. Source: TCA specification,
    section 10.
  """
  n, s = frames.shape[:2]
  tile = min(n, rows_a_tile(s)) if jax.default_backend() == "cpu" else n
  short = -n % tile
  valid = jnp.arange(s) < length[:, None]
  weight = jnp.where(valid, 1.0 if weights is None else weights, 0.0)
  weight = weight / jnp.maximum(weight.sum(axis=1, keepdims=True), 1e-12)

  def tiles(x):
    x = jnp.pad(x, ((0, short),) + ((0, 0),) * (x.ndim - 1)) if short else x
    return x.reshape(-1, tile, *x.shape[1:])

  parts = tiles(frames.astype(queries.rows.dtype)), tiles(valid), tiles(weight)
  one = functools.partial(_tile, queries, symmetric=symmetric)
  out = jax.lax.map(lambda a: one(*a), parts) if n > tile else one(*(x[0] for x in parts))
  return jax.tree.map(lambda a: a.reshape(-1, a.shape[-1])[:n].T, out)


def rows_a_tile(frames: int) -> int:
  """How many videos of so many frames a tile holds on a CPU."""
  return max(1, CPU_ROWS // frames)


def _tile(queries: Queries, y: jax.Array, valid: jax.Array, weight: jax.Array, *, symmetric: bool):
  """y [N, S, D], valid and weight [N, S] -> forward [N, Q], and backward [N, Q] or None."""
  n, s, d = y.shape
  exact = {"precision": jax.lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}
  products = jnp.matmul(y.reshape(n * s, d), queries.rows.T, **exact)
  # Masked here, where it is one with the maximum: masking the frames would copy them.
  best = jnp.where(valid[..., None], products.reshape(n, s, -1), -jnp.inf).max(axis=1)
  forward = jnp.matmul(best, queries.mean.T, **exact)
  if not symmetric:
    return forward, None
  runs = products.reshape(n * s, -1, CHUNK).max(axis=-1)
  found = runs[:, queries.chunks].max(axis=-1).reshape(n, s, -1)
  return forward, jnp.sum(jnp.where(valid[..., None], found * weight[..., None], 0.0), axis=1)
