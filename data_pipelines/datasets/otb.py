"""OTB-100, OTB-50 and OTB-2013: an object followed through each of 98 sequences, two in two.

  Basketball/img/0001.jpg, ...
             groundtruth_rect.txt       a row a picture: left, top, width, height, counted from 1
  Jogging/groundtruth_rect.1.txt, groundtruth_rect.2.txt      one file an object

Rows are separated by commas, tabs or spaces. Of some sequences the boxes are for a part of the
pictures only (`RANGES`).
"""

import pathlib

import numpy as np

from data_pipelines.datasets import completeness, layout, numbered
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {"otb100": {"tracks": 100}, "otb50": {"tracks": 50}, "otb2013": {"tracks": 51}}
PREPARED = ("otb100",)  # holds the others
RANGES = {"David": (300, 770), "Diving": (1, 215), "Football1": (1, 74), "Freeman3": (1, 460),
          "Freeman4": (1, 283)}
"""Numbers of the first and the last picture that have boxes."""
TWO_OBJECTS = ("Jogging", "Skating2")

# The lists are those of the GOT-10k toolkit (MIT).
_OTB50 = """
  Basketball Biker Bird1 BlurBody BlurCar2 BlurFace BlurOwl Bolt Box Car1 Car4 CarDark
  CarScale ClifBar Couple Crowds David Deer Diving DragonBaby Dudek Football Freeman4 Girl
  Human3 Human4 Human6 Human9 Ironman Jump Jumping Liquor Matrix MotorRolling Panda RedTeam
  Shaking Singer2 Skating1 Skating2 Skiing Soccer Surfer Sylvester Tiger2 Trellis Walking
  Walking2 Woman
""".split()
_OTB100_REST = """
  Bird2 BlurCar1 BlurCar3 BlurCar4 Board Bolt2 Boy Car2 Car24 Coke Coupon Crossing Dancer
  Dancer2 David2 David3 Dog Dog1 Doll FaceOcc1 FaceOcc2 Fish FleetFace Football1 Freeman1
  Freeman3 Girl2 Gym Human2 Human5 Human7 Human8 Jogging KiteSurf Lemming Man Mhyang
  MountainBike Rubik Singer1 Skater Skater2 Subway Suv Tiger1 Toy Trans Twinnings Vase
""".split()
_OTB2013 = """
  Basketball Bolt Boy Car4 CarDark CarScale Coke Couple Crossing David David2 David3 Deer Dog1
  Doll Dudek FaceOcc1 FaceOcc2 Fish FleetFace Football Football1 Freeman1 Freeman3 Freeman4
  Girl Ironman Jogging Jumping Lemming Liquor Matrix Mhyang MotorRolling MountainBike Shaking
  Singer1 Singer2 Skating1 Skiing Soccer Subway Suv Sylvester Tiger1 Tiger2 Trellis Walking
  Walking2 Woman
""".split()
SEQUENCES = {"otb100": sorted(_OTB50 + _OTB100_REST), "otb50": _OTB50, "otb2013": _OTB2013}

_RIGHT = "Basketball/img/0001.jpg and Basketball/groundtruth_rect.txt"


def read(root: str, split: str = "otb100", *, allow_missing: bool = False) -> Dataset:
  """Reads a folder of OTB; see the module for its layout.

  Ids are names of sequences, "Jogging-1" and "Jogging-2" where there are two objects. `splits`
  names all the lists that a track is in. `truth["boxes"]` float32 [T, 4]: x, y, width and height,
  counted from 0.

  Args:
    root: the folder that holds the sequences' folders.
    split: "otb100" (also known as TB-100 and OTB-2015), "otb50" (TB-50) or "otb2013".
    allow_missing: go on, with a warning, where sequences are missing.

  Raises:
    DataError: not this layout, no such split, something is missing, or an annotation is damaged or
      has another number of rows than there are pictures.
  """
  layout.check_split("otb", split, SPLITS)
  folder = layout.root_folder("otb", root)
  if not any((folder / name).is_dir() for name in SEQUENCES[split]):
    layout.first_folder("otb", folder, SEQUENCES[split][:1], _RIGHT)
  records, missing = [], []
  for name in SEQUENCES[split]:
    for id_, path in _tracks(folder / name).items():
      record = _record(id_, path) if path else None
      if record:
        records.append(record)
      else:
        missing.append(id_)
  completeness.check("otb", split, {"tracks": len(records)}, SPLITS[split], missing, allow_missing)
  return Dataset("otb", split, sorted(records, key=lambda r: r.id), missing=tuple(missing))


def _tracks(folder: pathlib.Path) -> dict[str, pathlib.Path | None]:
  """Ids of a sequence's tracks -> their boxes' files, None where that is missing."""
  files = [path for path in sorted(folder.glob("groundtruth*.txt"))
           if path.read_bytes().strip()]  # Human4 has an empty one beside its own
  if folder.name in TWO_OBJECTS:
    by_name = {path.name: path for path in files}
    return {f"{folder.name}-{k}": by_name.get(f"groundtruth_rect.{k}.txt") for k in (1, 2)}
  if len(files) > 1:
    raise DataError(f"{folder}: has {' and '.join(path.name for path in files)}, but only one "
                    "object; keep the official file")
  return {folder.name: files[0] if files else None}


def _record(id_: str, path: pathlib.Path) -> Record | None:
  """The track; None where the sequence's pictures are missing."""
  folder = path.parent
  pictures = numbered.scan(folder / "img") if (folder / "img").is_dir() else ()
  if not len(pictures):
    return None
  first, last = RANGES.get(folder.name, (0, pictures.numbers[-1]))
  pictures = pictures[(pictures.numbers >= first) & (pictures.numbers <= last)]
  boxes = layout.read_numbers(path, 4, "left, top, width and height of a box") - (1, 1, 0, 0)
  if len(boxes) != len(pictures):
    raise DataError(f"{path}: {len(boxes)} boxes for {len(pictures)} picture(s) in {folder}/img; "
                    "unpack this sequence again, or move its folder away")
  return Record(id_, frames=pictures.paths, truth={"boxes": boxes.astype(np.float32)},
                splits=tuple(s for s, names in SEQUENCES.items() if folder.name in names))
