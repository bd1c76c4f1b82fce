"""Videos of any length through an embedding, in few shapes and without holding them all."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

Embed = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]

SHORTEST = 8  # frames; the lengths that videos are padded to are this times a power of two
BLOCK_FRAMES = 64  # a block of n videos holds n videos of this length, or fewer of longer ones


@dataclasses.dataclass(frozen=True)
class Batch:
  """Embedded videos, padded to a common length and a common count.

  Attributes:
    ids: of the first rows; those after are fillers.
    video: [B, D].
    frames: [B, S, D]; S is T, or the number of clusters of an embedding that keeps no frames.
    length: [B] int32, how many of them are valid.
    weights: [B, S] at least 0, how much each counts in a mean over frames; None: all alike.
  """

  ids: tuple[str, ...]
  video: np.ndarray
  frames: np.ndarray
  length: np.ndarray
  weights: np.ndarray | None = None


def embed_videos(ids: Iterable[str], descriptors: Mapping[str, np.ndarray], embed: Embed,
                 block: int, missing: list[str]) -> Iterator[Batch]:
  """Embeds every video once, those of like length together, so not in the order of `ids`.

  Args:
    ids: distinct.
    descriptors: id -> [T, D].
    embed: `{"x": [B, T, D] float32, "length": [B] int32}` to `{"video", "frames", "length"}`,
      and "weights" where frames don't all count alike. T is a power of two, B too or as many as a
      block holds: one shape, and so one compilation, a length.
    block: videos of up to 64 frames in one batch; of longer ones as many as make so many frames.
    missing: grows by the ids that have no descriptor or no frame.

  Raises:
    ValueError: an array is of the wrong shape or not finite, or embedded frames aren't unit
      vectors; names the video.
  """
  waiting: dict[int, list] = {}
  filled = set()  # lengths of which there was a whole block: what remains takes its shape too
  first = None  # id and width of the first video
  for name in ids:
    x = descriptors[name] if name in descriptors else ()
    if not len(x):
      missing.append(name)
      continue
    if np.ndim(x) != 2 or not np.isfinite(x).all():
      raise ValueError(f"descriptors of {name!r} should be finite [T, D], are {np.shape(x)}"
                       f"{'' if np.isfinite(x).all() else ' with values that are not'}")
    first = first or (name, x.shape[1])
    if x.shape[1] != first[1]:
      raise ValueError(f"{name!r} has {x.shape[1]} features, {first[0]!r} has {first[1]}")
    frames = power_of_two(len(x), SHORTEST)
    group = waiting.setdefault(frames, [])
    group.append((name, x))
    if len(group) == _rows(frames, block):
      filled.add(frames)
      yield _embed(waiting.pop(frames), frames, len(group), embed)
  for frames, group in sorted(waiting.items()):
    rows = _rows(frames, block)
    if frames not in filled:
      rows = min(rows, power_of_two(len(group)))
    yield _embed(group, frames, rows, embed)


def power_of_two(n: int, least: int = 1) -> int:
  """The smallest one that is at least n and `least`: few sizes, and so few compilations."""
  return max(least, 1 << (n - 1).bit_length())


def _rows(frames: int, block: int) -> int:
  return max(1, min(block, block * BLOCK_FRAMES // frames))


def _embed(group: list[tuple[str, np.ndarray]], frames: int, rows: int, embed: Embed) -> Batch:
  ids = tuple(name for name, _ in group)
  x = np.zeros((rows, frames, group[0][1].shape[1]), np.float32)
  length = np.empty(rows, np.int32)
  for i in range(rows):  # fillers repeat the first video, since no model takes an empty one
    y = group[i if i < len(group) else 0][1]
    x[i, :len(y)], length[i] = y, len(y)
  out = embed({"x": x, "length": length})
  if not {"video", "frames", "length"} <= set(out):
    raise ValueError(f"embed gave {sorted(out)}; retrieval needs 'video', 'frames' and 'length'")
  video, frames_out = (np.asarray(out[key], np.float32) for key in ("video", "frames"))
  valid = np.asarray(out["length"], np.int32)
  if (video.ndim, frames_out.ndim, valid.ndim) != (2, 3, 1) or not (
      len(video) == len(frames_out) == len(valid) == rows and valid.max() <= frames_out.shape[1]):
    raise ValueError(f"embed gave video {video.shape}, frames {frames_out.shape} and lengths "
                     f"{valid.tolist()} for x {x.shape}: should be [B, D], [B, S, D] and up to S")
  weights = np.asarray(out["weights"], np.float32) if "weights" in out else None
  if weights is not None and weights.shape != frames_out.shape[:2]:
    raise ValueError(f"embed gave weights {weights.shape} for frames {frames_out.shape}")
  for i, name in enumerate(ids):
    _check(name, video[i], frames_out[i, :valid[i]])
    if weights is not None:
      _check_weights(name, weights[i, :valid[i]])
  return Batch(ids, video, frames_out, valid, weights)


def _check(name: str, video: np.ndarray, frames: np.ndarray) -> None:
  norms = np.linalg.norm(frames, axis=-1)
  if not (np.isfinite(norms).all() and np.isfinite(video).all()):
    raise ValueError(f"the embedding of {name!r} isn't finite")
  # A blank frame may stay zero; the margin is for embeddings in half precision.
  off = np.abs(norms - 1) > 0.02
  if np.any(off & (norms > 1e-6)):
    raise ValueError(f"embedded frames of {name!r} have norms up to {norms.max():.3g}: chamfer "
                     "similarity needs unit vectors, so normalise them in `embed`")


def _check_weights(name: str, weights: np.ndarray) -> None:
  if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
    raise ValueError(f"the frame weights of {name!r} should be finite, at least 0 and not all 0")
