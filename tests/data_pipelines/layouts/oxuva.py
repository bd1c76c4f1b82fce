"""OxUvA in small: two videos of dev and one of test, pictures counted from 0."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "dev"
OPTIONS = {"allow_missing": True}
VIDEOS = {"vid0000": ("dev", 1, 12), "vid0029": ("dev", 2, 9), "vid0003": ("test", 3, 10)}


def write(root: pathlib.Path) -> None:
  for name, (part, seed, n_frames) in VIDEOS.items():
    material.jpegs(root / "images" / part / name, seed, [f"{t:06d}.jpeg" for t in range(n_frames)])
