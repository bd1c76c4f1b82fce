"""Builders of TFDS."""

import pickle

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from data_pipelines import builders, examples, shards
from data_pipelines.errors import DataError
from tests.data_pipelines import clips


@pytest.fixture
def videos(tmp_path):
  folder = tmp_path / "videos" / "jump"
  folder.mkdir(parents=True)
  for k in range(4):
    (folder / f"{k}.mp4").write_bytes(clips.encode(clips.numbered(8, first=k)))
  return folder.parent


def test_prepare_and_read_as_tfds_does(videos, tmp_path):
  builder = builders.builder("folder", videos, tmp_path / "tfds", short_side=32, workers=1,
                             n_shards=2, options={"by_class": True})
  assert builder.data_dir == str(tmp_path / "tfds" / "folder" / "1.0.0")
  builder.download_and_prepare()
  assert builder.info.splits["full"].num_examples == 4
  assert builder.info.splits["full"].num_shards == 2
  source = builder.as_data_source("full")
  records = {record.id: record for record in map(examples.to_record, source)}
  assert sorted(records) == [f"jump/{k}.mp4" for k in range(4)]
  assert {record.label for record in records.values()} == {0}
  assert source[0]["height"] == 32 and source[0]["n_frames"] == 8
  for light in shards.read(builder.data_dir, "all").records:
    assert shards.resolve(light).video == records[light.id].video


def test_others_read_it_without_this_package(videos, tmp_path):
  builder = builders.builder("folder", videos, tmp_path, workers=1)
  builder.download_and_prepare()
  ids = [example["id"] for example in builder.as_data_source("all")]
  by_name = tfds.data_source("folder", data_dir=tmp_path, split="full")
  by_place = tfds.builder_from_directory(builder.data_dir).as_data_source("full")
  assert len(ids) == 4
  assert [e["id"] for e in by_name] == [e["id"] for e in by_place] == ids


def test_prepared_once_and_pickled(videos, tmp_path):
  builder = builders.builder("folder", videos, tmp_path, workers=1, short_side=16, crf=30)
  builder.download_and_prepare()
  copy = pickle.loads(pickle.dumps(builder))
  assert [e["id"] for e in copy.as_data_source("full")] == [
      e["id"] for e in builder.as_data_source("full")]
  for path in videos.rglob("*.mp4"):
    path.touch()
  copy.download_and_prepare()  # nothing to do
  changed = builders.builder("folder", videos, tmp_path, workers=1, short_side=32, crf=30)
  with pytest.raises(DataError, match="short_side was 16, is 32"):
    changed.download_and_prepare()


def test_names_of_tfds_stay_its_own(tmp_path):
  before = registered.list_imported_builders()
  builder = builders.builder("ucf101", tmp_path, tmp_path)
  assert builder.name == "ucf101" and builder.info.features.keys() == examples.features().keys()
  assert registered.list_imported_builders() == before


@pytest.mark.parametrize(("name", "settings", "words"), [
    ("foldr", {}, "folder"), ("folder", {"encode": "some"}, "encode"),
    ("folder", {"colour": 1}, "colour")])
def test_wrong_names_and_settings(tmp_path, name, settings, words):
  with pytest.raises(DataError, match=words):
    builders.builder(name, tmp_path, tmp_path, **settings)
