"""FIVR: videos by YouTube id, some in sub-folders, some as yt-dlp names them; most links alive."""

import gzip
import pathlib

from tests.data_pipelines.layouts import material
from tests.data_pipelines.layouts.vcdb import write_lists

SPLIT = "200k"
OPTIONS = {"allow_missing": True}

IDS = ("q0-query-id", "q1_query_id", "d0000000000", "d1111111111", "-2222222222", "d3333333333",
       "gone-video4")
MISSING = ("gone-video4",)
ANNOTATION = {
  "q0-query-id": {"ND": ["d0000000000", "gone-video4"], "DS": ["d1111111111"],
                  "DA": ["outside-id0"]},
  "q1_query_id": {"CS": ["-2222222222"], "IS": ["q1_query_id", "d1111111111"]}}
LATEST = ANNOTATION | {"q0-query-id": {"ND": ["d0000000000"], "DA": ["d3333333333"]}}
LISTS = {"queries_200k": ["q0-query-id", "q1_query_id"], "queries_5k": ["q1_query_id"],
         "database_5k": ["-2222222222", "d0000000000", "gone-video4"], "annotation": ANNOTATION,
         "annotation_official_latest": LATEST, "easy_duplicates": ["d0000000000"]}
FILES = {"q0-query-id": "videos/q0-query-id.mp4", "q1_query_id": "videos/q1_query_id.webm",
         "d0000000000": "videos/part1/d0000000000.mkv", "d1111111111": "d1111111111.flv",
         "-2222222222": "videos/A title [of sorts] [-2222222222].mp4",
         "d3333333333": "videos/part1/d3333333333.mp4"}


def write(root: pathlib.Path) -> None:
  """Writes the set."""
  for seed, path in enumerate(FILES.values()):
    material.video(root / path, seed)
  write_lists(root / "annotations", LISTS, "fivr")
  text = "".join(f"{i}\n" for i in IDS).encode()
  (root / "annotations" / "fivr_200k_ids.txt.gz").write_bytes(gzip.compress(text))
