"""Folders of pictures by class, numbered without leading zeros, as JPEG and as PNG."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "all"
OPTIONS = {"fps": 8.0, "by_class": True}

VIDEOS = {"run/first": ".jpg", "run/deep/er": ".png", "walk/a video": ".JPEG"}


def write(root: pathlib.Path) -> None:
  """Writes twelve pictures for each video."""
  for k, (place, suffix) in enumerate(VIDEOS.items()):
    material.jpegs(root / place, k, [f"frame{n}{suffix}" for n in range(1, 13)])
