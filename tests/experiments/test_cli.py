"""Whatever a user gets wrong is told in one line that names it and says what to do."""

import json
import pathlib
import re
import shutil

import pytest

from tests.experiments import harness

TCA = "experiments/tca.py"


def error_of(result: harness.Result) -> str:
  """The one line of an error; progress bars may stand before it."""
  assert result.status == 2, (result.status, result.out, result.err)
  assert "Traceback" not in result.err, result.err
  lines = [line for line in re.split(r"[\r\n]+", result.err) if line]
  assert lines[-1].startswith("error: "), result.err
  assert result.err.count("error: ") == 1
  return lines[-1].removeprefix("error: ")


@pytest.fixture(scope="module")
def places(tmp_path_factory, cache) -> dict[str, pathlib.Path]:
  """Files and folders that are of no use, by name."""
  folder = tmp_path_factory.mktemp("places")
  (folder / "file").write_text("a text")
  (folder / "empty").mkdir()
  (folder / "one").mkdir()
  shutil.copy(next(cache.glob("procedural-*/*.mp4")), folder / "one" / "only.mp4")
  (folder / "text.pth").write_text("no checkpoint")
  (folder / "syntax.py").write_text("x = 1\ndef get_config(:\n")
  (folder / "raises.py").write_text("def get_config():\n  return {}['nothing']\n")
  (folder / "without.py").write_text("steps = 3\n")
  return {p.stem: p for p in folder.iterdir()}


FLAGS = {  # flags -> what the error says
    ("--wrkdir=x",): "--wrkdir: no such flag; did you mean --workdir?",
    ("--nothing=x",): "--nothing: no such flag; --help lists them",
    ("something",): "what is 'something'? Settings look like --config.train.steps=100",
    (): "which experiment? For example --config=experiments/tca.py",
    ("--mode=evaluate",): "--mode=evaluate: value should be one of <train|eval|extract|export>",
    ("--processes=two",): "--processes=two should be a whole number",
    ("--config=none.py",): "--config=none.py: no such file; there are: experiments/classify.py",
    ("--config", "none.py"): "--config=none.py: no such file; there are: experiments/classify.py",
    (f"--config={TCA}:foldr",): "has no preset 'foldr'; there are: label_free, folder, vcdb",
    ("--config.train.steps=3",): "--config.train.steps needs --config=FILE",
    (f"--config={TCA}", "--config.trian.steps=3"): "config has no 'trian'; did you mean 'train'?",
    (f"--config={TCA}", "--config.train.stepz=3"):
        "--config.train.stepz: config.train has no 'stepz'; did you mean 'steps'?",
    (f"--config={TCA}", "--config.train.steps.x=3"): "config.train.steps has no 'x'",
    (f"--config={TCA}", "--config.train.steps=many"): "--config.train.steps=many should be a whole",
    (f"--config={TCA}", "--config.train.steps=1.5"): "--config.train.steps=1.5 should be a whole",
    (f"--config={TCA}", "--config.method.args.tau=x"): "method.args.tau=x should be a number",
    (f"--config={TCA}", "--config.method.args.coupled=x"): "config.method.args has no 'coupled'",
    (f"--config={TCA}", "--config.optim.coupled=x"): "optim.coupled=x should be true or false",
    (f"--config={TCA}", "--config.train=3"): "--config.train=3 is a group of settings",
    (f"--config={TCA}", "--config.train.steps"): "missing value for flag --config.train.steps",
    (f"--config={TCA}", "--output=x"): "--output is for --mode=extract and --mode=export",
    (f"--config={TCA}", "--processes=2"): "--processes and --process_id need --coordinator",
    (f"--config={TCA}", "--coordinator=here:1"): "--coordinator=here:1 needs --processes=N and",
    (f"--config={TCA}", "--coordinator=auto"): "give --coordinator=HOST:PORT, --processes and",
    ("--mode=eval",): "--mode=eval needs --workdir=FOLDER, a run that was trained before",
    ("--mode=eval", "--workdir=nowhere"): "--workdir=nowhere: no config.json here",
    ("--mode=export", "--workdir=x", "--input=y"):
        "--input is for --mode=extract and --mode=eval; --mode=export takes",
    ("--mode=eval", "--workdir=x", "--input=y"): "--workdir=x: no config.json here",
    ("--mode=eval", "--workdir=x", f"--config={TCA}"): "--workdir=x: no config.json here",
    ("--mode=export", "--workdir=x", f"--config={TCA}"): "takes the config of its --workdir",
}


