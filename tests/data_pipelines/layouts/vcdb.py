"""VCDB: core videos by search term, background videos in numbered folders, lists as JSON.

Five core videos in two groups: two chains of pairs (0-1, 2-1) and one pair (3-4). Seven background
videos: one is listed twice, one is not a distractor.
"""

import gzip
import hashlib
import json
import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "all"
OPTIONS = {"allow_missing": True}  # it is smaller than the published set

FOLDERS = ("baggio_penalty_1994",) * 3 + ("zidane_headbutt",) * 2
CORE = tuple(hashlib.sha1(f"core {i}".encode()).hexdigest() for i in range(5))
PAIRS = ((0, 1), (2, 1), (3, 4))
BACKGROUND = ("-dashFirst0", "_underscor1", "aBcDeFgHiJ2", "ABCDEFGHIJ3", "0123456789A",
              "zZzZzZzZz-_", "unused--id6")
LISTED = (*BACKGROUND[:3], BACKGROUND[1], *BACKGROUND[3:])  # the second comes twice
LISTS = {"core": CORE, "pairs": PAIRS, "overlap": [[0.5, 2.0]] * 3, "background": LISTED,
         "not_used_as_negative": [LISTED.index("unused--id6")]}


def write(root: pathlib.Path) -> None:
  """Writes the set; copies show the same scene, at other sizes and lengths."""
  for i, (name, place) in enumerate(zip(CORE, FOLDERS, strict=True)):
    suffix = ".flv" if i % 2 else ".mp4"
    material.video(root / "core_dataset" / place / f"{name}{suffix}", seed=FOLDERS.index(place),
                   n_frames=12 + 4 * i, size=(48, 64) if i % 2 else (64, 48))
  for i, name in enumerate(BACKGROUND):
    suffix = (".mp4", ".webm", ".flv")[i % 3]
    material.video(root / "background_dataset" / str(i % 2) / f"{name}{suffix}", seed=10 + i)
  write_lists(root / "annotations", LISTS)


def write_lists(folder: pathlib.Path, lists: dict, name: str = "vcdb") -> None:
  """Writes `NAME.json.gz`."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(lists).encode()))
