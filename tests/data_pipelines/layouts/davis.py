"""DAVIS-2017 in small: five sequences of train, val and test-dev, with their lists."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "val"
OPTIONS = {"allow_missing": True}
SEEDS = {"bear": 1, "bmx-bumps": 2, "blackswan": 3, "gold-fish": 4, "aerobatics": 5}
LISTS = {"2017/train": ("bear", "bmx-bumps"), "2017/val": ("blackswan", "gold-fish"),
         "2017/test-dev": ("aerobatics",), "2016/train": ("bear",), "2016/val": ("blackswan",)}
N_FRAMES = 6


def write(root: pathlib.Path) -> None:
  for name, seed in SEEDS.items():
    frames = [f"{t:05d}.jpg" for t in range(N_FRAMES)]
    material.jpegs(root / "JPEGImages" / "480p" / name, seed, frames)
    folder = root / "Annotations" / "480p" / name
    material.masks(folder, seed, [f"{t:05d}.png" for t in range(N_FRAMES)])
    if name in LISTS["2017/test-dev"]:
      for t in range(1, N_FRAMES):
        (folder / f"{t:05d}.png").unlink()
  for name, sequences in LISTS.items():
    path = root / "ImageSets" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(sequences) + "\n")