@pytest.mark.parametrize("argv", FLAGS, ids=" ".join)
def test_flags(server, argv):
  assert FLAGS[argv] in error_of(server.run(*argv))


SETTINGS = {  # setting -> what the error says; a second setting after a space
    "workflow=retrievel": "workflow='retrievel': there is no experiments/workflows/retrievel.py "
                          "with Model; did you mean 'retrieval'?",
    "method.name=tcaa": "there is no vssl_jax/methods/tcaa.py with make; did you mean 'tca'?",
    "data.name=procedral": "data.name='procedral': there is no data_pipelines/datasets/"
                           "procedral.py with make; did you mean 'procedural'?",
    "evals.retrieval.name=rank": "there is no vssl_jax/evaluators/rank.py with make",
    "evals.retrieval.args.similarities=('cosin',)":
        "evals.retrieval: similarities=['cosin']: choose from cosine, chamfer, symmetric_chamfer",
    "evals.retrieval.args.block=0": "evals.retrieval.args.block=0 must be at least 1",
    "evals.retrieval.args.dtype=float13":
        "evals.retrieval: dtype='float13': choose from float32, bfloat16",
    "evals.retrieval.args.shortlist=0.0":
        "evals.retrieval: shortlist=0.0 is a share of the database: above 0",
    "evals.retrieval.args.memory=-1.0": "evals.retrieval: memory=-1.0 must be at least 0",
    "method.args.loss=infonce": "method.args.loss='infonce' is unknown; choose one of circle, info",
    "method.args.aggregator=grru":
        "method.args.aggregator=grru is no aggregator; did you mean 'gru'",
    "method.args.aggregators.transformer.heads=3": "heads=3 does not divide the feature size 8",
    "method.args.aggregators.transformer.heads=0":
        "method.args.aggregators.transformer.heads=0 must be at least 1",
    "method.args.aggregators.transformer.dropout=1.5":
        "method.args.aggregators.transformer.dropout=1.5 must be at least 0 and less than 1",
    "method.args.aggregators.gru.layers=-1":
        "method.args.aggregators.gru.layers=-1 must be at least 1",
    "method.args.tau=0.0": "method.args.tau=0.0 must be above 0",
    "method.args.bank_size=-1": "method.args.bank_size=-1 must be at least 0",
    "method.args.bank_size=4": "8 new keys do not fit into a bank of 4; enlarge bank_size",
    "method.args.dtype=float13": "data type 'float13' not understood",
    "features.backbone=resnet19": "unknown backbone 'resnet19'; choose from resnet18, resnet34",
    "features.pooling=max": "unknown pooling 'max'; choose from l3_irmac",
    "features.pooling=l3_irmac": "use frames of at least 97 pixels a side",
    "features.crop=100": "features.crop=100 is more than features.short_side=64",
    "features.fps=0.0": "features.fps=0.0 must be above 0",
    "features.whiten=1000": "features.whiten=1000 is more than the 120 dimensions",
    "features.weights=none.pth": "none.pth: no such file; name a ResNet",
    "features.width=0": "features.width=0 must be at least 1",
    "optim.schedule=linear": "optim.schedule='linear' is unknown; choose one of cosine, constant",
    "optim.learning_rate=-1.0": "optim.learning_rate=-1.0 must be at least 0",
    "pairs.negatives=0": "pairs.negatives=0 must be at least 1",
    "pairs.negatives=12": "8 background videos are unrelated to an anchor, fewer than "
                          "pairs.negatives=12; lower it or add videos",
    "pairs.length=-3": "pairs.length=-3 must be at least 1",
    "train.steps=-1": "train.steps=-1 must be at least 0",
    "method.weights=none.pth": "none.pth: no such file; name a checkpoint of the authors' tca, or",
    "train.batch=-4": "train.batch=-4 must be at least 1",
    "train.checkpoint_every=0": "train.checkpoint_every=0 must be at least 1",
    "train.keep=0": "train.keep=0 must be at least 1",
    "embed.batch=0": "embed.batch=0 must be at least 1",
    "seed=-1": "seed=-1 must be at least 0",
    "data.n_train_families=0": "none of the 0 training pairs can be read; add training videos",
    "data.n_queries=0": "no query is there: nothing to evaluate",
    "data.n_queries=1000": "n_queries must be at most",
    "data.size=8": "size at least 16",
}


