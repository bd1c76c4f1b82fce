"""The feature store: what was written is read, whatever byte the writer was killed at."""

import json
import pathlib
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from data_pipelines.errors import DataError
from data_pipelines.store import Store, StoreWriter

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIM = 3
META = {"backbone": "resnet18", "crop": 112}
FRAMES, INDEX = "frames-00000-of-00001.f32", "index-00000-of-00001.jsonl"


def video(i: int) -> np.ndarray:
  return np.random.default_rng(i).standard_normal((1 + i % 3, DIM)).astype(np.float32)


def write(folder, numbers, **args):
  with StoreWriter(folder, DIM, META, **args) as writer:
    for i in numbers:
      if f"v{i}" not in writer.done:
        writer.append(f"v{i}", video(i))
  return writer


def check(folder, numbers):
  store = Store(folder)
  assert sorted(store) == sorted(f"v{i}" for i in numbers)
  for i in numbers:
    np.testing.assert_array_equal(store[f"v{i}"], video(i))
  return store


def test_what_is_written_is_read(tmp_path):
  write(tmp_path / "deep" / "store", range(5))
  store = check(tmp_path / "deep" / "store", range(5))
  assert (store.dim, store.meta, len(store), store.rejected) == (DIM, META, 5, {})
  assert [store.length(f"v{i}") for i in range(5)] == [1, 2, 3, 1, 2]
  assert "v5" not in store
  with pytest.raises(KeyError):
    store["v5"]


def test_any_float_type_is_stored_as_float32(tmp_path):
  with StoreWriter(tmp_path, DIM, META) as writer:
    writer.append("double", video(2).astype(np.float64))
    writer.append("turned", np.asfortranarray(video(5)))
    writer.append("big endian", video(8).astype(">f4"))
  store = Store(tmp_path)
  for name, i in (("double", 2), ("turned", 5), ("big endian", 8)):
    assert store[name].dtype == np.float32
    np.testing.assert_array_equal(store[name], video(i))


def test_features_are_mapped_not_loaded_and_cannot_be_changed(tmp_path):
  write(tmp_path, range(3))
  x = Store(tmp_path)["v2"]
  assert isinstance(x, np.memmap)
  with pytest.raises(ValueError, match="read-only"):
    x[0] = 0
  # A map sees what happens to the file.
  raw = np.fromfile(tmp_path / FRAMES, "<f4")
  raw[-1] = 42
  raw.tofile(tmp_path / FRAMES)
  assert x[-1, -1] == 42


def test_unreadable_videos_are_remembered_with_their_reason(tmp_path):
  with StoreWriter(tmp_path, DIM, META) as writer:
    writer.reject("bad", "no video stream")
    writer.append("v1", video(1))
    writer.reject("wörse\n", "not a video: \u2028")
  store = check(tmp_path, [1])
  assert store.rejected == {"bad": "no video stream", "wörse\n": "not a video: \u2028"}
  with StoreWriter(tmp_path, DIM, META) as writer:
    assert writer.done == {"bad", "v1", "wörse\n"}


def test_a_store_of_rejected_videos_only(tmp_path):
  with StoreWriter(tmp_path, DIM, META) as writer:
    writer.reject("bad", "empty")
  assert (len(Store(tmp_path)), Store(tmp_path).rejected) == (0, {"bad": "empty"})


def test_a_video_is_readable_as_soon_as_it_is_appended(tmp_path):
  with StoreWriter(tmp_path, DIM, META) as writer:
    for i in range(4):
      writer.append(f"v{i}", video(i))
      check(tmp_path, range(i + 1))


@pytest.mark.parametrize("rejected_last", [False, True])
def test_a_writer_killed_at_any_byte_of_the_index_continues(tmp_path, rejected_last):
  with StoreWriter(tmp_path / "whole", DIM, META) as writer:
    for i in range(3):
      writer.append(f"v{i}", video(i))
    if rejected_last:
      writer.reject("bad", "no video stream")
  index = (tmp_path / "whole" / INDEX).read_bytes()
  lines = index.splitlines(keepends=True)
  for cut in range(len(b"".join(lines[:-2])), len(index) + 1):
    folder = tmp_path / str(cut)
    shutil.copytree(tmp_path / "whole", folder)
    (folder / INDEX).write_bytes(index[:cut])
    done = {json.loads(line)["id"] for line in lines[:index[:cut].count(b"\n")]}
    Store(folder)  # may be read before anyone mends it
    writer = write(folder, range(5))
    assert done <= writer.done
    store = check(folder, range(5))
    assert store.rejected.keys() == done & {"bad"}
    assert (folder / FRAMES).stat().st_size == 4 * DIM * sum(len(video(i)) for i in range(5))


