"""ImageNet-1k: three classes; validation pictures as in the download, with Kaggle's list."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "train"
OPTIONS = {"allow_missing": True}  # it is smaller than the published set

SYNSETS = ("n01440764", "n01443537", "n02119789")
DEVKIT = {"n02119789": 1, "n01443537": 2, "n01440764": 3}  # the devkit numbers in another order
TRAIN = {"n01440764": (18, 10026), "n01443537": (7,), "n02119789": (1, 10)}
VAL = ("n02119789", "n01440764", "n01443537", "n01440764")  # of pictures 1, 2, ...


def write(root: pathlib.Path) -> None:
  """Writes pictures, the list of validation labels and the words."""
  for synset, numbers in TRAIN.items():
    material.jpegs(root / "train" / synset, SYNSETS.index(synset),
                   [f"{synset}_{n}.JPEG" for n in numbers])
  material.jpegs(root / "val", 9, [f"{val_id(n)}.JPEG" for n in range(1, len(VAL) + 1)])
  rows = [f"{val_id(n)},{synset} 85 1 499 272 \n" for n, synset in enumerate(VAL, 1)]
  (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(rows[::-1]))
  (root / "LOC_synset_mapping.txt").write_text(
    "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n")


def val_id(number: int) -> str:
  """The name of a validation picture without suffix."""
  return f"ILSVRC2012_val_{number:08d}"
