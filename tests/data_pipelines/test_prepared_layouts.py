"""Every data set that there is a small copy of: prepared and read back, it is the same."""

import importlib
import pathlib
import pkgutil

import numpy as np
import pytest

from data_pipelines import preparation, shards, source
from data_pipelines.preparation import Job
from data_pipelines.transcode import Settings
from tests.data_pipelines import layouts

NAMES = sorted(m.name for m in pkgutil.iter_modules(layouts.__path__) if m.name != "material")


def raw_bytes(sources):
  return tuple(s if isinstance(s, bytes) or not s else pathlib.Path(s).read_bytes()
               for s in sources)


@pytest.mark.parametrize("name", NAMES)
def test_prepared_and_read_back(name, tmp_path):
  layout = importlib.import_module(f"tests.data_pipelines.layouts.{name}")
  root = tmp_path / "raw"
  root.mkdir()
  layout.write(root)
  raw = source.load(name, str(root), layout.SPLIT, **layout.OPTIONS)
  job = Job(name, str(root), str(tmp_path / "out"), options=layout.OPTIONS,
            settings=Settings(encode="none"), workers=1, n_shards=1, max_bad_fraction=0)
  assert preparation.prepare(job)
  found = source.load(name, str(tmp_path / "out"), layout.SPLIT)
  assert found.classes == raw.classes and found.name == name
  assert [r.id for r in found.records] == [r.id for r in raw.records]
  for light, record in zip(found.records, raw.records, strict=True):
    got = shards.resolve(light)
    for field in ("start", "end", "fps", "label", "text", "splits"):
      assert getattr(got, field) == getattr(record, field), field
    assert raw_bytes([got.video]) == raw_bytes([record.video])
    assert got.frames == raw_bytes(record.frames) and got.masks == raw_bytes(record.masks)
    assert got.truth.keys() == record.truth.keys()
    for key, array in record.truth.items():
      np.testing.assert_array_equal(got.truth[key], array)
