"""The index: the same in memory and on disk, whole after any interruption, refused when it isn't
what it should be."""


import numpy as np
import pytest

from vssl_jax.evaluators.embedded import Batch
from vssl_jax.evaluators.index import Index
from vssl_jax.types import ConfigError


def batches(seed=0, weights=False):
  """Three batches with fillers and padding."""
  rng = np.random.default_rng(seed)
  for k in range(3):
    length = np.array([3, 1, 5, 3], np.int32)
    yield Batch((f"{k}a", f"{k}b", f"{k}c"), rng.standard_normal((4, 2)).astype(np.float32),
                rng.standard_normal((4, 6, 4)).astype(np.float32), length,
                rng.random((4, 6)).astype(np.float32) if weights else None)


def same(a: Index, b: Index):
  assert a.ids == b.ids
  np.testing.assert_array_equal(a.length, b.length)
  for name in ("frames", "video", "weights"):
    np.testing.assert_array_equal(a.rows(name), b.rows(name))


@pytest.mark.parametrize("weights", [False, True])
def test_what_was_added_is_there_without_fillers_and_padding(tmp_path, weights):
  memory, disk = Index(), Index(tmp_path / "index")
  for index in (memory, disk):
    index.add(batches(weights=weights))
  same(memory, disk)
  same(memory, Index(tmp_path / "index"))
  assert memory.ids == [f"{k}{x}" for k in range(3) for x in "abc"]
  assert memory.length.tolist() == [3, 1, 5] * 3
  for k, batch in enumerate(batches(weights=weights)):
    for i in range(3):
      n = 3 * k + i
      rows = slice(memory.start[n], memory.start[n] + memory.length[n])
      np.testing.assert_array_equal(memory.rows("frames")[rows], batch.frames[i, :batch.length[i]])
      np.testing.assert_array_equal(memory.rows("video")[n], batch.video[i])
      if weights:
        np.testing.assert_array_equal(memory.rows("weights")[rows, 0],
                                      batch.weights[i, :batch.length[i]])
  assert (memory.rows("weights") is not None) == weights


def test_a_large_index_moves_to_disk(tmp_path, monkeypatch):
  monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
  small, large = Index(memory=0), Index()
  for index in (small, large):
    index.add(batches())
  assert large.folder is None and small.folder.parent == tmp_path
  same(small, large)


def test_without_frames_only_video_vectors_are_kept(tmp_path):
  for index in (Index(keep_frames=False), Index(tmp_path, keep_frames=False)):
    index.add(batches())
    assert index.rows("frames") is None and index.rows("video").shape == (9, 2)
  assert Index(tmp_path, keep_frames=False).ids == index.ids


@pytest.mark.parametrize("cut", ["frames.f32", "video.f32", "index.jsonl"])
@pytest.mark.parametrize("lost", [1, 9, 90])
def test_an_interrupted_writer_continues(tmp_path, cut, lost):
  whole = Index()
  whole.add(batches())
  Index(tmp_path).add(batches())
  file = tmp_path / cut
  file.write_bytes(file.read_bytes()[:-lost])
  index = Index(tmp_path)
  assert len(index) < 9 and index.ids == whole.ids[:len(index)]
  rows = index.length.sum()
  np.testing.assert_array_equal(index.rows("frames"), whole.rows("frames")[:rows])
  np.testing.assert_array_equal(index.rows("video"), whole.rows("video")[:len(index)])
  index.add(batches(5))
  assert len(index) == len(Index(tmp_path))
  same(index, Index(tmp_path))


def test_another_origin_is_refused(tmp_path):
  Index(tmp_path, meta={"step": 1}).add(batches())
  assert len(Index(tmp_path, meta={"step": 1})) == 9
  with pytest.raises(ConfigError, match=r"something else.*'step': 1.*delete it"):
    Index(tmp_path, meta={"step": 2})


def test_what_was_begun_without_a_video_begins_anew(tmp_path):
  (tmp_path / "frames.f32").write_bytes(b"1234")
  Index(tmp_path).add(batches())
  assert Index(tmp_path).rows("frames").shape == (27, 4)


@pytest.mark.parametrize("gone", ["frames.f32", "video.f32", "index.jsonl"])
def test_what_was_killed_before_its_first_rows_were_there_begins_anew(tmp_path, gone):
  Index(tmp_path).add(batches())
  (tmp_path / gone).unlink()
  index = Index(tmp_path)
  assert len(index) == 0
  index.add(batches())
  whole = Index()
  whole.add(batches())
  same(Index(tmp_path), whole)


def test_padded_videos():
  index = Index()
  index.add(batches(weights=True))
  padded = index.padded("frames", np.array([2, 0, 7]), (4, 6))
  for row, k in zip(padded, (2, 0, 7), strict=False):
    n = index.length[k]
    np.testing.assert_array_equal(row[:n], index.rows("frames")[index.start[k]:][:n])
    assert not row[n:].any()
  assert padded.shape == (4, 6, 4) and not padded[3].any()
  assert index.padded("weights", np.array([1]), (1, 1)).shape == (1, 1, 1)
  assert Index().padded("weights", np.array([], int), (0, 1)) is None


def test_a_changed_size_and_an_unwritable_folder_are_told(tmp_path):
  index = Index()
  index.add(batches())
  other = Batch(("x",), np.ones((1, 3), np.float32), np.ones((1, 2, 4), np.float32),
                np.array([2], np.int32))
  with pytest.raises(ValueError, match="sizes have changed"):
    index.add([other])
  (tmp_path / "file").write_text("")
  with pytest.raises(ConfigError, match="can't keep embedded videos here"):
    Index(tmp_path / "file")
