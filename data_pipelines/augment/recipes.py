"""The transforms of the systems, with the values of their specifications as defaults.

Each function gives a transform, `(frames uint8 [T, H, W, 3], rng) -> uint8`, see `steps`. With
`per_frame` every frame of a clip has random numbers of its own. Pixels stay uint8: they travel at a
quarter of the size, and scaling to [0, 1], mean and deviation are the device's work.

Jitter is (brightness, contrast, saturation, hue), see `colour.jitter_params`; the aspect ratio of
a random box is from 3/4 to 4/3 everywhere (CycleContrast 3.3, ProViCo 2).
"""

from data_pipelines.augment.corruption import Noise
from data_pipelines.augment.steps import (
  Blur,
  CentreCrop,
  Chain,
  ColourJitter,
  EachFrame,
  Flip,
  Grey,
  RandomResizedCrop,
  RandomScaleCrop,
  Resize,
  SideCrops,
  Sometimes,
  Transform,
  Views,
)

Range = tuple[float, float]
Jitter = tuple[float, float, float, float]


def moco(size: int = 224, *, area: Range = (0.2, 1.0), jitter: Jitter = (0.4, 0.4, 0.4, 0.1),
         jitter_p: float = 0.8, grey_p: float = 0.2, sigma: Range = (0.1, 2.0),
         blur_p: float = 0.5, flip_p: float = 0.5, per_frame: bool = False) -> Transform:
  """Pre-training of CycleContrast, in MoCo v2's style (CycleContrast 3.3)."""
  return _transform(per_frame, RandomResizedCrop(size, area),
                    Sometimes(jitter_p, ColourJitter(*jitter)), Sometimes(grey_p, Grey()),
                    Sometimes(blur_p, Blur(sigma)), Sometimes(flip_p, Flip()))


def contrastive_video(
    size: int = 224, *, area: Range = (0.2, 0.766), flip_p: float = 0.5,
    jitter: Jitter = (0.6, 0.6, 0.6, 0.15), jitter_p: float = 0.8, grey_p: float = 0.2,
    sigma: Range = (0.1, 2.0), blur_p: float = 0.5, noise: Range = (0.0, 0.0), noise_p: float = 0.0,
    per_frame: bool = False) -> Transform:
  """Pre-training of ProViCo (ProViCo 2). Its 18-layer networks take size 112.

  Noise, whose standard deviation is of levels from 0 to 255, is ours: variances that have never
  met any don't tell it.
  """
  return _transform(per_frame, RandomResizedCrop(size, area), Sometimes(flip_p, Flip()),
                    Sometimes(jitter_p, ColourJitter(*jitter)), Sometimes(grey_p, Grey()),
                    Sometimes(blur_p, Blur(sigma)),
                    *([Sometimes(noise_p, Noise(noise))] if noise_p else []))


def fine_tune(size: int = 224, *, area: Range = (0.08, 1.0), flip_p: float = 0.5,
              jitter: Jitter = (0.4, 0.4, 0.4, 0.2), per_frame: bool = False) -> Transform:
  """Fine-tuning of CycleContrast on UCF101 (CycleContrast 8.1)."""
  return _transform(per_frame, RandomResizedCrop(size, area), Sometimes(flip_p, Flip()),
                    ColourJitter(*jitter))


def fine_tune_provico(
    size: int = 224, *, short_side: tuple[int, int] = (256, 320),
    jitter: Jitter = (0.4, 0.4, 0.4, 0.1), jitter_p: float = 0.8, grey_p: float = 0.2,
    flip_p: float = 0.5, per_frame: bool = False) -> Transform:
  """Fine-tuning of ProViCo (ProViCo 11.3, which names no crop: it is that of 11.1)."""
  return _transform(per_frame, RandomScaleCrop(size, short_side),
                    Sometimes(jitter_p, ColourJitter(*jitter)), Sometimes(grey_p, Grey()),
                    Sometimes(flip_p, Flip()))


def linear(size: int = 224, *, area: Range = (0.08, 1.0), flip_p: float = 0.5) -> Transform:
  """Training of a linear classifier on pictures (CycleContrast 7)."""
  return _transform(False, RandomResizedCrop(size, area), Sometimes(flip_p, Flip()))


def linear_video(size: int = 224, *, short_side: tuple[int, int] = (256, 320),
                 flip_p: float = 0.5) -> Transform:
  """Training of a linear classifier on clips (ProViCo 11.1)."""
  return _transform(False, RandomScaleCrop(size, short_side), Sometimes(flip_p, Flip()))


def centre_view(size: int = 224, *, short_side: int = 256) -> Transform:
  """The middle of the picture, for tests (CycleContrast 7 and 8.1)."""
  return CentreCrop(size, short_side)


def side_views(size: int = 256, *, short_side: int = 256, n: int = 3) -> Transform:
  """Crops along the longer side, for tests: [n, T, size, size, 3] (ProViCo 11.1)."""
  return SideCrops(size, short_side, n)


def corrflow_bottleneck(p: float = 0.1, *, jitter: Jitter = (0.1, 0.1, 0.1, 0.1)) -> Transform:
  """Colours of a clip changed with probability p, and then of each frame anew (CorrFlow 4).

  The second half of the bottleneck, `colour.drop_channels`, is drawn once a step for the whole
  batch, so it belongs where the batch is used.
  """
  return Sometimes(p, EachFrame(ColourJitter(*jitter)))


def corrflow(size: int = 256, p: float = 0.1, *, jitter: Jitter = (0.1, 0.1, 0.1, 0.1)
             ) -> Transform:
  """Clean frames and those that the network sees, [2, T, size, size, 3] (CorrFlow 2 and 4).

  Both are rounded to 8 bits after resizing; the released code keeps clean ones as floats, and cuts
  off instead of rounding before it changes colours.
  """
  return Chain((Resize(size, size), Views((Chain(), corrflow_bottleneck(p, jitter=jitter)))))


def _transform(per_frame: bool, *steps: Transform) -> Transform:
  chain = Chain(steps)
  return EachFrame(chain) if per_frame else chain
