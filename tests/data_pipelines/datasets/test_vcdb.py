import shutil

import numpy as np
import pytest

from data_pipelines.datasets import annotations, listed, vcdb
from data_pipelines.errors import DataError
from data_pipelines.frames import frame_sequences
from tests.data_pipelines.layouts import material
from tests.data_pipelines.layouts import vcdb as layout
from vssl_jax.metrics import retrieval as metrics

A, B = layout.CORE[:3], layout.CORE[3:]  # the two groups
DISTRACTORS = layout.BACKGROUND[:6]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("vcdb")
  layout.write(root)
  return root


def make(root, **more):
  return vcdb.make(root=str(root), **({"allow_missing": True} | more))


def test_every_split_holds_its_videos(root):
  ids = {split: [r.id for r in vcdb.read(str(root), split, allow_missing=True).records]
         for split in vcdb.SPLITS}
  assert ids == {"core": list(layout.CORE), "background": list(layout.BACKGROUND),
                 "distractors": list(DISTRACTORS), "all": [*layout.CORE, *layout.BACKGROUND]}
  data = vcdb.read(str(root), layout.SPLIT, **layout.OPTIONS)
  assert [r.splits for r in data.records] == (
    [("core",)] * 5 + [("background", "distractors")] * 6 + [("background",)])
  assert data.missing == () and set(vcdb.PREPARED) <= set(vcdb.SPLITS)


def test_every_video_shows_what_was_written_into_its_file(root):
  records = vcdb.read(str(root), **layout.OPTIONS).records
  items = list(frame_sequences(records, short_side=48, crop=48, fps=8, threads=0))
  assert [i["reason"] for i in items] == [""] * 12
  assert [len(i["frames"]) for i in items] == [12, 16, 20, 24, 28, *[12] * 7]
  for item, seed in ((items[5], 10), (items[7], 12)):  # an mp4 and a flv
    truth = material.clip(seed)[:, :, 8:56].astype(float)
    other = material.clip(seed + 1)[:, :, 8:56].astype(float)
    found = item["frames"].astype(float)
    assert np.abs(found - truth).mean() < 12 < np.abs(found - other).mean()


def test_counts_and_missing_videos_are_told(root, tmp_path):
  with pytest.raises(DataError, match="vcdb core: 528 videos expected, 5 found"):
    vcdb.read(str(root), "core")
  copy = tmp_path / "copy"
  shutil.copytree(root, copy)
  next(copy.rglob(f"{A[1]}.*")).unlink()
  next(copy.rglob(f"{DISTRACTORS[0]}.*")).unlink()
  with pytest.raises(DataError, match=rf"2 listed videos are missing \(first: {DISTRACTORS[0]}, "):
    make(copy, allow_missing=False)
  data = make(copy)
  assert "10 of 12 videos are on disk." in data.note
  assert data.pairs == [(B[0], B[1])]  # both pairs of the other group had A[1]
  assert data.queries == data.database == [A[0], A[2], *B]
  assert data.groups[A[0]] == data.groups[A[2]] != data.groups[B[0]]  # linked by what is missing
  assert DISTRACTORS[0] not in data.background and len(data.background) == 5
  assert data.annotation[A[0]] == {"DS": [A[1]]}  # the protocol counts what is available
  assert {*data.queries, *data.database, *data.background} <= set(data.videos)


def test_wrong_folders_and_settings_are_explained(root, tmp_path):
  with pytest.raises(DataError, match=r"/annotations/vcdb\.json\.gz: no such file; name the folder"
                                      r".*annotations=FOLDER.*docs/data/annotations\.md"):
    vcdb.read(str(tmp_path))
  layout.write_lists(tmp_path / "annotations", layout.LISTS)
  with pytest.raises(DataError, match=r"vcdb all: no file named by one of its 12 ids in .*"
                                      r"core_dataset/QUERY/ID\.flv"):
    vcdb.read(str(tmp_path), allow_missing=True)
  with pytest.raises(DataError, match="no split 'cores'; did you mean 'core'"):
    vcdb.read(str(root), "cores")
  with pytest.raises(DataError, match="database='everything' is unknown; choose core or all"):
    make(root, database="everything")
  for holdout in (1.0, -0.1):
    with pytest.raises(DataError, match=r"data\.holdout is a share of the groups"):
      make(root, holdout=holdout)


