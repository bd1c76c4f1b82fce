"""Labels of a video from those of its first frame, in memory that doesn't grow with its length."""

import collections
from collections.abc import Iterable, Iterator

import numpy as np

from vssl_jax.ops import propagation as ops
from vssl_jax.ops.propagation import PROTOCOLS, Protocol, protocol

__all__ = ["PROTOCOLS", "VOID", "Protocol", "pad", "propagate", "propagate_cells", "protocol"]

VOID = 255


def propagate(features: Iterable[np.ndarray], first: np.ndarray,
              protocol: Protocol) -> Iterator[np.ndarray]:
  """Label maps of all frames.

  A frame's features are asked for when its labels are, once; those of the references are kept.

  Args:
    features: [h, w, D] of each frame, with h w cells of `protocol.stride` pixels that cover the
      picture: h = ceil(H / stride).
    first: [H, W] integer label map of frame 0: 0 background, 1 ... 254 objects, whose numbers may
      have gaps, 255 void, which is taken for background. Labels that aren't in it are never
      predicted.
    protocol: of `PROTOCOLS`, or another.

  Yields:
    [H, W] uint8, one for each frame, be it one alone; the first is `first`, without void. An
    object that isn't seen any more may come back as long as a reference shows it.

  Raises:
    ValueError: no object in `first`, a label above 255, or features of another form or size than
      those before; names the frame.
  """
  first = _first(first)
  h, w = first.shape
  classes = int(first.max()) + 1
  cells = ops.cells_of(pad(first, protocol.stride), protocol, classes)
  for i, (_, labels) in enumerate(_run(features, cells, protocol, first.shape)):
    yield first if i == 0 else np.asarray(labels)[:h, :w].astype(np.uint8)


def propagate_cells(features: Iterable[np.ndarray], first: np.ndarray,
                    protocol: Protocol) -> Iterator[np.ndarray]:
  """Soft labels of the cells of all frames, for maps that aren't made of label maps.

  Args:
    features: [h, w, D] of each frame.
    first: [h, w, C] of frame 0.
    protocol: with soft feedback.

  Yields:
    [h, w, C] float32; the first is `first`.
  """
  if protocol.feedback != "soft":
    raise ValueError("propagate_cells: a protocol with feedback='hard' works on label maps; use "
                     "`propagate`, or feedback='soft'")
  if np.ndim(first) != 3:
    raise ValueError(f"propagate_cells: labels {np.shape(first)} should be [h, w, C]")
  for cells, _ in _run(features, ops.place(first), protocol, None):
    yield np.asarray(cells)


def pad(x: np.ndarray, stride: int) -> np.ndarray:
  """[H, W, ...] -> whole multiples of the stride, by repeating the last row and column."""
  pads = [(0, -n % stride) for n in x.shape[:2]] + [(0, 0)] * (x.ndim - 2)
  return np.pad(x, pads, mode="edge") if any(n for _, n in pads) else x


def _run(features, cells, protocol: Protocol, size):
  """Yields soft labels and, where `size` [H, W] is given, label maps of whole cells."""
  recent = collections.deque(maxlen=max(protocol.recent, default=0) or 1)
  fixed, shape, classes = {}, None, cells.shape[-1]
  for i, x in enumerate(features):
    x = _checked(x, i, shape, cells.shape[:2], size, protocol.stride)
    shape = x.shape
    query, labels = ops.prepare(x, protocol), None
    back = cells
    if i:
      numbers, valid = ops.references(protocol, i)
      known = fixed | dict(recent)
      # A reference that doesn't count still needs arrays of the right shape.
      used = [known[n] if v else recent[-1][1] for n, v in zip(numbers, valid, strict=True)]
      ages = np.array([i - n for n in numbers], np.int32)
      keys, values = zip(*used, strict=True)
      cells = back = ops.step(query, keys, values, valid, ages, protocol)
      if size is not None:
        labels = ops.labels_of(cells, protocol)
        if protocol.feedback == "hard":
          back = ops.cells_of(labels, protocol, classes)
    recent.append((i, (query, back)))
    if i in protocol.fixed or i == 0:
      fixed[i] = query, back
    yield cells, labels


def _first(first: np.ndarray) -> np.ndarray:
  first = np.asarray(first)
  if first.ndim != 2 or first.dtype.kind not in "iu" or not first.size:
    raise ValueError(f"frame 0: labels {first.dtype} {first.shape} should be integers [H, W]")
  first = np.where(first == VOID, 0, first)
  if first.min() < 0 or first.max() > VOID:
    raise ValueError(f"frame 0: labels from {first.min()} to {first.max()}; an indexed PNG holds "
                     "0 ... 254 and void 255, so number the objects anew")
  if not first.any():
    raise ValueError("frame 0: the label map shows no object; there is nothing to propagate. "
                     "Begin at a frame that shows one")
  return first.astype(np.uint8)


def _checked(x, i: int, shape, grid, size, stride: int) -> np.ndarray:
  x = np.asarray(x)
  if x.ndim != 3 or (shape is not None and x.shape != shape):
    raise ValueError(f"frame {i}: features {x.shape} should be "
                     f"{'[h, w, D]' if shape is None else f'{shape} as before'}")
  if x.shape[:2] != tuple(grid):
    of = f"{size[0]} x {size[1]} pixels at stride {stride}" if size else "the given labels"
    raise ValueError(f"frame {i}: features have {x.shape[0]} x {x.shape[1]} cells, {of} have "
                     f"{grid[0]} x {grid[1]}; set the protocol's stride to the encoder's")
  if not np.isfinite(x).all():
    raise ValueError(f"frame {i}: a feature isn't finite")
  return x
