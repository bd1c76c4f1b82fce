"""UCF101: three classes, one of which is spelt in another way in its videos' names."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "train1"
OPTIONS = {"allow_missing": True}  # it is smaller than the published set

CLASSES = ("HandstandPushups", "JumpingJack", "JumpRope")
# Video -> which of the three splits tests on it.
VIDEOS = {"v_HandStandPushups_g01_c01": 1, "v_HandStandPushups_g08_c02": 2,
          "v_JumpingJack_g02_c01": 1, "v_JumpingJack_g25_c04": 3, "v_JumpRope_g01_c10": 2}


def folder(video: str) -> str:
  """The class folder of a video."""
  return next(name for name in CLASSES if name.lower() == video.split("_")[1].lower())


def write(root: pathlib.Path) -> None:
  """Writes videos and split files."""
  for k, video in enumerate(VIDEOS):
    material.video(root / "UCF-101" / folder(video) / f"{video}.avi", seed=k, fps=25)
  write_lists(root / "ucfTrainTestlist")


def write_lists(place: pathlib.Path) -> None:
  """Writes classInd.txt, trainlist01.txt, testlist01.txt, ..."""
  place.mkdir(parents=True, exist_ok=True)
  rows = [f"{k} {name}" for k, name in enumerate(CLASSES, 1)]
  (place / "classInd.txt").write_text("\r\n".join([*rows, ""]))
  for number in (1, 2, 3):
    train = [f"{folder(v)}/{v}.avi {CLASSES.index(folder(v)) + 1}"
             for v, test in VIDEOS.items() if test != number]
    test = [f"{folder(v)}/{v}.avi" for v, test in VIDEOS.items() if test == number]
    for kind, lines in (("train", train), ("test", test)):
      (place / f"{kind}list0{number}.txt").write_text("\n".join([*lines, ""]))
