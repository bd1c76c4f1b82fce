"""GOT-10k in small: two sequences of train, one each of val and test."""

import pathlib

import numpy as np

from tests.data_pipelines.layouts import material

SPLIT = "train"
OPTIONS = {"allow_missing": True}
SEEDS = {"GOT-10k_Train_000001": 1, "GOT-10k_Train_000002": 2, "GOT-10k_Val_000001": 3,
         "GOT-10k_Test_000001": 4}
N_FRAMES = 8
ABSENT = 5  # a picture that the object is absent from, in the second sequence
COVER = (8, 8, 7, 4, 1, 0, 3, 8)


def boxes(name: str) -> np.ndarray:
  """[T, 4] of the first object, counted from 0."""
  return material.truth(SEEDS[name], N_FRAMES).boxes[:, 0].astype(np.float64)


def write(root: pathlib.Path) -> None:
  for name, seed in SEEDS.items():
    split = name.split("_")[1].lower()
    folder = root / split / name
    material.jpegs(folder, seed, [f"{t + 1:08d}.jpg" for t in range(N_FRAMES)])
    rows = [",".join(f"{v:.4f}" for v in box) for box in boxes(name) + (1, 1, 0, 0)]
    (folder / "groundtruth.txt").write_text("\n".join(rows[:1] if split == "test" else rows) + "\n")
    absent = [int(t == ABSENT and seed == 2) for t in range(N_FRAMES)]
    labels = {"absence": absent, "cover": COVER, "cut_by_image": N_FRAMES * (0,)}
    for label, values in labels.items() if split != "test" else ():
      (folder / f"{label}.label").write_text("\n".join(map(str, values)) + "\n")
    (folder / "meta_info.ini").write_text("[METAINFO]\nanno_fps: 10Hz\nresolution: (64, 48)\n")
    with (root / split / "list.txt").open("a") as f:
      f.write(f"{name}\n")
