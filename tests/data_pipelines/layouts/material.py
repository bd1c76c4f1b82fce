"""Rendered clips, pictures and label maps that the small data sets of the tests are made of.

The same arguments give the same pixels, so a test can ask for what a file was made from:
`clip(seed)` are the frames of `video(path, seed)` and of `jpegs(folder, seed, names)`, and
`truth(seed)` is where the objects are in them.
"""

import functools
import os
import pathlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from data_pipelines.encode import write_mp4
from data_pipelines.render import APPEARANCES, MOTIONS, SceneSpec, Truth, render_scene

N_OBJECTS = 3
# The codecs in which data sets have such files; mp4 goes through `encode`.
CODECS = {".avi": "mpeg4", ".mkv": "libx264", ".mov": "libx264", ".webm": "libvpx", ".flv": "flv",
          ".wmv": "wmv2", ".mpg": "mpeg2video"}
# The palette of the DAVIS and PASCAL VOC label maps: the bits of the label spread over R, G and B.
PALETTE = [sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3))
           for label in range(256) for channel in range(3)]


def clip(seed: int, n_frames: int = 12, size: tuple[int, int] = (48, 64),
         fps: float = 8) -> np.ndarray:
  """The frames of a rendered scene, uint8 [T, H, W, 3], read-only; `size` is (height, width)."""
  return _scene(seed, n_frames, size, fps)[0]


def truth(seed: int, n_frames: int = 12, size: tuple[int, int] = (48, 64),
          fps: float = 8) -> Truth:
  """Where the three objects of `clip` with the same arguments are.

  Its `labels` are masks uint8 [T, H, W] (0 ground, 1 to 3 objects), `boxes` float32 [T, 3, 4],
  `points` float32 [T, 3, P, 2], `visible` bool [T, 3, P]; pixels are counted from 0.
  """
  return _scene(seed, n_frames, size, fps)[1]


def video(path: str | os.PathLike, seed: int, n_frames: int = 12, size: tuple[int, int] = (48, 64),
          fps: float = 8) -> None:
  """Writes `clip` as a video of the kind that the path's suffix names; makes its folder."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  frames = clip(seed, n_frames, size, fps)
  if path.suffix == ".mp4":
    write_mp4(path, frames, fps)
    return
  with av.open(str(path), "w") as file:
    stream = file.add_stream(CODECS[path.suffix], rate=Fraction(fps).limit_denominator(1000))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    for frame in frames:
      file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    file.mux(stream.encode())


def jpegs(folder: str | os.PathLike, seed: int, names: Sequence[str],
          size: tuple[int, int] = (48, 64), fps: float = 8) -> None:
  """Writes the frames of `clip` with `len(names)` frames as pictures, JPEG or what a name says."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  for name, frame in zip(names, clip(seed, len(names), size, fps), strict=True):
    kind = None if name.lower().endswith((".png", ".jpg", ".bmp")) else "JPEG"
    Image.fromarray(frame).save(folder / name, kind)


def masks(folder: str | os.PathLike, seed: int, names: Sequence[str],
          size: tuple[int, int] = (48, 64), fps: float = 8) -> None:
  """Writes `truth(...).labels` of the same frames as `jpegs`, as indexed PNGs with a palette."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  for name, labels in zip(names, truth(seed, len(names), size, fps).labels, strict=True):
    image = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    image.putpalette(PALETTE)
    image.save(folder / name)


@functools.lru_cache(maxsize=64)
def _scene(seed, n_frames, size, fps):
  spec = SceneSpec(seed=seed, appearance=seed % len(APPEARANCES), motion=seed % len(MOTIONS),
                   height=size[0], width=size[1], n_frames=n_frames, fps=fps, n_objects=N_OBJECTS)
  frames, known = render_scene(spec)
  frames.setflags(write=False)
  return frames, known
