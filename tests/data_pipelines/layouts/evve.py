"""EVVE: videos by YouTube id in folders of events; two events, one video relevant to nothing."""

import pathlib

from tests.data_pipelines.layouts import material
from tests.data_pipelines.layouts.vcdb import write_lists

SPLIT = "all"
OPTIONS = {"allow_missing": True}

EVENTS = {
  "strokkur+geyser": {"queries": ["geyser-q--0", "geyser-q--1"],
                      "positives": ["geyser-p--0", "geyser-p--1"], "negatives": []},
  "dsk+arrested": {"queries": ["arrest-q--0"], "positives": ["arrest-p--0"], "negatives": []}}
LISTS = {"queries": ["arrest-q--0", "geyser-q--0", "geyser-q--1"],
         "database": ["geyser-p--1", "nothing---0", "arrest-p--0", "geyser-p--0"],
         "events": EVENTS}


def write(root: pathlib.Path) -> None:
  """Writes the set."""
  for seed, name in enumerate([*LISTS["queries"], *LISTS["database"]]):
    event = "strokkur+geyser" if name.startswith("geyser") else "dsk+arrested"
    material.video(root / event / f"{name}.mp4", seed)
  write_lists(root / "annotations", LISTS, "evve")
