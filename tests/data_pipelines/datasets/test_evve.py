import os

import numpy as np
import pytest

from data_pipelines.datasets import annotations, evve, listed
from data_pipelines.errors import DataError
from data_pipelines.frames import frame_sequences
from tests.data_pipelines.layouts import evve as layout
from vssl_jax.evaluators import protocols


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("evve")
  layout.write(root)
  return root


def test_videos_have_their_events(root):
  data = evve.read(str(root), layout.SPLIT, **layout.OPTIONS)
  assert data.classes == ("dsk+arrested", "strokkur+geyser")
  assert [(r.id, r.label, r.splits) for r in data.records] == [
    ("arrest-q--0", 0, ("queries",)), ("geyser-q--0", 1, ("queries",)),
    ("geyser-q--1", 1, ("queries",)), ("geyser-p--1", 1, ("database",)),
    ("nothing---0", -1, ("database",)), ("arrest-p--0", 0, ("database",)),
    ("geyser-p--0", 1, ("database",))]
  assert all(r.text == (data.classes[r.label] if r.label >= 0 else "") for r in data.records)
  items = frame_sequences(data.records, short_side=32, crop=32, threads=0)
  assert [i["reason"] for i in items] == [""] * 7


@pytest.mark.parametrize("split", ["queries", "database"])
def test_splits_are_parts_of_the_whole(root, split):
  whole = evve.read(str(root), "all", allow_missing=True).records
  found = evve.read(str(root), split, allow_missing=True).records
  assert list(found) == [r for r in whole if r.splits == (split,)] and found
  with pytest.raises(DataError, match=f"evve {split}: {evve.SPLITS[split]['videos']:,} videos"):
    evve.read(str(root), split)


def measure(scores, data):
  args = {"annotation": data.annotation, **data.protocol_args}
  return protocols.measure(data.protocol, scores, data.queries, data.database, set(data.videos),
                           args)["EVVE"]


def test_the_protocol_needs_nothing_but_the_data(root):
  data = evve.make(root=str(root), allow_missing=True)
  assert data.queries == layout.LISTS["queries"] and data.database == layout.LISTS["database"]
  scores = np.array([[3, 2, 1, 0], [3, 2, 1, 0], [0, 1, 2, 3]], float)
  result = measure(scores, data)
  # Arrested: rank 2 alone gives (0/2 + 1/3) / 2. Geyser: ranks 0 and 3 give
  # (1 + 1 + 1/3 + 2/4) / 4, for both queries.
  event = {"dsk+arrested": 1 / 6, "strokkur+geyser": (2 + 1 / 3 + 1 / 2) / 4}
  assert result.per_event == pytest.approx(event)
  assert result.mean == pytest.approx((event["dsk+arrested"] + 2 * event["strokkur+geyser"]) / 3)


def test_missing_videos_are_not_counted(root, tmp_path):
  for name in ("geyser-q--0", "geyser-p--0", "nothing---0"):
    os.symlink(next(root.rglob(f"{name}.mp4")), tmp_path / f"{name}.mp4")
  data = evve.make(root=str(tmp_path), annotations=str(root / "annotations"), allow_missing=True)
  assert data.queries == ["geyser-q--0"] and data.database == ["nothing---0", "geyser-p--0"]
  assert data.note == ("1 of 3 queries are there; the mean is over these. "
                       "3 of 7 videos are on disk.")
  assert len(data.missing) == 4 and "geyser-p--1" in data.missing
  scores = np.array([[0, 1]], float)
  result = measure(scores, data)
  assert result.mean == 1  # geyser-p--1 can't be found and doesn't count


def test_published_lists_where_all_videos_are_there(data_dir, tmp_path, monkeypatch):
  lists = data_dir / "annotations" / "retrieval"
  if not lists.is_dir():
    pytest.skip(f"no annotation lists in {lists}")
  known = annotations.read_evve(lists)
  monkeypatch.setattr(listed.walk, "folders", lambda root: [
    ("", [f"{i}.webm" for i in (*known.database, *known.queries)])])
  where = {"root": str(tmp_path), "annotations": str(lists)}
  data = evve.make(**where)  # without allow_missing
  assert (len(data.queries), len(data.database)) == (620, 2_373)
  assert data.annotation == {q: {known.event_of[q]: list(known.positives[known.event_of[q]])}
                             for q in known.queries}
  records = evve.read(**where).records
  assert sum(r.label >= 0 and r.splits == ("database",) for r in records) == 1_252
