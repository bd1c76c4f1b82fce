"""OxUvA: videos as folders of pictures, with and without an index."""

import pickle

import numpy as np
import pytest
from PIL import Image

from data_pipelines.datasets import oxuva
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import material
from tests.data_pipelines.layouts import oxuva as small


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("oxuva")
  small.write(folder)
  return folder


def ids(data):
  return [r.id for r in data.records]


def test_dev(root):
  data = oxuva.read(str(root), "dev", allow_missing=True)
  assert ids(data) == ["vid0000", "vid0029"]
  record = pickle.loads(pickle.dumps(data.records))[1]
  assert record.splits == ("dev",) and record.fps == 30
  assert record.frames[0] == str(root / "images/dev/vid0029/000000.jpeg")
  assert record.truth["numbers"].tolist() == list(range(9))
  frames = np.stack([np.asarray(Image.open(p)) for p in record.frames]).astype(int)
  assert np.abs(frames - material.clip(2, 9)).mean() < 8


def test_places(root, tmp_path):
  assert ids(oxuva.read(str(root), "test", allow_missing=True)) == ["vid0003"]
  assert ids(oxuva.read(str(root), "all", allow_missing=True)) == sorted(small.VIDEOS)
  assert ids(oxuva.read(str(root / "images"), "dev", allow_missing=True)) == ["vid0000", "vid0029"]
  flat = oxuva.read(str(root / "images/dev"), "all", allow_missing=True)
  assert ids(flat) == ["vid0000", "vid0029"] and flat.records[0].splits == ()
  with pytest.raises(DataError, match="oxuva: no folders vid0000, vid0001"):
    oxuva.read(str(tmp_path), "all")
  with pytest.raises(DataError, match="oxuva: no test/ in"):
    oxuva.read(str(root / "images/dev"), "test")


def test_counts(root):
  with pytest.raises(DataError, match="185 videos expected, 2 found"):
    oxuva.read(str(root), "dev")
  with pytest.raises(DataError, match="337 videos expected, 3 found; pass"):
    oxuva.read(str(root), "all")


def test_index(root, tmp_path):
  index = tmp_path / "index.csv"
  index.write_text("vid0029,5\nvid0003,10\n")
  data = oxuva.read(str(root), "all", index=str(index))  # it says itself what is expected
  assert ids(data) == ["vid0003", "vid0029"]
  assert [len(r.frames) for r in data.records] == [10, 5]
  assert ids(oxuva.read(str(root), "dev", index=str(index))) == ["vid0029"]
  index.write_text("vid0029,11\nvid0777,4\n")
  with pytest.raises(DataError, match=r"2 listed videos are missing \(first: 2 picture\(s\) of "
                                      r"vid0029, vid0777\)"):
    oxuva.read(str(root), "all", index=str(index))
  data = oxuva.read(str(root), "all", index=str(index), allow_missing=True)
  assert ids(data) == ["vid0029"] and data.missing == ("vid0777",)


@pytest.mark.parametrize("line", ["vid0001", "vid0001,many", "vid0001,0", "vid0000,5"])
def test_bad_index(root, tmp_path, line):
  (tmp_path / "index.csv").write_text(f"vid0000,12\n{line}\n")
  with pytest.raises(DataError, match=rf"index.csv: '{line}' should be the name of a video"):
    oxuva.read(str(root), "all", index=str(tmp_path / "index.csv"))


def test_lost_pictures(tmp_path):
  small.write(tmp_path)
  for t in (0, 3):
    (tmp_path / f"images/dev/vid0000/{t:06d}.jpeg").unlink()
  for picture in (tmp_path / "images/dev/vid0029").iterdir():
    picture.unlink()
  with pytest.raises(DataError, match=r"first: 2 picture\(s\) of vid0000, vid0029"):
    oxuva.read(str(tmp_path), "dev")
  data = oxuva.read(str(tmp_path), "dev", allow_missing=True)
  assert data.missing == ("vid0029",)
  assert data.records[0].truth["numbers"].tolist() == [1, 2, *range(4, 12)]
