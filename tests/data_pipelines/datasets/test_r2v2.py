"""R2V2: lists, the index of what is on disk and how it is kept, subsets."""

import os
import pickle
import time

import numpy as np
import pytest
from PIL import Image

from data_pipelines.datasets import r2v2
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import material
from tests.data_pipelines.layouts import r2v2 as small

TRAIN = sorted(small.VIDEOS["train"])
INDEX = "r2v2_index.parquet"


@pytest.fixture
def root(tmp_path):
  small.write(tmp_path)
  long_ago = time.time_ns() - 3600 * 10**9
  for folder in tmp_path.glob("*/??"):
    os.utime(folder, ns=(long_ago, long_ago))
  return tmp_path


@pytest.fixture
def listed(monkeypatch):
  """Names of the folders that are listed."""
  found, real = [], r2v2._names
  monkeypatch.setattr(r2v2, "_names", lambda folder: found.append(folder.name) or real(folder))
  return found


def read(root, split="train", **options):
  return r2v2.read(str(root), split, allow_missing=True, **options)


def ids(data):
  return [r.id for r in data.records]


def test_records(root):
  data = read(root)
  assert ids(data) == TRAIN == ["-4bcdefghiJ", "OHg5SJYRHA0", "oHaaaaaaaa_", "oHg5SJYRHA0"]
  records = pickle.loads(pickle.dumps(data.records))
  for record in records:
    seed, first = small.VIDEOS["train"][record.id]
    assert record.truth["numbers"].tolist() == small.numbers(first)
    frames = np.stack([np.asarray(Image.open(p)) for p in record.frames]).astype(int)
    assert np.abs(frames - material.clip(seed, 4)).mean() < 8
  assert records[0].frames[0] == str(root / "train/-4/-4bcdefghiJ_095000.jpg")
  assert ids(read(root, "val")) == sorted(small.VIDEOS["val"])
  assert ids(read(root / "train", ids=str(root / "r2v2_ids_train.txt"))) == TRAIN


def test_counts(root):
  with pytest.raises(DataError, match="r2v2 val: 55,631 videos expected, 2 found; 222,524 frames "
                                      "expected, 8 found"):
    r2v2.read(str(root), "val")


def test_without_a_list(root):
  (root / "r2v2_ids_train.txt").unlink()
  with pytest.raises(DataError, match=r"r2v2_ids_train.txt, so it can't be known what is missing"):
    r2v2.read(str(root), "train")
  assert ids(read(root)) == TRAIN


def test_missing_pictures(root):
  for path in (root / "train/-4").iterdir():
    path.unlink()
  (root / "train/oH/oHaaaaaaaa__000450.jpg").unlink()
  with pytest.raises(DataError, match=r"2 listed videos are missing \(first: -4bcdefghiJ, oHaaa"):
    r2v2.read(str(root), "train")
  data = read(root)
  assert data.missing == ("-4bcdefghiJ",) and ids(data) == TRAIN[1:]
  assert data.records[1].truth["numbers"].tolist() == [300, 600, 750]
  assert len(data.records[1].frames) == 3


def test_index_is_kept_and_only_changed_folders_are_listed_again(root, listed):
  read(root)
  assert sorted(listed) == ["-4", "OH", "oH"] and (root / "train" / INDEX).is_file()
  listed.clear()
  assert ids(read(root)) == TRAIN and not listed
  new = root / "train/oH/oHg5SJYRHA0_000152.jpg"
  new.touch()  # changes the time of its folder
  (root / "r2v2_ids_train.txt").write_text("oHg5SJYRHA0,1,151,152,301\n")
  data = read(root)
  assert listed == ["oH"]
  assert data.records[0].truth["numbers"].tolist() == [1, 151, 152, 301]


def test_a_folder_that_has_just_changed_is_not_trusted(root, listed):
  (root / "train/oH/oHg5SJYRHA0_000152.jpg").touch()
  read(root)
  listed.clear()
  read(root)  # another file could have come in the same tick of the clock
  assert listed == ["oH"]


def test_removed_folder(root, listed):
  read(root)
  for path in (root / "train/OH").iterdir():
    path.unlink()
  (root / "train/OH").rmdir()
  listed.clear()
  data = read(root)
  assert data.missing == ("OHg5SJYRHA0",) and not listed
  assert ids(read(root)) == ids(data)


def test_damaged_index_is_made_again(root, caplog):
  for content in (b"", b"PAR1 not really PAR1", b"x" * 300):
    (root / "train" / INDEX).write_bytes(content)
    assert ids(read(root)) == TRAIN
    assert f"{INDEX} is damaged" in caplog.text
    caplog.clear()


def test_index_elsewhere_and_nowhere(root, tmp_path, caplog):
  other = tmp_path / "other.parquet"
  read(root, index=str(other))
  assert other.is_file() and not (root / "train" / INDEX).exists()
  assert ids(read(root, index=str(tmp_path / "no/such/folder.parquet"))) == TRAIN
  assert "set index=... to a file that can be written" in caplog.text
  assert not list(root.rglob("*.tmp"))


