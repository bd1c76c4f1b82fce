"""CorrFlow from the command line: a whole run, the modes that read it, other data, own videos."""

import csv
import json
import os
import re
import shutil
import signal

import jax.export
import ml_collections
import numpy as np
import pytest
from PIL import Image

from data_pipelines import pictures
from data_pipelines.decode import open_video
from experiments import cli, modes
from experiments.workflows import correspondence
from tests.convert import checkpoints
from tests.data_pipelines.layouts import davis as davis_layout
from tests.data_pipelines.layouts import jhmdb as jhmdb_layout
from tests.evaluators.stopping import Stopping
from tests.experiments import harness
from vssl_jax import parallel
from vssl_jax.convert import corrflow as convert
from vssl_jax.evaluators import dense
from vssl_jax.models.corrflow import Encoder, random_variables
from vssl_jax.types import ConfigError

CONFIG = "experiments/corrflow.py"
TINY = {
    "data.size": 48, "data.seconds": "(2.0, 3.0)", "data.n_train_families": 2,
    "data.n_background": 4, "data.n_distractors": 4, "clips.size": 32, "colours.clusters": 4,
    "method.args.width": 4, "method.args.dim": 8, "method.args.blocks": 1,
    "method.args.radius": 2, "train.steps": 12, "train.batch": 2, "train.log_every": 1,
    "train.eval_every": 6, "train.checkpoint_every": 5, "evals.points.args.size": 48,
    "evals.masks.args.protocol": "later",  # by cosine: what so small a network gives is near zero
}
# Each is a run or more of its own, of a way through the code that runs of TCA test too.
dear = pytest.mark.skipif(os.environ.get("VSSL_SLOW") != "1", reason="VSSL_SLOW=1 runs it")
ROWS = ["first labels repeated", "colours alone", "untrained CorrFlow", "trained CorrFlow"]


def train(workdir, cache, config: str = CONFIG, tiny: dict = TINY, **more) -> list[str]:
  return harness.train(workdir, cache, config, tiny, **more)


def cells(text: str, row: str) -> list[str]:
  """The numbers of the table's row that begins with `row`."""
  line = next(line for line in text.splitlines() if line.startswith(row))
  return re.findall(r"\d+\.\d", line.removeprefix(row))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(cache, server, tmp_path_factory):
  """The folder of a run, and what it printed."""
  workdir = tmp_path_factory.mktemp("runs") / "run"
  result = server.run(*train(workdir, cache))
  assert result.status == 0, result.err
  return workdir, result.out


def test_the_table_holds_what_results_hold(run):
  workdir, text = run
  found = harness.rows(workdir)
  assert list(found) == ROWS
  names = ["J&F-Mean/masks", "J-Mean/masks", "F-Mean/masks", "PCK@0.1/points", "PCK@0.2/points",
           "J&F-Mean/steady", "J-Mean/steady", "F-Mean/steady"]
  for row in ROWS:
    assert cells(text, row) == [f"{found[row][name]:.1f}" for name in names]
    for name in names[:3]:
      values = found[row]["per_item"][name].values()
      assert len(values) >= 2
      np.testing.assert_allclose(found[row][name], np.mean(list(values)))
    each = found[row]["per_object"]["masks"]
    for name in ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"):
      np.testing.assert_allclose(found[row][f"{name}/masks"],
                                 np.mean([values[name] for values in each.values()]))
  assert found[ROWS[2]] != found[ROWS[3]], "training changed nothing"
  assert "The exported model was evaluated as well: the same numbers" in text
  logged = [row for row in harness.metrics(workdir) if "eval/J&F-Mean/masks" in row]
  assert [row["step"] for row in logged] == [6]
  assert {"loss", "short", "cycle", "accuracy", "p_ground_truth", "dropped_videos"} <= (
      logged[0].keys())


def test_predictions_lie_in_the_official_layout(run, cache):
  workdir, _ = run
  sequences = sorted((workdir / "masks").iterdir())
  items = harness.rows(workdir)["trained CorrFlow"]["per_item"]
  assert {name.rpartition("_")[0] for name in items["J-Mean/masks"]} == {
      s.name for s in sequences}
  for sequence in sequences:
    files = sorted(sequence.iterdir())
    assert [f.name for f in files] == [f"{t:05d}.png" for t in range(len(files))]
    image = Image.open(files[-1])
    assert image.mode == "P" and image.size == (48, 48)
    with (workdir / "points" / f"{sequence.name}.csv").open() as f:
      rows = list(csv.DictReader(f))
    assert rows[-1]["frame"] == str(len(files) - 1)
  for name in ("masks.png", "points.png"):
    assert min(Image.open(workdir / name).size) > 300


