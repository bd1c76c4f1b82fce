"""Clips as differences of frames: what moves, without what it looks like."""

import dataclasses

import numpy as np

from data_pipelines.augment.each import check


@dataclasses.dataclass(frozen=True)
class Differences:
  """Each frame less the one before, uint8 [T, H, W, 3] to [T - 1, H, W, 3]; nothing is random.

  `128 + gain (x[t+1] - x[t]) / 2`, rounded and cut off: grey is where nothing changes. A still
  background is gone, and most of what tells one video's colours and places from another's; so what
  is learned by telling videos apart is left with motion. Sample one frame more, and put this after
  the steps on pictures, in training and in evaluation alike.

  Attributes:
    gain: above 0; at 1 nothing is cut off.
  """
  gain: float = 1.0

  def __post_init__(self):
    if not 0 < self.gain < np.inf:
      raise ValueError(f"gain={self.gain} must be above 0")

  def __call__(self, frames: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    check(frames)
    if len(frames) < 2:
      raise ValueError("differences need two frames or more, got a clip of one")
    change = np.diff(frames.astype(np.float32), axis=0) * np.float32(self.gain / 2)
    return np.clip(np.rint(128 + change), 0, 255).astype(np.uint8)
