"""A folder of folders of pictures: order, classes, several kinds of pictures in a folder."""

import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from data_pipelines.datasets import frames
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import frames as made
from tests.data_pipelines.layouts import material


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  root = tmp_path_factory.mktemp("frames")
  made.write(root)
  return root


def fill(folder, names):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
  return folder


def read(root, **options):
  return frames.read(str(root), **options)


def names(record):
  return [pathlib.Path(path).name for path in record.frames]


def test_every_folder_with_pictures_is_a_video(written):
  data = read(written, **made.OPTIONS)
  assert [(r.id, r.label, r.text, r.fps) for r in data.records] == [
    ("run/deep/er", 0, "run", 8.0), ("run/first", 0, "run", 8.0), ("walk/a video", 1, "walk", 8.0)]
  assert data.classes == ("run", "walk")


def test_pictures_come_in_the_order_of_their_numbers(written):
  for record in read(written).records:
    want = material.clip(list(made.VIDEOS).index(record.id))
    assert len(record.frames) == 12 and record.label == -1 and record.fps is None
    for path, frame in zip(record.frames, want, strict=True):
      assert abs(np.asarray(Image.open(path)).astype(int) - frame).mean() < 12


def test_records_can_be_sent_to_processes(written):
  records = read(written, **made.OPTIONS).records
  assert list(pickle.loads(pickle.dumps(records))) == list(records)


def test_one_video_alone(tmp_path):
  data = read(fill(tmp_path / "clip", ["b.png", "a.png", ".hidden.png", "notes.txt"]))
  assert [(r.id, names(r)) for r in data.records] == [("clip", ["a.png", "b.png"])]


def test_several_kinds_of_pictures_need_a_pattern(tmp_path):
  fill(tmp_path, [f"v/{kind}_{n:05d}.jpg" for kind in ("img", "flow_x") for n in (1, 2, 3)])
  with pytest.raises(DataError, match=r"v: the pictures are of 2 kinds: flow_x_#\.jpg \(3\), "
                     r"img_#\.jpg \(3\); say which to use with pattern="):
    read(tmp_path)
  (record,) = read(tmp_path, pattern="img_*").records
  assert names(record) == ["img_00001.jpg", "img_00002.jpg", "img_00003.jpg"]
  with pytest.raises(DataError, match=r"no pictures .* named like 'rgb_\*' in"):
    read(tmp_path, pattern="rgb_*")


def test_a_mask_beside_each_picture_is_another_kind(tmp_path):
  fill(tmp_path, [f"v/{n}{suffix}" for n in (1, 2) for suffix in (".jpg", ".png")])
  with pytest.raises(DataError, match=r"2 kinds: #\.jpg \(2\), #\.png \(2\)"):
    read(tmp_path)


def test_wrong_folders_and_options(tmp_path, written):
  with pytest.raises(DataError, match=r"no split 'train'; did you mean 'all'"):
    frames.read(str(written), "train")
  with pytest.raises(DataError, match=r"no pictures .* in .*, which holds v; give the folder that "
                     "holds folders of pictures"):
    read(fill(tmp_path, ["v/a.mp4"]))
  with pytest.raises(DataError, match=r"by_class needs pictures in folders of folders.* in .*run"):
    read(written / "run" / "deep" / "..", by_class=True)
  with pytest.raises(DataError, match=r"fps should be positive, is 0"):
    read(written, fps=0)