@pytest.mark.parametrize("change", SETTINGS)
def test_settings(server, cache, tmp_path, change):
  key, _, value = change.partition("=")
  result = server.run(*harness.train(tmp_path / "run", cache, **{key.replace(".", "__"): value}))
  assert SETTINGS[change] in error_of(result)


def test_config_files(server, places):
  for name, words in (("syntax", "syntax.py, line 2: "), ("without", "needs a function get_config"),
                      ("raises", "KeyError: 'nothing'; --debug shows where")):
    error = error_of(server.run(f"--config={places[name]}"))
    assert places[name].name in error
    assert words in error


def test_debug_shows_where(server, places):
  result = server.run(f"--config={places['raises']}", "--debug")
  assert result.status != 0
  assert "Traceback" in result.err
  assert 'raises.py", line 2, in get_config' in result.err


def test_a_folder_of_videos_that_is_none(server, cache, places, tmp_path):
  def message(root: str | None, **more) -> str:
    root = {} if root is None else {"data__root": root}
    return error_of(server.run(*harness.train(
        tmp_path / "run", cache, f"{TCA}:folder", harness.TINY_FOLDER, **root, **more)))

  assert "needs root: set it, for example --config.data.root=" in message(None)
  assert "data.root is not set; give the folder that holds your videos" in message("")
  assert "data.root: there is no folder /nowhere; check the path" in message("/nowhere")
  assert f"there is no folder {places['file'] / 'x'}" in message(places["file"] / "x")
  assert f"{places['file']} is a file; give the folder" in message(places["file"])
  assert f"data.root: no videos in {places['empty']}" in message(places["empty"])
  assert "has 1 video(s)" in message(places["one"])
  assert "at least 3 are needed" in message(places["one"])
  error = message(places["one"], data__holdout=3.0)
  assert "data.holdout is a share between 0 and 1" in error


def test_weights_that_are_none(server, cache, places, tmp_path):
  def message(weights) -> str:
    return error_of(server.run(*harness.train(tmp_path / "run", cache, features__weights=weights)))

  assert f"{places['text']}: neither a torch checkpoint nor .safetensors" in message(places["text"])
  assert f"features.weights={places['empty']}: Is a directory" in message(places["empty"])


def test_a_batch_that_devices_cannot_share(server, cache, tmp_path):
  result = server.run(*harness.train(tmp_path / "run", cache), devices=3)
  assert "train.batch=4 can't be split evenly over 3 devices; use a multiple, for example 3" in (
      error_of(result))


def test_places_that_cannot_be_written(server, cache, places, tmp_path):
  file = places["file"]
  for workdir in (file, file / "x", "/proc/x"):
    error = error_of(server.run(*harness.train(workdir, cache)))
    assert f"--workdir={workdir}: can't make this folder" in error
    assert "choose another --workdir" in error
  for cache_dir in (file, "/proc/x"):
    error = error_of(server.run(*harness.train(tmp_path / "run", cache_dir)))
    assert f"data.cache_dir={cache_dir}: " in error
    assert "set data.cache_dir to another folder" in error


def test_a_full_disk(server, finished, cache, tmp_path):
  """RLIMIT_FSIZE stands for the full disk: the write that goes beyond it fails."""
  argv = harness.train(tmp_path / "drawing", tmp_path / "cache")
  error = error_of(server.run(*argv, file_limit=2_500))
  assert f"data.cache_dir={tmp_path / 'cache'}: can't write" in error
  assert "Free some space" in error

  copy = tmp_path / "copy"
  shutil.copytree(cache, copy, ignore=lambda folder, names: {"features"} & set(names))
  error = error_of(server.run(*harness.train(tmp_path / "describing", copy), file_limit=3_000))
  assert f"{copy}/features/" in error
  assert "can't write features (File too large); free some space or choose another" in error

  workdir = tmp_path / "run"
  for limit, part in ((9_000, "/checkpoints: can't write a checkpoint (File too large)"),
                      (100_000, ": can't write here (file too large)")):
    error = error_of(server.run(*harness.train(workdir, cache), file_limit=limit))
    assert error == f"{workdir}{part}; free some space, and run again to continue"
  result = server.run(*harness.train(workdir, cache))
  assert result.status == 0, result.err
  harness.assert_same_run(workdir, finished)

  error = error_of(server.run("--mode=export", f"--workdir={finished}",
                              f"--output={tmp_path / 'export'}", file_limit=10_000))
  assert f"{tmp_path / 'export'}: can't write here (file too large)" in error


