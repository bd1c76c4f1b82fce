"""CC_WEB_VIDEO: `Videos/QUERYSET/QUERYSET_NUMBER_SOURCE.*`; two query sets, one video not there."""

import pathlib

from tests.data_pipelines.layouts import material
from tests.data_pipelines.layouts.vcdb import write_lists

SPLIT = "all"
OPTIONS = {"allow_missing": True}

NAMES = (None, "1_1_Y", "1_2_G", "1_3_H", None, "2_1_Y", "2_2_Y")  # number 4 isn't in the database
LISTS = {"names": NAMES, "queries": ["1_1_Y", "2_2_Y"],
         "labels": [{"1": "E", "2": "V", "3": "X", "4": "S"}, {"5": "x", "6": "E"}],
         "excluded": [[2], []]}


def write(root: pathlib.Path) -> None:
  """Writes the set."""
  for seed, name in enumerate(filter(None, NAMES)):
    suffix = (".flv", ".avi", ".wmv", ".mpg", ".mp4")[seed]
    material.video(root / "Videos" / name[0] / f"{name}{suffix}", seed, fps=25)
  write_lists(root / "annotations", LISTS, "cc_web_video")
