"""Walking a folder: what is found, in which order, and what is passed over."""

import os

import pytest

from data_pipelines.datasets import walk
from data_pipelines.errors import DataError


def fill(folder, names):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
  return folder


def test_files_by_suffix_sorted_without_hidden_ones(tmp_path):
  fill(tmp_path, ["b/2.MP4", "b/10.mp4", "a.avi", "b/.hid.mp4", ".git/x.mp4", "b/c/d.txt", "mp4"])
  assert walk.files(tmp_path, (".mp4", ".avi")) == ["a.avi", "b/10.mp4", "b/2.MP4"]


def test_links_are_followed_once_and_dangling_ones_passed_over(tmp_path):
  fill(tmp_path, ["set/a.mp4", "far/b.mp4"])
  (tmp_path / "set/link").symlink_to(tmp_path / "far")
  (tmp_path / "far/back").symlink_to(tmp_path / "set")
  (tmp_path / "set/self").symlink_to(tmp_path / "set/self")
  (tmp_path / "set/gone.mp4").symlink_to(tmp_path / "nothing")
  (tmp_path / "set/c.mp4").symlink_to(tmp_path / "far/b.mp4")
  assert walk.files(tmp_path / "set", (".mp4",)) == ["a.mp4", "c.mp4", "link/b.mp4"]


def test_a_folder_that_can_t_be_read_is_named(tmp_path, monkeypatch):
  fill(tmp_path, ["shut/a.mp4"])
  scan = os.scandir

  def denied(path):
    if str(path).endswith("shut"):
      raise PermissionError(13, "Permission denied")
    return scan(path)

  monkeypatch.setattr(walk.os, "scandir", denied)
  with pytest.raises(DataError, match=r"can't read the folder .*shut \(Permission denied\)"):
    walk.files(tmp_path, (".mp4",))


def test_natural_order():
  names = ["10.jpg", "9.jpg", "img2_10", "img2_9", "img10_1", "a.jpg", "1.jpg", "01.jpg", ""]
  assert sorted(names, key=walk.natural) == [
    "", "01.jpg", "1.jpg", "9.jpg", "10.jpg", "a.jpg", "img2_9", "img2_10", "img10_1"]


def test_an_archive_is_to_be_unpacked(tmp_path):
  fill(tmp_path, ["UCF101.rar", "readme"])
  text = str(walk.nothing_found("ucf101", tmp_path, "videos", "UCF-101/*"))
  assert text == (f"ucf101: no videos in {tmp_path}, which holds UCF101.rar, readme; unpack "
                  "UCF101.rar first, or give the folder that holds UCF-101/*")


def test_stem_and_printable():
  assert walk.stem("a.b/c.d e.mp4") == "c.d e"
  assert walk.printable(os.fsdecode(b"\xffa")) == "\\xffa"
