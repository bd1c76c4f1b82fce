"""Accuracy of classifiers and of nearest neighbours, in NumPy (cycle_contrast spec 7, 8).

What the functions have in common:
  scores: [N, C], larger is more likely. Of equal scores the class with the smaller number comes
    first.
  labels: [N] int, in [0, C).
They raise `ValueError` where shapes don't match, a score isn't finite or a label is out of range.
"""

from collections.abc import Sequence

import numpy as np


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """[N] int, how many classes come before the true one: 0 for a right answer."""
  scores, labels = _checked(scores, labels)
  true = np.take_along_axis(scores, labels[:, None], axis=1)
  earlier = np.arange(scores.shape[1]) < labels[:, None]
  return ((scores > true) | ((scores == true) & earlier)).sum(axis=1)


def accuracy(scores: np.ndarray, labels: np.ndarray,
             ks: Sequence[int] = (1, 5)) -> dict[int, float]:
  """k -> share of rows whose true class is among the k best; all are, where k is C or more."""
  if not len(ks) or min(ks) < 1:
    raise ValueError(f"ks={tuple(ks)} should be at least 1")
  found = ranks(scores, labels)
  return {k: float(np.mean(found < k)) for k in ks}


def per_class(hits: np.ndarray, labels: np.ndarray) -> dict[int, float]:
  """Class -> mean of `hits` [N] (bool, or numbers) over its rows, for the classes that have any.

  Their mean is the accuracy that counts every class alike.
  """
  hits, labels = np.asarray(hits, np.float64), np.asarray(labels)
  if hits.shape != labels.shape or hits.ndim != 1 or not len(hits):
    raise ValueError(f"{hits.shape} hits and {labels.shape} labels: should be [N] both, and some")
  classes, at = np.unique(labels, return_inverse=True)
  return dict(zip(classes.tolist(), (np.bincount(at, hits) / np.bincount(at)).tolist(),
                  strict=True))


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
  """[C, C] int64, how many rows of each true class (first axis) were taken for which (second)."""
  predicted, labels = np.asarray(predicted), np.asarray(labels)
  for x in (predicted, labels):
    if x.ndim != 1 or x.shape != labels.shape or (len(x) and not 0 <= x.min() <= x.max() < classes):
      raise ValueError(f"{predicted.shape} predictions and {labels.shape} labels should be [N] "
                       f"numbers of {classes} classes")
  counts = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2)
  return counts.reshape(classes, classes)


def softmax(scores: np.ndarray) -> np.ndarray:
  """Over the last axis, in float64."""
  x = np.asarray(scores, np.float64)
  e = np.exp(x - x.max(axis=-1, keepdims=True))
  return e / e.sum(axis=-1, keepdims=True)


