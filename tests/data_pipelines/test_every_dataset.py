"""Every data set from its own layout on disk to batches, and the same through prepared shards."""

import functools
import importlib
import itertools
import pathlib

import numpy as np
import pytest

from data_pipelines import clips, prepare, sample, shards, source
from data_pipelines.errors import DataError
from data_pipelines.media import open_media, read_masks

LAYOUTS = pathlib.Path(__file__).parent / "layouts"
NAMES = sorted(p.stem for p in LAYOUTS.glob("*.py") if p.stem not in ("material", "__init__"))
SIZE = 32


@pytest.fixture(scope="module", params=NAMES)
def layout(request, tmp_path_factory):
  """(name, folder, split, options) of one data set in the layout in which people have it."""
  module = importlib.import_module(f"tests.data_pipelines.layouts.{request.param}")
  root = tmp_path_factory.mktemp(request.param)
  module.write(root)
  return request.param, root, module.SPLIT, module.OPTIONS


@pytest.fixture(scope="module")
def prepared(layout, tmp_path_factory):
  """The same data set as shards of untouched bytes."""
  name, root, _, options = layout
  output = tmp_path_factory.mktemp("shards") / name
  given = [f"--option={k}={v}" for k, v in options.items() if k != "allow_missing"]
  if "allow_missing" in options:
    given.append("--allow_missing")
  status = prepare.main([f"--dataset={name}", f"--input={root}", f"--output={output}",
                         "--encode=none", "--workers=1", *given])
  assert status == 0
  return output


def reader():
  choose = functools.partial(sample.clips, n_clips=2, n_frames=2, stride=1, mode="random")
  return clips.Reader(choose, square, short_side=SIZE)


def square(frames, rng):
  del rng
  return frames[:, :SIZE, :SIZE]


def read(layout):
  name, root, split, options = layout
  return source.load(name, str(root), split, **options)


def batches(data, count=3):
  found = clips.batches(clips.training(data, reader(), seed=0), batch=4)
  return list(itertools.islice(found, count))


def test_from_disk_to_batches(layout):
  data = read(layout)
  assert len(data.records)
  assert len({r.id for r in data.records}) == len(data.records)
  for batch in batches(data):
    assert batch["frames"].shape == (4, 2, 2, SIZE, SIZE, 3)
    assert batch["frames"].std() > 5
    for i, label in zip(batch["record"], batch["label"], strict=True):
      record = data.records[int(i)]
      assert record.label == label
      assert label < 0 or not data.classes or label < len(data.classes)


def test_shards_hold_the_same_records_and_give_the_same_batches(layout, prepared):
  raw = read(layout)
  data = source.load(layout[0], str(prepared), layout[2])
  assert [r.id for r in data.records] == [r.id for r in raw.records]
  assert data.classes == raw.classes
  for light, original in zip(data.records, raw.records, strict=True):
    assert (light.label, light.text, light.start, light.end) == (
        original.label, original.text, original.start, original.end)
  for a, b in zip(batches(data), batches(raw), strict=True):
    for key in b:
      np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_truth_and_masks_survive(layout, prepared):
  raw, data = read(layout), source.load(layout[0], str(prepared), layout[2])
  for light, original in zip(data.records, raw.records, strict=True):
    stored = shards.resolve(light)
    assert stored.truth.keys() == original.truth.keys()
    for key, value in original.truth.items():
      np.testing.assert_array_equal(stored.truth[key], value, err_msg=key)
      assert stored.truth[key].dtype.kind == value.dtype.kind
    assert len(stored.masks) == len(original.masks)
    if original.masks:
      with open_media(original) as media:
        numbers = np.arange(media.n_frames)
      np.testing.assert_array_equal(read_masks(stored, numbers), read_masks(original, numbers))


def test_a_retrieval_set_is_the_same_from_shards(layout, prepared):
  name, root, _, _ = layout
  module = source.module(name)
  if name == "procedural" or not hasattr(module, "make"):
    pytest.skip("no retrieval set in the layout of its videos")
  given = {} if name == "folder" else {"allow_missing": True}
  lists = {} if name == "folder" else {"annotations": str(root / "annotations")}
  raw = module.make(root=str(root), **given, **lists)
  stored = module.make(root=str(prepared), **given, **lists)
  assert stored.videos.keys() == raw.videos.keys()
  assert (stored.pairs, stored.queries, stored.database, stored.annotation) == (
      raw.pairs, raw.queries, raw.database, raw.annotation)
  assert all(shards.is_address(r.video) for r in stored.videos.values())
  assert [r.edit_seed for r in stored.videos.values()] == [r.edit_seed for r in raw.videos.values()]


def test_a_wrong_folder_or_split_is_named(layout, tmp_path):
  name, root, split, options = layout
  if name != "procedural":  # it writes its folder itself
    with pytest.raises(DataError, match="nowhere"):
      source.load(name, str(tmp_path / "nowhere"), split, **options)
  with pytest.raises(DataError, match="nosuchsplit"):
    source.load(name, str(root), "nosuchsplit", **options)
  with pytest.raises(DataError, match=name):
    source.load(name, str(root), split, nosuchoption=1)


def test_names():
  assert set(NAMES) <= set(source.names())
  with pytest.raises(DataError, match=r"no data set 'ufc101'; did you mean 'ucf101'"):
    source.load("ufc101", "x", "train1")
  with pytest.raises(DataError, match=r"ucf101: no folder given; see docs/data/ucf101\.md"):
    source.load("ucf101", "", "train1")
  for name in source.names():
    module = source.module(name)
    assert set(module.PREPARED) <= set(module.SPLITS), name
    assert (pathlib.Path(__file__).parents[2] / "docs" / "data" / f"{name}.md").is_file(), name
