"""`--mode=extract`: the Parquet file, its vectors, bad videos, and going on after a kill."""

import json
import shutil
import signal

import jax.export
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.frames import frame_sequences
from data_pipelines.records import Record
from tests.experiments import harness, videos


@pytest.fixture(scope="module")
def folder(cache, tmp_path_factory):
  """Some drawn videos, in subfolders, and some files of trouble."""
  folder = tmp_path_factory.mktemp("videos")
  (folder / "deep" / "er").mkdir(parents=True)
  for i, path in enumerate(sorted(cache.glob("procedural-*/*.mp4"))[::3]):
    shutil.copy(path, folder / ("deep/er" if i % 2 else ".") / path.name)
  return folder


@pytest.fixture(scope="module")
def extracted(folder, finished, server, tmp_path_factory):
  """The Parquet file of `folder` with bad videos in it, the names of those, what was said."""
  bad, odd = videos.write_bad(folder), videos.write_odd(folder)
  output = tmp_path_factory.mktemp("out") / "out.parquet"
  result = server.run("--mode=extract", f"--workdir={finished}", f"--input={folder}",
                      f"--output={output}")
  assert result.status == 0, result.err
  assert [p.name for p in output.parent.iterdir()] == ["out.parquet"]
  return output, bad, odd, result.out


def described(finished, path):
  """Unit vectors of a video by the run's two exported files alone: of it, and of its frames."""
  c = json.loads((finished / "config.json").read_text())["features"]
  item = next(frame_sequences([Record("v", str(path))], short_side=c["short_side"], crop=c["crop"],
                              fps=c["fps"]))
  frames, embed = (jax.export.deserialize(bytearray((finished / "export" / name).read_bytes()))
                   for name in ("frames.jaxexport", "embed.jaxexport"))
  x = frames.call({"frames": item["frames"]})["x"][None]
  out = embed.call({"x": x, "length": np.array([x.shape[1]], np.int32)})
  return np.asarray(out["video"][0]), np.asarray(out["frames"][0])


def test_the_schema_is_the_documented_one(extracted):
  schema = pq.read_schema(extracted[0])
  vector = pa.list_(pa.float32(), 8)
  assert schema.remove_metadata() == pa.schema([
      ("id", pa.string()), ("n_frames", pa.int32()), ("video", vector),
      ("frames", pa.list_(vector)), ("error", pa.string())])
  assert json.loads(schema.metadata[b"vssl_jax"]) == {
      "run": "finished", "step": harness.STEPS, "fps": 1.0, "dim": 8}


def test_every_video_has_a_row_and_bad_ones_a_reason(extracted, folder):
  output, bad, odd, said = extracted
  rows = {row["id"]: row for row in pq.read_table(output).to_pylist()}
  assert set(rows) == {p.relative_to(folder).as_posix() for p in folder.rglob("*.m*")}
  for name, row in rows.items():
    if name in bad:
      assert bad[name] in row["error"]
      assert (row["n_frames"], row["video"], row["frames"]) == (0, None, None)
    else:
      assert row["error"] is None
      assert row["n_frames"] == len(row["frames"]) >= (1 if name in odd else 3)
      np.testing.assert_allclose(np.linalg.norm(row["frames"], axis=-1), 1, atol=1e-5)
      np.testing.assert_allclose(np.linalg.norm(row["video"]), 1, atol=1e-5)
  frames = sum(row["n_frames"] for row in rows.values())
  assert f"{len(rows)} videos, {frames} frames, {len(bad)} that could not be read" in said


def test_vectors_are_those_of_the_exported_model(extracted, finished, folder):
  rows = pq.read_table(extracted[0]).to_pylist()
  good = [row for row in rows if not row["error"]]
  for row in good[::4]:
    video, frames = described(finished, folder / row["id"])
    np.testing.assert_allclose(row["video"], video, atol=1e-5)
    np.testing.assert_allclose(row["frames"], frames, atol=1e-5)


def test_similarities_are_those_of_the_evaluation(finished, cache, server, tmp_path):
  """Dot products of the `video` column equal the scores in rankings; Chamfer likewise."""
  drawn = next(cache.glob("procedural-*"))
  output = tmp_path / "out.parquet"
  result = server.run("--mode=extract", f"--workdir={finished}", f"--input={drawn}",
                      f"--output={output}")
  assert result.status == 0, result.err
  rows = {row["id"].removesuffix(".mp4"): row for row in pq.read_table(output).to_pylist()}
  lines = (finished / "rankings.csv").read_text().splitlines()[1:]
  for line in lines[::5]:
    query, _, video, score, _ = line.split(",")
    products = np.array(rows[query]["frames"]) @ np.array(rows[video]["frames"]).T
    assert abs(products.max(axis=1).mean() - float(score)) < 2e-5


def test_one_file_is_enough(extracted, finished, folder, server, tmp_path):
  name = next(p for p in sorted(folder.glob("*.mp4")) if p.name.startswith("query"))
  output = tmp_path / "one.parquet"
  result = server.run("--mode=extract", f"--workdir={finished}", f"--input={name}",
                      f"--output={output}")
  assert result.status == 0, result.err
  row, = pq.read_table(output).to_pylist()
  assert row["id"] == name.name
  whole = {r["id"]: r for r in pq.read_table(extracted[0]).to_pylist()}
  np.testing.assert_allclose(row["video"], whole[name.name]["video"], atol=1e-6)


def test_a_killed_extraction_goes_on_and_ends_the_same(extracted, finished, folder, server,
                                                       tmp_path):
  output = tmp_path / "out.parquet"
  argv = ["--mode=extract", f"--workdir={finished}", f"--input={folder}", f"--output={output}"]

  def stored():
    return sum(p.stat().st_size for p in tmp_path.glob("out.parquet.*.partial/frames-*"))

  for number in (signal.SIGKILL, signal.SIGTERM):
    before = stored()
    process = server.start(*argv)
    assert process.until(lambda before=before: stored() > before)
    process.popen.send_signal(number)
    result = process.wait(60)
    assert result.status == (0 if number == signal.SIGTERM else -9), result.err
    assert "Traceback" not in result.err
    assert not output.exists()
  result = server.run(*argv)
  assert result.status == 0, result.err
  assert pq.read_table(output).equals(pq.read_table(extracted[0]))
  assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]
