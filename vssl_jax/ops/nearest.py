"""The nearest of many vectors under the cosine, in blocks of bounded memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.ops import similarity

QUERIES, BANK = 1024, 16384  # vectors a side of a block: 64 MiB of products


def nearest(queries: np.ndarray, bank: np.ndarray, k: int, *,
            queries_of: np.ndarray | None = None, bank_of: np.ndarray | None = None,
            block: tuple[int, int] = (QUERIES, BANK)) -> tuple[np.ndarray, np.ndarray]:
  """The k vectors of the bank with the largest cosine, for every query.

  What is held besides arguments and result is a block of products. Equal cosines keep the order of
  the bank.

  Args:
    queries: [Q, D], of any length; a zero vector has cosine 0 with everything.
    bank: [N, D].
    k: at least 1.
    queries_of, bank_of: [Q] and [N] int, what each belongs to (itself, its video); vectors of the
      same aren't compared.
    block: vectors a side that are compared at once.

  Returns:
    cosine [Q, k] float32, descending, and index [Q, k] int32; -inf and -1 where there are fewer.
  """
  if min(k, *block) < 1 or (queries_of is None) != (bank_of is None):
    raise ValueError(f"k={k} and block={block} should be at least 1, queries_of and bank_of both "
                     "be there or neither")
  rows = min(block[0], max(1, len(queries)))
  columns = min(block[1], max(1, len(bank)))
  if queries_of is None:
    queries_of, bank_of = np.zeros(len(queries), np.int32), np.ones(len(bank), np.int32)
  else:  # few and small numbers, so that they fit int32
    _, both = np.unique(np.concatenate([queries_of, bank_of]), return_inverse=True)
    queries_of, bank_of = both[:len(queries)], both[len(queries):]
  cosines, indices = [np.empty((0, k), np.float32)], [np.empty((0, k), np.int32)]
  for i in range(0, len(queries), rows):
    q, of = _block(queries, i, rows), _block(queries_of, i, rows)
    best = jnp.full((rows, k), -jnp.inf), jnp.full((rows, k), -1)
    for j in range(0, len(bank), columns):
      best = _merge(*best, q, of, _block(bank, j, columns), _block(bank_of, j, columns), j,
                    len(bank))
    n = min(rows, len(queries) - i)
    cosines.append(np.asarray(best[0])[:n])
    indices.append(np.asarray(best[1])[:n])
  return np.concatenate(cosines), np.concatenate(indices)


def _block(x: np.ndarray, start: int, size: int) -> np.ndarray:
  """Rows from `start` on, filled up with zeros: all blocks have one shape."""
  part = np.asarray(x[start:start + size])
  part = part.astype(np.float32 if part.dtype.kind == "f" else np.int32)
  return np.pad(part, ((0, size - len(part)), *[(0, 0)] * (part.ndim - 1)))


@functools.partial(jax.jit, donate_argnums=(0, 1))
def _merge(best, index, q, q_of, x, x_of, start, total):
  """The best k so far and a block of the bank, whose first vector is number `start`."""
  scores = similarity.cosine(q, x)
  number = start + jnp.arange(len(x))
  allowed = (number < total) & (q_of[:, None] != x_of)
  scores = jnp.where(allowed, scores, -jnp.inf)
  number = jnp.where(allowed, number, -1)
  # top_k takes the first of equals, and what was before comes first.
  best, at = jax.lax.top_k(jnp.concatenate([best, scores], axis=1), best.shape[1])
  return best, jnp.take_along_axis(jnp.concatenate([index, number], axis=1), at, axis=1)