def mean_by_group(x: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Means of the rows of one group, as of the clips of a video.

  Args:
    x: [N, D].
    groups: [N] ids, in any order.

  Returns:
    First row of each group [V], ascending, so that groups keep their order; means [V, D] float64.
  """
  x, groups = np.asarray(x, np.float64), np.asarray(groups)
  if x.ndim != 2 or groups.shape != x.shape[:1]:
    raise ValueError(f"{x.shape} values and {groups.shape} groups: should be [N, D] and [N]")
  _, first, at = np.unique(groups, return_index=True, return_inverse=True)
  order = np.argsort(first)
  place = np.empty_like(order)
  place[order] = np.arange(len(order))
  sums = np.zeros((len(first), x.shape[1]))
  np.add.at(sums, place[at], x)
  return first[order], sums / np.bincount(place[at])[:, None]


def video_confidence(scores: np.ndarray, videos: np.ndarray,
                     labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Clips to videos: the mean over a video's clips of the softmax of their scores.

  Args:
    scores: [N, C] logits of clips.
    videos: [N] ids.

  Returns:
    confidence [V, C] float64 and labels [V], in the order in which videos first occur.
  """
  scores, labels = _checked(scores, labels)
  first, confidence = mean_by_group(softmax(scores), videos)
  check_one_class(videos, labels)
  return confidence, labels[first]


def check_one_class(videos: np.ndarray, labels: np.ndarray) -> None:
  """Raises ValueError where rows of one video ([N] ids) have several classes ([N])."""
  of = {}
  for video, label in zip(np.asarray(videos).tolist(), np.asarray(labels).tolist(), strict=True):
    if of.setdefault(video, label) != label:
      raise ValueError(f"video {video!r} has clips of the classes {of[video]} and {label}")


def votes(cosine: np.ndarray, labels: np.ndarray, classes: int, ks: Sequence[int],
          temperature: float = 0.07) -> dict[int, np.ndarray]:
  """Weighted nearest neighbours: class c has `sum over the first k with label c of exp(s / T)`.

  As in instance discrimination (Wu et al., CVPR 2018) and DINO. Each row is divided by the weight
  of its first neighbour, which changes no ranking and keeps small T from overflowing.

  Args:
    cosine: [Q, K] similarities s, descending; -inf for no neighbour.
    labels: [Q, K] int, of the neighbours; any number where there is none.
    classes: C.
    ks: how many neighbours vote; K, where it is more.
    temperature: T.

  Returns:
    k -> [Q, C] float64.
  """
  cosine, labels = np.asarray(cosine, np.float64), np.asarray(labels)
  if cosine.ndim != 2 or labels.shape != cosine.shape or not cosine.size:
    raise ValueError(f"{cosine.shape} similarities and {labels.shape} labels: should be [Q, K]")
  if not temperature > 0 or not len(ks) or min(ks) < 1:
    raise ValueError(f"temperature={temperature} should be above 0, ks={tuple(ks)} at least 1")
  if not np.isfinite(cosine[:, 0]).all():
    raise ValueError(f"query {int(np.argmin(np.isfinite(cosine[:, 0])))} has no neighbour")
  weight = np.exp((cosine - cosine[:, :1]) / temperature)
  labels = np.where(weight > 0, labels, 0)
  if not 0 <= labels.min() <= labels.max() < classes:
    raise ValueError(f"labels from {labels.min()} to {labels.max()} of {classes} classes")
  total, start, found = np.zeros((len(cosine), classes)), 0, {}
  for k in sorted(set(ks)):
    end = min(k, cosine.shape[1])
    rows = np.broadcast_to(np.arange(len(cosine))[:, None], (len(cosine), end - start))
    np.add.at(total, (rows, labels[:, start:end]), weight[:, start:end])
    found[k], start = total.copy(), end
  return found


def hit_rate(found: np.ndarray, labels: np.ndarray, ks: Sequence[int]) -> np.ndarray:
  """[len(ks), Q] bool: whether one of the first k neighbours is of the query's class.

  Its mean over queries is the R@k of video retrieval papers (provico spec 11.4).

  Args:
    found: [Q, K] labels of the neighbours, nearest first; -1 where there is none.
    labels: [Q] of the queries, at least 0.
    ks: K, where they are more.
  """
  found, labels = np.asarray(found), np.asarray(labels)
  if found.ndim != 2 or labels.shape != found.shape[:1] or not len(ks) or min(ks) < 1:
    raise ValueError(f"{found.shape} neighbours' labels, {labels.shape} labels, ks={tuple(ks)}: "
                     "should be [Q, K], [Q] and at least 1")
  seen = np.logical_or.accumulate(found == labels[:, None], axis=1)
  return np.stack([seen[:, min(k, found.shape[1]) - 1] for k in ks])


def _checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  scores, labels = np.asarray(scores), np.asarray(labels)
  if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.size:
    raise ValueError(f"{scores.shape} scores and {labels.shape} labels: should be [N, C] and [N]")
  if labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < scores.shape[1]:
    raise ValueError(f"labels should be whole numbers from 0 to {scores.shape[1] - 1}, are "
                     f"{labels.dtype} from {labels.min()} to {labels.max()}")
  finite = np.isfinite(scores).all(axis=1)
  if not finite.all():
    raise ValueError(f"a score of row {int(np.argmin(finite))} isn't finite")
  return scores, labels.astype(np.int64)
