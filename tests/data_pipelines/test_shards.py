"""Prepared shards as a data set: the same records as before, damage told by name."""

import concurrent.futures
import dataclasses
import io
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from pyarrow import parquet

from data_pipelines import catalogue, examples, shards
from data_pipelines.errors import DataError, VideoError
from data_pipelines.records import Dataset, Record
from data_pipelines.transcode import Settings
from tests.data_pipelines import clips, prepared


def picture(seed, size=(8, 6)):
  buffer = io.BytesIO()
  Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(
      buffer, "PNG")
  return buffer.getvalue()


VIDEO = clips.encode(clips.numbered(6))
RNG = np.random.default_rng(0)
BOXES = np.array([[1, 2, 3.5, 4], [np.nan] * 4, [0, 0, 1, 1]], np.float32)
RECORDS = [
  Record("b/2", VIDEO, label=1, text="zwei", splits=("train1", "test2"), start=0.1, end=0.15),
  Record("ä b", VIDEO, label=0, text="eins", splits=("test1", "test2")),
  Record("a/3", frames=(picture(0), picture(1), picture(2)), fps=24.0, splits=("train1",),
         masks=(picture(3), "", picture(4)),
         truth={"boxes": BOXES, "visible": np.array([True, False, True]),
                "cover": np.array([8, 0, 3]), "numbers": np.array([0, 5, 2**40])}),
  Record("1", frames=(picture(5), picture(6)),
         truth={"points": RNG.random((2, 5, 2), np.float32), "visible": RNG.random((2, 5)) > 0.5}),
  Record("one joint", frames=(picture(7), picture(8)),
         truth={"points": np.ones((2, 1, 2), np.float32), "visible": np.array([[True], [False]])}),
]
DATASET = Dataset("made", "all", RECORDS, ("eins", "zwei"), ("lost",), "a note")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  place = tmp_path_factory.mktemp("shards")
  other = Dataset("made", "extra", [Record("x", VIDEO, splits=("train1",)), Record("y", b"junk")])
  prepared.write(place, DATASET, other, settings=Settings(encode="none"))
  return place


def assert_same(got, expected):
  assert got == expected
  assert got.truth.keys() == expected.truth.keys()
  for name, array in expected.truth.items():
    assert got.truth[name].dtype.kind == array.dtype.kind
    np.testing.assert_array_equal(got.truth[name], array)


def test_records_come_back_whole_and_in_order(folder):
  dataset = shards.read(folder, "all")
  assert (dataset.name, dataset.split, dataset.classes) == ("made", "all", ("eins", "zwei"))
  assert dataset.missing == ("lost",) and dataset.note == "a note"
  assert len(dataset.records) == len(RECORDS)
  for light, record in zip(dataset.records, RECORDS, strict=True):
    assert light.video.startswith(f"{folder}/made-full.array_record-0000")
    assert not (light.frames or light.masks or light.truth)
    assert_same(shards.resolve(light), record)


def test_light_records_say_what_needs_no_reading(folder):
  for light, record in zip(shards.read(folder, "all").records, RECORDS, strict=True):
    for name in ("id", "start", "end", "fps", "label", "text", "splits"):
      assert getattr(light, name) == getattr(record, name)


def test_official_splits_across_prepared_ones(folder):
  ids = {split: [r.id for r in shards.read(folder, split).records]
         for split in ("train1", "test1", "test2", "extra")}
  assert ids == {"train1": ["b/2", "a/3", "x"], "test1": ["ä b"], "test2": ["b/2", "ä b"],
                 "extra": ["x"]}
  assert shards.read(folder, "extra").missing == ("y",)
  assert shards.read(folder, "train1").missing == ()
  assert shards.resolve(shards.read(folder, "train1").records[2]).video == VIDEO


def test_random_access_and_look_up(folder):
  records = shards.read(folder, "all").records
  assert records[-1].id == "one joint" and [r.id for r in records[1:3]] == ["ä b", "a/3"]
  assert records[np.int64(1)].id == "ä b"
  with pytest.raises(IndexError, match="5 records"):
    records[5]
  assert [records.find(r.id) for r in RECORDS] == list(range(5))
  for absent in ("", "a", "zzz", "ä", "lost"):
    with pytest.raises(KeyError):
      records.find(absent)


