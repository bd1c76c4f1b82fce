"""Messages about wrong folders, splits and lists, and the numbers read from text files."""

import numpy as np
import pytest

from data_pipelines.datasets import layout
from data_pipelines.errors import DataError


def test_root_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert layout.root_folder("x", ".") == tmp_path
  (tmp_path / "file").touch()
  with pytest.raises(DataError, match=r"x: .*/nowhere doesn't exist; give the folder"):
    layout.root_folder("x", str(tmp_path / "nowhere"))
  with pytest.raises(DataError, match="is a file, not a folder"):
    layout.root_folder("x", "file")
  with pytest.raises(DataError, match="x: no folder given"):
    layout.root_folder("x", "")


def test_first_folder(tmp_path):
  for name in ("b", "c", ".hidden"):
    (tmp_path / name).mkdir()
  assert layout.first_folder("x", tmp_path, ("a", "b", "c"), "a/1.jpg") == tmp_path / "b"
  with pytest.raises(DataError) as error:
    layout.first_folder("x", tmp_path, ("a", "d"), "a/1.jpg")
  assert str(error.value) == (f"x: no a/ or d/ in {tmp_path}, which holds b, c; give the folder "
                              "that holds a/1.jpg")


def test_check_split_names_the_nearest():
  layout.check_split("x", "val", {"train": {}, "val": {}})
  with pytest.raises(DataError, match="no split 'vall'; did you mean 'val'"):
    layout.check_split("x", "vall", {"train": {}, "val": {}})


def test_read_lines(tmp_path):
  path = tmp_path / "list.txt"
  path.write_bytes(b"\xef\xbb\xbfa \r\n\r\n b\n")
  assert layout.read_lines(path, "names") == ["a", "b"]
  path.write_bytes(b"\xff\xfe")
  with pytest.raises(DataError, match=r"list.txt: can't read it .* should be names"):
    layout.read_lines(path, "names")
  path.write_text("\n")
  with pytest.raises(DataError, match=r"list.txt: is empty; it should be names"):
    layout.read_lines(path, "names")
  with pytest.raises(DataError, match=r"gone.txt: no such file; it should be names"):
    layout.read_lines(tmp_path / "gone.txt", "names")


def test_read_numbers_takes_all_separators(tmp_path):
  path = tmp_path / "boxes.txt"
  path.write_text("1,2,3.5,4\r\n5\t6\t7\t8\n\n 9 10  11 nan\n")
  rows = layout.read_numbers(path, 4, "boxes")
  np.testing.assert_array_equal(rows, [[1, 2, 3.5, 4], [5, 6, 7, 8], [9, 10, 11, np.nan]])


@pytest.mark.parametrize("text, bad", [
  ("1 2\n3\n", "row 2 is '3'"), ("1 2\n3 x\n", "row 2 is '3 x'"),
  ("1 2 3\n4 5 6\n", "row 1 is '1 2 3'")])
def test_read_numbers_names_the_row(tmp_path, text, bad):
  path = tmp_path / "boxes.txt"
  path.write_text(text)
  with pytest.raises(DataError, match=f"boxes.txt: {bad}, should be 2 number"):
    layout.read_numbers(path, 2, "points")
