"""ImageNet-1k: class order, the forms of the validation labels, and what is missing."""

import pickle
import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data_pipelines.datasets import imagenet
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import imagenet as made
from tests.data_pipelines.layouts import material

VAL = {made.val_id(n): made.SYNSETS.index(synset) for n, synset in enumerate(made.VAL, 1)}
DEVKIT = [made.DEVKIT[synset] for synset in made.VAL]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  root = tmp_path_factory.mktemp("imagenet")
  made.write(root)
  return root


@pytest.fixture
def root(written, tmp_path):
  return shutil.copytree(written, tmp_path / "ilsvrc")


def read(root, split="val", **options):
  return imagenet.read(str(root), split, **{**made.OPTIONS, **options})


def labels(data):
  return {record.id: record.label for record in data.records}


def test_training_pictures(written):
  data = read(written, "train")
  want = [(f"{synset}_{n}", made.SYNSETS.index(synset)) for synset, numbers in made.TRAIN.items()
          for n in numbers]
  assert [(r.id, r.label) for r in data.records] == sorted(want)
  assert data.classes == made.SYNSETS
  assert [r.text for r in data.records[:3]] == ["tench, Tinca tinca"] * 2 + [
    "goldfish, Carassius auratus"]
  assert data.records[3].text == "n02119789"  # the list of words doesn't have it


def test_the_pictures_are_those_of_the_names(written):
  for record in [*read(written, "train").records, *read(written).records]:
    (path,) = record.frames
    synset, number = record.id.split("_")[0], int(record.id.split("_")[-1])
    if synset == "ILSVRC2012":
      want = material.clip(9, 4)[number - 1]
    else:
      numbers = made.TRAIN[synset]
      want = material.clip(made.SYNSETS.index(synset), len(numbers))[numbers.index(number)]
    assert abs(np.asarray(Image.open(path)).astype(int) - want).mean() < 12


def test_records_are_a_sequence_that_can_be_sent_to_processes(written):
  records = pickle.loads(pickle.dumps(read(written, "train").records))
  assert len(records) == 5 and len(list(records)) == 5
  assert [r.id for r in records[1:3]] == [records[1].id, records[2].id]
  assert records[-1] == records[4]
  with pytest.raises(IndexError):
    records[5]


def test_pictures_of_one_name_are_told_apart_by_their_folders(root):
  for synset, numbers in made.TRAIN.items():
    for n in numbers:
      (root / "train" / synset / f"{synset}_{n}.JPEG").rename(
          root / "train" / synset / f"{n % 5}.JPEG")
  ids = [r.id for r in read(root, "train").records]
  assert len(set(ids)) == len(ids) == 5 and set(ids) == {
      f"{synset}/{n % 5}" for synset, numbers in made.TRAIN.items() for n in numbers}


def move_to_folders(root):
  for n, synset in enumerate(made.VAL, 1):
    (root / "val" / synset).mkdir(exist_ok=True)
    name = f"{made.val_id(n)}.JPEG"
    (root / "val" / name).rename(root / "val" / synset / name)


def in_folders(root):
  (root / "LOC_val_solution.csv").unlink()
  move_to_folders(root)


def tensorflow_list(root):
  (root / "LOC_val_solution.csv").unlink()
  (root / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(made.VAL))


def devkit_with_text(root):
  (root / "LOC_val_solution.csv").unlink()
  (root / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(map(str, DEVKIT)))
  rows = [f"{number} {synset} some words" for synset, number in made.DEVKIT.items()]
  (root / "synsets.txt").write_text("\n".join(rows))


def devkit_with_mat(root):
  (root / "LOC_val_solution.csv").unlink()
  place = root / "ILSVRC2012_devkit_t12/data"
  place.mkdir(parents=True)
  (place / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(map(str, DEVKIT)))
  kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
  rows = [(float(number), synset, "w", 0.0) for synset, number in made.DEVKIT.items()]
  rows.append((4.0, "n00001740", "entity", 3.0))
  scipy.io.savemat(place / "meta.mat", {"synsets": np.array(rows, kind)[:, None]})


