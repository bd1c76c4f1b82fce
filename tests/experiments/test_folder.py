"""The folder preset: broken videos among good ones, the user's own queries, real clips."""

import csv
import json
import re
import shutil

import pytest

from data_pipelines.datasets import folder as folders
from tests.experiments import harness, videos

FOLDER = "experiments/tca.py:folder"


def train(root, workdir, cache, **more) -> list[str]:
  """Arguments of a tiny run on the folder `root`."""
  settings = {"data__root": root, "data__n_edits": 2, "train__eval_every": 0} | more
  return harness.train(workdir, cache, FOLDER, harness.TINY_FOLDER, **settings)


def ranked(workdir) -> dict[str, list[str]]:
  """Query -> ids of the videos in rankings.csv, best first."""
  found = {}
  with (workdir / "rankings.csv").open() as f:
    for row in csv.DictReader(f):
      found.setdefault(row["query"], []).append(row["video"])
  return found


@pytest.fixture(scope="module")
def drawn(cache) -> list:
  """Files of drawn videos that show different things."""
  return sorted(cache.glob("procedural-*/background*.mp4"))


@pytest.fixture
def root(drawn, tmp_path):
  """A folder of eight good videos."""
  root = tmp_path / "videos"
  root.mkdir()
  for path in drawn[:8]:
    shutil.copy(path, root)
  return root


@pytest.mark.slow
def test_bad_videos_among_good_ones(root, server, tmp_path):
  bad, odd = videos.write_bad(root), videos.write_odd(root)
  argv = train(root, tmp_path / "run", tmp_path / "cache", data__max_bad_fraction=0.5)
  result = server.run(*argv)
  assert result.status == 0, result.err
  for name, reason in bad.items():
    told = re.findall(rf"can't use \S*{re.escape(name)}: (.*)", result.err)
    assert len(told) == 1, result.err
    assert reason in told[0]
  assert result.err.count("can't use ") == len(bad)
  database = {name for names in ranked(tmp_path / "run").values() for name in names}
  assert database >= set(odd)
  assert not database & set(bad)
  found = json.loads((tmp_path / "run" / "results.json").read_text())
  # The held-out ones among the bad have queries, which are missing too.
  queries = folders.make(root=str(root)).queries
  held_out = {name for name in bad if f"{name}#query1" in queries}
  missing = len(bad) + 3 * len(held_out)
  assert all(row["missing_videos"] == missing for row in found["rows"].values())
  assert f"{missing} videos could not be read and are not ranked" in found["text"]
  dropped = {row["dropped_videos"] for row in harness.metrics(tmp_path / "run")}
  assert dropped == {3 * (len(bad) - len(held_out))}  # each with its two edited copies

  again = server.run("--mode=eval", f"--workdir={tmp_path / 'run'}")
  assert again.status == 0, again.err
  assert f"{missing} videos could not be read and are not ranked" in again.out


def test_too_many_bad_videos_stop_the_run(root, server, tmp_path):
  for i in range(6):
    (root / f"bad{i}.mp4").write_text("no video")
  result = server.run(*train(root, tmp_path / "run", tmp_path / "cache"))
  assert result.status == 2
  assert "Traceback" not in result.err
  error = result.err[result.err.index("error: "):].strip()
  assert "\n" not in error
  assert re.search(r"error: \d of \d+ videos \(\d\d\.\d%\) can't be used, more than "
                   r"data\.max_bad_fraction=0\.2 allows: \S*bad\d\.mp4: ", error)
  assert error.endswith("Mend or remove them, or raise data.max_bad_fraction to go on without "
                        "them.")


def test_nothing_left_to_evaluate_is_told(root, server, tmp_path):
  held_out = {i.partition("#")[0] for i in folders.make(root=str(root), n_edits=2).queries}
  for name in held_out:
    (root / name).write_text("no video")
  result = server.run(*train(root, tmp_path / "run", tmp_path / "cache"))
  assert result.status == 2, result.out
  assert "Traceback" not in result.err
  assert "no held-out query has a match that can be read; mend the files named" in result.err


@pytest.mark.slow
def test_own_queries_are_ranked_and_shown(root, drawn, server, tmp_path):
  own = tmp_path / "queries"
  own.mkdir()
  shutil.copy(drawn[3], own / "mine.mp4")
  (own / "broken.mp4").write_text("no video")
  argv = train(root, tmp_path / "run", tmp_path / "cache", data__queries=own)
  result = server.run(*argv)
  assert result.status == 0, result.err
  assert ranked(tmp_path / "run")["query:mine.mp4"][0] == drawn[3].name  # the same file
  assert re.search(rf"query:mine\.mp4\W+{drawn[3].name}", result.out)
  assert re.search(r"can't use \S*broken\.mp4: ", result.err)


@pytest.mark.slow
def test_real_clips(data_dir, server, tmp_path):
  """Whatever lies in a folder: many codecs and containers, damaged files, sound alone.

  The small files, and copies of one video in several sizes and qualities.
  """
  source = data_dir / "clips"
  if not source.is_dir():
    pytest.skip(f"no folder {source}")
  clips = tmp_path / "clips"
  clips.mkdir()
  for path in source.iterdir():
    if path.stat().st_size < 150_000 or "chair" in path.name:
      (clips / path.name).symlink_to(path)
  query = source / "tmk_chair-22-with-large-logo-bar.mp4"
  argv = train(clips, tmp_path / "run", tmp_path / "cache", data__queries=query,
               data__n_edits=1, data__n_eval_edits=1, features__max_frames=6,
               data__max_bad_fraction=0.3)
  result = server.run(*argv)
  assert result.status == 0, result.err
  found = ranked(tmp_path / "run")
  assert found[f"query:{query.name}"][0] == query.name
  rest = found[f"query:{query.name}"][1:4]
  assert any("chair" in name for name in rest), rest
  assert "can't use" in result.err
  assert len(found) > 5
