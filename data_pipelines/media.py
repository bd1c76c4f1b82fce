"""The pixels of a record: a video file, its bytes, a list of pictures, or an example in shards."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipelines import decode, shards, torchcodec_reader
from data_pipelines.decode import VideoReader
from data_pipelines.errors import VideoError
from data_pipelines.pictures import PictureReader, read_labels
from data_pipelines.records import Record

BACKENDS = {"pyav": decode.open_video, "torchcodec": torchcodec_reader.open_video}


@contextlib.contextmanager
def open_media(record: Record, *, backend: str = "pyav") -> Iterator[VideoReader | PictureReader]:
  """Opens what a record shows; `start`, `end` and `edit_seed` are left to the caller.

  The backend is a choice to be made for a whole experiment and written down with it, since the two
  don't give the same pixels: in full size they do (see `torchcodec_reader`), but resized frames
  differ by about 1 of 255 on average, and more in patterns of strong colours, since PyAV scales
  before it converts to RGB. So none is chosen by what happens to be installed. PyAV is the default:
  its frames are those of a full decode on every file, and torchcodec was not found to be faster
  (`benchmarks/decode.py`).

  Args:
    backend: what decodes videos, "pyav" or "torchcodec"; pictures are read with Pillow anyway.

  Raises:
    VideoError: it can't be read; names the file.
    DataError: its shard is missing, or torchcodec is.
    ValueError: there is no such backend.
  """
  if backend not in BACKENDS:
    raise ValueError(f"backend is one of {sorted(BACKENDS)}, got {backend!r}")
  whole = shards.resolve(record)
  if whole.frames:
    yield PictureReader(whole.frames, record.fps,
                        name=record.id if isinstance(whole.frames[0], bytes) else "")
    return
  if not whole.video:
    raise VideoError(record.id, "has neither a video nor pictures")
  with BACKENDS[backend](whole.video) as reader:
    yield reader


def read_masks(record: Record, indices: Sequence[int] | np.ndarray,
               size: tuple[int, int] | None = None) -> np.ndarray:
  """Label maps of the frames with these numbers; see `pictures.read_labels`.

  Args:
    indices: int [N].
    size: (height, width) to bring them to, by the nearest pixel; None keeps their own.

  Returns:
    uint8 [N, H, W]; [0, 0, 0] for no indices and no size.

  Raises:
    VideoError: a frame has no mask, it can't be read, or they differ in size.
  """
  masks = shards.resolve(record).masks
  out = np.empty((0, *(size or (0, 0))), np.uint8)
  indices = np.asarray(indices, np.int64).reshape(-1).tolist()
  for k, i in enumerate(indices):
    if not 0 <= i < len(masks) or not masks[i]:
      raise VideoError(record.id, f"frame {i} has no mask")
    labels = read_labels(masks[i], f"{record.id}, mask {i}" if isinstance(masks[i], bytes) else "")
    if size is not None:
      labels = _nearest(labels, size)
    if k == 0:
      out = np.empty((len(indices), *labels.shape), np.uint8)
    if labels.shape != out.shape[1:]:
      raise VideoError(record.id, f"mask {i} has {labels.shape[1]}x{labels.shape[0]} pixels, mask "
                                  f"{indices[0]} {out.shape[2]}x{out.shape[1]}: give a size")
    out[k] = labels
  return out


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """The pixel in which the centre of each new one lies."""
  rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new)
                   for new, old in zip(size, labels.shape, strict=True))
  return labels[rows[:, None], columns]
