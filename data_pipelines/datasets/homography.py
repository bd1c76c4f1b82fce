"""Real pictures moved by known homographies: clips in which every point's place is known exactly.

Each picture, first frame of a video, or first frame of a sequence of DAVIS below a folder becomes a
clip, as of a camera that is moved, turned and tilted before a flat picture. The truth is good for
key point evaluation where no real tracks are at hand. What it doesn't have: parallax, occlusion,
changes of light, things that move by themselves.
"""

import fnmatch
import functools
import io
import logging
import math
import pathlib
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.datasets import davis, folder, frames, held_out, layout, walk
from data_pipelines.datasets.numbered import LazyRecords
from data_pipelines.errors import DataError, VideoError
from data_pipelines.media import open_media
from data_pipelines.records import Dataset, Record

SPLITS = held_out.SPLITS
PREPARED = ("all",)

LEAST = 32  # pixels of a picture's shorter side
# Largest shift (x, y; in half sides of a frame), turn (radians), log of the zoom, and tilt (x, y).
AMPLITUDES = np.array([0.25, 0.25, 0.35, 0.22, 0.12, 0.12])
CYCLES = 0.3, 0.8  # of each of them in a clip
EDGE = 2  # pixels that points stay away from the frames' borders

logger = logging.getLogger(__name__)


class Settings(NamedTuple):
  """Of `read`."""

  frames: int
  points: int
  seed: int
  size: int
  strength: float


class Motion(NamedTuple):
  """How one picture moves.

  Attributes:
    homographies: float64 [T, 3, 3], from frame t's (x, y, 1) to that of the picture.
    shape: (height, width) to which the picture is shrunk before, so that a frame's pixels and its
      own are about as large.
  """

  homographies: np.ndarray
  shape: tuple[int, int]


def read(root: str, split: str = "all", *, allow_missing: bool = False, frames: int = 16,
         points: int = 12, seed: int = 0, size: int = 256, strength: float = 1.0,
         each: bool = False, pattern: str = "*", holdout: float = 0.2,
         holdout_seed: int = 0) -> Dataset:
  """Makes a clip of everything below `root` that shows something.

  Ids are paths relative to `root` ("." for pictures in `root` itself), or names of DAVIS's
  sequences where `root` holds `JPEGImages`. A
  clip is made when its record is asked for, of encoded pictures in memory (PNG), and depends on the
  picture, its id and the arguments alone. `truth` has "points" [T, P, 2], (x, y) in pixels, and
  "visible" [T, P], True throughout.

  Args:
    root: a folder of videos, of pictures, of folders of pictures, or of DAVIS.
    split: "all", "train" or "heldout", as of `folder`.
    allow_missing: leave out, with a warning, what can't be read.
    frames: T.
    points: P of each clip: corners, in the first frame at whole pixels.
    seed: of the motions.
    size: height and width of the frames.
    strength: of the motions: 0 for none, 1 for up to 1/8 of the side, 20 degrees, a zoom of 1.25
      and a tilt that makes one side 1.27 times as long as the other; at most 2.
    each: every picture is a clip, not just the first one of each folder.
    pattern: of the names of pictures to use, as in a shell.
    holdout, holdout_seed: the share held out, and of which.

  Raises:
    DataError: a setting is out of range; nothing is found; something can't be read or is smaller
      than 32 pixels.
  """
  layout.check_split("homography", split, SPLITS)
  settings = Settings(frames, points, seed, size, strength)
  _check(settings)
  place = layout.root_folder("homography", root)
  sources, bad = [], []
  found = list(_sources(place, each, pattern))
  kept = held_out.part([source.id for source in found], split, holdout, holdout_seed, "homography")
  for source in found:
    if source.id not in kept:
      continue
    try:
      first_frame(source)
      sources.append(source)
    except VideoError as e:
      bad.append((source.id, e))
  if bad:
    message = (f"homography: {len(bad)} of {len(bad) + len(sources)} can't be used, first: "
               f"{bad[0][1]}")
    if not allow_missing:
      raise DataError(f"{message}; remove it, or pass allow_missing=True (--allow_missing) to go "
                      "on without")
    logger.warning("%s; going on without", message)
  records = LazyRecords(functools.partial(_record, settings), sources)
  return Dataset("homography", split, records, missing=tuple(sorted(i for i, _ in bad)),
                 note="Real pictures moved by known homographies; nothing moves by itself.")


