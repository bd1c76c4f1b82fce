"""Accuracy of points followed through videos: PCK as on JHMDB (corrflow spec 12)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
BODY = 0.6  # share of the diagonal of the joints' bounding box that distances are divided by


class Video(NamedTuple):
  """One video's distances over frames 1 ... T-1; see `distances`."""

  distance: np.ndarray  # [T-1, J], in body sizes
  found: np.ndarray  # [T-1, J] bool


def distances(truth: np.ndarray, predicted: np.ndarray) -> Video:
  """How far each joint is off, in body sizes; the first frame, which is given, is left out.

  A joint counts as found where its predicted x isn't negative. The body size of a frame is 0.6
  times the diagonal of the box around the true joints that are found; where the box is a single
  point, only a joint exactly at its place is near.

  Args:
    truth: [T, J, 2], (x, y) in pixels.
    predicted: [T, J, 2], likewise; negative x for a joint that is lost.

  Raises:
    ValueError: shapes differ, fewer than two frames, or a true joint isn't finite.
  """
  truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
  if truth.shape != predicted.shape or truth.ndim != 3 or truth.shape[-1:] != (2,):
    raise ValueError(f"joints {truth.shape} and {predicted.shape} should be the same [T, J, 2]")
  if len(truth) < 2 or not truth.shape[1]:
    raise ValueError(f"joints {truth.shape}: at least one joint and two frames are needed, since "
                     "the first is given")
  if not np.isfinite(truth).all() or np.isnan(predicted).any():
    raise ValueError("a joint isn't finite; a lost one has x -1")
  truth, predicted = truth[1:], predicted[1:]
  found = predicted[..., 0] >= 0
  body = body_sizes(truth, found)
  off = np.linalg.norm(truth - predicted, axis=-1)
  with np.errstate(divide="ignore", invalid="ignore"):
    scaled = np.where(off > 0, off / body[:, None], 0.0)
  return Video(np.where(found, scaled, np.inf), found)


def body_sizes(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
  """[T, J, 2] points and [T, J] bool -> [T], 0 where at most one point is found."""
  mask = found[..., None]
  low = np.min(truth, axis=1, where=mask, initial=np.inf)
  high = np.max(truth, axis=1, where=mask, initial=-np.inf)
  sides = np.where(found.any(axis=1)[:, None], high - low, 0.0)
  return BODY * np.linalg.norm(sides, axis=-1)


def pck(videos: Iterable[Video], thresholds: Sequence[float] = THRESHOLDS, *,
        strict: bool = False) -> np.ndarray:
  """Percentage of correct key points: [thresholds, J].

  The result of a data set is the plain mean over joints.

  Args:
    videos: of `distances`, all with the same joints.
    thresholds: a joint is correct up to and including this distance.
    strict: count lost joints as wrong; the usual protocol leaves them out. A joint that is lost
      everywhere has nan there and 0 here.
  """
  videos = list(videos)
  if len({v.distance.shape[1:] for v in videos}) != 1:
    raise ValueError("PCK needs at least one video, and the same joints in all")
  distance = np.concatenate([v.distance for v in videos])
  found = np.concatenate([v.found for v in videos])
  correct = distance <= np.asarray(thresholds, np.float64)[:, None, None]
  correct = (correct & found).sum(axis=1)
  count = np.full(found.shape[1], len(found)) if strict else found.sum(axis=0)
  return np.where(count > 0, 100 * correct / np.maximum(count, 1), np.nan)
