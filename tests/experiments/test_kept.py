"""Arrays that are kept by name, and what they depend on."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.records import Dataset, Record
from experiments import kept
from experiments.kept import Kept


def test_arrays_come_back_in_another_process_alone_with_the_same_about(tmp_path):
  first = Kept(tmp_path, "model", {"size": 3})
  first["a/b"] = {"j": np.eye(2), "f": np.arange(3, dtype=np.int16)}
  again = Kept(tmp_path, "model", {"size": 3})
  assert "a/b" in again and "a" not in again and len(again) == 1
  found = again["a/b"]
  np.testing.assert_array_equal(found["j"], np.eye(2))
  assert found["f"].dtype == np.int16 and list(found) == ["j", "f"]
  assert "a/b" not in Kept(tmp_path, "model", {"size": 4})
  with pytest.raises(KeyError):
    again["a"]
  del again["a/b"]
  assert "a/b" not in first


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
  known = Kept(tmp_path)
  monkeypatch.setattr(kept.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
  with pytest.raises(OSError, match="full"):
    known["a"] = {"x": np.ones(1)}
  assert "a" not in known


def test_the_state_of_a_data_set_is_of_frames_masks_and_truth(tmp_path):
  for name in ("frame.png", "mask.png"):
    (tmp_path / name).write_bytes(b"1")
  record = Record("v", frames=(str(tmp_path / "frame.png"),), masks=(str(tmp_path / "mask.png"),),
                  truth={"boxes": np.ones((1, 4), np.float32)})

  def state(**changes):
    return kept.state(Dataset("d", "s", [dataclasses.replace(record, **changes)]))

  first = state()
  assert first == state() and first != state(id="w") and first != state(masks=())
  assert first != state(truth={"boxes": np.zeros((1, 4), np.float32)})
  for name in ("frame.png", "mask.png"):
    before = state()
    (tmp_path / name).write_bytes(b"22")
    assert state() != before
