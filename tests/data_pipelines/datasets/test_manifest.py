"""Lists of videos as csv, tsv and Parquet: columns, values, ids, and missing files."""

import pathlib
import pickle
import shutil

import pyarrow
import pyarrow.parquet
import pytest

from data_pipelines.datasets import manifest
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import manifest as made


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  root = tmp_path_factory.mktemp("manifest")
  made.write(root)
  return root


@pytest.fixture
def root(written, tmp_path):
  return shutil.copytree(written, tmp_path / "list")


def write(root, text, name="list.csv"):
  (root / name).write_text(text)
  return root / name


def read(path, split="all", **options):
  return manifest.read(str(path), split, **{**made.OPTIONS, **options})


def check_made(data, root):
  """Everything that the fixture's rows say."""
  assert data.classes == ("cooking", "sleeping")
  a, b, rest, c = data.records
  assert [r.id for r in data.records] == ["videos/a.mp4", "videos/b.avi#0.5-1.25",
                                          "videos/b.avi#1.25-", "pictures/c"]
  assert [(r.label, r.start, r.end, r.splits) for r in data.records] == [
    (1, None, None, ("train",)), (0, 0.5, 1.25, ("train",)), (1, 1.25, None, ("val",)),
    (0, None, None, ("val",))]
  assert (a.text, b.text, c.text) == ("a cat, asleep", "", "soup")
  assert a.video == str(root / "videos/a.mp4") and b.video == rest.video
  assert c.video == "" and c.fps == 8.0
  assert c.frames == tuple(str(root / f"pictures/c/{n}.jpg") for n in range(8, 20))


def test_every_column(written):
  check_made(read(written / "manifest.csv"), written)
  check_made(read(written), written)  # the folder of a list of this name


def test_parquet_and_tsv_give_the_same(root):
  columns = {"path": ["videos/a.mp4", "videos/b.avi", "videos/b.avi", "pictures/c"],
             "start": [None, 0.5, 1.25, None], "end": [None, 1.25, None, None],
             "label": ["sleeping", "cooking", "sleeping", "cooking"],
             "split": ["train", "train", "val", "val"],
             "text": ["a cat, asleep", None, None, "soup"], "width": [64] * 4}
  pyarrow.parquet.write_table(pyarrow.table(columns), root / "list.parquet")
  check_made(read(root / "list.parquet"), root)
  lines = ["\t".join("" if v is None else str(v) for v in row)
           for row in zip(*columns.values(), strict=True)]
  check_made(read(write(root, "\n".join(["\t".join(columns), *lines]), "list.tsv")), root)


def test_splits_are_those_that_the_list_names(written):
  assert [r.id for r in read(written, "val").records] == ["videos/b.avi#1.25-", "pictures/c"]
  assert read(written, "val").classes == ("cooking", "sleeping")
  with pytest.raises(DataError, match=r"no split 'vall'; did you mean 'val'\? It has all, train"):
    read(written, "vall")


def test_records_can_be_sent_to_processes(written):
  records = read(written).records
  assert list(pickle.loads(pickle.dumps(records))) == list(records)


def test_path_alone(root):
  data = read(write(root, f"\ufeffpath\nvideos/a.mp4\n{root / 'videos/b.avi'}\n\n"
                    "pictures/c/9.jpg\nvideos/../videos/b.avi\n"))
  assert [(r.label, r.text, r.splits) for r in data.records] == [(-1, "", ())] * 4
  assert data.records[1].id == str(root / "videos/b.avi") and data.classes == ()
  assert data.records[2].frames == (str(root / "pictures/c/9.jpg"),)
  assert data.records[3].video == str(root / "videos/b.avi")


def test_numbers_as_labels(root):
  path = write(root, "path,label\nvideos/a.mp4,7.0\nvideos/b.avi,\npictures/c,0\n")
  data = read(path)
  assert [r.label for r in data.records] == [7, -1, 0] and data.classes == ()
  names = write(root, "\n".join("abcdefgh"), "names.txt")
  data = read(path, classes=str(names))
  assert [r.text for r in data.records] == ["h", "", "a"] and len(data.classes) == 8
  write(root, "a\nb", "names.txt")
  with pytest.raises(DataError, match=r"row 1: label '7\.0' is not among the 2 classes of .*names"):
    read(path, classes=str(names))
  with pytest.raises(DataError, match=r"row 1: label '-4' is not among the numbers from 0"):
    read(write(root, "path,label\nvideos/a.mp4,-4\n"))