def test_checkpoint_and_export_give_the_table_again(run, server):
  workdir, text = run
  want = cells(text, "trained CorrFlow")
  result = server.run("--mode=eval", f"--workdir={workdir}")
  assert result.status == 0, result.err
  assert cells(result.out, "trained CorrFlow, step 12") == want
  result = server.run("--mode=eval", f"--workdir={workdir}",
                      f"--exported={workdir}/export/embed.jaxexport")
  assert result.status == 0, result.err
  assert cells(result.out, "exported model") == want


def test_the_export_takes_pictures_of_any_size(run):
  data = (run[0] / "export" / "embed.jaxexport").read_bytes()
  fn = jax.export.deserialize(bytearray(data))
  image = np.random.default_rng(0).integers(0, 256, (1, 20, 28, 3), dtype=np.uint8)
  features = fn.call({"image": image})["features"]
  assert features.shape == (1, 5, 7, 8)
  twice = fn.call({"image": np.concatenate([image, 255 - image])})["features"]
  np.testing.assert_allclose(twice[:1], features, atol=1e-5)


@dear
def test_a_stopped_run_continues_to_the_same_bits(run, cache, tmp_path):
  argv = train(tmp_path / "run", cache)
  process = harness.Process(*argv)
  assert process.until(lambda: (tmp_path / "run" / "checkpoints" / "5").is_dir())
  process.popen.send_signal(signal.SIGINT)
  stopped = process.wait()
  assert stopped.status == 0 and "stopped at step" in stopped.out, stopped.err
  harness.run(*argv)
  harness.assert_same_run(run[0], tmp_path / "run")


def test_an_evaluation_as_of_another_data_set(run, cache, server, tmp_path):
  """On the run's own: the same numbers, and nothing that is unfinished is left."""
  workdir = shutil.copytree(run[0], tmp_path / "run")
  data = {k: v for k, v in TINY.items() if k.startswith("data.")} | {"data.cache_dir": cache}
  argv = ["--mode=eval", f"--workdir={workdir}", f"--config={CONFIG}", *harness.settings(
      data | {"evals.points.args.size": 48, "evals.masks.args.protocol": "later"})]
  result = server.run(*argv)
  assert result.status == 0, result.err
  assert cells(result.out, "trained CorrFlow, step 12") == cells(run[1], "trained CorrFlow")
  folder, = (workdir / "evaluations").iterdir()
  assert {p.name for p in folder.iterdir()} == {
      f"{name}{end}" for name in ("masks", "points", "steady") for end in ("", ".png")} | {
          "results.json"}
  for name in ("masks", "points"):
    mine, theirs = ({p.relative_to(top / name): p.read_bytes() for p in (top / name).rglob("*.*")}
                    for top in (folder, run[0]))
    assert mine == theirs and mine


def test_an_interrupted_evaluation_goes_on(run, tmp_path, monkeypatch, capsys):
  workdir = shutil.copytree(run[0], tmp_path / "run")
  config = ml_collections.ConfigDict(json.loads((workdir / "config.json").read_text()))
  row = Stopping(dense.lab_blocks(4))
  monkeypatch.setattr(modes, "_row", lambda *_: ("colours", row, ["colours"]))
  modes.evaluate(config, workdir, "", elsewhere=True)
  folder, = (workdir / "evaluations").iterdir()
  whole, count = json.loads((folder / "results.json").read_text())["rows"], row.calls
  masks = {p.name: p.read_bytes() for p in (folder / "masks").rglob("*.png")}
  shutil.rmtree(folder)
  row.calls, row.at = 0, count // 2  # among the points, when all masks are done
  with pytest.raises(KeyboardInterrupt):
    modes.evaluate(config, workdir, "", elsewhere=True)
  scratch, = (folder / "unfinished").iterdir()
  assert [p.name for p in folder.iterdir()] == ["unfinished"] and list(scratch.glob("*/*.npz"))
  with cli.hold(scratch), pytest.raises(ConfigError, match="another process is at work here; wait"):
    modes.evaluate(config, workdir, "", elsewhere=True)
  row.calls = row.at = 0
  other = folder / "unfinished" / "other"  # of another model
  other.mkdir()
  modes.evaluate(config, workdir, "", elsewhere=True)
  assert count // 2 < row.calls < 0.75 * count
  assert json.loads((folder / "results.json").read_text())["rows"] == whole
  assert {p.name: p.read_bytes() for p in (folder / "masks").rglob("*.png")} == masks
  assert not scratch.exists() and other.exists()
  assert "holds what evaluations of other models found" in capsys.readouterr().out