def test_modes_on_folders_that_are_no_run(server, finished, places, tmp_path):
  for mode in ("eval", "export"):
    error = error_of(server.run(f"--mode={mode}", f"--workdir={places['empty']}"))
    assert f"--workdir={places['empty']}: no config.json here" in error
    started = tmp_path / mode
    started.mkdir()
    shutil.copy(finished / "config.json", started)
    error = error_of(server.run(f"--mode={mode}", f"--workdir={started}"))
    assert f"--workdir={started} has no checkpoint yet; train it first" in error
    shutil.copy(finished / "whitening.npz", started)
    error = error_of(server.run(f"--mode={mode}", f"--workdir={started}"))
    assert f"{started / 'checkpoints'}: no checkpoints here; train first" in error
  older = json.loads((finished / "config.json").read_text())
  del older["embed"]["batch"]
  (started / "config.json").write_text(json.dumps(older))
  assert error_of(server.run("--mode=eval", f"--workdir={started}")) == (
      f"the config has no embed.batch: the run in {started} is of an older version; train it anew, "
      "or add to its config.json what it was trained with")
  (started / "config.json").write_text("{")
  assert "config.json is damaged" in error_of(server.run("--mode=eval", f"--workdir={started}"))
  error = error_of(server.run("--mode=eval", f"--workdir={finished}", "--exported=no.jaxexport"))
  assert "no.jaxexport: no such file; make it with --mode=export" in error
  error = error_of(server.run("--mode=export", f"--workdir={finished}",
                              f"--output={places['file']}"))
  assert f"--output={places['file']}: can't make this folder (file exists)" in error


def test_extract_without_what_it_needs(server, finished, places, tmp_path):
  good, out = places["one"], tmp_path / "out.parquet"

  def message(**flags) -> str:
    return error_of(server.run("--mode=extract", f"--workdir={finished}",
                               *(f"--{k}={v}" for k, v in flags.items())))

  assert "needs --input=VIDEOS and --output=FILE.parquet" in message()
  assert "needs --input=VIDEOS and --output=FILE.parquet" in message(input=good)
  assert "needs --input=VIDEOS and --output=FILE.parquet" in message(output=out)
  assert "out.csv must end in .parquet" in message(input=good, output=tmp_path / "out.csv")
  error = message(input=good, output=tmp_path / "no" / "out.parquet")
  assert f"there is no folder {tmp_path / 'no'}; make it" in error
  assert "--input=nothing: no such file or folder" in message(input="nothing", output=out)
  assert f"{places['empty']}: no videos here" in message(input=places["empty"], output=out)
  assert not list(tmp_path.iterdir())


def test_a_workdir_of_another_run(server, finished, cache):
  before = json.loads((finished / "config.json").read_text())
  error = error_of(server.run(*harness.train(finished, cache, seed=3, method__args__tau=0.5)))
  assert "holds a run with other values: method.args.tau (0.07 there, 0.5 now), seed (0 there, 3 " \
         "now); choose another --workdir" in error
  assert json.loads((finished / "config.json").read_text()) == before


def test_a_loss_that_is_no_number(server, cache, tmp_path):
  argv = harness.train(tmp_path / "run", cache, optim__learning_rate=1e30)
  error = error_of(server.run(*argv))
  assert re.fullmatch(r"the loss is nan at step \d+; lower optim\.learning_rate, or set "
                      r"optim\.clip", error)


def test_each_config_has_a_folder_of_its_own(server, cache, tmp_path):
  """Ablations never overwrite each other: the folder's name depends on every value."""
  argv = harness.train("", cache, harness.ROOT / TCA, data__size=8)
  for more in ([], ["--config.seed=1"], ["--config.method.args.loss=info_nce"]):
    assert "size at least 16" in error_of(server.run(*argv, *more, cwd=tmp_path))
  names = sorted(p.name for p in (tmp_path / "runs").iterdir())
  assert len(names) == 3
  assert all(re.fullmatch(r"tca-[0-9a-f]{8}", name) for name in names)
