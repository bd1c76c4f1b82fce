"""PCA whitening: fitted on the host in float64, one pass over any number of vectors."""

import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.ops.normalise import l2

# Rows made float64 at a time.
BLOCK = 4096


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Whitening:
  """Mean `[D]`, components `[D, k]` (unit columns) and eigenvalues `[k]`, descending; float32.

  The sign of a column is arbitrary.
  """

  mean: jax.Array
  components: jax.Array
  eigenvalues: jax.Array


def apply(params: Whitening, x: jax.Array) -> jax.Array:
  """`l2(diag(eigenvalues)^-1/2 components^T (x - mean))`; `[..., D]` -> `[..., k]` unit vectors.

  Source: TCA specification, section 3.
  """
  # On accelerators float32 products may be rounded to fewer bits, which small eigenvalues magnify.
  y = jnp.matmul(x - params.mean, params.components, precision=jax.lax.Precision.HIGHEST)
  return l2(y * jax.lax.rsqrt(params.eigenvalues))


def fit(chunks: Iterable[np.ndarray], k: int) -> Whitening:
  """Fits a whitening to k dimensions in one pass.

  Memory is a few D x D float64 matrices and a block of rows, whatever the number of vectors (0.9
  GB for D = 3840). The scatter matrix is accumulated about the mean of what has been seen (Chan,
  Golub and LeVeque), so a large mean costs no digits. With no more vectors than D they are all
  kept, and the Gram matrix is decomposed in place of the covariance.

  Args:
    chunks: arrays `[m, D]`, m free.
    k: dimensions to keep, of the largest variance.

  Returns:
    A `Whitening` of NumPy arrays; eigenvalues of the unbiased covariance, at least 1e-9.
    Source: TCA specification, section 3.

  Raises:
    ValueError: fewer than two vectors, chunks of different D or not 2-d, non-finite values, or k
      above the number of directions in which the vectors vary.
  """
  if k < 1:
    raise ValueError(f"whitening: k={k} must be at least 1")
  moments = _Moments()
  for i, chunk in enumerate(chunks):
    moments.add(_check(chunk, i, moments.dim))
  if moments.count < 2:
    raise ValueError(f"whitening needs at least 2 vectors, got {moments.count}")
  return _decompose(moments, k)


def _check(chunk: np.ndarray, i: int, dim: int | None) -> np.ndarray:
  chunk = np.asarray(chunk)
  if chunk.ndim != 2 or dim not in (None, chunk.shape[1]):
    raise ValueError(f"whitening: chunk {i} has shape {chunk.shape}, expected [m, {dim or 'D'}]")
  bad = np.flatnonzero(~np.isfinite(chunk).all(axis=1))
  if len(bad):
    raise ValueError(
      f"whitening: {len(bad)} of the {len(chunk)} vectors of chunk {i} hold non-finite values, "
      f"the first in row {bad[0]}"
    )
  return chunk


class _Moments:
  """Count, mean and scatter of a stream of vectors; the vectors themselves up to D of them."""

  def __init__(self):
    self.dim = None
    self.count = 0
    self.rows = []  # None once there are more than D
    self.mean = None
    self.scatter = None

  def add(self, chunk: np.ndarray) -> None:
    self.dim = chunk.shape[1]
    if self.rows is None:
      self._accumulate(chunk)
    elif self.count + len(chunk) <= self.dim:
      self.rows.append(np.array(chunk))
      self.count += len(chunk)
    else:
      rows, self.rows, self.count = self.rows, None, 0
      self.mean = np.zeros(self.dim)
      self.scatter = np.zeros((self.dim, self.dim))
      for part in (*rows, chunk):
        self._accumulate(part)

  def _accumulate(self, chunk: np.ndarray) -> None:
    for start in range(0, len(chunk), BLOCK):
      block = chunk[start:start + BLOCK].astype(np.float64)
      n, m = self.count, len(block)
      mean = block.mean(axis=0)
      delta = mean - self.mean
      # The means' distance enters the scatter as one more row.
      block = np.vstack([block - mean, delta * np.sqrt(n * m / (n + m))])
      self.scatter += block.T @ block
      self.mean += delta * (m / (n + m))
      self.count = n + m


def _decompose(moments: _Moments, k: int) -> Whitening:
  if moments.rows is None:
    mean = moments.mean
    values, vectors = _largest(moments.scatter / (moments.count - 1), k, moments)
  else:
    x = np.concatenate(moments.rows).astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    values, vectors = _largest(x @ x.T / (len(x) - 1), k, moments)
    vectors = x.T @ vectors / np.sqrt(values * (len(x) - 1))
  values = np.maximum(values, 1e-9)
  return Whitening(*(a.astype(np.float32) for a in (mean, vectors, values)))


def _largest(matrix: np.ndarray, k: int, moments: _Moments) -> tuple[np.ndarray, np.ndarray]:
  """The k largest eigenvalues, descending, and their vectors."""
  values, vectors = np.linalg.eigh(matrix)
  values, vectors = values[::-1], vectors[:, ::-1]
  tiny = max(values[0], 0.0) * len(matrix) * np.finfo(np.float64).eps
  rank = min(int((values > tiny).sum()), moments.count - 1, moments.dim)
  if k > rank:
    raise ValueError(
      f"whitening: k={k}, but the vectors vary in {rank} directions only; "
      f"choose k <= {rank} or fit on more vectors"
    )
  return values[:k], vectors[:, :k]


def save(params: Whitening, path: str | pathlib.Path) -> None:
  """Writes a whitening as `.npz`, whole or not at all."""
  _check_suffix(path)
  fields = {f.name: np.asarray(getattr(params, f.name)) for f in dataclasses.fields(Whitening)}
  temporary = pathlib.Path(path).with_suffix(f".{os.getpid()}.tmp.npz")
  np.savez(temporary, **fields)
  os.replace(temporary, path)


def load(path: str | pathlib.Path) -> Whitening:
  """Reads a whitening that `save` wrote.

  Raises:
    ValueError: the file is no such file; names it and what is wrong.
  """
  _check_suffix(path)
  names = [f.name for f in dataclasses.fields(Whitening)]
  try:
    with np.load(path, allow_pickle=False) as data:
      arrays = {name: np.asarray(data[name], np.float32) for name in names}
  except FileNotFoundError:
    raise
  except (KeyError, EOFError, ValueError, OSError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path}: not a whitening file with {', '.join(names)} ({error})") from error
  params = Whitening(**arrays)
  shape = params.components.shape
  if len(shape) != 2 or params.mean.shape != shape[:1] or params.eigenvalues.shape != shape[1:]:
    shapes = {name: a.shape for name, a in arrays.items()}
    raise ValueError(f"{path}: shapes don't fit together: {shapes}")
  if not all(np.isfinite(a).all() for a in arrays.values()) or (params.eigenvalues <= 0).any():
    raise ValueError(f"{path}: holds non-finite values or eigenvalues that aren't positive")
  return params


def _check_suffix(path: str | pathlib.Path) -> None:
  # np.savez would add the suffix itself, and `load` would then look for another file.
  if pathlib.Path(path).suffix != ".npz":
    raise ValueError(f"{path}: a whitening file's name ends in .npz")
