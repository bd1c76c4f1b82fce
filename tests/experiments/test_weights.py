"""`method.weights`: a run that begins with a checkpoint, and one that only imports it."""

import json

import jax
import jax.export
import numpy as np
import pytest

from tests.convert import checkpoints
from tests.experiments import harness
from vssl_jax.convert import tca as convert
from vssl_jax.models import aggregators

GRU = {"method__args__aggregator": "gru", "method__args__aggregators__gru__hidden": 12}


def made(name, dim=8, **settings):
  """Random variables of an aggregator."""
  module = aggregators.make(name, settings)
  x, length = np.zeros((1, 2, dim), np.float32), np.ones(1, np.int32)
  shapes = jax.eval_shape(module.init, jax.random.key(0), x, length)
  rng = np.random.default_rng(0)
  return module, jax.tree.map(lambda v: rng.uniform(0.1, 1, v.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def gru(tmp_path_factory):
  """A module, its variables, and a checkpoint of them as the authors' training leaves it."""
  module, variables = made("gru", hidden=12)
  state = convert.to_torch(variables["params"], variables["batch_stats"])
  path = tmp_path_factory.mktemp("weights") / "gru.pth"
  wrapped = {f"module.encoder_q.{k}": v for k, v in state.items()}
  return module, variables, checkpoints.write(path, wrapped, epoch=40)


def test_a_run_without_steps_is_the_checkpoint(gru, cache, server, tmp_path):
  module, variables, path = gru
  run = tmp_path / "run"
  argv = harness.train(run, cache, method__weights=path, train__steps=0, **GRU)
  result = server.run(*argv)
  assert result.status == 0, result.err
  assert list(harness.rows(run)) == ["mean-pooled features", "imported TCA"]
  assert harness.checkpoint_steps(run) == [0]
  rng = np.random.default_rng(1)
  x, length = rng.standard_normal((3, 5, 8)).astype(np.float32), np.int32([5, 1, 3])
  want = module.apply(variables, x, length)
  embed = jax.export.deserialize(bytearray((run / "export" / "embed.jaxexport").read_bytes()))
  got = embed.call({"x": x, "length": length})
  for key in want:
    np.testing.assert_allclose(got[key], want[key], atol=1e-6)
  assert "This run is finished" in server.run(*argv).out
  table = json.loads((run / "results.json").read_text())["text"].splitlines()
  line = next(line for line in table if line.startswith("imported TCA"))
  again = server.run("--mode=eval", f"--workdir={run}")
  assert again.status == 0, again.err
  assert line.removeprefix("imported TCA").split() == next(
      li for li in again.out.splitlines() if li.startswith("imported TCA, step 0")
  ).removeprefix("imported TCA, step 0").split()


def test_training_goes_on_from_the_checkpoint(gru, cache, server, tmp_path):
  _, variables, path = gru
  run = tmp_path / "run"
  argv = harness.train(run, cache, method__weights=path, train__steps=2, method__args__momentum=0.9,
                       optim__learning_rate=1e-4, **GRU)
  result = server.run(*argv)
  assert result.status == 0, result.err
  assert list(harness.rows(run)) == ["mean-pooled features", "imported TCA", "trained TCA"]
  state, compared = harness.final_state(run), 0
  for keys, value in jax.tree_util.tree_leaves_with_path(variables["params"]):
    name = jax.tree_util.keystr(keys)
    for place in ("['params']", "['aux']['key_params']"):
      got = state[place + name]
      assert 0 < np.abs(got - value).max() < 1e-3, place + name
      compared += 1
  assert compared == 2 * 10
  mean = variables["batch_stats"]["bn1"]["mean"]
  assert np.abs(state["['aux']['batch_stats']['bn1']['mean']"] - 0.81 * mean).max() < 0.2
  # Another file under the same name is another run.
  kept = path.read_bytes()
  (run / "results.json").unlink()
  try:
    path.write_bytes(kept + b"0")
    error = server.run(*argv).err
  finally:
    path.write_bytes(kept)
  assert "the files behind method.weights have changed since this run began" in error


def test_files_that_do_not_fit(gru, cache, server, tmp_path):
  def message(path, **more) -> str:
    more = {"train__steps": 0} | more
    result = server.run(*harness.train(tmp_path / "run", cache, method__weights=path, **more))
    assert result.status == 2
    assert "Traceback" not in result.err
    return result.err.strip().splitlines()[-1]

  path = gru[2]
  assert (f"error: method.weights={path} holds a gru, not a transformer; set "
          "method.args.aggregator=gru") in message(path)
  error = message(path, **GRU | {"method__args__aggregators__gru__hidden": 16})
  assert f"method.weights={path}: " in error
  assert "params.layers_0.hidden_bias has shape [36] in the file, and [48] in the config's" in error
  assert "the file's gru has layers=2, hidden=12, and features.whiten is the size of" in error
  error = message(path, **GRU | {"method__args__aggregators__gru__layers": 3})
  assert "params.layers_2.hidden_bias has shape none in the file, and [36] in the config's" in error
  error = message(path, **GRU, features__whiten=6)
  assert "batch_stats.bn1.mean has shape [8] in the file, and [6] in the config's model" in error
  text = tmp_path / "text.pth"
  text.write_text("hello")
  assert f"method.weights={text}: neither a torch checkpoint" in message(text)
  other = checkpoints.write(tmp_path / "other.pth", {"conv1.weight": np.zeros(3, np.float32)})
  assert f"method.weights={other}: not a TCA encoder: no name contains" in message(other)
  assert not (tmp_path / "run" / "config.json").exists()
