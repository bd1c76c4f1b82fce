"""Cropping, resizing, mirroring: pure functions of frames, and where to crop."""

import functools
import math

import numpy as np
from PIL import Image

from data_pipelines.augment.each import check, each_frame

# Pillow's filters. All but "nearest" widen when they shrink a picture, so nothing aliases. "area"
# is the mean over the pixel's footprint.
INTERPOLATION = {
  "nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR,
  "bicubic": Image.Resampling.BICUBIC, "area": Image.Resampling.BOX,
  "lanczos": Image.Resampling.LANCZOS,
}  # fmt: skip


def random_resized_crop_box(
    rng: np.random.Generator, height: int, width: int, area: tuple[float, float],
    aspect: tuple[float, float] = (3 / 4, 4 / 3)) -> tuple[int, int, int, int]:
  """A box of random area and aspect ratio at a random place, by torchvision's rule.

  The area is uniform, the aspect ratio log-uniform. Where a box does not fit it is drawn again,
  ten times at most; after that it is the largest centred one whose aspect ratio is allowed.

  Args:
    rng: drawn from.
    height, width: of the picture, at least 1.
    area: least and largest part of the picture's, in (0, 1].
    aspect: least and largest width / height.

  Returns:
    (top, left, height, width) in whole pixels, inside the picture, at least one pixel.
  """
  for _ in range(10):
    pixels = height * width * rng.uniform(*area)
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
    if 0 < w <= width and 0 < h <= height:
      return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
  ratio = min(max(width / height, aspect[0]), aspect[1])
  w = max(1, min(width, round(height * ratio)))
  h = max(1, min(height, round(width / ratio)))
  return (height - h) // 2, (width - w) // 2, h, w


def crop_resize(frames: np.ndarray, box, height: int, width: int,
                interpolation: str = "bilinear") -> np.ndarray:
  """Cuts a box out, then resizes it; pixels outside the box have no influence.

  The result is that of cropping and resizing with Pillow, as torchvision does with pictures.

  Args:
    frames: uint8 [T, H, W, 3].
    box: (top, left, height, width) in whole pixels inside the frame, or an array [T, 4].
    height, width: to resize to.
    interpolation: a key of `INTERPOLATION`.

  Returns:
    uint8 [T, height, width, 3].

  Raises:
    ValueError: a box reaches out of the frame, or no such interpolation.
  """
  check(frames)
  method, boxes = _method(interpolation), np.asarray(box)
  low, high = boxes[..., :2], boxes[..., :2] + boxes[..., 2:]
  if (low < 0).any() or (high <= low).any() or (high > frames.shape[1:3]).any():
    raise ValueError(f"box {boxes.tolist()} is not inside {frames.shape[1]}x{frames.shape[2]}")

  def one(frame, top, left, h, w):
    part = frame[top:top + h, left:left + w]
    same = (h, w) == (height, width)
    return part if same else Image.fromarray(part).resize((width, height), method)

  return each_frame(frames, one, *np.moveaxis(boxes, -1, 0))


def resize_crop(frames: np.ndarray, height: int, width: int, box: tuple[int, int, int, int],
                interpolation: str = "bilinear") -> np.ndarray:
  """Resizes, then cuts a box out; what lies outside the box is not computed.

  So Pillow may take columns before rows or the reverse, with rounding between them: single values
  differ by a level (rarely two) from those of whole frames resized and then cut.

  Args:
    frames: uint8 [T, H, W, 3].
    height, width: to resize the whole frames to.
    box: (top, left, h, w) in whole pixels of the resized frames, inside them.
    interpolation: a key of `INTERPOLATION`.

  Returns:
    uint8 [T, h, w, 3].

  Raises:
    ValueError: the box reaches out of the resized frames, or no such interpolation.
  """
  check(frames)
  method, (top, left, h, w) = _method(interpolation), box
  if top < 0 or left < 0 or h < 1 or w < 1 or top + h > height or left + w > width:
    raise ValueError(f"box {list(box)} is not inside {height}x{width}")
  y, x = frames.shape[1] / height, frames.shape[2] / width
  if x == y == 1:
    return np.ascontiguousarray(frames[:, top:top + h, left:left + w])
  area = (left * x, top * y, min((left + w) * x, frames.shape[2]),  # rounding may go too far
          min((top + h) * y, frames.shape[1]))
  return each_frame(frames, lambda f: Image.fromarray(f).resize((w, h), method, box=area))


def flip(frames: np.ndarray) -> np.ndarray:
  """Mirrors uint8 [T, H, W, 3] left and right."""
  check(frames)
  out = np.empty_like(frames, order="C")
  for c in range(3):  # several times as fast as copying pixels of three bytes one by one
    out[..., c] = frames[:, :, ::-1, c]
  return out


def resize_bilinear(frames: np.ndarray, height: int, width: int) -> np.ndarray:
  """Bilinear, half-pixel centres, edge clamp, no antialias: OpenCV's default (CorrFlow 2).

  Args:
    frames: uint8 or float32 [T, H, W, 3].
    height, width: at least 1.

  Returns:
    [T, height, width, 3] of the same type; uint8 is rounded to the nearest level. (OpenCV's own
    8-bit arithmetic has 11 bits for a weight, and may differ by one level.)
  """
  check(frames, (np.uint8, np.float32))
  if frames.shape[1:3] == (height, width):
    return np.array(frames, order="C")
  out = np.empty((len(frames), height, width, 3), frames.dtype)
  for frame, made in zip(frames, out, strict=True):
    values = _between(_between(frame, height, 0), width, 1)
    made[:] = np.rint(values, out=values) if frames.dtype == np.uint8 else values
  return out


def _between(picture, size, axis):
  """float32 [H, W, 3] with `size` pixels along an axis."""
  if picture.shape[axis] == size:
    return picture
  low, high, weight = _taps(picture.shape[axis], size)
  first = picture.take(low, axis).astype(np.float32, copy=False)
  step = picture.take(high, axis) - first
  step *= weight.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
  step += first
  return step


@functools.lru_cache(maxsize=256)
def _taps(old: int, new: int):
  """The two old pixels around each new one, and the second one's weight."""
  at = (np.arange(new) + 0.5) * (old / new) - 0.5
  low = np.floor(at).astype(np.intp)
  weight = np.where((low < 0) | (low >= old - 1), 0, at - low).astype(np.float32)
  low = np.clip(low, 0, old - 1)
  return low, np.minimum(low + 1, old - 1), weight


def _method(interpolation):
  if interpolation not in INTERPOLATION:
    raise ValueError(f"interpolation is one of {sorted(INTERPOLATION)}, got {interpolation!r}")
  return INTERPOLATION[interpolation]
