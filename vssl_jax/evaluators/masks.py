"""Label maps as indexed PNGs in DAVIS's layout, `SEQUENCE/00000.png`, and their colours."""

import os
import pathlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def palette() -> np.ndarray:
  """Colours of the labels in DAVIS's results: uint8 [256, 3] RGB.

  The lowest three bits of a label are the highest bits of red, green and blue, and so on.
  """
  labels, channel = np.arange(256)[:, None], np.arange(3)
  bits = [((labels >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)]
  return np.sum(bits, 0).astype(np.uint8)


def encode(labels: np.ndarray) -> bytes:
  """An indexed PNG of [H, W] integer labels from 0 to 255."""
  labels = np.asarray(labels)
  if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "iub":
    raise ValueError(f"labels {labels.dtype} {labels.shape} should be integers [H, W]")
  if labels.min() < 0 or labels.max() > 255:
    raise ValueError(f"labels from {labels.min()} to {labels.max()}: an indexed PNG holds 0 to 255")
  h, w = labels.shape
  rows = np.zeros((h, 1 + w), np.uint8)  # each row begins with its filter, 0 for none
  rows[:, 1:] = labels
  header = struct.pack(">IIBBBBB", w, h, 8, 3, 0, 0, 0)  # 8 bits, indexed, no interlace
  return SIGNATURE + b"".join([
      _chunk(b"IHDR", header), _chunk(b"PLTE", palette().tobytes()),
      _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)), _chunk(b"IEND", b"")])


def write_masks(folder: str | pathlib.Path, name: str, label_maps: Iterable[np.ndarray]) -> int:
  """Writes the label maps of one sequence, see `written`; returns how many."""
  return sum(1 for _ in written(folder, name, label_maps))


def written(folder: str | pathlib.Path, name: str, label_maps: Iterable[np.ndarray],
            frames: Sequence[str] = ()) -> Iterator[np.ndarray]:
  """Passes label maps on, each of them written as `folder/name/00000.png`, ...

  A file appears whole or not at all.

  Args:
    frames: names of the frames, without ".png"; numbers from 00000 on where there are none.

  Raises:
    ValueError: the name leads out of the folder, a label is beyond 255, or sizes differ; names
      the sequence and the frame.
  """
  parts = pathlib.PurePosixPath(name).parts
  if not parts or name.startswith("/") or ".." in parts or "\\" in name:
    raise ValueError(f"sequence {name!r} is no name of a folder")
  folder, size = pathlib.Path(folder, name), None
  folder.mkdir(parents=True, exist_ok=True)
  for i, labels in enumerate(label_maps):
    size = size or np.shape(labels)
    try:
      if np.shape(labels) != size:
        raise ValueError(f"labels {np.shape(labels)}, those before {size}")
      data = encode(labels)
    except ValueError as e:
      raise ValueError(f"{name}: frame {i}: {e}") from e
    path = folder / f"{frames[i] if frames else f'{i:05d}'}.png"
    part = path.with_suffix(".part")
    part.write_bytes(data)
    os.replace(part, path)
    yield labels


def _chunk(kind: bytes, data: bytes) -> bytes:
  return (struct.pack(">I", len(data)) + kind + data
          + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))
