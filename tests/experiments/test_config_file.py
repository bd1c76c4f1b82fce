"""Configs of older versions: what is filled in, what is told, what is another error."""

import json

import ml_collections
import pytest

from experiments import classify, cli, config_file, cycle_contrast
from vssl_jax.types import ConfigError


def config():
  return ml_collections.ConfigDict(dict(
      data=dict(name="x"), evals=dict(a=dict(views=dict(size=3), args={}), b=dict(args={})),
      views=dict(size=4)))


def remedy(key):
  return f"do this with {key}"


@pytest.mark.parametrize("look, key", [
    (lambda c: c.data.memory, "data.memory"), (lambda c: c["train"], "train"),
    (lambda c: c.evals.a.views["recipe"], "evals.a.views.recipe"),
    (lambda c: c["evals.b.args.ks"], "evals.b.args.ks"),
    (lambda c: [e.views for e in c.evals.values()], "evals.b.views")])
def test_a_key_that_is_lacking_is_named(look, key):
  one = config()
  with pytest.raises(ConfigError) as caught, config_file.lookups(one, remedy):
    look(one)
  assert str(caught.value) == f"the config has no {key}: do this with {key}"


@pytest.mark.parametrize("look, kind", [
    (lambda c: {}["x"], KeyError), (lambda c: c.nothing(), ConfigError),
    (lambda c: "".nothing, AttributeError), (lambda c: config().views.recipe, AttributeError),
    (lambda c: dict(c.views)["recipe"], KeyError)])
def test_errors_of_anything_else_are_left_alone(look, kind):
  one = config()
  with pytest.raises(kind), config_file.lookups(one, remedy):
    look(one)


def test_what_is_known_of_older_versions_is_filled_in():
  now = classify.get_config("ucf101_frames")
  now.views.short = now.evals.top1.views.short = "hold"
  before = ml_collections.ConfigDict(json.loads(cli.to_json(now)))
  del before.views["short"], before.evals.top1.views["short"]
  assert cli.digest(before) == cli.digest(now)  # and so their folder
  config_file.fill(before)
  assert before.views.short == before.evals.top1.views.short == "hold"
  now.views.short = "loop"
  assert cli.digest(before) != cli.digest(now)
  config_file.fill(now)
  assert now.views.short == "loop"
  other = config()
  config_file.fill(other)
  assert other.views.short == other.evals.a.views.short == "hold" and "views" not in other.evals.b


def test_what_a_tracking_evaluation_lacked_is_filled_in():
  now = cycle_contrast.get_config("got10k")
  before = ml_collections.ConfigDict(json.loads(cli.to_json(now)))
  for name in [n for n in config_file.BEFORE if n.startswith("head.")]:
    del before.evals.released.head[name.removeprefix("head.")]
  assert "steps" not in before.evals.released.head
  assert cli.digest(before) == cli.digest(now)
  config_file.fill(before)
  assert before.evals.released.head == now.evals.released.head
  now.evals.released.head.drops = (10,)
  assert cli.digest(before) != cli.digest(now)


def test_a_setting_that_is_as_before_is_told_as_it_is(tmp_path):
  there = classify.get_config("ucf101_frames")
  cli.record(there, tmp_path)
  now = classify.get_config("ucf101_frames")
  now.views.short = "hold"
  with pytest.raises(ConfigError, match=r"views\.short \(loop there, hold now\)"):
    cli.claim(now, tmp_path, first=False)
  frames = cycle_contrast.get_config("folder")  # has no use for the setting
  cli.record(frames, tmp_path)
  cli.claim(frames, tmp_path, first=False)


def test_a_run_of_an_older_version_can_be_read(tmp_path):
  old = config()
  (tmp_path / "config.json").write_text(cli.to_json(old))

  class Flag:
    value = None

  found, _ = cli.resolve(Flag, str(tmp_path), "eval")
  assert found.views.short == "hold" and "memory" not in found.data
  Flag.value = cycle_contrast.get_config("ucf101").lock()  # one frame a view: it has no need of it
  found, _ = cli.resolve(Flag, str(tmp_path), "eval")
  assert found.evals.linear.views.short == "hold" and found.evals.linear.name == "linear"
