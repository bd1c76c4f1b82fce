"""The index of R2V2 from names of files."""

import json

import pytest

from data_pipelines.datasets import r2v2


@pytest.fixture
def cases(golden_dir):
  paths = sorted((golden_dir / "cycle_contrast").glob("r2v2_index*.json"))
  if not paths:
    pytest.skip(f"no r2v2_index*.json in {golden_dir / 'cycle_contrast'}")
  return [json.loads(path.read_text()) for path in paths]


def test_index(cases):
  for case in cases:
    index = r2v2.group(case["files"])
    assert [[id_, numbers] for id_, numbers in index] == case["index"]
    assert len(index) == case["len"]


def test_records_from_a_folder_of_these_files(cases, tmp_path):
  for k, case in enumerate(cases):
    for name in case["files"]:
      (tmp_path / f"{k}" / name).parent.mkdir(parents=True, exist_ok=True)
      (tmp_path / f"{k}" / name).touch()
    records = r2v2.read(str(tmp_path / f"{k}"), "train", allow_missing=True).records
    assert [[r.id, r.truth["numbers"].tolist()] for r in records] == case["index"]
    paths = [path for r in records for path in r.frames]
    assert sorted(paths) == sorted(str(tmp_path / f"{k}" / name) for name in case["files"])