def test_small_subset(root, monkeypatch):
  monkeypatch.setattr(r2v2, "N_SMALL", 2)
  small = ids(read(root, "train_s"))
  assert small == ids(read(root, subset=2)) and len(small) == 2
  assert [r.id for r in read(root).records if r.splits == ("train_s",)] == small
  others = [ids(read(root, "train_s", seed=seed)) for seed in range(1, 9)]
  assert others == [ids(read(root, subset=2, seed=seed)) for seed in range(1, 9)]
  assert small != others[0] or small != others[1]
  assert {r.splits for r in read(root, "val").records} == {()}


def test_subset_is_drawn_from_the_list(root):
  whole = r2v2.read_ids(root / "r2v2_ids_train.txt")
  two = {seed: ids(read(root, subset=2, seed=seed)) for seed in range(20)}
  assert all(len(drawn) == 2 and drawn == sorted(drawn) for drawn in two.values())
  assert two[0] == ids(read(root, subset=2)) and len(set(map(tuple, two.values()))) > 3
  drawn = two[0]
  for path in (root / "train").glob(f"*/{drawn[0]}_*"):
    path.unlink()
  data = read(root, subset=2)
  assert ids(data) == drawn[1:] and data.missing == (drawn[0],)  # no other takes its place
  assert r2v2.choose(whole, 99, 0) == whole and ids(read(root, "train_s")) == ids(read(root))
  with pytest.raises(DataError, match="subset must be at least 1"):
    r2v2.choose(whole, 0, 0)


@pytest.mark.parametrize("text, message", [
  ("dQw4w9WgXcQ,1,2,3\n", "can't read this list"),
  ("dQw4w9WgXcQ,1,2,3,x\n", "can't read this list"),
  ("", "can't read this list"),
  ("dQw4w9WgXcQ.mp4,1,2,3,4\n", "'dQw4w9WgXcQ.mp4' is no id of YouTube"),
  ("dQw4w9WgXcQ,1,2,3,4\ndQw4w9WgXcQ,5,6,7,8\n", "has the id 'dQw4w9WgXcQ' more than once")])
def test_bad_lists(tmp_path, text, message):
  (tmp_path / "ids.txt").write_text(text)
  with pytest.raises(DataError, match=rf"ids.txt: {message}"):
    r2v2.read_ids(tmp_path / "ids.txt")


def test_wrong_folder(tmp_path):
  with pytest.raises(DataError, match="r2v2: no pictures of train in"):
    read(tmp_path)
  with pytest.raises(DataError, match="did you mean 'train'"):
    read(tmp_path, "trian")


def test_group_passes_over_other_names():
  names = ["ab/abcdefghijk_000002.jpg", "abcdefghijk_000001.jpg", "/x/y/ab/abcdefghijk_1000000.jpg",
           "ab/abcdefghij_000001.jpg", "ab/abcdefghijkl_000001.jpg", "abcdefghijk_00001.jpg",
           "abcdefghijk_000003.png", "ABcdefghijk_000009.jpg"]
  assert r2v2.group(names) == [("ABcdefghijk", [9]), ("abcdefghijk", [1, 2, 1_000_000])]
  assert r2v2.group([]) == []


# The real list


@pytest.fixture
def val_list(data_dir):
  path = data_dir / "annotations" / "cycle_contrast" / "r2v2" / "r2v2_ids_val.txt"
  if not path.is_file():
    pytest.skip(f"no {path}")
  return path


def test_real_list(val_list):
  pictures = r2v2.read_ids(val_list)
  assert len(pictures) == r2v2.SPLITS["val"]["frames"] == 222_524
  lines = val_list.read_text().split()
  assert len(lines) == r2v2.SPLITS["val"]["videos"]
  columns = pictures.to_pydict()
  want = sorted((line.split(",")[0], int(n)) for line in lines for n in line.split(",")[1:])
  assert list(zip(columns["id"], columns["number"], strict=True)) == want


def test_some_videos_of_the_real_list(val_list, tmp_path):
  lines = sorted(val_list.read_text().split())[::7000]
  for line in lines:
    id_, *numbers = line.split(",")
    folder = tmp_path / "val" / id_[:2]
    folder.mkdir(parents=True)
    for n in numbers:
      (folder / f"{id_}_{int(n):06d}.jpg").touch()
  with pytest.raises(DataError, match=f"{55_631 - len(lines):,} listed videos are missing"):
    r2v2.read(str(tmp_path), "val", ids=str(val_list))
  data = read(tmp_path, "val", ids=str(val_list))
  assert ids(data) == [line.split(",")[0] for line in lines]
  assert len(data.missing) == 55_631 - len(lines)
  assert [r.truth["numbers"].tolist() for r in data.records] == [
    sorted(map(int, line.split(",")[1:])) for line in lines]
