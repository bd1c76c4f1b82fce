"""Pictures and videos of which each makes one short clip."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "all"
OPTIONS = {"frames": 6, "size": 32, "points": 3}


def write(root: pathlib.Path) -> None:
  """Two videos and two folders of pictures."""
  for k, name in enumerate(("a.mp4", "deep/b.mp4")):
    material.video(root / name, k, n_frames=4)
  for k, name in enumerate(("c", "deep/d"), start=2):
    material.jpegs(root / name, k, ["1.jpg", "2.jpg"])