def first_frame(source: Record) -> np.ndarray:
  """uint8 [H, W, 3] of what a clip is made of."""
  with open_media(source) as media:
    image = media.frames([0])[0]
  if min(image.shape[:2]) < LEAST:
    raise VideoError(source.frames[0] if source.frames else source.video,
                     f"has {image.shape[1]}x{image.shape[0]} pixels; at least {LEAST} a side are "
                     "needed")
  return image


def plan(shape: tuple[int, int], rng: np.random.Generator, n_frames: int, size: int,
         strength: float) -> Motion:
  """Smooth random homographies that keep all frames inside a picture of (height, width) `shape`.

  Every parameter of the motion is a piece of a sine over time.
  """
  time = np.linspace(0, 1, n_frames)[:, None]
  cycles, phase = rng.uniform(*CYCLES, 6), rng.uniform(0, 1, 6)
  x, y, turn, zoom, *tilt = (strength * AMPLITUDES * np.sin(
      2 * np.pi * (cycles * time + phase))).T
  one, zero = np.ones(n_frames), np.zeros(n_frames)
  a, b = np.exp(zoom) * np.cos(turn), np.exp(zoom) * np.sin(turn)
  moved = _matrices([[a, -b, x], [b, a, y], [zero, zero, one]])
  moved = moved @ _matrices([[one, zero, zero], [zero, one, zero], [*tilt, one]])
  # Frames are [-1, 1] a side here; they reach over this part of the plane:
  reach = apply(moved, np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], float))
  low, high = reach.min((0, 1)), reach.max((0, 1))
  side = np.array(shape[::-1], float)
  unit = ((side - 1) / (high - low)).min()  # the most pixels of the picture that 1 may be
  shrink = min(1.0, size / 2 / unit)
  small = np.round(side * shrink)
  unit = ((small - 1) / (high - low)).min()
  free = small - 1 - unit * (high - low)
  start = free * rng.uniform(0, 1, 2) - unit * low
  to_picture = np.array([[unit, 0, start[0]], [0, unit, start[1]], [0, 0, 1]])
  middle, half = (size - 1) / 2, size / 2
  from_frame = np.array([[1 / half, 0, -middle / half], [0, 1 / half, -middle / half], [0, 0, 1]])
  return Motion(to_picture @ moved @ from_frame, (int(small[1]), int(small[0])))


def apply(homographies: np.ndarray, points: np.ndarray) -> np.ndarray:
  """[T, 3, 3] and [N, 2] or [T, N, 2] points (x, y) -> [T, N, 2]."""
  homogeneous = np.concatenate([points, np.ones_like(points[..., :1])], -1)
  moved = homogeneous @ np.swapaxes(homographies, -1, -2)
  return moved[..., :2] / moved[..., 2:]


def warp(image: np.ndarray, homography: np.ndarray, size: int) -> np.ndarray:
  """A frame uint8 [size, size, 3]: each pixel is the mean of four bilinear samples within it.

  Args:
    image: [H, W, 3].
    homography: [3, 3], from the frame's pixels to those of the image.
  """
  h, w = image.shape[:2]
  total = 0.0
  for dy in (-0.25, 0.25):
    for dx in (-0.25, 0.25):
      x, y = apply(homography[None], _grid(size) + (dx, dy))[0].T
      x, y = np.clip(x, 0, w - 1), np.clip(y, 0, h - 1)  # `plan` keeps inside, but for rounding
      x0, y0 = np.minimum(x.astype(int), w - 2), np.minimum(y.astype(int), h - 2)
      fx, fy = (x - x0)[:, None], (y - y0)[:, None]
      above = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
      below = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
      total = total + above * (1 - fy) + below * fy
  return (total / 4 + 0.5).astype(np.uint8).reshape(size, size, 3)


def corners(image: np.ndarray) -> np.ndarray:
  """Shi and Tomasi's response [H, W]: how much the picture changes in its stiller direction."""
  grey = image.astype(np.float64) @ (0.299, 0.587, 0.114)
  gy, gx = np.gradient(grey)
  xx, yy, xy = (_box(p) for p in (gx * gx, gy * gy, gx * gy))
  return (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy ** 2)


