"""Folders of numbered pictures: what is taken, in which order, and records made from them."""

import pickle

import pytest

from data_pipelines.datasets import numbered
from data_pipelines.errors import DataError
from data_pipelines.records import Record


def fill(folder, *names):
  folder.mkdir(exist_ok=True)
  for name in names:
    (folder / name).touch()


def test_order_is_by_number_and_other_files_are_left(tmp_path):
  fill(tmp_path / "a", "1000.jpg", "0002.jpg", "0010.jpg", "0999.jpg", "10000.jpg", "Thumbs.db",
       ".0001.jpg", "cover.jpg", "0003.txt", "groundtruth.txt")
  pictures = numbered.scan(tmp_path / "a")
  assert pictures.numbers.tolist() == [2, 10, 999, 1000, 10000]
  assert pictures.paths == tuple(str(tmp_path / "a" / f"{n:04d}.jpg") for n in pictures.numbers)
  assert pictures[pictures.numbers > 10].paths == pictures.paths[2:]
  assert pictures[:2].paths == pictures.paths[:2] and len(pictures[:2]) == 2


def test_no_pictures(tmp_path):
  fill(tmp_path / "a", "readme.txt")
  pictures = numbered.scan(tmp_path / "a")
  assert len(pictures) == 0 and pictures.paths == ()
  with pytest.raises(DataError, match="can't read this folder"):
    numbered.scan(tmp_path / "b")


@pytest.mark.parametrize("names", [("0001.jpg", "0002.png"), ("0001.jpg", "01.jpg"),
                                   ("1.jpg", "0002.jpg"), ("0001.jpg", "0002.JPG")])
def test_unlike_names_are_refused(tmp_path, names):
  fill(tmp_path / "a", *names)
  with pytest.raises(DataError, match="is not named like"):
    numbered.scan(tmp_path / "a")


def test_lazy_records():
  records = numbered.LazyRecords(Record, ["a", "b", "c", "d"])
  assert len(records) == 4 and records[-1] == Record("d")
  assert [r.id for r in records] == ["a", "b", "c", "d"]
  assert [r.id for r in records[1:3]] == ["b", "c"]
  assert list(pickle.loads(pickle.dumps(records))) == list(records)
  with pytest.raises(IndexError):
    records[4]
