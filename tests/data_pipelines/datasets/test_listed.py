import logging
import os

import pytest

from data_pipelines.datasets import listed
from data_pipelines.errors import DataError


def touch(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()


def dataset(root, ids, **more):
  settings = {"expected": {}, "right": "ID.mp4", "allow_missing": False} | more
  return listed.dataset("fivr", "5k", root, ids, **settings)


def test_files_are_found_by_name_in_any_folder_and_container(tmp_path):
  touch(tmp_path, "a-b.mp4", "x/y/c_d.WEBM", "x/-e.mkv", "x/A title, with [words] [f.0].flv",
        "[g].avi", "stranger.mp4")
  found = listed.find(tmp_path, ["a-b", "c_d", "-e", "f.0", "g", "gone"])
  assert {i: os.path.relpath(p, tmp_path) for i, p in found.paths.items()} == {
    "a-b": "a-b.mp4", "c_d": "x/y/c_d.WEBM", "-e": "x/-e.mkv", "g": "[g].avi",
    "f.0": "x/A title, with [words] [f.0].flv"}
  assert not found.duplicates


def test_what_is_no_video_of_the_list_is_passed_over(tmp_path):
  touch(tmp_path, "a.json", "a.jpg", "a", "a.mp4.part", "a.f137.mp4", "._a.mp4", ".hidden/a.mp4",
        "A.mp4x", "b]x.mp4", "[a", "]")
  (tmp_path / "c.mp4").symlink_to(tmp_path / "nowhere")
  (tmp_path / "d.mp4").mkdir()
  assert listed.find(tmp_path, ["a", "b", "c", "d"]).paths == {}


def test_links_are_followed_once(tmp_path):
  store = tmp_path / "store"
  touch(store, "a.mp4", "deep/b.mp4")
  root = tmp_path / "root"
  root.mkdir()
  (root / "all").symlink_to(store)
  (root / "again").symlink_to(store)
  (store / "deep" / "back").symlink_to(root)
  (root / "c.mp4").symlink_to(store / "a.mp4")
  found = listed.find(root, "abc")
  assert set(found.paths) == set("abc") and not found.duplicates


def test_several_files_for_an_id_are_told_and_the_first_by_name_is_used(tmp_path, caplog):
  touch(tmp_path, "z/a.mp4", "b/a.webm", "b/a.mkv", "c.mp4")
  with caplog.at_level(logging.WARNING):
    data = dataset(tmp_path, ["c", "a"])
  assert [r.id for r in data.records] == ["c", "a"]  # in the list's order
  assert data.records[1].video == str(tmp_path / "b" / "a.mkv")
  assert "Several files for 1 of the ids" in data.note and data.note in caplog.text
  assert all(str(tmp_path / name) in data.note for name in ("b/a.mkv", "b/a.webm", "z/a.mp4"))


def test_missing_videos_are_counted_and_accepted_by_a_flag(tmp_path, caplog):
  touch(tmp_path, "a.mp4", "c.mp4")
  ids = ["d", "a", "b", "c", "a"]  # lists repeat some ids
  with pytest.raises(DataError, match=r"fivr 5k: 2 listed videos are missing \(first: b, d\); pass "
                                      r"allow_missing=True"):
    dataset(tmp_path, ids)
  with caplog.at_level(logging.WARNING):
    data = dataset(tmp_path, ids, allow_missing=True)
  assert [r.id for r in data.records] == ["a", "c"] and data.missing == ("b", "d")
  assert data.note == "2 of 4 videos are on disk." and "first: b, d" in caplog.text
  with pytest.raises(DataError, match="5 videos expected, 2 found"):
    dataset(tmp_path, ["a", "c"], expected={"videos": 5})
  assert dataset(tmp_path, ["a", "c"], expected={"videos": 2}).note == ""


def test_a_wrong_folder_is_told_even_where_missing_videos_are_accepted(tmp_path):
  touch(tmp_path, "videos.zip", "readme.txt")
  with pytest.raises(DataError) as error:
    dataset(tmp_path, ["a", "b"], allow_missing=True, right="EVENT/ID.mp4")
  for word in (str(tmp_path), "one of its 2 ids", "unpack videos.zip", "EVENT/ID.mp4"):
    assert word in str(error.value)
  with pytest.raises(DataError, match="doesn't exist"):
    dataset(tmp_path / "nowhere", ["a"])