@dear
def test_the_evaluation_after_training_goes_on(run, tmp_path, monkeypatch):
  one = parallel.mesh(jax.devices()[:1])
  monkeypatch.setattr(parallel, "mesh", lambda: one)
  whole, workdir = (shutil.copytree(run[0], tmp_path / name) for name in ("whole", "run"))
  config = ml_collections.ConfigDict(json.loads((workdir / "config.json").read_text())).lock()
  for place in (whole, workdir):
    (place / "results.json").unlink()
  modes.train(config, whole)
  report, calls, read = correspondence.Task.report, [], []
  embed = correspondence.Model.live

  def stopping(self, row, **kwargs):
    if len(calls) == 3:
      raise KeyboardInterrupt
    calls.append(1)
    return report(self, row, **kwargs)

  def counted(self, state):
    live = embed(self, state)
    return lambda inputs: (read.append(1), live(inputs))[1]

  monkeypatch.setattr(correspondence.Task, "report", stopping)
  monkeypatch.setattr(correspondence.Model, "live", counted)
  with pytest.raises(KeyboardInterrupt):
    modes.train(config, workdir)
  first = len(read)  # of the untrained network
  assert list((workdir / "unfinished").glob("*/*/*.npz"))
  monkeypatch.setattr(correspondence.Task, "report", report)
  modes.train(config, workdir)
  assert 2 * first < len(read) < 3 * first  # the trained one, figures, and no other anew
  assert harness.rows(workdir) == harness.rows(whole) and not (workdir / "unfinished").exists()


def test_masks_through_a_video_of_ones_own(run, cache, server, tmp_path):
  video = sorted(cache.glob("procedural-*/distractor*.mp4"))[0]
  with open_video(str(video)) as reader:
    n, size = reader.n_frames, (reader.height, reader.width)
  labels = np.zeros(size, np.uint8)
  labels[10:30, 12:40] = 3
  Image.fromarray(labels).save(tmp_path / "mask.png")
  result = server.run("--mode=eval", f"--workdir={run[0]}", f"--input={video}",
                      f"--first={tmp_path}/mask.png", f"--output={tmp_path}/out", "--max_side=40")
  assert result.status == 0, result.err
  assert f"{n} frames" in result.out and "trained CorrFlow, step 12, protocol later" in result.out
  page = json.loads((tmp_path / "out" / "propagation.json").read_text())
  assert page["protocol"]["recent"] == [1, 2, 3, 4, 5, 6, 7]
  assert page["max_side"] == 40 < max(size)
  masks = sorted((tmp_path / "out" / "masks").iterdir())
  assert len(masks) == n
  np.testing.assert_array_equal(pictures.read_labels(str(masks[0])), labels)
  assert {int(x) for m in masks for x in np.unique(pictures.read_labels(str(m)))} <= {0, 3}
  with open_video(str(tmp_path / "out" / "overlay.mp4")) as reader:
    assert reader.n_frames == n


def test_what_is_wrong_with_a_video_of_ones_own(run, server, tmp_path):
  (tmp_path / "points.csv").write_text("x,y\n1,2\n")
  for flags, words in (
      ([], "needs --workdir"),
      ([f"--workdir={run[0]}", "--input=v.mp4"], "needs --input=VIDEO, --first=MASK.png"),
      ([f"--workdir={run[0]}", "--input=no.mp4", f"--first={tmp_path}/points.csv",
        f"--output={tmp_path}/out"], "--input=no.mp4: no such file or folder"),
      ([f"--workdir={run[0]}", "--protocol=masks"], "needs --input=VIDEO, --first=MASK.png"),
      ([f"--workdir={run[0]}", "--max_side=640"], "needs --input=VIDEO, --first=MASK.png"),
      (["--mode=export", f"--workdir={run[0]}", "--max_side=640"], "--max_side is for --mode=eval"),
      ([f"--workdir={run[0]}", "--input=v", f"--first={tmp_path}/points.csv", "--protocol=maks",
        f"--output={tmp_path}/out"], "--protocol=maks names neither")):
    result = server.run("--mode=eval", "--output=out" if not flags else "--nodebug", *flags)
    assert result.status == 2 and words in result.err, result.err


