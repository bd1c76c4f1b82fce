"""Colour classes of a data set of one's own: k-means on samples of (a, b)."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np


def sample(stream: Iterable[np.ndarray], count: int, seed: int) -> np.ndarray:
  """`count` rows of a stream, all equally likely to be chosen, in one pass; all if there are fewer.

  Args:
    stream: arrays [..., D], of any sizes.

  Returns:
    [count, D] float32.

  Raises:
    ValueError: the stream is empty.
  """
  rng, keys, rows = np.random.default_rng(seed), np.zeros(0), None
  for part in stream:
    part = np.asarray(part, np.float32)
    part = part.reshape(-1, part.shape[-1])
    # The rows with the smallest of random keys, one for each row, are a uniform choice.
    rows = part if rows is None else np.concatenate([rows, part])
    keys = np.concatenate([keys, rng.random(len(part))])
    if len(keys) > count:
      chosen = np.sort(np.argpartition(keys, count)[:count])
      rows, keys = rows[chosen], keys[chosen]
  if rows is None or not len(rows):
    raise ValueError("no samples to choose from: the stream is empty")
  return rows


def fit(samples: np.ndarray, count: int, seed: int, *, iterations: int = 100,
        restarts: int = 4) -> np.ndarray:
  """Centroids by Lloyd's iteration from k-means++ starts; the start that ends best counts.

  Args:
    samples: [N, D].
    count: K; at most the number of different samples.

  Returns:
    [K, D] float32, sorted by how many samples they have, the most first.

  Raises:
    ValueError: too few different samples.
  """
  samples = np.asarray(samples, np.float32)
  distinct = len(np.unique(samples, axis=0))
  if not 1 <= count <= distinct:
    raise ValueError(f"{count} centroids need as many different samples, got {distinct}")
  keys = jax.random.split(jax.random.key(seed), restarts)
  run = functools.partial(_run, count=count, iterations=iterations)
  centroids, error, sizes = jax.lax.map(functools.partial(run, samples=samples), keys)
  best = int(jnp.argmin(error))
  return np.asarray(centroids[best])[np.argsort(-np.asarray(sizes[best]), kind="stable")]


@functools.partial(jax.jit, static_argnames=("count", "iterations"))
def _run(key, samples, count: int, iterations: int):
  """Centroids [K, D], mean squared distance, samples of each [K]."""

  def step(_, centroids):
    sums, sizes = _sums(samples, _nearest(samples, centroids)[0], count)
    # A centroid that nothing is nearest to stays where it is.
    return jnp.where(sizes[:, None] > 0, sums / jnp.maximum(sizes, 1)[:, None], centroids)

  centroids = jax.lax.fori_loop(0, iterations, step, _start(key, samples, count))
  nearest, distance = _nearest(samples, centroids)
  return centroids, distance.mean(), _sums(samples, nearest, count)[1]


def _start(key, samples, count: int):
  """k-means++: each next centroid is a sample drawn by its squared distance to those before."""
  first, *rest = jax.random.split(key, count)
  centroids = [samples[jax.random.randint(first, (), 0, len(samples))]]
  distance = jnp.sum(jnp.square(samples - centroids[0]), axis=1)
  for k in rest:
    centroids.append(samples[jax.random.categorical(k, jnp.log(distance))])
    distance = jnp.minimum(distance, jnp.sum(jnp.square(samples - centroids[-1]), axis=1))
  return jnp.stack(centroids)


def _nearest(samples, centroids):
  distance = jnp.sum(jnp.square(samples[:, None] - centroids), axis=-1)
  return jnp.argmin(distance, axis=1), jnp.min(distance, axis=1)


def _sums(samples, nearest, count: int):
  chosen = jax.nn.one_hot(nearest, count, dtype=samples.dtype)
  sums = jnp.einsum("nk,nd->kd", chosen, samples, precision=jax.lax.Precision.HIGHEST)
  return sums, chosen.sum(axis=0)
