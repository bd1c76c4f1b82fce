"""OTB: lists, tracks, ranges and the forms in which its boxes are written."""

import json

import numpy as np
import pytest
from PIL import Image

from data_pipelines.datasets import otb
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import material
from tests.data_pipelines.layouts import otb as small

TRACKS = {"Basketball": ("Basketball", 0), "BlurCar1": ("BlurCar1", 0), "Board": ("Board", 0),
          "Football1": ("Football1", 0), "Human4": ("Human4", 0), "Jogging-1": ("Jogging", 0),
          "Jogging-2": ("Jogging", 1)}


@pytest.fixture
def root(tmp_path):
  small.write(tmp_path)
  return tmp_path


def read(root, split="otb100"):
  return otb.read(str(root), split, allow_missing=True)


def test_tracks(root):
  data = read(root)
  assert [r.id for r in data.records] == list(TRACKS)
  for record in data.records:
    name, track = TRACKS[record.id]
    np.testing.assert_array_equal(record.truth["boxes"], small.boxes(name, track))
    frames = np.stack([np.asarray(Image.open(p)) for p in record.frames]).astype(int)
    seed, first, digits, _ = small.SEQUENCES[name]
    kept = small.ANNOTATED.get(name, slice(None))
    assert np.abs(frames - material.clip(seed, small.N_FRAMES)[kept]).mean() < 8
    assert record.frames[0] == str(root / name / "img" / f"{first:0{digits}d}.jpg")
  assert data.records[3].frames[-1].endswith("img/0074.jpg")  # Football1 ends there
  assert len(data.missing) == 93 and "Skating2-1" in data.missing and "Car1" in data.missing


def test_lists(root):
  splits = {r.id: r.splits for r in read(root).records}
  assert splits["Basketball"] == ("otb100", "otb50", "otb2013")
  assert splits["Jogging-2"] == ("otb100", "otb2013") and splits["Human4"] == ("otb100", "otb50")
  assert [r.id for r in read(root, "otb2013").records] == ["Basketball", "Football1", "Jogging-1",
                                                           "Jogging-2"]
  with pytest.raises(DataError, match="otb otb100: 100 tracks expected, 7 found; 93 listed tracks"):
    otb.read(str(root))
  with pytest.raises(DataError, match="no split 'otb2015'; did you mean 'otb2013'"):
    read(root, "otb2015")


def test_numbers_of_tracks_are_those_of_the_lists():
  for split, names in otb.SEQUENCES.items():
    two = sum(name in otb.TWO_OBJECTS for name in names)
    assert otb.SPLITS[split]["tracks"] == len(set(names)) + two == len(names) + two
  assert set(otb.SEQUENCES["otb50"]) | set(otb.SEQUENCES["otb2013"]) < set(otb.SEQUENCES["otb100"])


def test_lists_are_the_published_ones(data_dir):
  path = data_dir / "annotations" / "cycle_contrast" / "tracking" / "otb_sequences.json"
  if not path.is_file():
    pytest.skip(f"no {path}")
  known = json.loads(path.read_text())
  for split, key in (("otb100", "tb100"), ("otb50", "tb50"), ("otb2013", "otb2013")):
    assert sorted(otb.SEQUENCES[split]) == sorted(known[key])
  assert {k: list(v) for k, v in otb.RANGES.items()} == known["frame_ranges_1based_inclusive"]
  assert list(otb.TWO_OBJECTS) == known["two_target_sequences"]
  assert otb.SPLITS["otb100"]["tracks"] == known["expected_number_of_tracks"]


def test_a_lost_track_is_named(root):
  (root / "Jogging/groundtruth_rect.2.txt").unlink()
  (root / "Board/groundtruth_rect.txt").unlink()
  data = read(root)
  assert {"Jogging-2", "Board"} < set(data.missing) and "Jogging-1" not in data.missing


def test_damaged_sequences(root):
  (root / "Board/img/00003.jpg").unlink()
  with pytest.raises(DataError, match=r"Board/groundtruth_rect.txt: 6 boxes for 5 picture\(s\)"):
    read(root)
  (root / "Board/groundtruth_rect.txt").rename(root / "Board/moved_away.txt")
  (root / "Basketball/groundtruth_rect_old.txt").write_text("1,1,1,1\n")
  with pytest.raises(DataError, match=r"Basketball: has groundtruth_rect\.txt and groundtruth_"):
    read(root)


def test_wrong_folder(tmp_path):
  (tmp_path / "OTB100").mkdir()
  with pytest.raises(DataError, match=r"otb: no Basketball/ in .*, which holds OTB100; give the"):
    read(tmp_path)
