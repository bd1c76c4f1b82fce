"""Lists of encoded pictures (JPEG, PNG and others), read like a video; label maps in PNG.

Pillow decodes, and swscale resizes, as it does for videos. JPEGs are always decoded whole: letting
libjpeg shrink them on the way (Pillow's `draft`) is twice as fast for large ones but changes single
pixels by up to 33 of 255.
"""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipelines import picture, sniff
from data_pipelines.container import UNKNOWN_FPS
from data_pipelines.decode import checked_numbers
from data_pipelines.errors import VideoError

MAX_PIXELS = 2**26  # 8192 x 8192; Pillow itself warns above 89 million
# Formats that are recognised for certain; Pillow would give PostScript to an interpreter.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
# EXIF orientation -> what turns the stored picture into the one shown.
UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
           4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
           6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
           8: Image.Transpose.ROTATE_90}
SIDEWAYS = (5, 6, 7, 8)
ORIENTATION = 0x0112


class PictureReader:
  """Pictures in order, with the attributes and `frames` of `decode.VideoReader`.

  Only what is asked for is decoded. EXIF orientation is applied; palettes, grey, CMYK and 16 bits
  become RGB of 8 bits; what shows through transparency is ignored; of a moving picture the first
  frame counts.

  Attributes:
    name: of the whole, for messages.
    times: float64 [n_frames], seconds, evenly spaced at `fps`.
    n_frames: number of pictures.
    fps: pictures per second; 25.0 where it isn't known.
    rotation: 0, since pictures are turned when they are read.
    height, width: of the first picture as shown, in pixels; it is read when they are asked for.
  """

  rotation = 0

  def __init__(self, frames: Sequence[str | os.PathLike | bytes], fps: float | None = None,
               name: str = ""):
    """`name` is for messages about pictures in memory; those on disk are named by their paths.

    Raises:
      VideoError: the list is empty.
    """
    if not frames:
      raise VideoError(name or "a list of pictures", "holds no picture")
    self._frames = frames
    self.name = name or ("pictures in memory" if isinstance(frames[0], bytes) else
                         os.fspath(frames[0]))
    self.fps = float(fps or UNKNOWN_FPS)
    self.n_frames = len(frames)
    self.times = np.arange(self.n_frames) / self.fps
    self._size = None

  @property
  def height(self) -> int:
    return self._first_size()[0]

  @property
  def width(self) -> int:
    return self._first_size()[1]

  def frames(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None, *,
             crop: int | None = None, interpolation: str = "bilinear") -> np.ndarray:
    """The pictures with these numbers; each is decoded once, one at a time.

    Args:
      indices: int [N] in 0..n_frames-1, any order, repeats allowed.
      short_side, crop, interpolation: as for `VideoReader.frames`, from each picture's own size.

    Returns:
      uint8 [N, H, W, 3], RGB.

    Raises:
      IndexError: an index outside 0..n_frames-1.
      ValueError: `crop` is larger than a side, or another argument is wrong.
      VideoError: a picture can't be read, or comes out in another size than the first one asked
        for; names it.
    """
    indices = checked_numbers(self.name, indices, self.n_frames)
    numbers, rows = np.unique(indices, return_inverse=True)
    out = None
    for k, number in enumerate(numbers.tolist()):
      image = picture.centre_crop(self._resized(number, short_side, interpolation), crop)
      if out is None:
        out = np.empty((len(numbers), *image.shape), np.uint8)
      if image.shape != out.shape[1:]:
        raise VideoError(self._name_of(number), f"has {image.shape[1]}x{image.shape[0]} pixels, "
                         f"picture {numbers[0]} has {out.shape[2]}x{out.shape[1]}: crop them alike")
      out[k] = image
    if out is None:
      size = (crop, crop) if crop else picture.scaled_size(self.height, self.width, short_side)
      return np.empty((0, *size, 3), np.uint8)
    return out if np.array_equal(rows, np.arange(len(numbers))) else out[rows]

  def stream(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None, *,
             crop: int | None = None, interpolation: str = "bilinear") -> Iterator[np.ndarray]:
    """The same as `frames`, one by one and never more than one in memory; any order.

    Raises:
      IndexError, ValueError, VideoError: as `frames` does.
    """
    indices = checked_numbers(self.name, indices, self.n_frames)
    return self._one_by_one(indices.tolist(), short_side, crop, interpolation)

  def _one_by_one(self, indices, short_side, crop, interpolation) -> Iterator[np.ndarray]:
    size = None
    for number in indices:
      image = picture.centre_crop(self._resized(number, short_side, interpolation), crop)
      size = size or image.shape
      if image.shape != size:
        raise VideoError(self._name_of(number), f"has {image.shape[1]}x{image.shape[0]} pixels, "
                         f"picture {indices[0]} has {size[1]}x{size[0]}: crop them alike")
      yield image

  def _name_of(self, number: int) -> str:
    frame = self._frames[number]
    return f"{self.name}, picture {number}" if isinstance(frame, bytes) else os.fspath(frame)

  def _first_size(self) -> tuple[int, int]:
    if self._size is None:
      with opened(self._frames[0], self._name_of(0)) as image:
        if image.format not in ("JPEG", "MPO"):
          image.load()  # others tell their orientation only then
        self._size = image.size[::1 if _orientation(image) in SIDEWAYS else -1]
    return self._size

  def _resized(self, number: int, short_side: int | None, interpolation: str) -> np.ndarray:
    name = self._name_of(number)
    with opened(self._frames[number], name) as image:
      image.load()
      orientation = _orientation(image)
      rgb = _rgb(image, name)
      if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
      array = np.asarray(rgb)
    if short_side is None:
      return array
    height, width = picture.scaled_size(*array.shape[:2], short_side)
    if height * width > MAX_PIXELS:  # scaling up a strip one pixel high knows no bounds
      raise VideoError(name, f"{width}x{height} pixels are too many")
    return picture.resize(array[None], short_side, interpolation)[0]