def test_names_numbered_by_a_file(root):
  names = write(root, "sleeping\neating\ncooking\n", "names.txt")
  assert [r.label for r in read(root, classes=str(names)).records] == [0, 2, 0, 2]
  write(root, "sleeping\n", "names.txt")
  with pytest.raises(DataError, match=r"row 2: label 'cooking' is not among the 1 classes of"):
    read(root, classes=str(names))


def test_ids(root):
  data = read(write(root, "id,path\nx,videos/a.mp4\n,videos/b.avi\n"))
  assert [r.id for r in data.records] == ["x", "videos/b.avi"]
  with pytest.raises(DataError, match=r"list\.csv: rows 1 and 3 are both 'videos/a\.mp4'?#0-'?; "
                     "give them different values in a column 'id'"):
    read(write(root, "path\nvideos/a.mp4\nvideos/b.avi\nvideos/a.mp4\n"))
  with pytest.raises(DataError, match=r"rows 1 and 2 are both 'x'"):
    read(write(root, "id,path\nx,videos/a.mp4\nx,videos/b.avi\n"))


def test_missing_files(root):
  path = write(root, "path,split\nvideos/a.mp4,train\nvideos/z.mp4,train\nno/b.mp4,val\n")
  with pytest.raises(DataError, match=r"list\.csv all: 3 videos expected, 1 found; 2 listed videos "
                     r"are missing \(first: no/b\.mp4, videos/z\.mp4\); pass allow_missing=True"):
    read(path)
  data = read(path, allow_missing=True)
  assert data.missing == ("no/b.mp4", "videos/z.mp4")
  assert [r.id for r in data.records] == ["videos/a.mp4"]
  assert read(path, "train", allow_missing=True).missing == ("videos/z.mp4",)


@pytest.mark.parametrize("text, message", [
  ("video,class\na.mp4,1\n", r"has the columns video, class; wanted: path, and if known id, start, "
   r"end, label, split, text, each once, named in the first row"),
  ("videos/a.mp4 3\n", r"has the columns videos/a\.mp4 3; wanted: path"),
  ("", r"has the columns none; wanted: path"),
  ("path,path\na,b\n", r"has the columns path, path; wanted"),
  ("path,label\n", r"has no rows"),
  ("path,text\na.mp4,a cat, asleep\n", r"line 2 has 3 values for 2 columns; put values with comma"),
  ("path,start,end\nvideos/a.mp4,3,2\n", r"row 1: start and end should be seconds.*'3' and '2'"),
  ("path,start,end\nvideos/a.mp4,,\nvideos/b.avi,x,2\n", r"row 2: start and end .*'x' and '2'"),
  ("path,start,end\nvideos/a.mp4,-1,2\n", r"row 1: start and end"),
  ("path,start,end\nvideos/a.mp4,0,nan\n", r"row 1: start and end"),
  ("path,start,end\nvideos/a.mp4,0,inf\n", r"row 1: start and end"),
  ("path,label\n ,1\n", r"row 1 has no path"),
  ("path\nvideos\n", r"videos: this folder of the list has no pictures"),
])
def test_bad_lists(root, text, message):
  with pytest.raises(DataError, match=message):
    read(write(root, text))


def test_no_list(root, tmp_path):
  for path, message in (
      ("", "no list given"), (root / "no.csv", r"no\.csv doesn't exist"),
      (root / "videos", r"has 0 files named manifest\.csv or manifest\.tsv"),
      (write(root, "x", "a.json"), r"a\.json should end in \.csv, \.tsv, \.parquet"),
      (write(root, "x", "a.parquet"), r"a\.parquet: can't read this list")):
    with pytest.raises(DataError, match=message):
      read(path)
  (root / "latin.csv").write_bytes(b"path\n\xe4.mp4\n")
  with pytest.raises(DataError, match=r"latin\.csv: can't read this list .*utf-8"):
    read(root / "latin.csv")
  pyarrow.parquet.write_table(pyarrow.table({"video": ["a"]}), root / "b.parquet")
  with pytest.raises(DataError, match=r"b\.parquet: has the columns video; wanted: path"):
    read(root / "b.parquet")
  shutil.copy(root / "b.parquet", root / "manifest.parquet")
  with pytest.raises(DataError, match=r"has 2 files named manifest"):
    read(root)


def test_home_folder_in_paths(root, monkeypatch):
  monkeypatch.setenv("HOME", str(root))
  data = read(write(root, "path\n~/videos/a.mp4\n"))
  assert data.records[0].video == str(pathlib.Path(root / "videos/a.mp4"))
