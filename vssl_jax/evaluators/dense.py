"""Features of single frames for propagation, and the floor that needs no learning."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from vssl_jax.evaluators.propagation import pad

Embed = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]


class Kept(Protocol):
  """What an evaluation that was interrupted has found: a dict, or files. Id -> arrays by name."""

  def get(self, name: str) -> Mapping[str, np.ndarray] | None:
    """None for what isn't there."""

  def __setitem__(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keeps what was found."""


@contextlib.contextmanager
def named(record: Any):
  """Errors in it begin with the record's id."""
  try:
    yield
  except ValueError as e:
    raise ValueError(f"{record.id}: {e}") from e


def features_of(frames: Iterable[np.ndarray], embed: Embed, stride: int) -> Iterator[np.ndarray]:
  """Features [h, w, D] of each frame, made when they are asked for.

  Args:
    frames: uint8 [H, W, 3], all of one size.
    embed: `{"image": uint8 [1, H', W', 3]}` to `{"features": [1, h, w, D]}`; H' W' are H W made
      multiples of the stride by repeating the last row and column.
    stride: pixels between cells.
  """
  for frame in checked_frames(frames):
    out = embed({"image": pad(frame, stride)[None]})
    if "features" not in out or np.ndim(out["features"]) != 4:
      found = {name: np.shape(x) for name, x in out.items()}
      raise ValueError(f"embed gave {found}; propagation needs 'features' [1, h, w, D]")
    yield np.asarray(out["features"])[0]


def checked_frames(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
  """Passes frames on, see `checked`."""
  size = None
  for i, frame in enumerate(frames):
    frame = checked(frame, i, size)
    size = frame.shape[:2]
    yield frame


def checked(frame: np.ndarray, i: int, size: tuple[int, int] | None = None) -> np.ndarray:
  """Frame i of a video, uint8 [H, W, 3]; a ValueError where it isn't, or not of this H, W."""
  frame = np.asarray(frame)
  if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8 or not frame.size:
    raise ValueError(f"frame {i}: {frame.dtype} {frame.shape} should be uint8 [H, W, 3]")
  if size is not None and frame.shape[:2] != size:
    raise ValueError(f"frame {i} is {frame.shape[0]} x {frame.shape[1]} pixels, the first "
                     f"{size[0]} x {size[1]}; resize or crop the frames of a video alike")
  return frame


def lab_blocks(cell: int = 8, reach: int = 2, *, centre: bool = True) -> Embed:
  """The floor: an `embed` whose features are the colours around a cell, nothing learned.

  Each cell's mean Lab colour, less the frame's, and those of its neighbours up to `reach` cells
  away, edges repeated; to be compared by cosine.

  Args:
    cell: pixels a side of a cell, the protocol's stride.
    reach: 2 for blocks of 5 x 5 cells.
    centre: False leaves the frame's mean in. All colours then lie within a narrow cone, about
      their lightness, so that cosines hardly differ: a weaker floor.
  """
  def embed(inputs):
    return {"features": np.stack([_blocks(x, cell, reach, centre) for x in inputs["image"]])}
  return embed


def cosine(embed: Embed, temperature: float = 0.05) -> Embed:
  """Features of length 1 / sqrt(temperature): their dot product is the cosine over it."""
  def scaled(inputs):
    x = np.asarray(embed(inputs)["features"], np.float32)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return {"features": x / np.maximum(length, 1e-12) * np.float32(temperature**-0.5)}
  return scaled


def _blocks(image: np.ndarray, cell: int, reach: int, centre: bool) -> np.ndarray:
  h, w = (n // cell for n in image.shape[:2])
  x = lab(image[:h * cell, :w * cell]).reshape(h, cell, w, cell, 3).mean((1, 3))
  x = x - x.mean((0, 1)) if centre else x
  x = np.pad(x, [(reach, reach), (reach, reach), (0, 0)], mode="edge")
  side = range(2 * reach + 1)
  return np.concatenate([x[i:i + h, j:j + w] for i in side for j in side], -1)


def lab(rgb: np.ndarray) -> np.ndarray:
  """uint8 [..., 3] -> CIE Lab float32 [..., 3], white point D65, sRGB's curve."""
  levels = np.arange(256) / 255
  linear = np.where(levels > 0.04045, ((levels + 0.055) / 1.055) ** 2.4, levels / 12.92)
  to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169],
                     [0.019334, 0.119193, 0.950227]])
  to_xyz = to_xyz / np.array([[0.950456], [1.0], [1.088754]])
  xyz = linear.astype(np.float32)[rgb] @ to_xyz.T.astype(np.float32)
  f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
  return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]),
                   200 * (f[..., 1] - f[..., 2])], -1).astype(np.float32)