def read_labels(mask: str | os.PathLike | bytes, name: str = "") -> np.ndarray:
  """A label map, by path or as bytes: uint8 [H, W], 0 for the background.

  Indexed PNGs give their indices (255 is void), whatever the palette. Grey ones give their values;
  where these are 0 and 255 alone, as in DAVIS-2016, 0 and 1. Some of those are stored with an alpha
  channel or in colour, and are read alike.

  Args:
    name: for messages about bytes.

  Raises:
    VideoError: it can't be read, has colours and no palette, or labels above 255.
  """
  name = name or ("a label map" if isinstance(mask, bytes) else os.fspath(mask))
  try:
    with opened(mask, name) as image:
      mode, labels = image.mode, np.array(image)
  except VideoError as e:
    raise VideoError(name, f"can't read this label map ({e.reason})") from e
  if mode == "P":
    return labels
  if labels.ndim == 3:
    colours = labels[..., :-1] if mode in ("LA", "RGBA") else labels
    if (colours != colours[..., :1]).any():
      raise VideoError(name, "has colours but no palette, so its labels are unknown; use the "
                             "indexed PNG of the official download")
    labels = colours[..., 0]
  if not 0 <= labels.min() <= labels.max() <= 255:
    raise VideoError(name, "has labels above 255")
  grey = labels.astype(np.uint8)
  return np.minimum(grey, 1) if np.isin(grey, (0, 255)).all() else grey


@contextlib.contextmanager
def opened(source: str | os.PathLike | bytes, name: str) -> Iterator[Image.Image]:
  """A picture whose header has been read; what fails in the block is told as a `VideoError`."""
  try:
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(file, formats=FORMATS) as image:
      if image.height * image.width > MAX_PIXELS:
        raise VideoError(name, f"{image.width}x{image.height} pixels are too many")
      yield image
  except VideoError:
    raise
  except Exception as e:  # Pillow's parsers raise whatever the damage leads them to
    sniff.first_bytes(name, source)  # missing, a folder, empty, ...
    if isinstance(e, UnidentifiedImageError):
      raise VideoError(name, "not a picture") from e
    if isinstance(e, Image.DecompressionBombError):
      raise VideoError(name, "too many pixels") from e
    raise VideoError(name, f"damaged picture: {str(e) or type(e).__name__}") from e


def _orientation(image: Image.Image) -> int:
  """1 to 8 as in EXIF; 1, upright, where there is none or it makes no sense."""
  try:
    orientation = image.getexif().get(ORIENTATION)
    return orientation if orientation in UPRIGHT else 1
  except Exception:  # a broken note on a picture that can be seen; viewers ignore it too
    return 1


def _rgb(image: Image.Image, name: str) -> Image.Image:
  if image.mode == "F":
    raise VideoError(name, "its pixels are fractions, whose range is unknown")
  if image.mode.startswith("I"):  # 16 bits, 0 to 65535
    deep = np.asarray(image).clip(0, 2**16 - 1).astype(np.uint32)
    image = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
  if image.mode == "RGB":
    return image
  image.info.pop("transparency", None)  # else Pillow warns that it isn't used
  return image.convert("RGB")
