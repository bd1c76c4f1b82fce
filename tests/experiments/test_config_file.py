"""Configs of older versions: what is filled in."""

import json

import ml_collections

from experiments import classify, cli, config_file


def config():
  return ml_collections.ConfigDict(dict(
      data=dict(name="x"), evals=dict(a=dict(views=dict(size=3), args={}), b=dict(args={})),
      views=dict(size=4)))


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


def test_a_run_of_an_older_version_can_be_read(tmp_path):
  old = config()
  (tmp_path / "config.json").write_text(cli.to_json(old))

  class Flag:
    value = None

  found, _ = cli.resolve(Flag, str(tmp_path), "eval")
  assert found.views.short == "hold" and "memory" not in found.data
