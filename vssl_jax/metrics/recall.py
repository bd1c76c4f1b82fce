"""Retrieval of videos by class: is one of the k nearest of the query's class (provico spec 11.4).

Scores are [Q, G], larger is nearer. This is a hit rate, called R@k in the field.
"""

from collections.abc import Sequence

import numpy as np

KS = (1, 5, 10, 20, 50)
_BLOCK = 1 << 22  # numbers held at a time


def cosine(query: np.ndarray, gallery: np.ndarray, *, centred: bool = False) -> np.ndarray:
  """Cosine of every pair of features [Q, D] and [G, D]; float64.

  `centred` first subtracts from each set its own mean. That uses the queries as a set: report it
  beside the plain number.
  """
  sides = []
  for x in (query, gallery):
    x = np.asarray(x, np.float64)
    x = x - x.mean(axis=0) if centred else x
    sides.append(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
  return sides[0] @ sides[1].T


def euclidean(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
  """Distances of features [Q, D] and [G, D], negative, so that nearer is larger."""
  return _rows(query, (gallery,), lambda x, y: -np.linalg.norm(x - y, axis=-1))


def bhattacharyya(query: tuple[np.ndarray, np.ndarray],
                  gallery: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
  """Bhattacharyya distances of diagonal Gaussians (provico spec 7.2), negative; float64.

  Args:
    query: means and log variances, [Q, D] each.
    gallery: likewise [G, D].
  """

  def score(x, l, y, m):
    total = np.logaddexp(l, m)
    square = np.square((x - y) * np.exp(-total / 2))
    return -np.sum((total - (l + m) / 2 - np.log(2)) / 2 + square / 4, axis=-1)

  return _rows(query, gallery, score)


def _rows(query, gallery, score) -> np.ndarray:
  """[Q, G] of `score`, a few queries at a time."""
  query = query if isinstance(query, tuple) else (query,)
  query = [np.asarray(x, np.float64) for x in query]
  gallery = [np.asarray(x, np.float64) for x in gallery]
  block = max(1, _BLOCK // max(gallery[0].size, 1))
  parts = []
  for start in range(0, len(query[0]), block):
    x = [a[start:start + block, None] for a in query]
    parts.append(score(*x, *gallery))
  return np.concatenate(parts)


def nearest(scores: np.ndarray, k: int) -> np.ndarray:
  """[Q, min(k, G)] columns, best first; equal scores keep the order of the gallery."""
  scores = np.asarray(scores)
  if not np.isfinite(scores).all():
    row = int(np.argmin(np.isfinite(scores).all(axis=1)))
    raise ValueError(f"query {row}: a score isn't finite")
  return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def hits(scores: np.ndarray, query_label: np.ndarray, gallery_label: np.ndarray,
         ks: Sequence[int] = KS) -> np.ndarray:
  """[K, Q] bool: whether one of the k best has the query's label, for each of `ks`.

  Args:
    scores: [Q, G].
    query_label: [Q] int.
    gallery_label: [G] int.

  Raises:
    ValueError: the shapes don't match, nothing is there to rank, a k is below 1 or above G, or a
      score isn't finite.
  """
  scores, query_label, gallery_label = map(np.asarray, (scores, query_label, gallery_label))
  if scores.shape != (len(query_label), len(gallery_label)) or not scores.size:
    raise ValueError(f"scores are {scores.shape} for {len(query_label)} queries and "
                     f"{len(gallery_label)} videos")
  if not len(ks) or min(ks) < 1 or max(ks) > len(gallery_label):
    raise ValueError(f"R@k for k = {list(ks)} needs k from 1 to the gallery's {len(gallery_label)}")
  right = gallery_label[nearest(scores, max(ks))] == query_label[:, None]
  return np.stack([right[:, :k].any(axis=1) for k in ks])


def recall(scores: np.ndarray, query_label: np.ndarray, gallery_label: np.ndarray,
           ks: Sequence[int] = KS) -> dict[int, float]:
  """k -> share of queries with a video of their class among the k best; arguments as of `hits`."""
  found = hits(scores, query_label, gallery_label, ks).mean(axis=1)
  return {int(k): float(r) for k, r in zip(ks, found, strict=True)}
