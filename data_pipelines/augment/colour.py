"""Colours and blur: pure functions of frames, and their parameters.

All that work on uint8 give what torchvision gives for a Pillow picture, level for level: luma is
Pillow's "L", (19595 R + 38470 G + 7471 B + 32768) >> 16, results are cut off to whole levels, hue
goes through 8-bit HSV. A parameter is a number for all frames or an array [T].
"""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from data_pipelines.augment.each import each_frame

ORDER = ("brightness", "contrast", "saturation", "hue")
_NO_CHANGE = dict(brightness=1, contrast=1, saturation=1, hue=0)


def jitter_params(rng: np.random.Generator, brightness: float = 0.0, contrast: float = 0.0,
                  saturation: float = 0.0, hue: float = 0.0) -> dict:
  """Arguments of `colour_jitter`: factors uniform in [max(0, 1 - x), 1 + x], hue in [-x, x].

  The order of the four is random, all orders being equally likely.
  """
  widths = dict(brightness=brightness, contrast=contrast, saturation=saturation)
  made = {k: float(rng.uniform(max(0.0, 1 - x), 1 + x)) for k, x in widths.items()}
  order = tuple(ORDER[i] for i in rng.permutation(len(ORDER)))
  return made | {"hue": float(rng.uniform(-hue, hue)), "order": order}


def colour_jitter(frames: np.ndarray, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0,
                  order: Sequence[str] = ORDER) -> np.ndarray:
  """Several changes of colour, one after the other.

  Args:
    frames: uint8 [T, H, W, 3].
    brightness, contrast, saturation: factors >= 0; 1 leaves the picture as it is. 0 is black,
      the mean grey level, grey.
    hue: part of a full turn, -0.5 to 0.5. 0 leaves the picture as it is; anything else rounds
      colours to 8-bit HSV.
    order: names of changes, the first one first; one that is left out is not made.

  Returns:
    uint8 [T, H, W, 3].
  """
  values = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
  if unknown := set(order) - set(ORDER):
    raise ValueError(f"order holds names out of {list(ORDER)}, got {sorted(unknown)}")

  def one(frame, *row):
    image = Image.fromarray(frame)
    for name, value in zip(order, row, strict=True):
      if value != _NO_CHANGE[name]:
        image = _CHANGES[name](image, value)
    return image

  return each_frame(frames, one, *(values[name] for name in order))


def brightness(frames: np.ndarray, factor) -> np.ndarray:
  """Scales the levels of uint8 [T, H, W, 3], cut off at 255."""
  return colour_jitter(frames, brightness=factor, order=("brightness",))


def contrast(frames: np.ndarray, factor) -> np.ndarray:
  """Scales the distance from the frame's mean luma, rounded; uint8 [T, H, W, 3]."""
  return colour_jitter(frames, contrast=factor, order=("contrast",))


def saturation(frames: np.ndarray, factor) -> np.ndarray:
  """Scales the distance from the pixel's luma; uint8 [T, H, W, 3]."""
  return colour_jitter(frames, saturation=factor, order=("saturation",))


def hue(frames: np.ndarray, turn) -> np.ndarray:
  """Turns the hue by a part of a full turn; uint8 [T, H, W, 3]."""
  return colour_jitter(frames, hue=turn, order=("hue",))


def grey(frames: np.ndarray) -> np.ndarray:
  """The luma of uint8 [T, H, W, 3], in all three channels."""
  return each_frame(frames, lambda f: Image.fromarray(f).convert("L").convert("RGB"))


def gaussian_blur(frames: np.ndarray, sigma) -> np.ndarray:
  """Blurs uint8 [T, H, W, 3] with a standard deviation in pixels, in Pillow's way.

  Three box filters along each axis, rounded to whole levels after each (CycleContrast 3.3). The
  same in NumPy took 1.0 to 1.9 times as long (pictures of 32 to 224 pixels).
  """
  return each_frame(
      frames, lambda f, s: Image.fromarray(f).filter(ImageFilter.GaussianBlur(s)), sigma)


def dropped_channels(rng: np.random.Generator, p: float = 0.7) -> tuple[int, ...]:
  """Which of the channels R, G, B are taken away (CorrFlow 4).

  None with probability 1 - p; else one or two, equally likely, and all choices of them as well.
  """
  if rng.random() >= p:
    return ()
  return tuple(sorted(rng.choice(3, rng.integers(1, 3), replace=False).tolist()))


def drop_channels(frames: np.ndarray, channels: Sequence[int]) -> np.ndarray:
  """Sets k channels to zero and multiplies by 3 / (3 - k), so that the sum stays (CorrFlow 4).

  Args:
    frames: uint8 or float32 [..., 3].
    channels: k < 3 different ones of 0, 1, 2.

  Returns:
    float32 [..., 3] in the input's unit: levels may exceed its range.
  """
  kept = [c not in set(channels) for c in range(3)]
  if not set(channels) <= {0, 1, 2} or not any(kept):
    raise ValueError(f"channels are up to two of 0, 1, 2; got {list(channels)}")
  return frames * np.array([3 / sum(kept) * k for k in kept], np.float32)


def _brightness(image, factor):
  return Image.blend(Image.new("RGB", image.size), image, factor)


def _contrast(image, factor):
  mean = int(np.asarray(image.convert("L")).mean() + 0.5)
  return Image.blend(Image.new("RGB", image.size, (mean,) * 3), image, factor)


def _saturation(image, factor):
  return Image.blend(image.convert("L").convert("RGB"), image, factor)


def _hue(image, turn):
  h, s, v = (np.asarray(band).ravel() for band in image.convert("HSV").split())
  h = h + np.uint8(int(turn * 255) % 256)
  return Image.fromarray(rgb_from_hsv(h, s, v).reshape(image.height, image.width, 3))


_CHANGES = dict(brightness=_brightness, contrast=_contrast, saturation=_saturation, hue=_hue)


def rgb_from_hsv(h: np.ndarray, s: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Pillow's conversion of 8-bit HSV uint8 [n] each to RGB uint8 [n, 3], in half of its time."""
  out = np.empty((len(h), 3), np.uint8)
  tables = _hsv_tables()
  block = 16384  # of pixels: the arrays below then stay in the cache
  for start in range(0, len(h), block):
    part = slice(start, start + block)
    place = h[part].astype(np.intp)
    place <<= 8
    place |= s[part]
    value = v[part].astype(np.float32)
    level = np.empty_like(value)
    for c in range(3):
      np.take(tables[c], place, out=level, mode="clip")  # "raise" would copy
      level *= value
      level += np.float32(0.5)
      out[part, c] = level
  return out


@functools.cache
def _hsv_tables():
  """float32 [3, 256 * 256]: a channel's part of the value v, for each (h, s) at 256 h + s."""
  sixth = np.arange(256) * 6 / 255
  sector, place = np.floor(sixth), (sixth - np.floor(sixth)).astype(np.float32)
  # In a sector one channel is v, one lowest, one on its way between them: 1 - s, 1 - s * place
  # when it falls, 1 - s * (1 - place) when it rises.
  weights = dict(v=np.zeros(256), p=np.ones(256), q=place, t=1 - place.astype(np.float64))
  part = (np.arange(256) / 255).astype(np.float32)
  rows = [np.choose(sector.astype(int) % 6, [weights[k] for k in row])
          for row in ("vqpptv", "tvvqpp", "pptvvq")]
  return np.array([1 - np.outer(row, part.astype(np.float64)) for row in rows],
                  np.float32).reshape(3, -1)
