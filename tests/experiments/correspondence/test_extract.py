"""Dense features as arrays on disk: what they hold, bad videos, going on after an interruption."""

import json
import os
import shutil

import numpy as np
import pytest

from experiments import inputs
from experiments.correspondence.extract import extract
from tests.data_pipelines import clips
from tests.experiments import videos
from vssl_jax.evaluators import dense
from vssl_jax.types import ConfigError

FLOOR = dense.lab_blocks(8, reach=0)


def refuse(inputs):
  raise AssertionError("nothing is left to embed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("videos")
  (folder / "deep").mkdir()
  (folder / "a.mp4").write_bytes(clips.encode(clips.numbered(5), fps=8))
  (folder / "deep" / "b.mkv").write_bytes(
      clips.encode(clips.numbered(3, 33, 50), "matroska", "ffv1", "bgr0", fps=8))
  return folder


def run(folder, output, embed=FLOOR, **kwargs):
  return extract(embed, inputs.find_videos(str(folder)), str(output), stride=8,
                 progress=False, **kwargs)


def files(folder):
  return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("dtype, every", [("float32", 1), ("float16", 2)])
def test_arrays_hold_the_features_of_the_frames(folder, tmp_path, dtype, every):
  done = run(folder, tmp_path / "o", dtype=dtype, every=every, align="half_pixel",
             origin={"run": "mine", "step": 7})
  assert files(tmp_path / "o") == ["a.mp4.npy", "deep/b.mkv.npy", "features.json"]
  page = json.loads(done.page.read_text())
  assert (page["run"], page["step"], page["stride"], page["align"], page["dtype"],
          page["every"]) == ("mine", 7, 8, "half_pixel", dtype, every)
  # ffv1 loses nothing; 33 x 50 pixels become 5 x 7 cells by repeating the last row and column.
  frames = np.pad(clips.numbered(3, 33, 50), [(0, 0), (0, 7), (0, 6), (0, 0)], mode="edge")
  wanted = FLOOR({"image": frames[::every]})["features"].astype(dtype)
  got = np.load(tmp_path / "o" / "deep" / "b.mkv.npy", mmap_mode="r")
  assert got.dtype == dtype
  np.testing.assert_array_equal(got, wanted)
  entry = page["videos"]["deep/b.mkv"]
  assert entry["shape"] == list(got.shape) and entry["file"] == "deep/b.mkv.npy"
  assert (entry["height"], entry["width"], entry["fps"], entry["n_frames"]) == (33, 50, 8.0, 3)
  assert (done.videos, done.frames) == (2, {1: 8, 2: 5}[every]) and not done.bad
  assert "2 videos, " in done.text()


def test_bad_videos_are_told_and_the_others_done(folder, tmp_path, capsys):
  shutil.copytree(folder, tmp_path / "v")
  bad = videos.write_bad(tmp_path / "v")
  done = run(tmp_path / "v", tmp_path / "o")
  assert set(done.bad) == set(bad) and all(word in done.bad[i] for i, word in bad.items())
  assert json.loads(done.page.read_text())["bad"] == done.bad
  assert done.videos == 2 and "3 that could not be read" in done.text()
  said = capsys.readouterr().err
  assert all(f"can't use {name}: " in said for name in bad)
  assert files(tmp_path / "o") == ["a.mp4.npy", "deep/b.mkv.npy", "features.json"]


def test_finished_videos_are_kept_and_replaced_ones_redone(folder, tmp_path):
  shutil.copytree(folder, tmp_path / "v")
  run(tmp_path / "v", tmp_path / "o")
  again = run(tmp_path / "v", tmp_path / "o", refuse)
  assert (again.videos, again.kept) == (2, 2) and "(2 of an earlier call)" in again.text()
  (tmp_path / "v" / "a.mp4").write_bytes(clips.encode(clips.numbered(4), fps=8))
  os.remove(tmp_path / "o" / "deep" / "b.mkv.npy")
  third = run(tmp_path / "v", tmp_path / "o")
  assert third.kept == 0 and third.frames == 7
  assert len(np.load(tmp_path / "o" / "a.mp4.npy")) == 4
  (tmp_path / "v" / "a.mp4").write_bytes(b"gone bad")
  last = run(tmp_path / "v", tmp_path / "o")
  assert set(last.bad) == {"a.mp4"} and last.videos == 1
  assert files(tmp_path / "o") == ["deep/b.mkv.npy", "features.json"]


def test_an_interruption_leaves_whole_arrays_only(folder, tmp_path):
  calls = iter(range(99))
  def embed(inputs):
    if next(calls) == 6:  # in the second video
      raise KeyboardInterrupt
    return FLOOR(inputs)
  with pytest.raises(KeyboardInterrupt):
    run(folder, tmp_path / "o", embed)
  assert files(tmp_path / "o") == ["a.mp4.npy", "features.json"]
  left = run(folder, tmp_path / "o")
  assert (left.kept, left.videos) == (1, 2)


def test_other_settings_or_another_folder_are_refused(folder, tmp_path):
  run(folder, tmp_path / "o")
  with pytest.raises(ConfigError, match=r"other settings: every \(1 there, 2 now\)"):
    run(folder, tmp_path / "o", every=2)
  with pytest.raises(ConfigError, match=r"step \(None there, 3 now\)"):
    run(folder, tmp_path / "o", origin={"step": 3})
  with pytest.raises(ConfigError, match="holds other files"):
    run(folder, folder)
  (tmp_path / "o" / "features.json").write_text("{")
  with pytest.raises(ConfigError, match=r"features\.json is damaged"):
    run(folder, tmp_path / "o")


@pytest.mark.parametrize("options, message", [
    (dict(dtype="int8"), "dtype='int8'"), (dict(every=0), "every=0"),
    (dict(align="x"), "align='x'")])
def test_impossible_settings(folder, tmp_path, options, message):
  with pytest.raises(ConfigError, match=message):
    run(folder, tmp_path / "o", **options)


def test_features_that_do_not_fit(folder, tmp_path):
  def large(inputs):
    return {"features": 1e6 * FLOOR(inputs)["features"]}
  with pytest.raises(ConfigError, match="don't fit into float16; use float32"):
    run(folder, tmp_path / "o", large)
  assert files(tmp_path / "o") == ["features.json"]
  assert run(folder, tmp_path / "p", large, dtype="float32").videos == 2
  with pytest.raises(ConfigError, match=r"features have 12 x 16 cells; .* have 6 x 8"):
    run(folder, tmp_path / "q", dense.lab_blocks(4, reach=0))
