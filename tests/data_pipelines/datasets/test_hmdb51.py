"""HMDB51: lists with flags, odd names, layouts that people have, and what is missing."""

import shutil

import pytest

from data_pipelines.datasets import hmdb51
from data_pipelines.encode import decode_bytes
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import hmdb51 as made
from tests.data_pipelines.layouts import material

IDS = {"/".join(key): flags for key, flags in made.VIDEOS.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  root = tmp_path_factory.mktemp("hmdb51")
  made.write(root)
  return root


@pytest.fixture
def root(written, tmp_path):
  return shutil.copytree(written, tmp_path / "hmdb")


def read(root, split="all", **options):
  return hmdb51.read(str(root), split, **{**made.OPTIONS, **options})


def ids(data):
  return [record.id for record in data.records]


def listed(number, flag):
  return sorted(id_ for id_, flags in IDS.items() if flags[number - 1] == flag)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_split_has_its_videos(written, number):
  for kind, flag in (("train", "1"), ("test", "2")):
    data = read(written, f"{kind}{number}")
    assert ids(data) == listed(number, flag) and data.missing == ()
    assert all(f"{kind}{number}" in record.splits for record in data.records)


def test_all_has_every_video_once_also_unused_ones(written):
  data = read(written)
  assert ids(data) == sorted(IDS)
  assert data.classes == ("brush_hair", "sword")
  for record in data.records:
    names = {"1": "train", "2": "test"}
    assert record.splits == tuple(f"{names[flag]}{k}" for k, flag in enumerate(IDS[record.id], 1)
                                  if flag != "0")
    assert record.text == data.classes[record.label] == record.id.split("/")[0]


def test_the_videos_are_those_of_the_names(written):
  for record in read(written).records:
    with open(record.video, "rb") as f:
      frames = decode_bytes(f.read())
    want = material.clip(list(IDS).index(record.id), fps=30)
    assert abs(frames.astype(int) - want).mean() < 16


def test_other_places_and_containers(root, tmp_path):
  for path in root.glob("videos/*/*"):
    path.rename(path.with_suffix(".mp4"))
  assert ids(read(root / "videos", "test1")) == listed(1, "2")
  (root / "videos/sword").rename(root / "sword")
  (root / "testTrainMulti_7030_splits").rename(tmp_path / "splits")
  assert ids(read(root, "test1", lists=str(tmp_path / "splits"))) == listed(1, "2")
  with pytest.raises(DataError, match=r"no folder with lists like brush_hair_test_split1\.txt"):
    read(root, "test1")
  with pytest.raises(DataError, match=r"no lists like .* in lists=.*videos"):
    read(root, lists=str(root / "videos"))
  data = read(root)
  assert ids(data) == sorted(IDS) and "no splits" in data.note


def test_without_class_folders_the_name_tells(root):
  (root / "videos/sword/April_09_brush_hair_u_nm_np1_ba_goo_0.avi").unlink()
  for path in root.glob("videos/*/*"):
    path.rename(root / path.name)
  twice = "April_09_brush_hair_u_nm_np1_ba_goo_0"  # in two classes: it could be either
  data = read(root)
  assert ids(data) == sorted(id_ for id_ in IDS if twice not in id_)
  assert data.missing == (f"brush_hair/{twice}", f"sword/{twice}")


def test_missing_videos_are_named(root):
  gone = "sword/Fight!_[old]_sword_f_cm_np2_ri_bad_3"
  (root / f"videos/{gone}.avi").unlink()
  with pytest.raises(DataError) as error:
    read(root, "train2", allow_missing=False)
  assert ("hmdb51 train2: 3,570 videos expected, 1 found; 51 classes expected, 1 found; 1 listed "
          f"video is missing (first: {gone}); pass allow_missing=True") in str(error.value)
  assert read(root, "train2").missing == (gone,)
  assert read(root, "train1").missing == ()
  assert read(root).missing == (gone,)


def test_wrong_folders_and_lists(root, tmp_path):
  with pytest.raises(DataError, match=r"no split 'trian1'; did you mean 'train1'"):
    read(root, "trian1")
  (root / "videos").rename(tmp_path / "away")
  (root / "hmdb51_org.rar").write_bytes(b"x")
  with pytest.raises(DataError, match=r"no videos of the lists in .*unpack hmdb51_org\.rar first"):
    read(root)
  (tmp_path / "away").rename(root / "videos")
  path = root / "testTrainMulti_7030_splits/sword_test_split2.txt"
  path.write_text("a b.avi 3\n")
  with pytest.raises(DataError, match=r"sword_test_split2\.txt: 'a b\.avi 3' should be a video and "
                     r"0 \(unused\), 1 \(train\) or 2 \(test\)"):
    read(root)
