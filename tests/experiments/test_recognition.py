"""CycleContrast and ProViCo from the command line: whole runs, and the modes that read them."""

import json
import os
import re
import shutil
import signal

import jax.export
import numpy as np
import pytest
from PIL import Image

from tests.experiments import harness

DATA = {
    "data.size": 48, "data.seconds": "(3.0, 4.0)", "data.n_train_families": 2,
    "data.n_background": 2, "data.n_distractors": 4, "train.steps": 2, "train.batch": 4,
    "train.log_every": 1, "train.checkpoint_every": 1, "embed.batch": 8}
VIEWS = {"clips": 2, "size": 16, "short_side": 16}
CYCLE = DATA | {
    "views.size": 16, "method.args.width": 4, "method.args.dim": 8, "method.args.intra_queue": 16,
    "method.args.cycle_queue": 16, "method.args.neighbours": 4, "method.args.groups": 2,
    "evals.tracks.data.n_distractors": 3,
    **{f"evals.{name}.views.{k}": v for name in ("retrieval", "neighbours", "linear")
       for k, v in VIEWS.items()}}
CLIPS = {"frames": 2, "clips": 2, "size": 16, "short_side": 16}
PROVICO = DATA | {
    "train.eval_every": 1,
    "views.frames": 2, "views.size": 16, "method.args.width": 4, "method.args.dim": 8,
    "method.args.samples": 2, "evals.motion.args.corruptions.noise": "(0.0, 32.0)",
    "evals.motion.args.corruptions.blur": "(0.0, 2.0)",
    **{f"evals.{name}.views.{k}": v for name in ("motion", "retrieval", "linear")
       for k, v in CLIPS.items()}}
RUNS = {"cycle_contrast": ("CycleContrast", CYCLE), "provico": ("ProViCo", PROVICO)}
# Each is a run or more of its own, of a way through the code that the runs of others test too.
dear = pytest.mark.skipif(os.environ.get("VSSL_SLOW") != "1", reason="VSSL_SLOW=1 runs it")


def train(name, workdir, cache, preset="", **more):
  return harness.train(workdir, cache, f"experiments/{name}.py{preset}", RUNS[name][1], **more)


def cells(text: str, row: str) -> list[str]:
  """The cells of the table's row that begins with `row`."""
  line = next(line for line in text.splitlines() if line.startswith(row))
  return re.findall(r"-?\d+\.\d|-(?=\s|$)", line.removeprefix(row))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=list(RUNS))
def run(request, cache, server, tmp_path_factory):
  """Name, folder and output of a run."""
  workdir = tmp_path_factory.mktemp("runs") / request.param
  result = server.run(*train(request.param, workdir, cache))
  assert result.status == 0, result.err
  return request.param, workdir, result.out


def check_table(run):
  """The table holds what results.json holds."""
  name, workdir, text = run
  title, found = RUNS[name][0], harness.rows(workdir)
  assert list(found) == ["pixels alone", f"untrained {title}", f"trained {title}"]
  columns = {  # None is no mean over items
      "cycle_contrast": ["linear/linear", "20-NN/neighbours", "R@1/retrieval", "R@5/retrieval",
                         "success/tracks", "precision/tracks"],
      "provico": ["linear/linear", "R@1/motion", *4 * [None], "blur/motion", "noise/motion",
                  "R@1/retrieval", "R@5/retrieval"],
  }[name]
  for row, numbers in found.items():
    shown, items = cells(text, row), numbers["per_item"]
    assert shown.count("-") == (5 if name == "provico" and row == "pixels alone" else 0)
    assert len(shown) == len(columns)
    for cell, column in zip(shown, columns, strict=True):
      if cell == "-":
        assert column not in items
      elif column:
        assert cell == f"{np.mean(list(items[column].values())):.1f}", column
    assert all(len(v) >= 1 for v in items.values())
  logged = harness.metrics(workdir)
  assert [row["step"] for row in logged] == [1, 2]
  assert all(np.isfinite(row["loss"]) for row in logged)
  assert not [key for row in logged for key in row if key.startswith(("eval/noise", "eval/blur"))]
  assert "The exported model was evaluated as well: the same features" in text