def test_lists_may_lie_elsewhere(root, tmp_path):
  shutil.copytree(root, tmp_path / "set", ignore=shutil.ignore_patterns("annotations"))
  records = vcdb.read(str(tmp_path / "set"), "core", annotations=str(root / "annotations"),
                      allow_missing=True).records
  assert [r.id for r in records] == list(layout.CORE)
  assert records[0].video.startswith(str(tmp_path))


def test_training_pairs_keep_their_orientation_and_groups(root):
  data = make(root)
  assert data.pairs == [(A[0], A[1]), (A[2], A[1]), (B[0], B[1])]
  assert data.background == list(DISTRACTORS)
  assert data.groups == dict.fromkeys(A, 0) | dict.fromkeys(B, 1)
  assert data.queries == data.database == list(layout.CORE)
  assert "were trained on" in data.training_note and data.note == ""
  assert make(root, database="all").database == [*layout.CORE, *layout.BACKGROUND]


def test_held_out_groups_are_not_trained_on(root):
  seen = set()
  for seed in range(4):
    data = make(root, holdout=0.4, seed=seed)
    held, rest = (A, B) if A[0] in data.queries else (B, A)
    seen.add(held)
    assert data.queries == list(held) and data.database == list(layout.CORE)
    assert not set(held) & set(data.train_ids) and {i for p in data.pairs for i in p} == set(rest)
    assert f"the {len(held)} core videos of 1 groups" in data.training_note
  assert seen == {A, B}


def test_the_protocol_needs_nothing_but_the_data(root):
  data = make(root, database="all")
  place = {i: n for n, i in enumerate(data.database)}
  scores = np.zeros((5, len(place)))
  for row, query in enumerate(data.queries):
    scores[row, [place[i] for i in (A if query in A else B)]] = 1
  partners = {query: entry["DS"] for query, entry in data.annotation.items()}
  result = metrics.vcdb(scores, data.queries, data.database, partners)
  # A[0] is relevant to A[1] alone; among equal scores A[1] comes before A[2].
  assert result.per_query == {A[0]: 1, A[1]: 1, A[2]: 1 / 2, B[0]: 1, B[1]: 1}


def test_published_lists_where_all_videos_are_there(data_dir, tmp_path, monkeypatch):
  lists = data_dir / "annotations" / "retrieval"
  if not lists.is_dir():
    pytest.skip(f"no annotation lists in {lists}")
  known = annotations.read_vcdb(lists)
  found = {"core_dataset": known.core, "background_dataset": dict.fromkeys(known.background)}
  monkeypatch.setattr(listed.walk, "folders", lambda root: [
    (folder, [f"{i}.flv" for i in ids]) for folder, ids in found.items()])
  where = {"root": str(tmp_path), "annotations": str(lists)}
  data = vcdb.make(**where, database="all")  # without allow_missing
  assert len(data.pairs) == 5_612 and tuple(data.pairs) == known.pairs
  assert len(data.background) == 99_176 and len(data.database) == 100_306
  assert len(data.queries) == 528 and len(set(data.groups.values())) == 29
  assert all(data.groups[a] == data.groups[b] for a, b in data.pairs)
  assert data.annotation == {q: {"DS": list(ids)} for q, ids in known.partners.items()}
  assert (data.protocol, data.missing) == ("vcdb", ())
  for split, counts in vcdb.SPLITS.items():
    assert len(vcdb.read(split=split, **where).records) == counts["videos"]
