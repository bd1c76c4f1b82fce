"""Kinetics-400 with official lists: three classes, of which one has brackets and an apostrophe.

Class folders of `train` have _ for spaces, those of `val` lie in val_256; one listed video of
`train` is missing. The test list has no labels, its videos no class folders.
"""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "train"
OPTIONS = {"allow_missing": True}  # it has three of the 400 classes

CLASSES = ("massaging person's head", "riding a bike", "shooting goal (soccer)")
TRAIN = {"-3B32lodo2M": (0, 59), "_under_scor": (1, 5), "aBcDeFgHiJ2": (1, 0),
         "ABCDEFGHIJ3": (2, 120), "gone-gone-0": (0, 1)}  # id -> class, second
VAL = {"0123456789A": (0, 10), "zZzZzZzZz-_": (1, 1203)}
TEST = {"11111111111": (0, 3)}
MISSING = "gone-gone-0_000001_000011"


def name(id_: str, start: int) -> str:
  """The official name of a clip, without suffix."""
  return f"{id_}_{start:06d}_{start + 10:06d}"


def write(root: pathlib.Path) -> None:
  """Writes lists and videos."""
  write_lists(root)
  for k, (id_, (label, start)) in enumerate(TRAIN.items()):
    if id_ != "gone-gone-0":
      folder = root / "train" / CLASSES[label].replace(" ", "_")
      material.video(folder / f"{name(id_, start)}{'.mkv' if k == 1 else '.mp4'}", seed=k)
  for k, (id_, (label, start)) in enumerate(VAL.items()):
    material.video(root / "val_256" / CLASSES[label] / f"{name(id_, start)}.mp4", seed=10 + k)
  for k, (id_, (_, start)) in enumerate(TEST.items()):
    material.video(root / "test" / f"{name(id_, start)}.mp4", seed=20 + k)


def write_lists(folder: pathlib.Path) -> None:
  """Writes train.csv, validate.csv and test.csv."""
  folder.mkdir(parents=True, exist_ok=True)
  for split, videos in (("train", TRAIN), ("validate", VAL)):
    rows = [f"{CLASSES[label]},{id_},{start},{start + 10},{split},0"
            for id_, (label, start) in videos.items()]
    _write(folder / f"{split}.csv", "label,youtube_id,time_start,time_end,split,is_cc", rows)
  _write(folder / "test.csv", "youtube_id,time_start,time_end,split",
         [f"{id_},{start},{start + 10},test" for id_, (_, start) in TEST.items()])


def _write(path, header, rows):
  path.write_text("\r\n".join([header, *rows, ""]))
