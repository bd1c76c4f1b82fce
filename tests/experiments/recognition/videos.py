"""Labelled videos that lose nothing in their files, and the settings of what reads them."""

import pathlib

import ml_collections
import numpy as np

from data_pipelines.records import Dataset, Record
from tests.data_pipelines import clips

FPS, FRAMES, HEIGHT, WIDTH = 4, 12, 16, 24
AUGMENT = dict(area=(0.5, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8, grey_p=0.2,
               sigma=(0.1, 2.0), blur_p=0.5, flip_p=0.5)


def frames(k: int) -> np.ndarray:
  """The frames of video k, uint8 [T, H, W, 3]; video k begins with the number 20 k."""
  return clips.numbered(FRAMES, HEIGHT, WIDTH, first=20 * k)


def write(path: pathlib.Path, k: int) -> str:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(clips.encode(frames(k), "matroska", "ffv1", "bgr0", fps=FPS))
  return str(path)


def dataset(folder: pathlib.Path, labels) -> Dataset:
  """A video for each label, -1 for none."""
  records = [Record(f"v{k}", write(folder / f"v{k}.mkv", k), label=label)
             for k, label in enumerate(labels)]
  return Dataset("some", "test", records, ("a", "b", "c"))


def training(kind: str, **changes) -> ml_collections.ConfigDict:
  """The group `views` of a run."""
  own = (dict(candidates=2, distinct=True) if kind == "frames"
         else dict(clips=3, frames=4, stride=2, fps=0.0, short="hold"))
  return ml_collections.ConfigDict(
      dict(name=kind, recipe="contrast", size=8, short_side=0, augment=dict(AUGMENT))
      | own | changes)


def views(kind: str, **changes) -> ml_collections.ConfigDict:
  """The group `views` of an evaluation."""
  own = dict(frames=1, stride=1) if kind == "frames" else dict(frames=4, stride=2, short="hold")
  return ml_collections.ConfigDict(
      dict(clips=2, fps=0.0, size=16, short_side=16, crops=1) | own | changes)
