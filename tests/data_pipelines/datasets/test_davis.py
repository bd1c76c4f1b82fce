"""DAVIS: sequences, splits and label maps; on rendered ones and on the real ones."""

import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines.datasets import davis
from data_pipelines.errors import DataError
from data_pipelines.pictures import read_labels
from tests.data_pipelines.layouts import davis as small
from tests.data_pipelines.layouts import material


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("davis")
  small.write(folder)
  return folder


def png(array, mode):
  file = io.BytesIO()
  image = Image.frombytes(mode, array.shape[1::-1], array.astype(np.uint8).tobytes())
  if mode == "P":
    image.putpalette(davis.palette().ravel())
  image.save(file, "PNG")
  return file.getvalue()


def test_val(root):
  data = davis.read(str(root), "val", allow_missing=True)
  assert [r.id for r in data.records] == ["blackswan", "gold-fish"] and not data.missing
  record = data.records[0]
  assert record.splits == ("val", "2016-val", "trainval", "2016-trainval")
  assert record.fps == 24
  assert record.frames == tuple(str(root / f"JPEGImages/480p/blackswan/{t:05d}.jpg")
                                for t in range(small.N_FRAMES))
  frames = np.stack([np.asarray(Image.open(p)) for p in record.frames]).astype(int)
  seed = small.SEEDS["blackswan"]
  assert np.abs(frames - material.clip(seed, small.N_FRAMES)).mean() < 8
  labels = np.stack([read_labels(p) for p in record.masks])
  np.testing.assert_array_equal(labels, material.truth(seed, small.N_FRAMES).labels)


@pytest.mark.parametrize("split, ids", [
  ("train", ["bear", "bmx-bumps"]), ("trainval", ["bear", "blackswan", "bmx-bumps", "gold-fish"]),
  ("2016-trainval", ["bear", "blackswan"]), ("all", sorted(small.SEEDS))])
def test_splits(root, split, ids):
  assert [r.id for r in davis.read(str(root), split, allow_missing=True).records] == ids


def test_only_the_first_label_map_of_a_test_sequence_is_there(root, caplog):
  record, = davis.read(str(root), "test-dev", allow_missing=True).records
  assert record.masks[0].endswith("aerobatics/00000.png") and set(record.masks[1:]) == {""}
  assert len(record.masks) == len(record.frames)
  assert "label maps" not in caplog.text


def test_counts(root):
  with pytest.raises(DataError, match="davis val: 30 sequences expected, 2 found; pass allow_m"):
    davis.read(str(root), "val")


def test_missing_sequences_and_label_maps_are_named(root, tmp_path):
  small.write(tmp_path)
  (tmp_path / "ImageSets/2017/val.txt").write_text("blackswan\ngold-fish\nscooter-black\n")
  (tmp_path / "Annotations/480p/gold-fish/00003.png").unlink()
  with pytest.raises(DataError, match=r"first: label maps of gold-fish, scooter-black\)"):
    davis.read(str(tmp_path), "val")
  data = davis.read(str(tmp_path), "val", allow_missing=True)
  assert data.missing == ("scooter-black",)
  assert [t for t, mask in enumerate(data.records[1].masks) if not mask] == [3]
  assert "scooter-black" in davis.read(str(tmp_path), "all", allow_missing=True).missing


def test_list_of_the_2016_download(tmp_path):
  small.write(tmp_path)
  (tmp_path / "ImageSets/2016/val.txt").unlink()
  (tmp_path / "ImageSets/480p").mkdir()
  (tmp_path / "ImageSets/480p/val.txt").write_text("".join(
    f"/JPEGImages/480p/{name}/{t:05d}.jpg /Annotations/480p/{name}/{t:05d}.png \n"
    for name in ("gold-fish", "bear") for t in range(6)))
  data = davis.read(str(tmp_path), "2016-val", allow_missing=True)
  assert [r.id for r in data.records] == ["bear", "gold-fish"]


def test_wrong_folders(root, tmp_path):
  with pytest.raises(DataError, match=r"no 'Full-Resolution' in .*; it has 480p"):
    davis.read(str(root), "val", resolution="Full-Resolution")
  with pytest.raises(DataError, match=r"davis: no JPEGImages/ in .*, which holds nothing"):
    davis.read(str(tmp_path), "val")
  with pytest.raises(DataError, match="did you mean 'test-dev'"):
    davis.read(str(root), "testdev")
  with pytest.raises(DataError, match=r"no ImageSets/2017/test-challenge.txt in .* split 'all'"):
    davis.read(str(root), "test-challenge")


def test_full_resolution(tmp_path):
  small.write(tmp_path)
  for kind in ("JPEGImages", "Annotations"):
    (tmp_path / kind / "480p").rename(tmp_path / kind / "Full-Resolution")
  data = davis.read(str(tmp_path), "val", allow_missing=True, resolution="Full-Resolution")
  assert "Full-Resolution" in data.records[0].frames[0]
  assert "Full-Resolution" in data.records[0].masks[0]


def test_palette():
  palette = davis.palette()
  assert palette[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
  assert palette[255].tolist() == [224, 224, 192] and len(np.unique(palette, axis=0)) == 256
  assert palette.ravel().tolist() == material.PALETTE


# The real sequences: pictures and masks as in DAVIS-2016, and results as in DAVIS-2017.


@pytest.fixture
def real(data_dir):
  folder = data_dir / "davis"
  if not (folder / "davis2016_480p").is_dir():
    pytest.skip(f"no davis2016_480p in {folder}")
  return folder


def test_real_sequences(real):
  data = davis.read(str(real / "davis2016_480p"), "all")
  assert data.records and not data.missing
  for record in data.records:
    assert len(record.frames) == len(record.masks) > 20 and "" not in record.masks
    for frame, mask in zip(record.frames[::10], record.masks[::10], strict=True):
      raw = np.asarray(Image.open(mask))
      assert set(np.unique(raw)) == {0, 255}  # one object, or all of them joined
      labels = read_labels(mask)
      np.testing.assert_array_equal(labels, raw == 255)
      assert labels.dtype == np.uint8 and labels.shape == Image.open(frame).size[::-1]


def test_real_results_are_indexed(real):
  counts = {}
  for folder in sorted((real / "osvos_davis2017_results").iterdir()):
    raw = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))[::10]]
    labels = [read_labels(str(path)) for path in sorted(folder.glob("*.png"))[::10]]
    np.testing.assert_array_equal(raw, labels)
    counts[folder.name] = int(labels[0].max())
    stored = Image.open(folder / "00000.png").getpalette()
    assert stored == davis.palette().ravel()[:len(stored)].tolist()
  known = {"blackswan": 1, "libby": 1, "motocross-jump": 2, "kite-surf": 3}
  print("objects:", counts)
  assert counts == {name: known.get(name, count) for name, count in counts.items()}
