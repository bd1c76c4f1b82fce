"""HMDB51: two classes, with the odd characters that its names have."""

import pathlib

from tests.data_pipelines.layouts import material

SPLIT = "train1"
OPTIONS = {"allow_missing": True}  # it is smaller than the published set

# (class, video) -> its flags in the three lists: 1 training, 2 test, 0 unused.
VIDEOS = {
  ("brush_hair", "#20_Rhythm_clap_u_nm_np1_fr_goo_0"): "120",
  ("brush_hair", "(500)_Days & Nights; part.2_brush_hair_f_cm_np1_ba_med_1"): "211",
  ("brush_hair", "April_09_brush_hair_u_nm_np1_ba_goo_0"): "102",
  ("sword", "Fight!_[old]_sword_f_cm_np2_ri_bad_3"): "012",
  ("sword", "April_09_brush_hair_u_nm_np1_ba_goo_0"): "221",  # a name that two classes have
}


def write(root: pathlib.Path) -> None:
  """Writes videos and split files."""
  for k, (name, video) in enumerate(VIDEOS):
    material.video(root / "videos" / name / f"{video}.avi", seed=k, fps=30)
  write_lists(root / "testTrainMulti_7030_splits")


def write_lists(place: pathlib.Path) -> None:
  """Writes CLASS_test_split1.txt, ..."""
  place.mkdir(parents=True, exist_ok=True)
  for name in {name for name, _ in VIDEOS}:
    for number in (1, 2, 3):
      lines = [f"{video}.avi {flags[number - 1]} \n"
               for (own, video), flags in VIDEOS.items() if own == name]
      (place / f"{name}_test_split{number}.txt").write_text("".join(lines))
