"""Videos through torchcodec: an optional second decoder behind the interface of `decode`.

torchcodec is imported when the first video is opened, never before. It seeks exactly by its own
account; compared with PyAV it is right on ordinary files and wrong on others, so this reader keeps
PyAV's index and times, and leaves to PyAV
- files in which PyAV doesn't seek either (AVI, MPEG-TS, FLV, VP8, missing times): torchcodec
  refuses some of these, and of others gives wrong frames;
- files in which an edit list hides frames: wrong frames;
- files whose pixels are not 8-bit 4:2:0 of even size: torchcodec's FFmpeg may be another one than
  PyAV's and convert colours otherwise, and 4:4:4 of old encoders is broken after a seek;
- files of which torchcodec gives frames of another number, time or size than PyAV, or raises, from
  the call on in which it does.
On what is left, frames in full size equal PyAV's bit by bit. Two kinds of files can't be told from
outside, in which frames after a seek may differ from those of a full decode: damaged ones, and ones
whose marked key frames are not complete pictures (H.264 with periodic intra refresh). PyAV's reader
notices both.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipelines import picture
from data_pipelines.decode import MAX_FRAMES, MAX_PIXELS, VideoReader, checked_numbers
from data_pipelines.errors import DataError

PLAIN = ("yuv420p", "yuvj420p")
AT_ONCE = 16  # frames in full size in memory


@contextlib.contextmanager
def open_video(source: str | os.PathLike | bytes, *, max_frames: int = MAX_FRAMES,
               max_pixels: int = MAX_PIXELS) -> Iterator["TorchcodecReader"]:
  """As `decode.open_video`, with frames through torchcodec where they are the same.

  Raises:
    DataError: torchcodec, or an FFmpeg that it can use, is not installed.
    VideoError: as `decode.open_video`.
  """
  reader = TorchcodecReader(source, max_frames=max_frames, max_pixels=max_pixels)
  try:
    yield reader
  finally:
    reader.close()


class TorchcodecReader(VideoReader):
  """A `VideoReader` whose `frames` come from torchcodec.

  Attributes:
    refusal: why PyAV decodes this file, a short clause; "" where torchcodec does.
  """

  def __init__(self, source: str | os.PathLike | bytes, *, max_frames: int = MAX_FRAMES,
               max_pixels: int = MAX_PIXELS):
    self._decoder = None
    decoder_type = _decoder_type()
    super().__init__(source, max_frames=max_frames, max_pixels=max_pixels)
    self.refusal = self._unsuited()
    if not self.refusal:
      self._try_to_open(decoder_type)

  def close(self) -> None:
    self._decoder = None
    super().close()

  def frames(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None, *,
             crop: int | None = None, interpolation: str = "bilinear") -> np.ndarray:
    """As `VideoReader.frames`; resized from RGB, 16 frames in full size at a time."""
    self._output_size(short_side)  # its checks
    if not self.refusal and len(indices):
      numbers, rows = np.unique(checked_numbers(self.name, indices, self.n_frames),
                                return_inverse=True)
      images = self._images(numbers, short_side, crop, interpolation)
      if images is not None:
        return images if np.array_equal(rows, np.arange(len(numbers))) else images[rows]
    return super().frames(indices, short_side, crop=crop, interpolation=interpolation)

  def _unsuited(self) -> str:
    """Why torchcodec isn't even tried."""
    index, context = self._index, self._stream.codec_context
    if not self.seekable:
      return "its container or codec can't be trusted for seeking"
    if len(index.all_pts) != self.n_frames:
      return "an edit list hides frames"
    if context.pix_fmt not in PLAIN or context.width % 2 or context.height % 2:
      return f"its pixels are {context.pix_fmt} of {context.width}x{context.height}"
    return ""

  def _try_to_open(self, decoder_type: type) -> None:
    source = self._source if isinstance(self._source, bytes) else os.fspath(self._source)
    try:
      self._decoder = decoder_type(source, stream_index=self._stream.index, seek_mode="exact",
                                   dimension_order="NHWC", num_ffmpeg_threads=1)
    except (RuntimeError, ValueError) as e:
      self._refuse(f"torchcodec doesn't open it: {_first_line(e)}")
      return
    told = self._decoder.metadata
    if told.num_frames != self.n_frames:
      self._refuse(f"torchcodec counts {told.num_frames} frames, not {self.n_frames}")
    self._start = told.begin_stream_seconds_from_content or 0.0

  def _refuse(self, reason: str) -> None:
    self.refusal, self._decoder = reason, None

  def _images(self, numbers: np.ndarray, short_side: int | None, crop: int | None,
              interpolation: str) -> np.ndarray | None:
    """uint8 [N, H, W, 3], or None with `refusal` set."""
    parts = []
    for k in range(0, len(numbers), AT_ONCE):
      part = numbers[k:k + AT_ONCE]
      try:
        batch = self._decoder.get_frames_at(part.tolist())
      except (RuntimeError, ValueError, IndexError) as e:
        return self._refuse(f"torchcodec fails: {_first_line(e)}")
      images = batch.data.numpy()
      if images.shape[1:3] != (self.height, self.width):
        return self._refuse(f"torchcodec gives frames of {images.shape[2]}x{images.shape[1]}")
      if not np.allclose(batch.pts_seconds.numpy() - self._start, self.times[part], atol=1e-4):
        return self._refuse("torchcodec gives frames of other times")
      if short_side is not None:
        images = picture.resize(images, short_side, interpolation)
      parts.append(picture.centre_crop(images, crop))
    return np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)


def _first_line(error: Exception) -> str:
  return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _decoder_type() -> type:
  try:
    from torchcodec.decoders import VideoDecoder
  except (ImportError, OSError, RuntimeError) as e:  # the last where it finds no FFmpeg
    raise DataError(f"the backend torchcodec can't be used ({_first_line(e)}): install "
                    "vssl_jax[torchcodec] and FFmpeg's libraries, or take pyav") from e
  return VideoDecoder
