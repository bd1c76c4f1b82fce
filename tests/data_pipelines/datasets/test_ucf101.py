"""UCF101: official lists, class numbers, layouts that people have, and what is missing."""

import shutil

import pytest

from data_pipelines.datasets import ucf101
from data_pipelines.encode import decode_bytes
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import material
from tests.data_pipelines.layouts import ucf101 as made

PARTS = {
  "train1": ["v_HandStandPushups_g08_c02", "v_JumpRope_g01_c10", "v_JumpingJack_g25_c04"],
  "test1": ["v_HandStandPushups_g01_c01", "v_JumpingJack_g02_c01"],
  "train2": ["v_HandStandPushups_g01_c01", "v_JumpingJack_g02_c01", "v_JumpingJack_g25_c04"],
  "test2": ["v_HandStandPushups_g08_c02", "v_JumpRope_g01_c10"],
  "train3": ["v_HandStandPushups_g01_c01", "v_HandStandPushups_g08_c02", "v_JumpRope_g01_c10",
             "v_JumpingJack_g02_c01"],
  "test3": ["v_JumpingJack_g25_c04"],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  root = tmp_path_factory.mktemp("ucf101")
  made.write(root)
  return root


@pytest.fixture
def root(written, tmp_path):
  return shutil.copytree(written, tmp_path / "ucf")


def read(root, split="all", **options):
  return ucf101.read(str(root), split, **{**made.OPTIONS, **options})


def ids(data):
  return [record.id for record in data.records]


@pytest.mark.parametrize("split", PARTS)
def test_each_split_has_its_videos(written, split):
  data = read(written, split)
  assert (data.name, data.split, data.missing) == ("ucf101", split, ())
  assert ids(data) == PARTS[split]
  assert all(split in record.splits for record in data.records)


def test_all_has_every_video_once_with_its_splits(written):
  data = read(written)
  assert ids(data) == sorted(made.VIDEOS)
  for record in data.records:
    assert sorted(record.splits) == sorted(s for s, own in PARTS.items() if record.id in own)


def test_classes_are_numbered_as_in_the_official_list(written):
  data = read(written)
  assert data.classes == made.CLASSES  # JumpRope after JumpingJack, unlike in ASCII
  for record in data.records:
    assert record.text == data.classes[record.label] == made.folder(record.id)


def test_the_videos_are_those_of_the_names(written):
  for record in read(written).records:
    with open(record.video, "rb") as f:
      frames = decode_bytes(f.read())
    want = material.clip(list(made.VIDEOS).index(record.id), fps=25)
    assert abs(frames.astype(int) - want).mean() < 16


def test_without_class_list_and_without_class_folders(root):
  for path in root.glob("UCF-101/*/*"):
    path.rename(root / path.with_suffix(".mp4").name)
  (root / "ucfTrainTestlist/classInd.txt").unlink()
  data = read(root)
  assert (ids(data), data.classes) == (sorted(made.VIDEOS), made.CLASSES)
  assert {record.text for record in data.records} == set(made.CLASSES)


def test_lists_beside_the_videos_or_given(root, tmp_path):
  assert ids(read(root / "UCF-101", "test2")) == PARTS["test2"]
  (root / "ucfTrainTestlist").rename(tmp_path / "elsewhere")
  assert ids(read(root, "test2", lists=str(tmp_path / "elsewhere"))) == PARTS["test2"]
  with pytest.raises(DataError, match=r"no folder with classInd\.txt"):
    read(root, "test2")
  with pytest.raises(DataError, match=r"no trainlist01\.txt in lists=.*UCF-101"):
    read(root, lists=str(root / "UCF-101"))
  with pytest.raises(DataError, match=r"no folder with classInd\.txt"):
    read(root, allow_missing=False)
  data = read(root)
  assert (ids(data), data.records[0].splits) == (sorted(made.VIDEOS), ())
  assert "no splits" in data.note


def test_missing_videos_are_named(root):
  (root / "UCF-101/JumpRope/v_JumpRope_g01_c10.avi").unlink()
  with pytest.raises(DataError, match=r"ucf101 train1: 9,537 videos expected, 2 found; 101 classes "
                     r"expected, 2 found; 1 listed video is missing \(first: v_JumpRope_g01_c10\)"):
    read(root, "train1", allow_missing=False)
  for split in ("train1", "test2", "all"):
    data = read(root, split)
    assert data.missing == ("v_JumpRope_g01_c10",)
    assert data.classes == made.CLASSES  # the numbers don't move
  assert read(root, "test1").missing == ()


def test_published_counts_add_up():
  for k in "123":
    parts = [ucf101.SPLITS[f"{kind}{k}"]["videos"] for kind in ("train", "test")]
    assert sum(parts) == ucf101.SPLITS["all"]["videos"]


def test_wrong_folders_and_lists(root, tmp_path):
  with pytest.raises(DataError, match=r"no split 'tran2'; did you mean 'train2'"):
    read(root, "tran2")
  (tmp_path / "empty").mkdir()
  with pytest.raises(DataError, match=r"no videos named like v_.* in .*empty, which holds nothing; "
                     r"give the folder that holds UCF-101/"):
    read(tmp_path / "empty")
  place = root / "ucfTrainTestlist"
  (place / "testlist02.txt").write_text("JumpRope/rope.avi\n")
  with pytest.raises(DataError, match=r"testlist02\.txt: 'JumpRope/rope\.avi' should be like"):
    read(root)
  made.write_lists(place)
  (place / "classInd.txt").write_text("1 HandstandPushups\n2 JumpRope\n")
  with pytest.raises(DataError, match=r"v_JumpingJack_g02_c01 is of class 'JumpingJack'"):
    read(root)
  (place / "classInd.txt").write_text("1 HandstandPushups\n3 JumpRope\n")
  with pytest.raises(DataError, match=r"classInd\.txt: row 2 is '3 JumpRope'"):
    read(root)
  made.write_lists(place)
  shutil.copytree(root / "UCF-101", root / "again")
  with pytest.raises(DataError, match=r"has v_\w+ twice, UCF-101/.* and again/"):
    read(root)