def test_records_can_be_pickled(folder):
  records = shards.read(folder, "train1").records
  data = pickle.dumps(records)
  assert len(data) < 1000
  assert list(pickle.loads(data)) == list(records)


def test_what_the_light_record_says_wins(folder):
  light = shards.read(folder, "all").records[0]
  changed = dataclasses.replace(light, id="edit", start=0.05, end=None, edit_seed=3, label=7)
  assert shards.resolve(changed) == dataclasses.replace(changed, video=VIDEO)


@pytest.mark.parametrize("video", ["/a/b.mp4", "", b"data", "/a#b/c#1.mp4"])
def test_other_records_are_returned_as_they_are(video):
  record = Record("a", video)
  assert not shards.is_address(video) and shards.resolve(record) is record


def test_threads_share_readers(folder):
  records = list(shards.read(folder, "all").records) * 20
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(shards.resolve, records))
  for got, record in zip(found, RECORDS * 20, strict=True):
    assert_same(got, record)


def test_more_shards_than_may_be_open(folder, monkeypatch):
  monkeypatch.setattr(shards, "MAX_OPEN", 1)
  for _ in range(3):
    for light, record in zip(shards.read(folder, "all").records, RECORDS, strict=True):
      assert_same(shards.resolve(light), record)
  assert len(shards._READERS._open) == 1


def test_tfds_reads_them(folder):
  source = tfds.builder_from_directory(folder).as_data_source("full")
  found = {record.id: record for record in map(examples.to_record, source)}
  for record in RECORDS:
    got = found[record.id]
    if record.start is not None:
      assert (got.start, got.end) == pytest.approx((record.start, record.end), rel=1e-6)
    assert_same(dataclasses.replace(got, start=record.start, end=record.end), record)
  everything = tfds.builder_from_directory(folder).as_data_source("all")
  assert len(everything) == len(RECORDS) + 1


def test_unknown_split_names_the_nearest(folder):
  with pytest.raises(DataError, match=r"'trian1'; did you mean 'train1'.*all, extra, test1"):
    shards.read(folder, "trian1")


def test_what_is_prepared(folder, tmp_path):
  assert shards.is_prepared(folder) and shards.is_prepared(f"{folder}/")
  assert not shards.is_prepared("") and not shards.is_prepared(tmp_path)
  assert not shards.is_prepared(tmp_path / "nowhere")
  for text in ("not json", "[1]", '{"format": 3}', '{"clips": []}'):
    (tmp_path / "manifest.json").write_text(text)
    assert not shards.is_prepared(tmp_path)
  with pytest.raises(DataError, match="no finished data set"):
    shards.read(tmp_path, "all")
  (tmp_path / "manifest.json").write_text('{"format": "vssl_shards/99"}')
  with pytest.raises(DataError, match="vssl_shards/99"):
    shards.read(tmp_path, "all")


def test_remote_folders_are_to_be_copied(folder):
  import fsspec
  fs = fsspec.filesystem("memory")
  fs.put(str(folder), "/remote", recursive=True)
  assert shards.is_prepared("memory://remote")
  assert shards.verify("memory://remote") == {}
  with pytest.raises(DataError, match="copy the folder first"):
    shards.read("memory://remote", "all")


def damaged(folder, tmp_path, change):
  """A copy of the folder with one file of three large videos changed; its records."""
  records = [Record(str(k), clips.encode(clips.numbered(9, first=k), options={"crf": "1"}))
             for k in range(3)]
  prepared.write(tmp_path, Dataset("d", "all", records), n_shards=1)
  path = tmp_path / "d-full.array_record-00000-of-00001"
  change(path)
  return path, shards.read(tmp_path, "all").records


def test_a_missing_shard_is_named(folder, tmp_path):
  path, records = damaged(folder, tmp_path, lambda p: p.unlink())
  with pytest.raises(DataError, match=rf"{path.name}: .*No such file.* partly copied"):
    shards.resolve(records[0])
  assert shards.verify(tmp_path) == {path.name: "is missing"}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_shard_is_named(folder, tmp_path, share):
  def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[:int(share * len(data))])
  path, records = damaged(folder, tmp_path, cut)
  with pytest.raises(DataError, match=rf"{path.name}: this shard can't be opened"):
    shards.resolve(records[0])
  assert "bytes" in shards.verify(tmp_path)[path.name]