def test_frames_lost_at_any_byte_are_written_again(tmp_path):
  write(tmp_path / "whole", range(3))
  data = (tmp_path / "whole" / FRAMES).read_bytes()
  for cut in range(4 * DIM, len(data) + 1):
    folder = tmp_path / str(cut)
    shutil.copytree(tmp_path / "whole", folder)
    (folder / FRAMES).write_bytes(data[:cut])
    if cut < len(data):
      with pytest.raises(DataError, match="shorter than its index says"):
        Store(folder)
    ends = np.cumsum([len(video(i)) for i in range(3)]) * 4 * DIM
    with StoreWriter(folder, DIM, META) as writer:
      assert writer.done == {f"v{i}" for i in range(3) if ends[i] <= cut}
    write(folder, range(5))
    check(folder, range(5))


def test_rows_written_without_their_line_are_dropped(tmp_path):
  write(tmp_path, range(2))
  with (tmp_path / FRAMES).open("ab") as f:
    f.write(video(2).tobytes()[:-5])
  check(tmp_path, range(2))
  write(tmp_path, range(4))
  check(tmp_path, range(4))
  assert (tmp_path / FRAMES).stat().st_size == 4 * DIM * sum(len(video(i)) for i in range(4))


def test_a_writer_that_is_really_killed_continues(tmp_path):
  code = f"""
    import os, sys
    import numpy as np
    from data_pipelines.store import StoreWriter
    writer = StoreWriter({str(tmp_path)!r}, {DIM}, {META!r})
    for i in range(2):
      rng = np.random.default_rng(i)
      writer.append(f"v{{i}}", rng.standard_normal((1 + i % 3, {DIM})).astype(np.float32))
    os._exit(9)  # neither flushes nor closes
  """
  done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, cwd=ROOT)
  assert done.returncode == 9
  check(tmp_path, range(2))
  write(tmp_path, range(4))
  check(tmp_path, range(4))


def test_shards_are_one_store(tmp_path):
  for shard in range(3):
    write(tmp_path, range(shard, 8, 3), shard=(shard, 3))
  check(tmp_path, range(8))
  with StoreWriter(tmp_path, DIM, META, shard=(1, 3)) as writer:
    assert writer.done == {"v1", "v4", "v7"}


@pytest.mark.parametrize("dim, meta", [(DIM + 1, META), (DIM, META | {"crop": 224}), (DIM, {})])
def test_features_made_in_another_way_are_not_mixed(tmp_path, dim, meta):
  write(tmp_path, range(2))
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
  with pytest.raises(DataError, match="made in another way"):
    StoreWriter(tmp_path, dim, meta)
  assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


@pytest.mark.parametrize("frames", [
    np.zeros((0, DIM)), np.zeros((2, DIM + 1)), np.zeros(DIM), np.full((1, DIM), np.nan),
    np.array([[0.0, np.inf, 0.0]])])
def test_features_that_are_none_are_refused_and_leave_no_trace(tmp_path, frames):
  with StoreWriter(tmp_path, DIM, META) as writer:
    writer.append("v1", video(1))
    with pytest.raises(ValueError, match="wrong"):
      writer.append("wrong", frames.astype(np.float32))
    writer.append("v2", video(2))
  check(tmp_path, [1, 2])


def test_a_folder_that_is_no_store_is_named(tmp_path):
  with pytest.raises(DataError, match=r"is no feature store: store\.json is missing"):
    Store(tmp_path / "nowhere")
  (tmp_path / "store.json").write_text("{")
  with pytest.raises(DataError, match="damaged"):
    Store(tmp_path)
  (tmp_path / "store.json").write_text('{"format": "other/3"}')
  with pytest.raises(DataError, match="'other/3', expected 'vssl_frames/1'"):
    Store(tmp_path)


def test_a_folder_that_cannot_be_written_is_named_with_the_setting(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(DataError, match=r"file/store: can't write .* another data\.cache_dir"):
    StoreWriter(tmp_path / "file" / "store", DIM, META)


def test_a_full_disk_is_told_and_what_was_written_is_kept(tmp_path):
  """A limit on the size of files makes writing fail as a full disk does."""
  code = f"""
    import resource, signal
    import numpy as np
    from data_pipelines.errors import DataError
    from data_pipelines.store import StoreWriter
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    try:
      with StoreWriter({str(tmp_path)!r}, {DIM}, {META!r}) as writer:
        for i in range(1000):
          rng = np.random.default_rng(i)
          writer.append(f"v{{i}}", rng.standard_normal((1 + i % 3, {DIM})).astype(np.float32))
    except DataError as e:
      print(e)
  """
  done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True,
                        capture_output=True, text=True, cwd=ROOT)
  assert "can't write features" in done.stdout
  assert "free some space or choose another data.cache_dir" in done.stdout
  assert done.stderr == ""
  written = len(Store(tmp_path))
  assert written > 20
  check(tmp_path, range(written))
  write(tmp_path, range(written + 3))
  check(tmp_path, range(written + 3))
