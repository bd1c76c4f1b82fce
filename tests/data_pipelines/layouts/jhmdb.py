"""JHMDB in small: two classes, four clips, with joints made from the rendered objects' points."""

import pathlib

import numpy as np
import scipy.io

from tests.data_pipelines.layouts import material

SPLIT = "test1"
OPTIONS = {"allow_missing": True}
# Names of the real kind: brackets, "!" and "#" occur in them.
VIDEOS = {  # class/name -> seed and its part of the three splits
  "catch/#39_Catch_(a)_u_nm_np1_fr_goo_0": (1, (1, 2, 1)),
  "catch/Ball!_catch_f_cm_np1_le_med_1": (2, (2, 1, 1)),
  "wave/21_wave_u_nm_np1_fr_goo_5": (3, (2, 2, 2)),
  "wave/20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0": (4, (1, 1, 2)),
}
N_FRAMES = 8
SIZE = (48, 64)


def joints(seed: int) -> np.ndarray:
  """[T, 15, 2], five points of each of three objects, counted from 0."""
  points = material.truth(seed, N_FRAMES, SIZE).points
  return points[:, :, :5].reshape(N_FRAMES, 15, 2).astype(np.float64)


def write(root: pathlib.Path) -> None:
  lists = {}
  for id_, (seed, flags) in VIDEOS.items():
    name, video = id_.split("/")
    pictures = root / "Rename_Images" / id_
    material.jpegs(pictures, seed, [f"{t + 1:05d}.png" for t in range(N_FRAMES)], SIZE)
    for place in (pictures, pictures.parent, pictures.parent.parent):
      (place / ".AppleDouble").mkdir(exist_ok=True)
    mat = root / "joint_positions" / id_ / "joint_positions.mat"
    mat.parent.mkdir(parents=True)
    scipy.io.savemat(mat, {
      "pos_img": joints(seed).transpose(2, 1, 0) + 1, "viewpoint": "W",
      "scale": np.ones((1, N_FRAMES)), "pos_world": np.zeros((2, 15, N_FRAMES))})
    for number, flag in enumerate(flags, 1):
      lists.setdefault(f"{name}_test_split{number}.txt", []).append(f"{video}.avi {flag} ")
  (root / "splits").mkdir()
  for path, lines in lists.items():
    (root / "splits" / path).write_text("\n".join(lines) + "\n")
