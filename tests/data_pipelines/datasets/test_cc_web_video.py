import os

import numpy as np
import pytest

from data_pipelines.datasets import annotations, cc_web_video, listed
from data_pipelines.errors import DataError
from data_pipelines.frames import frame_sequences
from tests.data_pipelines.layouts import cc_web_video as layout
from vssl_jax.evaluators import protocols

IDS = [name for name in layout.NAMES if name]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("cc_web_video")
  layout.write(root)
  return root


def test_videos_of_many_containers_are_found_and_read(root):
  data = cc_web_video.read(str(root), layout.SPLIT, **layout.OPTIONS)
  assert [r.id for r in data.records] == IDS
  assert {os.path.splitext(r.video)[1] for r in data.records} == {
    ".flv", ".avi", ".wmv", ".mpg", ".mp4"}
  items = frame_sequences(data.records, short_side=32, crop=32, threads=0)
  assert [i["reason"] for i in items] == [""] * 5
  with pytest.raises(DataError, match="cc_web_video all: 13,115 videos expected, 5 found"):
    cc_web_video.read(str(root))


def measure(scores, data):
  args = {"annotation": data.annotation, **data.protocol_args}
  return protocols.measure(data.protocol, scores, data.queries, data.database, set(data.videos),
                           args)


def test_the_protocol_needs_nothing_but_the_data(root):
  data = cc_web_video.make(root=str(root), allow_missing=True)
  assert data.queries == ["1_1_Y", "2_2_Y"] and data.database == IDS
  assert data.annotation == {
    "1_1_Y": {"E": ["1_1_Y"], "V": ["1_2_G"], "X": ["1_3_H"], "S": ["#4"], "excluded": ["1_2_G"]},
    "2_2_Y": {"x": ["2_1_Y"], "E": ["2_2_Y"], "excluded": []}}
  scores = np.array([[9, 1, 2, 3, 0], [3, 2, 1, 0, 9]], float)
  found = measure(scores, data)
  # P is 3 for the first query: itself, 1_2_G, and #4, which isn't in the database.
  assert found["cc_web"].per_query == pytest.approx({"1_1_Y": (1 + 2 / 3) / 3, "2_2_Y": 1})
  assert found["cc_web_star"].per_query == pytest.approx({"1_1_Y": (1 + 2 / 4) / 3, "2_2_Y": 1})
  assert found["cc_web_c"].per_query == pytest.approx({"1_1_Y": 1 / 2, "2_2_Y": 1})


def test_missing_videos_count_as_not_found(root, tmp_path):
  for name in ("1_1_Y", "1_3_H", "2_1_Y"):
    path = next(root.rglob(f"{name}.*"))
    os.symlink(path, tmp_path / path.name)
  data = cc_web_video.make(root=str(tmp_path), annotations=str(root / "annotations"),
                           allow_missing=True)
  assert data.queries == ["1_1_Y"] and data.database == ["1_1_Y", "1_3_H", "2_1_Y"]
  found = measure(np.array([[9.0, 1, 2]]), data)
  assert found["cc_web"].mean == pytest.approx(1 / 3)
  assert data.note == ("1 of 2 queries are there; the mean is over these. "
                       "3 of 5 videos are on disk. Relevant videos that are missing count as not "
                       "found, as the protocol has it.")


def test_published_lists_where_all_videos_are_there(data_dir, tmp_path, monkeypatch):
  lists = data_dir / "annotations" / "retrieval"
  if not lists.is_dir():
    pytest.skip(f"no annotation lists in {lists}")
  known = annotations.read_cc_web_video(lists)
  monkeypatch.setattr(listed.walk, "folders", lambda root: [
    ("Videos", [f"{i}.flv" for i in known.database])])
  data = cc_web_video.make(root=str(tmp_path), annotations=str(lists))  # without allow_missing
  assert data.queries == list(known.queries) and data.database == list(known.database)
  assert data.note == "" and len(data.videos) == 13_115
  for query, entry in data.annotation.items():
    assert tuple(entry.pop("excluded")) == known.excluded[query]
    assert {i: letter for letter, ids in entry.items() for i in ids} == known.labels[query]
