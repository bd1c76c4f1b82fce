"""JHMDB: clips, splits and joints; damaged annotations are refused with their names."""

import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data_pipelines.datasets import jhmdb
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import jhmdb as small
from tests.data_pipelines.layouts import material

IDS = sorted(small.VIDEOS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("jhmdb")
  small.write(folder)
  return folder


def mat_of(root, id_):
  return root / "joint_positions" / id_ / "joint_positions.mat"


def test_all(root):
  data = jhmdb.read(str(root), "all", allow_missing=True)
  assert [r.id for r in data.records] == IDS and data.classes == ("catch", "wave")
  assert [(r.label, r.text) for r in data.records] == 2 * [(0, "catch")] + 2 * [(1, "wave")]
  assert not data.note and not data.missing
  for record in data.records:
    seed, flags = small.VIDEOS[record.id]
    assert record.splits == tuple(("train" if f == 1 else "test") + str(n)
                                  for n, f in enumerate(flags, 1))
    frames = [np.asarray(Image.open(p)) for p in record.frames]  # PNG: nothing is lost
    np.testing.assert_array_equal(frames, material.clip(seed, small.N_FRAMES, small.SIZE))
    points = record.truth["points"]
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, small.joints(seed), atol=1e-5)


@pytest.mark.parametrize("split", ["train1", "test1", "test2", "train3"])
def test_splits(root, split):
  flag, number = {"train": 1, "test": 2}[split[:-1]], int(split[-1]) - 1
  data = jhmdb.read(str(root), split, allow_missing=True)
  assert [r.id for r in data.records] == [i for i in IDS if small.VIDEOS[i][1][number] == flag]
  assert data.classes == ("catch", "wave")  # numbers of classes are those of the whole set


def test_counts(root):
  with pytest.raises(DataError, match="jhmdb test1: 268 videos expected, 2 found"):
    jhmdb.read(str(root), "test1")
  with pytest.raises(DataError, match="928 videos expected, 4 found; 21 classes expected, 2 found"):
    jhmdb.read(str(root), "all")


def test_missing_clips_and_joints(tmp_path):
  small.write(tmp_path)
  shutil.rmtree(tmp_path / "Rename_Images" / IDS[0])
  mat_of(tmp_path, IDS[3]).unlink()
  with pytest.raises(DataError, match=r"2 listed videos are missing \(first: catch/#39_\S+, joints"
                                      r" of wave/21"):
    jhmdb.read(str(tmp_path), "all")
  data = jhmdb.read(str(tmp_path), "all", allow_missing=True)
  assert data.missing == (IDS[0],) and [r.id for r in data.records] == IDS[1:]
  assert [bool(r.truth) for r in data.records] == [True, True, False]


@pytest.mark.parametrize("n_joints", [small.N_FRAMES - 3, small.N_FRAMES + 2, 1])
def test_cut_at_the_shorter_length(tmp_path, n_joints):
  small.write(tmp_path)
  full = np.concatenate(2 * [small.joints(1)])[:n_joints]
  scipy.io.savemat(mat_of(tmp_path, IDS[0]), {"pos_img": full.transpose(2, 1, 0).squeeze() + 1})
  data = jhmdb.read(str(tmp_path), "all", allow_missing=True)
  length = min(n_joints, small.N_FRAMES)
  record = data.records[0]
  assert len(record.frames) == len(record.truth["points"]) == length
  assert record.frames[-1].endswith(f"{length:05d}.png")
  np.testing.assert_allclose(record.truth["points"], full[:length], atol=1e-5)
  assert data.note.startswith("1 clip(s) have another number") and IDS[0] in data.note


def test_bad_annotations(tmp_path):
  path = tmp_path / "joint_positions.mat"
  path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" +
                   b"\x89HDF\r\n\x1a\n" + bytes(512))
  with pytest.raises(DataError, match=r"joint_positions\.mat: is a MATLAB 7.3 \(HDF5\) file"):
    jhmdb.read_joints(path)
  for content in (b"", b"<html>not found</html>" * 20, bytes(1000)):
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable MATLAB file|has no 'pos_img'"):
      jhmdb.read_joints(path)
  scipy.io.savemat(path, {"pos_world": np.zeros((2, 15, 3))})
  with pytest.raises(DataError, match="has no 'pos_img'"):
    jhmdb.read_joints(path)
  for bad in (np.zeros((2, 13, 4)), np.array([{"a": 1}], object), np.zeros((15, 2, 4))):
    scipy.io.savemat(path, {"pos_img": bad})
    with pytest.raises(DataError, match=r"should be numbers \[2, 15, frames\]"):
      jhmdb.read_joints(path)


def test_truncated_annotations_never_get_through(tmp_path):
  small.write(tmp_path)
  path = mat_of(tmp_path, IDS[0])
  content = path.read_bytes()
  for length in range(0, len(content) - 1, 97):
    path.write_bytes(content[:length])
    try:
      jhmdb.read_joints(path)
    except DataError as e:
      assert str(path) in str(e)
    else:  # pos_img comes first in the file; what is cut off lies behind it
      np.testing.assert_allclose(jhmdb.read_joints(path), small.joints(1), atol=1e-5)


def test_wrong_folders(root, tmp_path):
  with pytest.raises(DataError, match="no Rename_Images/ in"):
    jhmdb.read(str(root / "splits"), "all")
  small.write(tmp_path)
  (tmp_path / "splits/catch_test_split2.txt").write_text("video.avi\n")
  with pytest.raises(DataError, match=r"catch_test_split2.txt: 'video.avi' should be a video and"):
    jhmdb.read(str(tmp_path), "test1")
  shutil.rmtree(tmp_path / "splits")
  with pytest.raises(DataError, match="unpack the official splits there, or read the split 'all'"):
    jhmdb.read(str(tmp_path), "test1")
  data = jhmdb.read(str(tmp_path), "all", allow_missing=True)
  assert len(data.records) == 4 and data.records[0].splits == ()
