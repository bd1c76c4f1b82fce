"""A plain folder of videos of all kinds, by class."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "all"
OPTIONS = {"by_class": True}

VIDEOS = ("cats/a.mp4", "cats/more/b.AVI", "dogs & co/ä.mkv", "dogs & co/d.webm")


def write(root: pathlib.Path) -> None:
  """Writes the videos, and a text that is none."""
  for k, name in enumerate(VIDEOS):
    path = root / name
    material.video(path.with_suffix(path.suffix.lower()), seed=k)
    path.with_suffix(path.suffix.lower()).rename(path)
  (root / "cats" / "readme.txt").write_text("no video")
