import os
import shutil
import time

import numpy as np
import pytest

from data_pipelines.datasets import annotations, fivr, listed
from data_pipelines.errors import DataError
from data_pipelines.frames import frame_sequences
from tests.data_pipelines.layouts import fivr as layout
from tests.data_pipelines.layouts.vcdb import write_lists
from vssl_jax.metrics import retrieval as metrics

Q0, Q1 = "q0-query-id", "q1_query_id"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("fivr")
  layout.write(root)
  return root


@pytest.fixture
def lists(data_dir):
  path = data_dir / "annotations" / "retrieval"
  if not path.is_dir():
    pytest.skip(f"no annotation lists in {path}")
  return path


def make(root, **more):
  return fivr.make(root=str(root), **({"allow_missing": True} | more))


def test_videos_are_found_by_id_and_can_be_read(root):
  data = fivr.read(str(root), layout.SPLIT, **layout.OPTIONS)
  assert {r.id: os.path.relpath(r.video, root) for r in data.records} == layout.FILES
  assert [r.id for r in data.records] == list(layout.IDS[:-1])  # the published order
  assert data.missing == layout.MISSING and data.note == "6 of 7 videos are on disk."
  items = list(frame_sequences(data.records, short_side=32, crop=32, threads=0))
  assert [i["reason"] for i in items] == [""] * 6


def test_the_small_split_is_part_of_the_large_one(root):
  data = fivr.read(str(root), "5k", allow_missing=True)
  assert [r.id for r in data.records] == ["-2222222222", "d0000000000", Q1]
  both = {r.id for r in fivr.read(str(root), "200k", allow_missing=True).records
          if "5k" in r.splits}
  assert both == {r.id for r in data.records} and fivr.PREPARED == ("200k",)
  with pytest.raises(DataError, match=r"fivr 5k: 5,049 videos expected, 3 found; 1 listed video is "
                                      r"missing \(first: gone-video4\)"):
    fivr.read(str(root), "5k")


def test_missing_videos_take_no_rank_and_are_not_counted(root):
  data = make(root)
  assert data.queries == [Q0, Q1] and data.database == list(layout.IDS[:-1])
  assert not data.pairs and not data.background
  scores = np.array([[9, 0, 1, 8, 7, 2], [0, 9, 3, 4, 5, 1]], float)
  found = metrics.fivr(scores, data.queries, data.database, data.annotation)
  # Q0: d1 (DS) is first and d0 (ND) fourth, itself not counted: 1/2 (1 + 2/4).
  assert found["DSVR"].per_query == {Q0: pytest.approx((1 + 2 / 4) / 2)}
  # Q1: -2 (CS) is first, d1 (IS) second; itself counts in P, as published.
  assert found["ISVR"].per_query[Q1] == pytest.approx((1 + 2 / 2) / 3)
  assert "'annotation'" in data.note and "6 of 7 videos" in data.note


def without_sound(entry):
  return {label: ids for label, ids in entry.items() if label != "DA"}


def test_the_hard_variant_leaves_out_easy_duplicates(root, tmp_path):
  data, hard = make(root), make(root, hard=True)
  easy = set(layout.LISTS["easy_duplicates"])
  assert hard.database == [i for i in data.database if i not in easy] != data.database
  assert (hard.queries, hard.annotation) == (data.queries, data.annotation)
  assert set(hard.videos) == set(data.videos) - easy
  assert "Hard variant: 1 easy duplicates are left out." in hard.note
  assert make(root, micro=True).protocol_args == {"micro": True} != data.protocol_args
  shutil.copytree(root / "annotations", tmp_path / "a")
  write_lists(tmp_path / "a", {**layout.LISTS, "easy_duplicates": []}, "fivr")
  with pytest.raises(DataError, match=r"data\.hard=True: fivr\.json\.gz has no 'easy_duplicates'"):
    make(root, hard=True, annotations=str(tmp_path / "a"))


def test_the_label_file_is_chosen_and_named(root):
  assert make(root).annotation[Q0] == without_sound(layout.ANNOTATION[Q0])  # few, so of no use
  latest = make(root, labels="annotation_official_latest")
  assert latest.annotation[Q0] == layout.LATEST[Q0]
  assert "'annotation_official_latest'" in latest.note
  assert make(root, split="5k").annotation == {Q1: layout.ANNOTATION[Q1]}
  with pytest.raises(DataError, match="labels='newest' is unknown; choose annotation or"):
    make(root, labels="newest")


def test_lists_made_from_the_official_files_have_no_subset(root, tmp_path):
  shutil.copytree(root / "annotations", tmp_path / "a")
  lists = {k: layout.LISTS[k] for k in ("queries_200k", "annotation_official_latest")}
  write_lists(tmp_path / "a", lists, "fivr")
  where = {"annotations": str(tmp_path / "a")}
  with pytest.raises(DataError, match="no such labels; choose annotation_official_latest"):
    make(root, **where)
  data = make(root, labels="annotation_official_latest", **where)
  assert data.queries == [Q0, Q1]
  with pytest.raises(DataError, match="has no 'queries_5k' and 'database_5k'"):
    fivr.read(str(root), "5k", allow_missing=True, **where)


def test_published_lists_on_half_of_the_subset(lists, tmp_path):
  known = annotations.read_fivr(lists)
  there = sorted({*known.database_5k, *known.queries_5k})[::2]
  for i in there:
    (tmp_path / f"{i}.mp4").touch()
  where = {"root": str(tmp_path), "annotations": str(lists), "split": "5k"}
  with pytest.raises(DataError, match="fivr 5k: 5,049 videos expected, 2,525 found; 2,524 listed"):
    fivr.make(**where)
  data = fivr.make(**where, allow_missing=True)
  assert set(data.videos) == set(there) == {*data.queries, *data.database}
  assert data.annotation == {q: without_sound(known.annotation[q]) for q in data.queries}
  assert f"{len(data.queries)} of 50 queries are there" in data.note
  assert len(data.missing) == 2_524


def test_published_lists_where_all_videos_are_there(lists, tmp_path, monkeypatch):
  known = annotations.read_fivr(lists)
  monkeypatch.setattr(listed.walk, "folders", lambda root: [
    ("videos", [f"{i}.mp4" for i in known.database_200k])])
  for split, counts in (("200k", (100, 225_960, 225_960)), ("5k", (50, 5_000, 5_049))):
    start = time.perf_counter()
    data = fivr.make(root=str(tmp_path), annotations=str(lists), split=split)
    assert time.perf_counter() - start < 60  # 2 s on an idle core
    assert (len(data.queries), len(data.database), len(data.videos)) == counts
    assert "on disk" not in data.note