def test_features_of_videos_are_written(run, cache, server, tmp_path):
  videos = tmp_path / "videos"
  videos.mkdir()
  for path in sorted(cache.glob("procedural-*/distractor*.mp4"))[:2]:
    shutil.copy(path, videos)
  result = server.run("--mode=extract", f"--workdir={run[0]}", f"--input={videos}",
                      f"--output={tmp_path}/out")
  assert result.status == 0, result.err
  arrays = [np.load(p) for p in sorted((tmp_path / "out").glob("*.npy"))]
  assert [a.shape[1:] for a in arrays] == [(12, 12, 8)] * 2
  assert all(np.isfinite(a).all() and a.std() > 0 for a in arrays)


@dear
@pytest.mark.parametrize("preset, layout, name, columns", [
    ("davis", davis_layout, "later", 6), ("jhmdb", jhmdb_layout, "paper", 4)])
def test_other_data_sets(run, server, tmp_path, preset, layout, name, columns):
  root = tmp_path / "data"
  layout.write(root)
  result = server.run("--mode=eval", f"--workdir={run[0]}", f"--config={CONFIG}:{preset}",
                      f"--config.data.root={root}",
                      *(f"--config.evals.{name}.args.size=32" for name in ("jhmdb", "paper")
                        if preset == "jhmdb"))
  assert result.status == 0, result.err
  text = " ".join(result.out.split())
  assert "The run was trained on the data set 'procedural'" in text
  if preset == "davis":  # the protocol is told as it was used
    assert "by the protocol corrflow." in text and "by the protocol later." in text
  assert len(cells(result.out, "trained CorrFlow, step 12")) == columns
  folder, = (run[0] / "evaluations").glob(f"{preset}-*")
  assert (folder / name).is_dir() and json.loads((folder / "results.json").read_text())["rows"]


@dear
def test_sequences_without_masks_are_told_in_a_line(run, server, tmp_path):
  davis_layout.write(tmp_path)
  for file in sorted(tmp_path.glob("Annotations/**/*.png")):
    if file.stem != "00000":
      file.unlink()
  result = server.run("--mode=eval", f"--workdir={run[0]}", f"--config={CONFIG}:davis",
                      f"--config.data.root={tmp_path}")
  assert result.status == 2
  assert "frame 1 has no annotation" in result.err and "Traceback" not in result.err


@dear
def test_the_authors_checkpoint_is_evaluated_as_it_is(cache, server, tmp_path):
  net = Encoder(4, 8, blocks=2)
  variables = random_variables(net, jax.random.key(3))
  state = convert.to_torch(variables["params"], variables["batch_stats"])
  path = checkpoints.write(tmp_path / "corrflow.pth",
                           {f"module.{k}": v for k, v in state.items()}, epoch=1)
  argv = train(tmp_path / "run", cache, method__weights=path, train__steps=0,
               colours__clusters=0)
  wrong = server.run(*argv)
  assert wrong.status == 2 and "method.weights" in wrong.err, wrong.err
  result = server.run(*argv, "--config.method.args.blocks=2")
  assert result.status == 0, result.err
  assert list(harness.rows(tmp_path / "run"))[-1] == "imported CorrFlow"
  fn = jax.export.deserialize(
      bytearray((tmp_path / "run" / "export" / "embed.jaxexport").read_bytes()))
  image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
  want = net.apply(variables, image / np.float32(255))["features"]
  np.testing.assert_allclose(fn.call({"image": image})["features"], want, atol=1e-5)


@dear
@pytest.mark.parametrize("settings, words", [
    ({"method__args__radius": 0}, "method.args.radius=0 must be at least 1"),
    ({"clips__frames": 1}, "clips.frames=1 should be at least 2"),
    ({"clips__jitter": "(0.1, 0.1)"}, "clips.jitter=(0.1, 0.1) should be four numbers"),
    ({"evals__masks__args__changes__border": "non"}, "border='non' is not one of"),
    ({"evals__masks__name": "segmentatoin"}, "did you mean 'segmentation'"),
    ({"evals__masks__args__protocol": "crv"}, "protocol='crv' is not one of"),
    ({"data__split": "trian"}, "data: procedural"),
    ({"evals__points__args__size": 50}, "size=50 should be a multiple of the stride"),
    ({"colours__clusters": 100_000}, "centroids need as many different samples"),
])
def test_wrong_settings_are_told(cache, server, tmp_path, settings, words):
  result = server.run(*train(tmp_path / "run", cache, **settings))
  assert result.status == 2 and words in result.err, result.err
  assert not (tmp_path / "run" / "config.json").exists()
