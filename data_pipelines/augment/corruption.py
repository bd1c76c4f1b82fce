"""What makes clips worse: noise and blur, to train against and to measure uncertainty by."""

import dataclasses

import numpy as np

from data_pipelines.augment.colour import gaussian_blur
from data_pipelines.augment.each import check

# Strengths that are measured: deviations, in levels of 0 to 255 and in pixels; 0 changes nothing.
STRENGTHS = {"noise": (0.0, 8.0, 16.0, 32.0, 64.0), "blur": (0.0, 0.5, 1.0, 2.0, 3.0)}


def gaussian_noise(frames: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
  """Adds independent normal numbers to all values of uint8 [T, H, W, 3], rounded and cut off."""
  check(frames)
  if not sigma:
    return frames
  noise = rng.standard_normal(frames.shape, np.float32) * np.float32(sigma)
  return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def corrupt(frames: np.ndarray, kind: str, strength: float,
            rng: np.random.Generator) -> np.ndarray:
  """A worse copy of uint8 [T, H, W, 3].

  Args:
    kind: a key of `STRENGTHS`: "noise" or "blur".
    strength: its standard deviation, at least 0.
    rng: of the noise.
  """
  if kind not in STRENGTHS:
    raise ValueError(f"corruption {kind!r} is unknown; choose one of {', '.join(STRENGTHS)}")
  if not 0 <= strength < np.inf:
    raise ValueError(f"strength={strength} of {kind} must be a number of at least 0")
  return (gaussian_noise(frames, strength, rng) if kind == "noise"
          else gaussian_blur(frames, strength))


@dataclasses.dataclass(frozen=True)
class Noise:
  """Gaussian noise as a step; the standard deviation is uniform between two, in levels."""
  sigma: tuple[float, float]

  def __post_init__(self):
    if not 0 <= self.sigma[0] <= self.sigma[1] < np.inf:
      raise ValueError(f"needs 0 <= least <= largest, got {self.sigma}")

  def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return gaussian_noise(frames, float(rng.uniform(*self.sigma)), rng)
