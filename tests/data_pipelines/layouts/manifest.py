"""A csv list of videos, parts of videos, a folder of pictures and a picture."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "all"
OPTIONS = {"fps": 8.0}

ROWS = """path,start,end,label,split,text,width
videos/a.mp4,,,sleeping,train,"a cat, asleep",64
videos/b.avi,0.5,1.25,cooking,train,,64
videos/b.avi,1.25,,sleeping,val,,64
pictures/c,,,cooking,val,soup,64
"""


def write(root: pathlib.Path) -> None:
  """Writes the list and what it lists."""
  material.video(root / "videos" / "a.mp4", seed=0)
  material.video(root / "videos" / "b.avi", seed=1, n_frames=16)
  material.jpegs(root / "pictures" / "c", 2, [f"{n}.jpg" for n in range(8, 20)])
  (root / "manifest.csv").write_text(ROWS)
