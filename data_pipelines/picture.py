"""Decoded pictures to RGB arrays: size, rotation, resizing. swscale does the arithmetic."""

import av
import numpy as np
from av.video.reformatter import VideoReformatter

INTERPOLATION = {"bilinear": "BILINEAR", "bicubic": "BICUBIC"}


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
  """(height, width) with the shorter side `short_side` and the same aspect, at least 1 pixel."""
  if short_side is None:
    return height, width
  if short_side < 1:
    raise ValueError(f"short_side must be at least 1, got {short_side}")
  scale = short_side / min(height, width)
  return max(1, round(height * scale)), max(1, round(width * scale))


def centre_crop(image: np.ndarray, crop: int | None) -> np.ndarray:
  """The middle square of [..., H, W, 3], a view; offsets are the floor of half the excess.

  Raises:
    ValueError: `crop` is larger than a side.
  """
  if crop is None:
    return image
  height, width = image.shape[-3:-1]
  if not 0 < crop <= min(height, width):
    raise ValueError(f"can't crop {crop}x{crop} out of {height}x{width} pixels")
  y, x = (height - crop) // 2, (width - crop) // 2
  return image[..., y:y + crop, x:x + crop, :]


def copy(target: np.ndarray, image: np.ndarray) -> None:
  """Copies uint8 [H, W, 3] into an array of the same shape, whole pixels at a time.

  That halves the time for turned pictures.
  """
  target.view("V3")[:] = image.view("V3")


class Converter:
  """Turns the frames of one video into arrays; its first frame tells how they are to be shown.

  Attributes:
    height, width: as shown, in pixels.
    rotation: -90, 0, 90 or 180, degrees counterclockwise by which the stored picture is turned.
  """

  def __init__(self, first: av.VideoFrame):
    self._transposed, self._rows, self._columns = _orientation(first)
    size = first.height, first.width
    self.height, self.width = size[::-1] if self._transposed else size
    turn = 90 * round(first.rotation / 90)
    self.rotation = 180 if turn == -180 else turn
    self._reformatter = VideoReformatter()  # keeps its filters from frame to frame

  def rgb(self, frame: av.VideoFrame, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """uint8 [H, W, 3] of the given (height, width), as shown.

    Raises:
      ValueError: `interpolation` is neither "bilinear" nor "bicubic".
    """
    if interpolation not in INTERPOLATION:
      raise ValueError(f"interpolation is one of {sorted(INTERPOLATION)}, got {interpolation!r}")
    height, width = size[::-1] if self._transposed else size
    frame = self._reformatter.reformat(frame, width=width, height=height, format="rgb24",
                                       interpolation=INTERPOLATION[interpolation], threads=1)
    image = frame.to_ndarray()
    return (image.swapaxes(0, 1) if self._transposed else image)[::self._rows, ::self._columns]


def resize(frames: np.ndarray, short_side: int, interpolation: str = "bilinear") -> np.ndarray:
  """RGB frames uint8 [T, H, W, 3] resized so that the shorter side is `short_side` pixels."""
  size = scaled_size(*frames.shape[1:3], short_side)
  if size == frames.shape[1:3]:
    return frames
  out = np.empty((len(frames), *size, 3), np.uint8)
  convert = None
  for t, array in enumerate(frames):
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
    convert = convert or Converter(frame)
    out[t] = convert.rgb(frame, size, interpolation)
  return out


def _orientation(frame: av.VideoFrame) -> tuple[bool, int, int]:
  """(transpose, row step, column step) that turn the stored picture into the one shown.

  The display matrix sends x, y to a x + c y, b x + d y; for turns by 90 degrees and mirror images
  either a and d or b and c are zero.
  """
  matrix = frame.side_data.get("DISPLAYMATRIX")
  if matrix is None:
    return False, 1, 1
  a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
  if abs(b) > abs(a):
    return True, -1 if b < 0 else 1, -1 if c < 0 else 1
  return False, -1 if d < 0 else 1, -1 if a < 0 else 1
