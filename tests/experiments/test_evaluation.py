"""A trained run on the data sets of the field, each in the layout in which people have it."""

import csv
import importlib
import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.experiments import harness
from tests.experiments.test_cli import error_of
from tests.reference import retrieval as reference
from vssl_jax.evaluators import protocols

ROW, TCA = "trained TCA, step 40", "experiments/tca.py"
SIMILARITIES = ("cosine", "chamfer", "symmetric_chamfer")


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
  """A copy of the run, to be evaluated."""
  folder = tmp_path_factory.mktemp("evaluated") / "run"
  shutil.copytree(finished, folder)
  return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """Name -> folder of a data set, and its module with the lists."""
  made = {}

  def write(name):
    if name not in made:
      layout = importlib.import_module(f"tests.data_pipelines.layouts.{name}")
      made[name] = tmp_path_factory.mktemp(name), layout
      layout.write(made[name][0])
    return made[name]

  return write


def arguments(run, preset, folder, cache, **more):
  values = {"data.root": folder, "data.cache_dir": cache} | {
      key.replace("__", "."): value for key, value in more.items()}
  return ["--mode=eval", f"--workdir={run}", f"--config={TCA}:{preset}", *harness.settings(values)]


class Found:
  """What an evaluation printed and left.

  Attributes:
    text: the output in one line; row: its row in results.json; data: that file's `missing`;
      ranked: query -> video -> score by Chamfer, best first; labels: (query, video) -> label;
      curves: (task, similarity) -> precision [21].
  """

  def __init__(self, result: harness.Result, run: pathlib.Path):
    assert result.status == 0, result.err
    self.text = " ".join(result.out.split())
    folder = max((run / "evaluations").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    page = json.loads((folder / "results.json").read_text())
    self.folder, self.row, self.missing = folder, page["rows"][ROW], page["missing"]
    assert " ".join(page["text"].split()) in self.text and str(folder / "curves.csv") in self.text
    self.ranked, self.labels, self.curves = {}, {}, {}
    for row in self._rows("rankings.csv"):
      self.ranked.setdefault(row["query"], {})[row["video"]] = float(row["chamfer"])
      self.labels[row["query"], row["video"]] = row["label"]
    for row in self._rows("curves.csv"):
      assert row["row"] == ROW
      self.curves.setdefault((row["task"], row["similarity"]), []).append(float(row["precision"]))

  def _rows(self, name):
    with (self.folder / name).open() as f:
      return list(csv.DictReader(f))

  def per_query(self, task):
    return self.row["per_item"][f"{task}/chamfer"]

  def check(self, tasks):
    """Every task by every similarity, with a sound interval and curve where there are queries."""
    names = [f"{task}/{s}" for task in tasks for s in SIMILARITIES]
    assert set(self.row["per_item"]) == set(names)
    for name in names:
      values = list(self.row["per_item"][name].values())
      if not values:  # micro-AP
        assert 0 < self.row[name] <= 1 and f"{name}_low" not in self.row
        continue
      low, high = self.row[f"{name}_low"], self.row[f"{name}_high"]
      assert self.row[name] == pytest.approx(np.mean(values))
      assert min(values) - 1e-9 <= low <= self.row[name] <= high <= max(values) + 1e-9
      assert (low < high) == (len(set(values)) > 1)
      curve = self.curves[tuple(name.split("/"))]
      assert len(curve) == 21 and curve == sorted(curve, reverse=True)


def damage(folder, to, *ids, remove=()):
  """A copy of a data set in which the videos `ids` can't be read and those of `remove` are gone."""
  shutil.copytree(folder, to)
  for i in ids:
    next(to.rglob(f"*{i}*")).write_bytes(b"no video")
  for i in remove:
    next(to.rglob(f"*{i}*")).unlink()
  return to


@pytest.mark.slow
def test_fivr(run, root, server, cache, tmp_path):
  folder, layout = root("fivr")
  folder = damage(folder, tmp_path / "set", "-2222222222")
  found = Found(server.run(*arguments(run, "fivr", folder, cache, data__micro=True,
                                      data__labels="annotation_official_latest")), run)
  q0, q1 = layout.LATEST
  labels = {"DSVR": ("ND", "DS"), "ISVR": ("ND", "DS", "CS", "IS"), "DAVR": ("DA",),
            "CSVR": ("ND", "DS", "CS")}
  found.check([*labels, "DSVD", "CSVD", "ISVD", "DAVD"])
  available = set(layout.FILES) - {"-2222222222"}
  assert all(set(found.ranked[q]) == available - {q} for q in (q0, q1))
  for task, own in labels.items():
    values, _ = reference.fivr(found.ranked, layout.LATEST, own, available)
    assert found.per_query(task) == pytest.approx(values)
    relevant = {q: {i for label in own for i in layout.LATEST[q].get(label, ())} for q in (q0, q1)}
    assert found.row[f"{task[:-1]}D/chamfer"] == pytest.approx(
        reference.micro(found.ranked, relevant, available))
  assert set(found.per_query("CSVR")) == {q0}  # the other's only one can't be read
  assert found.labels[q0, "d3333333333"] == "DA"
  assert found.labels[q1, "d0000000000"] == "distractor"
  assert "FIVR-200K; relevant videos are those of the label file 'annotation_official_latest'" in (
      found.text)
  assert "6 of 7 videos are on disk." in found.text and found.missing == ["gone-video4"]
  assert "1 videos could not be read and are not ranked: -2222222222" in found.text
  assert found.row["missing_videos"] == 1
  assert "The run was trained on the data set 'procedural' (seed 0)." in found.text


@pytest.mark.slow
def test_the_hard_variant_of_fivr(run, root, server, cache):
  folder, layout = root("fivr")
  found = Found(server.run(*arguments(run, "fivr", folder, cache, data__hard=True)), run)
  found.check(["DSVR", "CSVR", "ISVR"])
  available = set(layout.FILES) - set(layout.LISTS["easy_duplicates"])
  values, _ = reference.fivr(found.ranked, layout.ANNOTATION, ("ND", "DS"), available)
  assert found.per_query("DSVR") == pytest.approx(values)
  assert set(found.ranked["q0-query-id"]) == available - {"q0-query-id"}
  assert "Hard variant: 1 easy duplicates are left out." in found.text


@pytest.mark.slow
def test_evve_with_a_row_an_event(run, root, server, cache, tmp_path):
  folder, layout = root("evve")
  folder = damage(folder, tmp_path / "set", "geyser-q--1", remove=["geyser-p--1"])
  found = Found(server.run(*arguments(run, "evve", folder, cache)), run)
  found.check(["EVVE"])
  event_of = {q: event for event, entry in layout.EVENTS.items() for q in entry["queries"]}
  values, events = reference.evve(
      found.ranked, event_of, {event: entry["positives"] for event, entry in layout.EVENTS.items()},
      {"nothing---0", "arrest-p--0", "geyser-p--0"})
  assert found.per_query("EVVE") == pytest.approx(values)
  assert set(found.ranked) == {"arrest-q--0", "geyser-q--0"}
  assert found.row["per_event"]["EVVE/chamfer"] == pytest.approx(events)
  for event, value in events.items():
    line = next(s for s in (found.folder / "results.json").read_text().split("\\n")
                if s.startswith(event))
    assert line.split()[2] == f"{value:.3f}" and line.split()[-1] == "1"  # query
  assert found.labels["arrest-q--0", "arrest-p--0"] == "dsk+arrested"
  assert found.labels["arrest-q--0", "geyser-p--0"] == "distractor"
  assert "6 of 7 videos are on disk." in found.text and found.row["missing_videos"] == 1


@pytest.mark.slow
def test_cc_web_video_in_four_numbers(run, root, server, cache, tmp_path):
  folder, layout = root("cc_web_video")
  folder = damage(folder, tmp_path / "set", "2_1_Y", remove=["1_2_G"])
  found = Found(server.run(*arguments(run, "cc_web_video", folder, cache)), run)
  names = ["cc_web", "cc_web_star", "cc_web_c", "cc_web_c_star"]
  found.check(names)
  queries, there = layout.LISTS["queries"], {"1_1_Y", "1_3_H", "2_2_Y"}
  name_of = {str(i): name or f"#{i}" for i, name in enumerate(layout.NAMES)}
  labels = {q: {name_of[i]: x for i, x in own.items()}
            for q, own in zip(queries, layout.LISTS["labels"], strict=True)}
  excluded = {q: [name_of[str(i)] for i in own]
              for q, own in zip(queries, layout.LISTS["excluded"], strict=True)}
  # rankings.csv leaves the query itself out; the protocol ranks it, at its similarity of 1.
  given = {q: {q: 1.0} | found.ranked[q] for q in queries}
  assert all(set(row) == there for row in given.values())
  assert [found.row[f"{task}/chamfer"] for task in names] == pytest.approx(
      reference.cc_web_video(given, labels, excluded))
  assert found.per_query("cc_web")["1_1_Y"] <= 1 / 3  # two of its three are missing
  assert "CC_WEB CC_WEB*" in " ".join(found.text.replace("|", "").split())
  assert "Relevant videos that are missing count as not found" in found.text
  assert found.missing == ["1_2_G"] and found.row["missing_videos"] == 1


@pytest.mark.slow
def test_vcdb_and_its_micro_average(run, root, server, cache):
  folder, layout = root("vcdb")
  found = Found(server.run(*arguments(run, "vcdb", folder, cache, data__allow_missing=True,
                                      data__database="all")), run)
  found.check(["VCDB", "VCDB_micro"])
  partners = {name: set() for name in layout.CORE}
  for a, b in layout.PAIRS:
    partners[layout.CORE[a]].add(layout.CORE[b])
    partners[layout.CORE[b]].add(layout.CORE[a])
  available = {*layout.CORE, *layout.BACKGROUND}
  values, _ = reference.fivr(found.ranked, {q: {"DS": ids} for q, ids in partners.items()}, ("DS",),
                             available)
  assert found.per_query("VCDB") == pytest.approx(values) and len(values) == 5
  assert found.row["VCDB_micro/chamfer"] == pytest.approx(
      reference.micro(found.ranked, partners, available))
  assert "trained on the data set 'procedural'" in found.text
  assert "All core videos were trained on" not in found.text  # this run has seen none of them
  assert {task for task, _ in found.curves} == {"VCDB"}


@pytest.mark.slow
def test_its_own_data_set_gives_the_same_numbers_and_no_other_part_of_it(run, server, cache):
  own = [a for a in harness.train(run, cache) if "config.data." in a]
  argv = ["--mode=eval", f"--workdir={run}", f"--config={TCA}", *own]
  found, before = Found(server.run(*argv), run), harness.rows(run)["trained TCA"]
  assert found.row == before and "held-out" not in found.text
  error = error_of(server.run(*argv, "--config.data.n_train_families=2"))
  assert "was trained on other videos of procedural than these settings of data leave" in error


@pytest.mark.slow
def test_what_is_asked_for_wrongly_is_told(run, root, server, cache, tmp_path):
  folder, layout = root("fivr")
  lists = {"data__annotations": folder / "annotations"}
  argv = arguments(run, "fivr", folder, cache)
  assert "--config.features.fps: --mode=eval takes data and evals from --config" in error_of(
      server.run(*argv, "--config.features.fps=2"))
  assert "needs root: set it, for example --config.data.root=..." in error_of(
      server.run(*argv[:3]))
  blind = damage(folder, tmp_path / "blind", remove=list(layout.ANNOTATION))
  assert "no query is there: nothing to evaluate" in error_of(
      server.run(*arguments(run, "fivr", blind, cache, **lists)))
  dark = damage(folder, tmp_path / "dark", *layout.ANNOTATION)
  assert error_of(server.run(*arguments(run, "fivr", dark, cache))) == (
      "fivr: no query has a match that can be read; mend the files named above")
  bare = tmp_path / "bare"
  shutil.copytree(run, bare, ignore=shutil.ignore_patterns("whitening.npz", "evaluations"))
  exported = f"--exported={bare / 'export' / 'embed.jaxexport'}"
  argv = arguments(bare, "fivr", folder, cache)
  assert "has no checkpoint yet; train it first" in error_of(server.run(*argv))
  assert "has no whitening.npz; train it first" in error_of(server.run(*argv, exported))


def test_nothing_to_train_on_is_told(root, server, cache, tmp_path):
  folder, _ = root("fivr")
  tiny = {k: v for k, v in harness.TINY_FOLDER.items() if k != "train.steps"} | {
      "features.backbone": "resnet18", "features.weights": ""}
  argv = harness.train(tmp_path / "run", cache, f"{TCA}:fivr", tiny, data__root=folder)
  assert ("data.name='fivr' holds nothing to train on: evaluate a trained run on it, --mode=eval"
          ) in error_of(server.run(*argv))


def test_a_whitening_of_no_use_is_told(run, server, cache, tmp_path):
  for value, words in ((tmp_path / "no.npz", "no such file; name the whitening.npz of a trained"),
                       (run / "config.json", "features.whitening: ")):
    argv = harness.train(tmp_path / "other", cache, features__whitening=value)
    assert words in error_of(server.run(*argv))


def test_every_task_has_a_heading():
  from experiments.retrieval import results

  assert {*protocols.MICRO, "VCDB_micro", "EVVE", *protocols.metrics.CC_WEB_NUMBERS} == set(
      results.TASKS)