def check_pictures(run):
  name, workdir, _ = run
  pages = {"cycle_contrast": ["retrieval.png"],
           "provico": ["motion.png", "motion_corruption.png", "motion_training.png",
                       "retrieval.png"]}[name]
  assert sorted(p.name for p in workdir.glob("*.png")) == pages
  assert all(min(Image.open(workdir / page).size) > 100 for page in pages)
  if name == "cycle_contrast":
    assert any((workdir / "tracks").rglob("*.txt"))


def check_export(run, server):
  """The export gives the table again."""
  name, workdir, text = run
  result = server.run("--mode=eval", f"--workdir={workdir}",
                      f"--exported={workdir}/export/embed.jaxexport")
  assert result.status == 0, result.err
  assert cells(result.out, "exported model") == cells(text, f"trained {RUNS[name][0]}")


def check_inputs(run):
  """Exports take inputs of any size."""
  name, workdir, _ = run
  takes, shape = {"cycle_contrast": ("image", (2, 20, 28, 3)),
                  "provico": ("clip", (2, 2, 16, 32, 3))}[name]
  fn = jax.export.deserialize(bytearray((workdir / "export" / "embed.jaxexport").read_bytes()))
  x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
  out = fn.call({takes: x})
  assert {len(v) for v in out.values()} == {2}
  assert ({"features"} if takes == "image" else {"video", "mean", "logvar"}) <= out.keys()
  assert (workdir / "export" / "map.jaxexport").is_file() == (takes == "image")


def test_a_run_from_training_to_its_export(run, server):
  """In one test: the run is made by the process that runs it, and by no other."""
  check_table(run)
  check_pictures(run)
  check_export(run, server)
  check_inputs(run)


@dear
def test_the_checkpoint_gives_the_table_again(run, server):
  name, workdir, text = run
  result = server.run("--mode=eval", f"--workdir={workdir}")
  assert result.status == 0, result.err
  trained = f"trained {RUNS[name][0]}"
  assert cells(result.out, f"{trained}, step 2") == cells(text, trained)


@dear
def test_a_killed_run_continues_to_the_same_bits(run, cache, tmp_path):
  argv = train(run[0], tmp_path / "run", cache)
  process = harness.Process(*argv)
  assert process.until(lambda: (tmp_path / "run" / "checkpoints" / "1").is_dir())
  process.popen.send_signal(signal.SIGKILL)
  process.wait()
  harness.run(*argv)
  harness.assert_same_run(run[1], tmp_path / "run")
  state = harness.final_state(run[1])
  assert any("queue" in key for key in state) == (run[0] == "cycle_contrast")


@dear
def test_another_data_set(run, cache, server):
  name, workdir, _ = run
  result = server.run("--mode=eval", f"--workdir={workdir}",
                      *train(name, workdir, cache, data__seed=5)[:1],
                      *harness.settings({k: v for k, v in RUNS[name][1].items()
                                         if k.startswith(("data.", "evals."))}),
                      f"--config.data.cache_dir={cache}", "--config.data.seed=5",
                      "--config.embed.batch=3")
  assert result.status == 0, result.err
  assert "weights on the data set 'procedural': 2 steps of 4 videos" in " ".join(result.out.split())
  folder, = (workdir / "evaluations").glob("procedural-*")
  found = json.loads((folder / "results.json").read_text())
  assert found["rows"] and found["trained"]["train"]["steps"] == 2
  assert (folder / "retrieval.png").is_file()
  wrong = server.run("--mode=eval", f"--workdir={workdir}", f"--config=experiments/{name}.py",
                     "--config.embed.batch=0")
  assert wrong.status == 2 and "embed.batch=0 must be at least 1" in wrong.err, wrong.err


