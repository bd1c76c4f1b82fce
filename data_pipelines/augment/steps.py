"""Steps of a transform, drawn at random, and ways to put them together.

A transform is a function `(frames uint8 [T, H, W, 3], rng) -> array`. It draws once for all frames,
so a clip stays a clip; `EachFrame` makes it draw for every frame. It never changes its input, which
its result may share memory with, and the same frames and generator state give the same result. The
classes here hold nothing but numbers, so they compare equal and can be sent to other processes.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from data_pipelines.augment import colour, geometry
from data_pipelines.augment.each import check
from data_pipelines.picture import scaled_size

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Chain:
  """One step after the other; the result is contiguous."""
  steps: tuple[Transform, ...] = ()

  def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    check(frames)
    for step in self.steps:
      frames = step(frames, rng)
    return np.ascontiguousarray(frames)


@dataclasses.dataclass(frozen=True)
class Sometimes:
  """A step with probability p, else the frames as they are."""
  p: float
  step: Transform

  def __post_init__(self):
    if not 0 <= self.p <= 1:
      raise ValueError(f"a probability is from 0 to 1, got {self.p}")

  def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return self.step(frames, rng) if rng.random() < self.p else frames


@dataclasses.dataclass(frozen=True)
class EachFrame:
  """A step drawn anew for every frame; it gives one frame of one size for each."""
  step: Transform

  def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    check(frames)
    return np.concatenate([self.step(frames[t:t + 1], rng) for t in range(len(frames))])


@dataclasses.dataclass(frozen=True)
class Views:
  """Several transforms of the same frames, stacked to [V, T, H, W, 3]."""
  transforms: tuple[Transform, ...]

  def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([transform(frames, rng) for transform in self.transforms])


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
  """A box of random area and aspect ratio, resized to size x size.

  See `geometry.random_resized_crop_box` and `geometry.crop_resize`.
  """
  size: int
  area: tuple[float, float]
  aspect: tuple[float, float] = (3 / 4, 4 / 3)
  interpolation: str = "bilinear"

  def __post_init__(self):
    if not (0 < self.area[0] <= self.area[1] <= 1 and 0 < self.aspect[0] <= self.aspect[1]):
      raise ValueError("needs 0 < least <= largest, and areas up to 1; "
                       f"got area {self.area}, aspect {self.aspect}")

  def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    box = geometry.random_resized_crop_box(rng, *frames.shape[1:3], self.area, self.aspect)
    return geometry.crop_resize(frames, box, self.size, self.size, self.interpolation)


@dataclasses.dataclass(frozen=True)
class RandomScaleCrop:
  """The shorter side resized to a random length, then a random square of size x size cut out."""
  size: int
  short_side: tuple[int, int]

  def __post_init__(self):
    if not 0 < self.size <= self.short_side[0] <= self.short_side[1]:
      raise ValueError(f"needs size <= least <= largest short side, got {self}")

  def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = int(rng.integers(self.short_side[0], self.short_side[1] + 1))
    height, width = scaled_size(*frames.shape[1:3], side)
    top, left = (int(rng.integers(n - self.size + 1)) for n in (height, width))
    return geometry.resize_crop(frames, height, width, (top, left, self.size, self.size))


@dataclasses.dataclass(frozen=True)
class SideCrops:
  """`n` squares evenly spread along the longer side, at the middle of the shorter one.

  The shorter side is resized to `short_side`; the first and the last square touch the ends. With
  n = 1 it is the square in the middle. Result [n, T, size, size, 3]. Nothing is random.
  """
  size: int
  short_side: int
  n: int = 3

  def __post_init__(self):
    if not 0 < self.size <= self.short_side or self.n < 1:
      raise ValueError(f"needs 0 < size <= short_side and n >= 1, got {self}")

  def __call__(self, frames: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    height, width = scaled_size(*frames.shape[1:3], self.short_side)
    spread = [0.5] if self.n == 1 else np.linspace(0, 1, self.n)
    places = [(int((height - self.size) * (p if height > width else 0.5)),
               int((width - self.size) * (p if height <= width else 0.5))) for p in spread]
    return np.stack([geometry.resize_crop(frames, height, width, (*at, self.size, self.size))
                     for at in places])


@dataclasses.dataclass(frozen=True)
class CentreCrop:
  """The shorter side resized to `short_side`, then the middle size x size. Nothing is random."""
  size: int
  short_side: int

  def __call__(self, frames: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    return SideCrops(self.size, self.short_side, 1)(frames)[0]


@dataclasses.dataclass(frozen=True)
class Resize:
  """height x width, whatever the aspect; see `geometry.resize_bilinear`."""
  height: int
  width: int

  def __call__(self, frames: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    return geometry.resize_bilinear(frames, self.height, self.width)


@dataclasses.dataclass(frozen=True)
class Flip:
  """Mirrors left and right, always."""

  def __call__(self, frames: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    return geometry.flip(frames)


@dataclasses.dataclass(frozen=True)
class ColourJitter:
  """Random brightness, contrast, saturation and hue in random order; see `colour.jitter_params`."""
  brightness: float = 0.0
  contrast: float = 0.0
  saturation: float = 0.0
  hue: float = 0.0

  def __post_init__(self):
    widths = self.brightness, self.contrast, self.saturation
    if min(widths) < 0 or not 0 <= self.hue <= 0.5:
      raise ValueError(f"needs widths >= 0, for hue at most 0.5; got {self}")

  def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    params = colour.jitter_params(rng, **dataclasses.asdict(self))
    return colour.colour_jitter(frames, **params)


@dataclasses.dataclass(frozen=True)
class Grey:
  """Takes the colours away, always."""

  def __call__(self, frames: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    return colour.grey(frames)


@dataclasses.dataclass(frozen=True)
class Blur:
  """Gaussian blur; the standard deviation is uniform between two, in pixels."""
  sigma: tuple[float, float]

  def __post_init__(self):
    if not 0 <= self.sigma[0] <= self.sigma[1]:
      raise ValueError(f"needs 0 <= least <= largest, got {self.sigma}")

  def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return colour.gaussian_blur(frames, float(rng.uniform(*self.sigma)))
