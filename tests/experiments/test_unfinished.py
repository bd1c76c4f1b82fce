"""What an interrupted evaluation has found, and what that depends on."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.records import Dataset, Record
from experiments import interrupt, unfinished
from experiments.unfinished import Unfinished


def test_arrays_come_back_in_another_process_alone_with_the_same_about(tmp_path):
  first = Unfinished(tmp_path, "model", {"size": 3})
  first["a/b"] = {"j": np.eye(2), "f": np.arange(3, dtype=np.int16)}
  again = Unfinished(tmp_path, "model", {"size": 3})
  found = again.get("a/b")
  np.testing.assert_array_equal(found["j"], np.eye(2))
  assert found["f"].dtype == np.int16 and list(found) == ["j", "f"]
  assert again.get("a") is None and Unfinished(tmp_path, "model", {"size": 4}).get("a/b") is None


def test_other_versions_see_nothing(tmp_path, monkeypatch):
  Unfinished(tmp_path)["a"] = {"x": np.ones(1)}
  monkeypatch.setattr(unfinished, "VERSION", unfinished.VERSION + 1)
  assert Unfinished(tmp_path).get("a") is None


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
  known = Unfinished(tmp_path)
  monkeypatch.setattr(unfinished.np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError(28)))
  with pytest.raises(OSError):
    known["a"] = {"x": np.ones(1)}
  assert known.get("a") is None and not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("content", [b"", b"PK", b"no file of arrays"])
def test_a_damaged_file_is_as_good_as_none(tmp_path, content):
  known = Unfinished(tmp_path)
  known["a"] = {"x": np.ones(1)}
  next(tmp_path.rglob("*.npz")).write_bytes(content)
  assert known.get("a") is None
  known["a"] = {"x": np.zeros(1)}
  assert known.get("a")["x"] == 0


def test_a_signal_is_heard_when_an_array_is_kept(tmp_path, monkeypatch):
  known = Unfinished(tmp_path)
  monkeypatch.setattr(interrupt.INTERRUPT, "_came", True)
  with pytest.raises(KeyboardInterrupt):
    known["a"] = {"x": np.ones(1)}
  assert known.get("a")["x"] == 1


def test_the_state_of_a_data_set_is_of_frames_masks_and_truth(tmp_path):
  for name in ("frame.png", "mask.png", "other.png"):
    (tmp_path / name).write_bytes(b"1")
  paths = str(tmp_path / "frame.png"), str(tmp_path / "other.png"), str(tmp_path / "frame.png")
  record = Record("v", frames=paths, masks=(str(tmp_path / "mask.png"), "", ""),
                  truth={"boxes": np.zeros((1, 4), np.float32)})

  def state(**changes):
    return unfinished.state(Dataset("d", "s", [dataclasses.replace(record, **changes)]))

  first = state()
  assert first == state() and first != state(id="w") and first != state(masks=())
  for boxes in (np.ones((1, 4), np.float32), np.zeros((4, 1), np.float32), np.zeros((1, 4), int)):
    assert first != state(truth={"boxes": boxes})
  for name in ("frame.png", "mask.png", "other.png"):
    before = state()
    (tmp_path / name).write_bytes(b"22")
    assert state() != before
