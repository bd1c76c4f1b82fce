"""Tracking as an evaluation: by maps, with SiamFC's head trained, kept or read."""

import os

import jax
import ml_collections
import numpy as np
import pytest

from experiments import cycle_contrast
from experiments.recognition import evaluations, tracking
from experiments.recognition.described import Described
from experiments.workflows.recognition import Row
from tests.convert import checkpoints
from tests.data_pipelines.layouts import procedural as small
from tests.evaluators import moving
from tests.experiments.recognition import videos
from vssl_jax.types import ConfigError

OPTIONS = {k: v for k, v in small.OPTIONS.items() if k not in ("processes", "progress")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


def followed(cache, matcher="ridge", **head):
  """A config of tracking alone."""
  tracks = dict(
      name="tracking", data=dict(name="", root="", train="all", test="all", size=64, fps=8,
                                 seconds=(4.0, 5.0), n_train_families=3, n_train_edits=0,
                                 n_background=0, n_queries=0, n_distractors=2, difficulty=0.0),
      args=dict(benchmark="otb", matcher=matcher, protocol="corrected",
                changes=dict(exemplar=63, search=127)),
      head=cycle_contrast.tracking("")["head"] | dict(
          channels=4, scale=0.01, epochs=1, batch=4, learning_rate=0.05, final=0.01) | head)
  return ml_collections.ConfigDict(dict(
      seed=0, method=dict(args=dict(backbone="resnet18")), views=videos.training("frames"),
      evals=dict(tracks=tracks), data=dict(
          name="procedural", root="", split="train", cache_dir=str(cache), max_bad_fraction=0.0,
          **OPTIONS, label="motion")))


def dense(inputs):
  return {"features": moving.colours(inputs)["features"] / 30}


def test_tracking_by_maps(cache, tmp_path):
  found, _ = evaluations.make_all(followed(cache))
  tracks = found["tracks"]
  assert tracks.datasets[0].records and "a box that never moves has success" in tracks.about
  result = tracks.measure(Row(None, dense), Described(None, "", 1), tmp_path / "out")
  assert set(result.items["success"]) == {r.id for r in tracks.datasets[0].records}
  assert 0 < result.shown["success"] <= 100 and any((tmp_path / "out").rglob("*.txt"))
  with pytest.raises(ConfigError, match=r"evals\.tracks: this model has no maps"):
    tracks.measure(Row(None, None), Described(None, "", 1))


@pytest.mark.skipif(os.environ.get("VSSL_SLOW") != "1", reason="VSSL_SLOW=1 runs it")
def test_siamfcs_head_is_trained_on_the_training_part(cache, monkeypatch):
  found, _ = evaluations.make_all(followed(cache, "siamese"))
  tracks, asked = found["tracks"], {}
  whole = tracking.tracking_head.train_head

  def train_head(method, features, pairs, **kwargs):
    asked.update(kwargs)
    asked["trained"] = whole(method, features, pairs, **kwargs)
    return asked["trained"]

  monkeypatch.setattr(tracking.tracking_head, "train_head", train_head)
  result = tracks.measure(Row(None, dense), Described(None, "", 1))
  steps = max(1, len(tracks._train.records) // 4)
  assert asked["steps_per_epoch"] == steps and len(asked["trained"].loss) == steps
  assert asked["learning_rate"] == 0.05 and np.isfinite(asked["trained"].loss).all()
  assert set(result.items["success"]) == {r.id for r in tracks.datasets[0].records}


def test_a_head_is_trained_once_where_an_evaluation_was_interrupted(cache, monkeypatch, tmp_path):
  found, _ = evaluations.make_all(followed(cache, "siamese"))
  tracks, trained, steps = found["tracks"], [], []
  method = tracks._method

  def train_head(method, features, pairs, **kwargs):
    maps = {k: np.zeros((1, 9, 9, 3), np.float32) for k in ("exemplar", "search")}
    trained.append(method.init(jax.random.key(1), maps)[0])
    return tracking.tracking_head.Trained(trained[-1], None, None)

  def stopping(inputs):
    steps.append(1)
    if len(steps) > 20:
      raise KeyboardInterrupt
    return dense(inputs)

  monkeypatch.setattr(tracking.tracking_head, "train_head", train_head)
  described = Described(None, "", 1, scratch=tmp_path, about="model")
  with pytest.raises(KeyboardInterrupt):
    tracks.measure(Row(None, stopping), described)
  result = tracks.measure(Row(None, dense), described)
  assert len(trained) == 1
  known = tracks._params(dense, described)
  jax.tree.map(np.testing.assert_array_equal, known, trained[0])
  assert result.numbers == tracks.measure(Row(None, dense), described).numbers
  other = Described(None, "", 1, scratch=tmp_path, about="another")
  tracks._params(dense, other)
  assert len(trained) == 2 and method is tracks._method


def test_vinces_recipe_reaches_the_training(cache, monkeypatch):
  changes = cycle_contrast.VINCE | dict(batch=2, epochs=2, steps=3, drops=(1,))
  found, _ = evaluations.make_all(followed(cache, "siamese", **changes))
  tracks, asked = found["tracks"], {}

  class Stop(Exception):
    pass

  def train_head(method, features, pairs, **kwargs):
    asked.update(kwargs, batch=next(pairs))
    pairs.close()
    raise Stop

  monkeypatch.setattr(tracking.tracking_head, "train_head", train_head)
  with pytest.raises(Stop):
    tracks.measure(Row(None, dense), Described(None, "", 1))
  assert asked["steps_per_epoch"] == 3 and asked["drops"] == (1,)
  assert asked["batch"]["offset"].shape == (2, 2) and asked["batch"]["offset"].all()


def test_a_head_is_read_instead_of_trained(cache, tmp_path):
  state = {f"head.{k}_convs.0.{leaf}": value for k in "zx" for leaf, value in (
      ("weight", np.eye(4, 3, dtype=np.float32)[..., None, None]), ("bias", np.zeros(4, "f4")))}
  path = str(checkpoints.write(tmp_path / "epoch_50.pth", state, meta={"epoch": 49}))
  settings = followed(cache, "siamese", weights=path, channels=0)
  settings.evals.tracks.head.data.name = "got10k"  # and no folder: none is needed
  found, skipped = evaluations.make_all(settings)
  assert not skipped
  row = Row(None, dense)
  result = found["tracks"].measure(row, Described(None, "", 1))
  ids = {r.id for r in found["tracks"].datasets[0].records}
  assert set(result.items["success"]) == ids
  # Which leaves the maps as they are.
  method, params = found["tracks"]._method, found["tracks"]._read.params
  maps = np.random.default_rng(0).normal(size=(1, 2, 3, 3)).astype(np.float32)
  out = tracking.tracking_head.embed(method, params, lambda x: {"features": maps})(None)
  np.testing.assert_allclose(out["exemplar"][..., :3], maps, rtol=1e-6)
  np.testing.assert_allclose(out["search"][..., :3], 0.01 * maps, rtol=1e-6)

  # A row of other maps has no result, a model of other maps is refused.
  wide = lambda inputs: {"features": np.zeros((1, 8, 8, 7), np.float32)}  # noqa: E731
  nothing = found["tracks"].measure(Row(None, wide), Described(None, "", 1))
  assert set(nothing.shown) == set(result.shown) and np.isnan([*nothing.shown.values()]).all()
  tracking.check_heads(found, lambda: 3)
  with pytest.raises(ConfigError, match=r"tracks\.head\.weights=.*epoch_50\.pth: the head is for "
                                        r"maps of 3 channels, and this model's have 7"):
    tracking.check_heads(found, lambda: 7)
  with pytest.raises(ConfigError, match=r"head\.channels=5, but that of .*epoch_50\.pth has 4"):
    evaluations.make_all(followed(cache, "siamese", weights=path, channels=5))
  with pytest.raises(ConfigError, match=r"head\.weights=.* is for evals\.tracks\.args\.matcher="):
    evaluations.make_all(followed(cache, "ridge", weights=path))
  empty = str(checkpoints.write(tmp_path / "trunk.pth", {"backbone.conv1.weight": np.ones(3)}))
  with pytest.raises(ConfigError, match=r"head\.weights=.*trunk\.pth: no exemplar branch"):
    evaluations.make_all(followed(cache, "siamese", weights=empty))


@pytest.mark.parametrize("args, words", [
    (dict(matcher="rigde"), "args: matcher='rigde' is unknown; choose one of siamese, ridge"),
    (dict(benchmark="otp"), "args: benchmark='otp'"), (dict(protocol="x"), "args: protocol='x'"),
    (dict(changes=dict(scalez=3)), "args: .*scalez"),
    (dict(matchr="ridge"), r"name='tracking' takes no 'matchr'"),
    (dict(matcher_args=dict(lam=1)), "args: .*lam")])
def test_impossible_arguments_of_tracking_are_told_by_their_key(cache, args, words):
  one = followed(cache)
  one.evals.tracks.args.update(args)
  one.evals.tracks.data.name = "otb"  # without a folder: nothing is read
  with pytest.raises(ConfigError, match=rf"^evals\.tracks\.{words}"):
    evaluations.make_all(one)


@pytest.mark.parametrize("head, words", [
    (dict(loss="hinge"), r"evals\.tracks\.head: loss='hinge'"),
    (dict(epochs=0), r"evals\.tracks\.head: epochs=0"),
    (dict(shift=-1.0), r"evals\.tracks\.head: shift=-1"),
    (dict(radius=0.0), r"evals\.tracks\.head: .*radius=0"),
    (dict(drops=(2, 0)), r"evals\.tracks\.head: drops=\(2, 0\)"),
    (dict(weights="/nowhere.pth"), r"evals\.tracks\.head\.weights=/nowhere\.pth: no such file"),
    (dict(channels=-1), r"evals\.tracks\.head: channels=-1")])
def test_an_impossible_head_is_told_before_training(cache, head, words):
  with pytest.raises(ConfigError, match=words):
    evaluations.make_all(followed(cache, "siamese", **head))
