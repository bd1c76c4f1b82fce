"""GOT-10k: sequences, boxes and labels, in the layouts that the archives give."""

import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from data_pipelines.datasets import got10k
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import got10k as small
from tests.data_pipelines.layouts import material

TRAIN = ["GOT-10k_Train_000001", "GOT-10k_Train_000002"]


@pytest.fixture
def root(tmp_path):
  small.write(tmp_path)
  return tmp_path


def read(root, split="train"):
  return got10k.read(str(root), split, allow_missing=True)


def ids(data):
  return [r.id for r in data.records]


def test_train(root):
  data = read(root)
  assert ids(data) == TRAIN and not data.missing
  for record in pickle.loads(pickle.dumps(data.records)):
    assert record.fps == 10 and len(record.frames) == small.N_FRAMES
    frames = np.stack([np.asarray(Image.open(p)) for p in record.frames]).astype(int)
    assert np.abs(frames - material.clip(small.SEEDS[record.id], small.N_FRAMES)).mean() < 8
    boxes = small.boxes(record.id)
    absent = [t == small.ABSENT and record.id == TRAIN[1] for t in range(small.N_FRAMES)]
    boxes[absent] = np.nan
    np.testing.assert_allclose(record.truth["boxes"], boxes, atol=1e-3)
    assert record.truth["boxes"].dtype == np.float32
    assert record.truth["cover"].tolist() == list(small.COVER)
    np.testing.assert_array_equal(record.truth["visible"], ~np.array(absent))


def test_only_the_first_box_of_a_test_sequence_is_known(root):
  record, = read(root, "test").records
  assert set(record.truth) == {"boxes"} and record.truth["boxes"].shape == (small.N_FRAMES, 4)
  np.testing.assert_allclose(record.truth["boxes"][0], small.boxes(record.id)[0], atol=1e-3)
  assert np.isnan(record.truth["boxes"][1:]).all()


def test_counts(root):
  for split, count in (("train", "9,335"), ("val", "180"), ("test", "180")):
    with pytest.raises(DataError, match=f"got10k {split}: {count} sequences expected, "):
      got10k.read(str(root), split)


def test_missing_sequences(root):
  with (root / "train/list.txt").open("a") as f:
    f.write("GOT-10k_Train_000003\n")
  for path in (root / "train" / TRAIN[0]).glob("*.jpg"):
    path.unlink()
  data = read(root)
  assert data.missing == (TRAIN[0], "GOT-10k_Train_000003") and ids(data) == TRAIN[1:]


@pytest.mark.parametrize("place", ["full_data/train_data/GOT-10k_Train_split_{:02d}",
                                   "train_data/GOT-10k_Train_split_{:02d}",
                                   "train/GOT-10k_Train_split_{:02d}", "full_data/train_data"])
def test_layouts_of_the_archives(root, tmp_path, place):
  want = [(r.id, r.truth["boxes"].tolist()[0]) for r in read(root).records]
  for k, name in enumerate(TRAIN, 1):
    target = tmp_path / "other" / place.format(k)
    target.mkdir(parents=True, exist_ok=True)
    shutil.move(root / "train" / name, target / name)
  data = read(tmp_path / "other")
  assert [(r.id, r.truth["boxes"].tolist()[0]) for r in data.records] == want


def test_wrong_folders(root, tmp_path):
  with pytest.raises(DataError, match="got10k: no val/ or full_data/val/ or full_data/val_data/"):
    read(root / "train", "val")
  (tmp_path / "x/train").mkdir(parents=True)
  with pytest.raises(DataError, match=r"no folders GOT-10k_Train_000001, ... in .*unpack"):
    read(tmp_path / "x")


def test_damaged_annotations(root):
  folder = root / "train" / TRAIN[1]
  rows = (folder / "groundtruth.txt").read_text().splitlines()
  (folder / "groundtruth.txt").write_text("\n".join(rows[:-1]))
  with pytest.raises(DataError, match=r"Train_000002/groundtruth.txt: 7 boxes for 8 picture"):
    read(root)
  (folder / "groundtruth.txt").write_text("\n".join([*rows[:3], "1,2,3", *rows[4:]]))
  with pytest.raises(DataError, match=r"groundtruth.txt: row 4 is '1 2 3', should be 4 number"):
    read(root)
  (folder / "groundtruth.txt").write_text("\n".join(rows))
  (folder / "cover.label").write_text("8\n8\n")
  with pytest.raises(DataError, match=r"cover.label: 2 rows for 8 pictures"):
    read(root)
  (folder / "cover.label").unlink()
  with pytest.raises(DataError, match=r"cover.label: no such file"):
    read(root)