def choose(response: np.ndarray, homographies: np.ndarray, count: int) -> np.ndarray:
  """The places in all frames [T, P, 2] of the P strongest corners of the first one.

  They stay in the picture, and lie as far from each other as their number allows.
  """
  size = len(response)
  at = _grid(size)
  places = apply(np.linalg.inv(homographies), apply(homographies[:1], at)[0])
  inside = ((places >= EDGE) & (places <= size - 1 - EDGE)).all((0, 2))
  apart = size / (2 * math.sqrt(count))
  while True:
    left, found = np.where(inside, response.ravel(), -np.inf), []
    while len(found) < count and np.isfinite(left.max()):
      found.append(int(left.argmax()))
      left[((at - at[found[-1]]) ** 2).sum(-1) < apart ** 2] = -np.inf
    if len(found) == count:
      return places[:, found]
    if apart < 1:
      raise DataError(f"homography: {count} points don't fit where all frames overlap; lower "
                      "points or strength, or raise size")
    apart /= 2


def _record(settings: Settings, source: Record) -> Record:
  """The clip of one source."""
  image = first_frame(source)
  rng = np.random.default_rng([settings.seed, zlib.crc32(source.id.encode())])
  motion = plan(image.shape[:2], rng, settings.frames, settings.size, settings.strength)
  if motion.shape != image.shape[:2]:
    image = np.asarray(Image.fromarray(image).resize(motion.shape[::-1], Image.Resampling.LANCZOS))
  clip = [warp(image, h, settings.size) for h in motion.homographies]
  points = choose(corners(clip[0]), motion.homographies, settings.points)
  return Record(source.id, frames=tuple(map(_png, clip)), truth={
      "points": points.astype(np.float32), "visible": np.ones(points.shape[:2], bool)})


def _sources(place: pathlib.Path, each: bool, pattern: str) -> list[Record]:
  """What clips are made of, one frame each, sorted."""
  if (place / "JPEGImages").is_dir():
    data = davis.read(str(place), "all", allow_missing=True)
    return _some(place, {r.id: {"frames": r.frames[:1]} for r in data.records})
  found = {folder.video_id(path, place): {"video": str(path)}
           for path in folder.list_videos(place, key="homography")}
  for below, names in walk.folders(place):
    pictures = [name for name in names if name.lower().endswith(walk.PICTURES)
                and fnmatch.fnmatchcase(name, pattern)]
    if each:
      paths = [place / below / name for name in pictures]
      found |= {folder.video_id(path, place): {"frames": (str(path),)} for path in paths}
    elif pictures:
      inside = str(place / below)
      first = frames.paths(inside, frames.ordered(inside, pictures))[:1]
      found[walk.printable(below or ".")] = {"frames": first}
  return _some(place, found)


def _some(place: pathlib.Path, found: dict) -> list[Record]:
  if not found:
    raise walk.nothing_found("homography", place, "videos or pictures", "some")
  return [Record(id_, **what) for id_, what in sorted(found.items())]


def _check(settings: Settings) -> None:
  for name, least in (("frames", 1), ("points", 1), ("seed", 0), ("size", 16), ("strength", 0)):
    if not getattr(settings, name) >= least:
      raise DataError(f"homography: {name}={getattr(settings, name)} should be at least {least}")
  if settings.strength > 2:
    raise DataError(f"homography: strength={settings.strength} should be at most 2")


def _matrices(rows) -> np.ndarray:
  """3 x 3 arrays over time -> [T, 3, 3]."""
  return np.moveaxis(np.array(rows), -1, 0)


def _grid(size: int) -> np.ndarray:
  """(x, y) of the pixels of a frame, row by row: float64 [size^2, 2]."""
  y, x = np.mgrid[:size, :size]
  return np.stack([x.ravel(), y.ravel()], -1).astype(np.float64)


def _box(x: np.ndarray, reach: int = 2) -> np.ndarray:
  """Means over 5 x 5 pixels, edges repeated."""
  x, side = np.pad(x, reach, mode="edge"), 2 * reach + 1
  x = sum(x[i:len(x) - 2 * reach + i] for i in range(side))
  return sum(x[:, i:x.shape[1] - 2 * reach + i] for i in range(side)) / side ** 2


def _png(image: np.ndarray) -> bytes:
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG", compress_level=1)
  return file.getvalue()