def test_bit_rot_costs_one_example_and_is_named(folder, tmp_path):
  def rot(path):
    data = bytearray(path.read_bytes())
    first = clips.encode(clips.numbered(9, first=0), options={"crf": "1"})
    data[data.index(first[200:300]) + 40] ^= 1
    path.write_bytes(data)
  path, records = damaged(folder, tmp_path, rot)
  bad = records.find("0")
  with pytest.raises(VideoError, match=rf"{path.name}#\d: damaged in its shard") as error:
    shards.resolve(records[bad])
  assert error.value.name == records[bad].video
  assert all(len(shards.resolve(r).video) > 1000 for r in records if r.id != "0")
  assert "checksum" in shards.verify(tmp_path)[path.name]


def test_a_row_that_is_not_there(folder):
  light = shards.read(folder, "all").records[0]
  address = light.video.split("#")[0] + "#99"
  with pytest.raises(VideoError, match=r"#99: damaged in its shard \(index 99 out of bound"):
    shards.resolve(dataclasses.replace(light, video=address))


@pytest.mark.parametrize(("truth", "word"), [
    ({"odd": np.zeros(2)}, "odd"), ({"boxes": np.zeros((2, 3))}, "boxes"),
    ({"points": np.zeros((2, 2))}, "points"), ({"cover": np.zeros((2, 2))}, "cover")])
def test_truth_that_can_t_be_stored(tmp_path, truth, word):
  with pytest.raises(DataError, match=rf"^r: shards can't hold truth '{word}'"):
    prepared.write(tmp_path, Dataset("d", "all", [Record("r", frames=(picture(0),), truth=truth)]))


def test_edited_records_can_t_be_stored(tmp_path):
  with pytest.raises(DataError, match="edit_seed"):
    prepared.write(tmp_path, Dataset("d", "all", [Record("r", VIDEO, edit_seed=1)]))


def test_two_records_of_one_id(tmp_path):
  with pytest.raises(DataError, match="two records have the id 'r'"):
    prepared.write(tmp_path, Dataset("d", "all", [Record("r", VIDEO), Record("r", VIDEO)]))


OPEN = """
import sys, time
import psutil
from data_pipelines import shards
before = psutil.Process().memory_info().rss
start = time.perf_counter()
records = shards.read(sys.argv[1], "train").records
seconds = time.perf_counter() - start
n_bytes = psutil.Process().memory_info().rss - before
assert len(records) == 1_300_000 and records[1_299_999].text == "class 999", records[-1]
start_of_record = time.perf_counter()
for i in range(0, 1_300_000, 1300): records[i]
each = (time.perf_counter() - start_of_record) / 1000
assert records.find("n01234567/n01234567_654321.JPEG") == 654321
print(seconds, n_bytes, each)
"""


@pytest.mark.slow
def test_a_million_records_open_at_once(tmp_path):
  prepared.write(tmp_path, Dataset("big", "train", [Record("r", VIDEO)]), n_shards=1)
  n = 1_300_000
  columns = {"id": [f"n01234567/n01234567_{i:06d}.JPEG" for i in range(n)],
             "row": np.arange(n) % 2000, "label": np.arange(n) % 1000,
             "text": [f"class {i % 1000}" for i in range(n)],
             "splits": pa.array([["train"]] * n), "start": pa.nulls(n), "end": pa.nulls(n),
             "fps": pa.nulls(n), "reencoded": np.ones(n, bool)}
  columns |= {"split": ["train"] * n, "kind": ["frames"] * n, "shard": np.zeros(n)}
  columns |= {name: np.full(n, 256) for name in ("n_frames", "height", "width", "rotation")}
  table = pa.table([pa.array(columns[f.name]).cast(f.type) if f.name not in ("split", "kind",
                    "text") else pa.array(columns[f.name]).dictionary_encode()
                    for f in catalogue.SCHEMA], schema=catalogue.SCHEMA)
  parquet.write_table(table, tmp_path / "index.parquet", compression="zstd")
  del table, columns
  out = subprocess.run([sys.executable, "-c", OPEN, tmp_path], capture_output=True, text=True)
  assert out.returncode == 0, out.stderr
  seconds, n_bytes, each = map(float, out.stdout.split())
  print(f"{seconds:.2f} s, {n_bytes / 1e6:.0f} MB, {each * 1e6:.0f} us a record")
  assert seconds < 6 and n_bytes < 300e6
