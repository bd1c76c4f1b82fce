"""JHMDB: 928 clips of 21 actions with 15 body joints in every picture.

  Rename_Images/CLASS/VIDEO/00001.png               pictures
  joint_positions/CLASS/VIDEO/joint_positions.mat   pos_img [2, 15, T], x and y counted from 1
  splits/CLASS_test_split1.txt                      lines "VIDEO.avi 1" (train) or "... 2" (test)
"""

import pathlib

import numpy as np

from data_pipelines.datasets import completeness, layout, numbered
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record

SPLITS = {
  "all": {"videos": 928, "classes": 21},
  "train1": {"videos": 660}, "test1": {"videos": 268},
  "train2": {}, "test2": {}, "train3": {}, "test3": {},
}
PREPARED = ("all",)
FPS = 30.0  # of HMDB51, which the clips were cut from
JOINTS = ("neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip",
          "right elbow", "left elbow", "right knee", "left knee", "right wrist", "left wrist",
          "right ankle", "left ankle")

_RIGHT = "Rename_Images/CLASS/VIDEO/00001.png, joint_positions and splits"
_KIND = {"1": "train", "2": "test"}


def read(root: str, split: str = "test1", *, allow_missing: bool = False) -> Dataset:
  """Reads a folder of JHMDB; see the module for its layout.

  Ids are "CLASS/VIDEO"; `splits` names the part of each of the three splits ("test1", "train2").
  `truth["points"]` float32 [T, 15, 2] are the joints in the order of `JOINTS`, counted from 0.
  Where a clip has more pictures than annotated frames, or fewer, both are cut at the shorter
  length, and `note` says so.

  Args:
    root: the folder that holds `Rename_Images`, `joint_positions` and `splits`.
    split: one of `SPLITS`.
    allow_missing: go on, with a warning, where clips or joints are missing.

  Raises:
    DataError: not this layout, no such split, a damaged list or .mat file, or something missing.
  """
  layout.check_split("jhmdb", split, SPLITS)
  folder = layout.root_folder("jhmdb", root)
  pictures = layout.first_folder("jhmdb", folder, ("Rename_Images",), _RIGHT)
  members = _members(folder / "splits")
  if not members and split != "all":
    raise DataError(f"jhmdb: no {folder / 'splits'} with CLASS_test_split1.txt, ...; unpack the "
                    "official splits there, or read the split 'all'")
  ids = {*members, *_on_disk(pictures)}
  classes = tuple(sorted({id_.split("/")[0] for id_ in ids}))
  records, missing, unannotated, cut = [], [], [], []
  for id_ in sorted(ids):
    if split != "all" and split not in members.get(id_, ()):
      continue
    frames = numbered.scan(pictures / id_) if (pictures / id_).is_dir() else ()
    if not len(frames):
      missing.append(id_)
      continue
    mat = folder / "joint_positions" / id_ / "joint_positions.mat"
    truth, length = {}, len(frames)
    if mat.is_file():
      points = read_joints(mat)
      length = min(len(frames), len(points))
      truth = {"points": points[:length]}
      cut += [id_] * (len(frames) != len(points))
    else:
      unannotated.append(f"joints of {id_}")
    name = id_.split("/")[0]
    records.append(Record(id_, frames=frames[:length].paths, fps=FPS, label=classes.index(name),
                          text=name, splits=tuple(members.get(id_, ())), truth=truth))
  found = {"videos": len(records), "classes": len({record.label for record in records})}
  completeness.check("jhmdb", split, found, SPLITS[split], missing + unannotated, allow_missing)
  return Dataset("jhmdb", split, records, classes, tuple(missing), _note(cut))


def read_joints(path: str | pathlib.Path) -> np.ndarray:
  """Joints of one clip from `joint_positions.mat`: float32 [T, 15, 2], x and y counted from 0.

  Raises:
    DataError: not a MATLAB file up to version 7, or without `pos_img` of this form.
  """
  import scipy.io  # here, since it takes long and no other reader needs it

  try:
    # Reads numbers and text only: nothing of the file is executed.
    found = scipy.io.loadmat(path, variable_names=["pos_img"])
  except NotImplementedError:
    raise DataError(f"{path}: is a MATLAB 7.3 (HDF5) file; use the official one, or save it again "
                    "in MATLAB with save(..., '-v7')") from None
  except Exception as e:  # whatever a damaged file makes of the parser
    raise DataError(f"{path}: not a readable MATLAB file ({type(e).__name__}: {e}); unpack "
                    "joint_positions again") from e
  if "pos_img" not in found:
    raise DataError(f"{path}: has no 'pos_img'; use the official joint_positions")
  joints = found["pos_img"]
  if joints.ndim == 2:  # MATLAB drops a last axis of length 1
    joints = joints[..., None]
  if joints.dtype.kind not in "fiu" or joints.shape[:2] != (2, len(JOINTS)) or joints.ndim != 3:
    raise DataError(f"{path}: 'pos_img' is {joints.dtype} {list(joints.shape)}, should be numbers "
                    f"[2, {len(JOINTS)}, frames]")
  return (joints.astype(np.float64) - 1).transpose(2, 1, 0).astype(np.float32)


def _note(cut: list[str]) -> str:
  if not cut:
    return ""
  return (f"{len(cut)} clip(s) have another number of pictures than of annotated frames and were "
          f"cut at the shorter length: {', '.join(cut[:3])}")


def _on_disk(pictures: pathlib.Path) -> list[str]:
  return [f"{folder.name}/{video.name}"
          for folder in pictures.iterdir() if folder.is_dir() and not folder.name.startswith(".")
          for video in folder.iterdir() if video.is_dir() and not video.name.startswith(".")]


def _members(folder: pathlib.Path) -> dict[str, list[str]]:
  """Id -> its part of each split, from all lists in `folder`."""
  found = {}
  for path in sorted(folder.glob("[!.]*_test_split[123].txt")):
    name, _, number = path.stem.rpartition("_test_split")
    for line in layout.read_lines(path, "lines 'VIDEO.avi 1' or 'VIDEO.avi 2'"):
      video, _, flag = line.rpartition(" ")
      if flag not in _KIND or not video.strip():
        raise DataError(f"{path}: {line!r} should be a video and 1 (train) or 2 (test), with a "
                        "space between")
      id_ = f"{name}/{video.strip().removesuffix('.avi')}"
      found.setdefault(id_, []).append(f"{_KIND[flag]}{number}")
  return found
