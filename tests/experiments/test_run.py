"""A whole run: what it prints and leaves, and the modes that read it."""

import csv
import json
import pathlib
import re
import shutil

import jax
import jax.export
import numpy as np
from PIL import Image

from tests.experiments import harness
from vssl_jax import log

ROWS = ["mean-pooled features", "untrained TCA", "trained TCA"]
PARTS = {"loss", "positive", "negative", "hardest", "top1", "bank_filled", "grad_norm",
         "examples_per_second", "data_wait_fraction", "dropped_videos"}


def cells(text: str, row: str) -> list[str]:
  """The numbers of the table's row whose name begins with `row`."""
  line = next(line for line in text.splitlines() if line.startswith(row))
  return re.findall(r"\d\.\d{3}", line)


def test_the_table_holds_the_three_rows_of_results(finished, shared):
  text, found = (shared / "stdout").read_text(), harness.rows(finished)
  assert list(found) == ROWS
  names = [f"{task}/{similarity}" for task in ("DSVR", "CSVR", "ISVR")
           for similarity in ("cosine", "chamfer", "symmetric_chamfer")]
  for row in ROWS:
    assert cells(text, row) == [f"{found[row][name]:.3f}" for name in names]
    for name in names:
      per_query = found[row]["per_item"][name]
      assert len(per_query) == 2
      assert np.isclose(found[row][name], np.mean(list(per_query.values())))
  assert found[ROWS[1]] != found[ROWS[2]], "training changed nothing"
  assert "The exported model was evaluated as well: the same mAP" in text
  for line in re.findall(r"^  (/.*)$", text, re.MULTILINE):
    assert line.startswith(str(finished))
    assert pathlib.Path(line).exists()


def test_it_is_quiet_about_libraries(finished, shared):
  del finished
  err = (shared / "stderr").read_text()
  assert not re.search(r"^[IWE]\d{4} |Traceback|Warning", err, re.MULTILINE), err


def test_it_needs_no_tensorflow_and_no_torch(finished, shared):
  del finished
  modules = {name.partition(".")[0] for name in (shared / "modules").read_text().split()}
  assert {"jax", "orbax", "grain", "experiments"} <= modules
  assert not modules & {"tensorflow", "torch", "torchvision", "cv2", "keras"}


def test_every_step_has_a_row(finished):
  rows = log.read(finished / "metrics.jsonl")
  assert [row["step"] for row in rows] == list(range(1, harness.STEPS + 1))
  assert all(row.keys() >= PARTS for row in rows)
  assert all(np.isfinite(row["loss"]) and row["loss"] > 0 for row in rows)
  evaluated = [row["step"] for row in rows if "eval/DSVR/cosine" in row]
  assert evaluated == [20]


def test_checkpoints_end_at_the_last_step(finished):
  assert harness.checkpoint_steps(finished) == [39, 40]
  assert harness.final_state(finished)["['step']"] == 40
  assert list((finished / "tensorboard").iterdir())


def test_figures(finished, shared):
  text = (shared / "stdout").read_text()
  for name in ("retrieval", "curves", "attention", "embedding"):
    assert f"  {finished / name}.png\n" in text
    with Image.open(finished / f"{name}.png") as image:
      assert min(image.size) > 300
      assert np.asarray(image.convert("L")).std() > 10


def test_rankings(finished):
  with (finished / "rankings.csv").open() as f:
    rows = list(csv.DictReader(f))
  assert list(rows[0]) == ["query", "rank", "video", "chamfer", "label"]
  for query in ("query000", "query001"):
    own = [row for row in rows if row["query"] == query]
    assert [int(row["rank"]) for row in own] == list(range(1, 21))
    scores = [float(row["chamfer"]) for row in own]
    assert scores == sorted(scores, reverse=True)
    assert {"ND", "DS", "CS", "IS", "distractor"} >= {row["label"] for row in own}
    # The ranking agrees with the table's number: 2 ND and 3 DS videos a query, all below rank 20
    # of a precision of at most 5 / 21.
    found = harness.rows(finished)["trained TCA"]["per_item"]["DSVR/chamfer"][query]
    relevant = [row["label"] in ("ND", "DS") for row in own]
    known = sum(np.mean(relevant[:i + 1]) for i, hit in enumerate(relevant) if hit) / 5
    assert known - 1e-6 <= found <= known + (5 - sum(relevant)) / 5 * 5 / 21 + 1e-6


def test_a_finished_run_says_so_and_does_nothing(finished, cache, server):
  before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
  result = server.run(*harness.train(finished, cache))
  assert result.status == 0
  assert "This run is finished" in result.out
  assert cells(result.out, "trained TCA")
  assert "train:" not in result.err
  assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


def test_eval_needs_only_the_folder_and_gives_the_same_numbers(finished, server, tmp_path):
  moved = tmp_path / "moved"
  shutil.copytree(finished, moved)
  live = server.run("--mode=eval", f"--workdir={moved}", cwd=tmp_path)
  exported = server.run("--mode=eval", f"--workdir={moved}",
                        f"--exported={moved / 'export' / 'embed.jaxexport'}", cwd=tmp_path)
  assert (live.status, exported.status) == (0, 0), live.err + exported.err
  table = cells((finished / "results.json").read_text().replace("\\n", "\n"), "trained TCA")
  assert cells(live.out, "trained TCA, step 40") == table
  assert cells(exported.out, "exported model") == table


def test_export_gives_the_same_function_and_says_how_to_call_it(finished, server, tmp_path):
  result = server.run("--mode=export", f"--workdir={finished}", f"--output={tmp_path / 'out'}")
  assert result.status == 0, result.err
  assert result.out.split() == [str(tmp_path / "out" / f"{name}.jaxexport")
                                for name in ("frames", "embed")]
  page = json.loads((tmp_path / "out" / "embed.json").read_text())
  assert page["inputs"]["x"]["shape"] == ["b", "t", 8]
  assert page["outputs"].keys() == {"video", "frames", "length", "attention"}
  rng = np.random.default_rng(0)
  x, length = rng.normal(size=(3, 5, 8)).astype(np.float32), np.array([5, 1, 3], np.int32)
  outputs = [call(folder / "embed.jaxexport", x, length)
             for folder in (tmp_path / "out", finished / "export")]
  np.testing.assert_array_equal(outputs[0]["frames"], outputs[1]["frames"])
  np.testing.assert_array_equal(outputs[0]["video"], outputs[1]["video"])
  np.testing.assert_allclose(np.linalg.norm(outputs[0]["video"], axis=-1), 1, atol=1e-5)


def call(path, x, length):
  """An exported model, called as README says."""
  fn = jax.export.deserialize(bytearray(path.read_bytes()))
  return fn.call({"x": x, "length": length})