@pytest.mark.parametrize("form", [
  lambda root: None, in_folders, tensorflow_list, devkit_with_text, devkit_with_mat])
def test_validation_labels_in_every_form(root, form):
  form(root)
  data = read(root)
  assert labels(data) == VAL and data.classes == made.SYNSETS and data.missing == ()
  assert [record.id for record in data.records] == sorted(VAL)


def test_kaggle_folders(root, tmp_path):
  place = tmp_path / "kaggle/ILSVRC/Data/CLS-LOC"
  place.mkdir(parents=True)
  for name in ("train", "val"):
    (root / name).rename(place / name)
  for path in root.glob("LOC_*"):
    path.rename(tmp_path / "kaggle" / path.name)
  for top in (tmp_path / "kaggle", tmp_path / "kaggle/ILSVRC", place):
    assert labels(read(top)) == VAL
    assert read(top, "train").records[0].text == "tench, Tinca tinca"


def test_numbers_of_classes_don_t_depend_on_the_split(root):
  shutil.rmtree(root / "train/n01440764")
  in_folders(root)
  assert labels(read(root, "train")) == {"n01443537_7": 1, "n02119789_1": 2, "n02119789_10": 2}
  shutil.rmtree(root / "val/n01440764")
  assert set(labels(read(root, "train")).values()) == {0, 1}  # no trace of it is left


def test_missing_pictures(root):
  with pytest.raises(DataError, match=r"train: 1,281,167 pictures expected, 5 found; 1,000 "
                     r"classes expected, 3 found; pass allow_missing=True"):
    read(root, "train", allow_missing=False)
  (root / f"val/{made.val_id(3)}.JPEG").unlink()
  with pytest.raises(DataError, match=rf"1 listed picture is missing \(first: {made.val_id(3)}\)"):
    read(root, allow_missing=False)
  data = read(root)
  assert data.missing == (made.val_id(3),)
  assert labels(data) == {i: k for i, k in VAL.items() if i != made.val_id(3)}


def test_wrong_folders_and_lists(root, tmp_path):
  with pytest.raises(DataError, match=r"no split 'vall'; did you mean 'val'"):
    read(root, "vall")
  with pytest.raises(DataError, match=r"imagenet: no train/ or Data/CLS-LOC/train/ or .*; give the"
                     r" folder that holds train/n01440764"):
    read(root / "train", "train")
  (tmp_path / "tars/train").mkdir(parents=True)
  (tmp_path / "tars/train/n01440764.tar").write_bytes(b"x")
  with pytest.raises(DataError, match=r"no folders named like n01440764 in .*unpack n0144"):
    read(tmp_path / "tars", "train")
  (root / "val/extra.JPEG").write_bytes(b"x")
  with pytest.raises(DataError, match=r"has 1 pictures that .*doesn't have \(first: extra\.JPEG\)"):
    read(root)
  (root / "LOC_val_solution.csv").write_text("ILSVRC2012_val_00000001,cat\n")
  with pytest.raises(DataError, match=r"LOC_val_solution\.csv: ILSVRC2012_val_00000001 has 'cat'"):
    read(root)
  (root / "LOC_val_solution.csv").unlink()
  with pytest.raises(DataError, match=r"no folders of classes, and there is no list of labels: put "
                     r"LOC_val_solution\.csv"):
    read(root)
  truth = root / "ILSVRC2012_validation_ground_truth.txt"
  truth.write_text("1\n7\n")
  with pytest.raises(DataError, match=r"neither its meta\.mat nor a synsets\.txt"):
    read(root)
  (root / "synsets.txt").write_text("1 n01440764\n")
  with pytest.raises(DataError, match=r"ground_truth\.txt: line 2 is '7', which is not a number"):
    read(root)
  (root / "synsets.txt").unlink()
  (root / "meta.mat").write_bytes(b"MATLAB 5.0 MAT-file, but damaged")
  with pytest.raises(DataError, match=r"meta\.mat: can't read the devkit's synsets"):
    read(root)
