"""R2V2 in small: four videos for training and two for validation, four pictures each."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "train"
OPTIONS = {"allow_missing": True}
# Two ids begin with the same two characters, one with a dash; capitals sort before small letters.
VIDEOS = {"train": {"oHg5SJYRHA0": (1, 1), "oHaaaaaaaa_": (2, 300), "-4bcdefghiJ": (3, 95_000),
                    "OHg5SJYRHA0": (4, 12)},
          "val": {"dQw4w9WgXcQ": (5, 150), "9bZkp7q19f0": (6, 7)}}
APART = 150


def numbers(first: int) -> list[int]:
  return [first + k * APART for k in range(4)]


def write(root: pathlib.Path) -> None:
  for split, videos in VIDEOS.items():
    lines = []
    for id_, (seed, first) in videos.items():
      names = [f"{id_}_{n:06d}.jpg" for n in numbers(first)]
      material.jpegs(root / split / id_[:2], seed, names)
      lines.append(",".join([id_, *map(str, numbers(first))]))
    (root / f"r2v2_ids_{split}.txt").write_text("\n".join(lines) + "\n")