@dear
def test_a_folder_of_videos(run, cache, server, tmp_path):
  name, workdir, _ = run
  for k, path in enumerate(sorted(cache.glob("procedural-*/*.mp4"))[:10]):
    (tmp_path / "data" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
    shutil.copy(path, tmp_path / "data" / "ab"[k % 2] / f"{k}.mp4")
  views, evals = ((VIEWS, ["retrieval"]) if name == "cycle_contrast" else
                  (CLIPS | {"stride": 2, "fps": 0.0}, ["retrieval", "instances"]))
  result = server.run("--mode=eval", f"--workdir={workdir}",
                      f"--config=experiments/{name}.py:folder",
                      *harness.settings({f"evals.{e}.views.{k}": v
                                         for e in evals for k, v in views.items()}),
                      f"--config.data.root={tmp_path}/data", "--config.data.holdout=0.5")
  assert result.status == 0, result.err
  assert "heldout" in result.out and any((workdir / "evaluations").glob("folder-*"))


@dear
def test_features_of_videos_are_written(run, cache, server, tmp_path):
  _, workdir, _ = run
  (tmp_path / "videos").mkdir()
  for path in sorted(cache.glob("procedural-*/distractor*.mp4"))[:2]:
    shutil.copy(path, tmp_path / "videos")
  result = server.run("--mode=extract", f"--workdir={workdir}", f"--input={tmp_path}/videos",
                      f"--output={tmp_path}/out")
  assert result.status == 0, result.err
  arrays = [np.load(p) for p in sorted((tmp_path / "out").glob("*.npy"))]
  assert [a.ndim for a in arrays] == [2, 2] and all(np.isfinite(a).all() for a in arrays)
  page = json.loads((tmp_path / "out" / "features.json").read_text())
  assert [len(v["seconds"]) for v in page["videos"].values()] == [len(a) for a in arrays]


@dear
def test_a_half_precision_backbone_goes_through_training_and_export(cache, server, tmp_path):
  result = server.run(*train("provico", tmp_path / "run", cache, method__args__dtype="bfloat16"))
  assert result.status == 0, result.err
  assert "The exported model was evaluated as well: the same features" in result.out
  found = harness.rows(tmp_path / "run")["trained ProViCo"]
  assert np.isfinite([v for k, v in found.items() if k.startswith("motion")]).all()


@dear
@pytest.mark.parametrize("name, settings, words", [
    ("cycle_contrast", {"views__name": "clip"}, "views.name='clip'; did you mean 'clips'"),
    ("cycle_contrast", {"evals__linear__views__frames": 4}, "evals.linear.views.frames=4"),
    ("cycle_contrast", {"evals__linear__name": "logistik"}, "did you mean 'logistic'"),
    ("cycle_contrast", {"evals__tracks__args__matcher": "rigde"}, "matcher='rigde'"),
    ("cycle_contrast", {"method__args__intra_queue": 18}, "intra_queue=18 is no multiple"),
    ("cycle_contrast", {"views__candidates": 0}, "method.name='cycle_contrast'"),
    ("provico", {"evals__motion__args__corruptions__noise": "(0.0, -1.0)"}, "evals.motion.args"),
    ("provico", {"evals__retrieval__views__size": 64}, "evals.retrieval.views.size=64"),
    ("provico", {"data__split": "trian"}, "data: procedural"),
    ("provico", {"method__args__mining": "sampeld"}, "method.args.mining='sampeld'"),
    ("provico", {"embed__batch": 0}, "embed.batch=0 must be at least 1"),
    ("provico", {"views__fps": -1.0}, "views.fps=-1")])
def test_wrong_settings_are_told(cache, server, tmp_path, name, settings, words):
  result = server.run(*train(name, tmp_path / "run", cache, **settings))
  assert result.status == 2 and words in result.err, result.err
  told = [x for x in result.err.splitlines() if x.strip() and not x.startswith("drawing videos")]
  assert len(told) == 1
  assert not (tmp_path / "run" / "config.json").exists()
