"""The embedded retrieval benchmark: its plan, its files, and that it can be resumed."""

import collections
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from data_pipelines.datasets import procedural
from data_pipelines.encode import decode_bytes
from data_pipelines.errors import DataError
from data_pipelines.render import APPEARANCES, MOTIONS, load_truth
from data_pipelines.render import families as plans
from data_pipelines.render.scene import SceneSpec
from data_pipelines.render.video import StockSpec

TINY = dict(
  seed=3, size=32, fps=4, seconds=(2.0, 3.0), n_train_families=2, n_train_edits=2, n_background=2,
  n_queries=2, n_per_label=(1, 1, 1, 1), n_distractors=2,
)  # fmt: skip
DEFAULT = plans.Settings(
  seed=0, size=128, fps=8, seconds=(8.0, 14.0), n_train_families=40, n_train_edits=4,
  n_background=160, n_queries=24, n_per_label=(2, 3, 2, 2), n_distractors=100, difficulty=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
  root = tmp_path_factory.mktemp("cache")
  return procedural.make(cache_dir=str(root), processes=1, progress=False, **TINY)


@pytest.fixture(scope="module")
def planned():
  return plans.plan(DEFAULT)


def folder_of(data):
  return pathlib.Path(next(iter(data.videos.values())).video).parent


def contents(folder):
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def decoded(video):
  return decode_bytes(pathlib.Path(video.video).read_bytes())


def test_every_video_is_there_and_decodes(tiny):
  assert len(tiny.videos) == 2 * 3 + 2 + 2 * 5 + 2
  assert set(tiny.train_ids) | set(tiny.eval_ids) == set(tiny.videos)
  assert not set(tiny.train_ids) & set(tiny.eval_ids)
  for video in tiny.videos.values():
    frames = decoded(video)
    assert 2 <= len(frames) <= 30 and frames.std() > 5


def test_records_fit_together(tiny):
  assert set(tiny.annotation) == set(tiny.queries)
  assert not set(tiny.queries) & set(tiny.database)
  for query in tiny.queries:
    labels = tiny.annotation[query]
    assert [len(labels[name]) for name in ("ND", "DS", "CS", "IS")] == [1, 1, 1, 1]
    assert set().union(*labels.values()) <= set(tiny.database)
  for anchor, positive in tiny.pairs:
    assert tiny.groups[anchor] == tiny.groups[positive] and anchor != positive
  assert not set(tiny.background) & set(tiny.groups)
  assert "Synthetic" in tiny.note


def test_without_labels_training_sees_edits_of_one_video_a_family(tiny):
  root = str(folder_of(tiny).parent)
  free, more = (procedural.make(cache_dir=root, progress=False, labels=False, n_edits=n, **TINY)
                for n in (2, 3))
  pool = ["train000", "train001", "background000", "background001"]
  assert free.background == pool and len(free.pairs) == 4 * 3 and len(more.pairs) == 4 * 6
  for name in ("queries", "database", "annotation"):
    assert getattr(free, name) == getattr(tiny, name)
  copies = {"train000_0", "train000_1", "train001_0", "train001_1"}  # the families'
  assert copies <= set(tiny.train_ids) and not copies & set(free.train_ids)
  for anchor, positive in free.pairs:
    assert free.groups[anchor] == free.groups[positive] and anchor != positive
    assert anchor.split("#")[0] == positive.split("#")[0]
  assert sorted(set(free.groups.values())) == [0, 1, 2, 3]
  edited = [free.videos[i] for i in free.train_ids if "#" in i]
  assert len({v.edit_seed for v in edited}) == len(edited) == 8
  for video in edited:
    assert video.video == tiny.videos[video.id.split("#")[0]].video
    assert video.edit_strength == "strong" and more.videos[video.id] == video
  assert procedural.facts(free) == procedural.facts(tiny)
  with pytest.raises(ValueError, match="n_edits must be at least 1"):
    procedural.make(cache_dir=root, labels=False, n_edits=0, **TINY)


def test_files_don_t_depend_on_the_number_of_processes(tiny, tmp_path):
  other = procedural.make(cache_dir=str(tmp_path), processes=2, progress=False, **TINY)
  first, second = contents(folder_of(tiny)), contents(folder_of(other))
  assert folder_of(tiny).name == folder_of(other).name and list(first) == list(second)
  assert all(first[name] == second[name] for name in first)


def test_a_finished_set_is_used_at_once(tiny, monkeypatch):
  monkeypatch.setattr(procedural, "draw", None)  # a call would fail
  root = str(folder_of(tiny).parent)
  assert procedural.make(cache_dir=root, progress=False, **TINY) == tiny


def read(tiny, split="all", **options):
  return procedural.read(str(folder_of(tiny).parent), split, progress=False, **TINY, **options)


def test_read_gives_the_videos_of_each_split(tiny):
  ids = {split: [r.id for r in read(tiny, split).records] for split in procedural.SPLITS}
  assert ids["all"] == sorted(tiny.videos)
  assert ids["background"] == sorted(tiny.background)
  assert ids["train"] == sorted({i for pair in tiny.pairs for i in pair})
  assert ids["queries"] == sorted(tiny.queries) and ids["database"] == sorted(tiny.database)
  assert ids["eval"] == tiny.eval_ids
  for record in read(tiny).records:
    assert set(record.splits) == {s for s, own in ids.items() if record.id in own and s != "all"}
    assert record.video == tiny.videos[record.id].video


def test_read_gives_classes(tiny):
  facts = procedural.facts(tiny)
  motion, appearance = read(tiny), read(tiny, label="appearance")
  for m, a in zip(motion.records, appearance.records, strict=True):
    assert (m.label, a.label) == (facts[m.id].motion, facts[a.id].appearance)
    assert m.text == MOTIONS[m.label] == motion.classes[m.label]
    assert a.text == APPEARANCES[a.label].name == appearance.classes[a.label]
  with pytest.raises(DataError, match=r"label is one of motion, appearance, not 'colour'"):
    read(tiny, label="colour")
  with pytest.raises(DataError, match=r"no split 'evals'; did you mean 'eval'"):
    read(tiny, "evals")


def test_read_gives_the_truth_of_the_main_object(tiny):
  hidden = 0
  for record in read(tiny, truth=True).records:
    path = procedural.truth_path(record.video)
    assert bool(record.truth) == path.exists()
    if record.truth:
      known, boxes = load_truth(path), record.truth["boxes"]
      seen = (known.labels == 1).any((1, 2))
      assert np.isnan(boxes[~seen]).all()
      np.testing.assert_array_equal(boxes[seen], known.boxes[seen, 0])
      assert np.isfinite(record.truth["points"][seen]).all()
      assert not record.truth["visible"][~seen].any()
      hidden += (~seen).sum()
  assert hidden
  assert not read(tiny).records[0].truth


def test_lost_and_damaged_files_are_drawn_again(tiny, tmp_path):
  shutil.copytree(folder_of(tiny).parent, tmp_path, dirs_exist_ok=True)
  folder = tmp_path / folder_of(tiny).name
  before = contents(folder)
  (folder / "query000.npz").unlink()
  (folder / "query001_DS0.mp4").unlink()
  (folder / "train001.mp4").write_bytes(b"half")
  untouched = (folder / "train000.mp4").stat().st_mtime_ns
  procedural.make(cache_dir=str(tmp_path), processes=1, progress=False, **TINY)
  assert contents(folder) == before
  assert (folder / "train000.mp4").stat().st_mtime_ns == untouched


def test_a_killed_run_is_taken_up(tiny, tmp_path):
  code = (
    "from data_pipelines.datasets import procedural\n"
    f"procedural.make(cache_dir={str(tmp_path)!r}, processes=2, progress=False, **{TINY!r})"
  )
  root = pathlib.Path(procedural.__file__).resolve().parents[2]
  run = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)})
  folder = tmp_path / folder_of(tiny).name
  deadline = time.time() + 60
  while len(list(folder.glob("*.mp4"))) < 3 and time.time() < deadline:
    time.sleep(0.01)
  run.kill()
  run.wait()
  assert len(list(folder.glob("*.mp4"))) >= 3
  procedural.make(cache_dir=str(tmp_path), processes=1, progress=False, **TINY)
  drawn = {name: data for name, data in contents(folder).items() if not name.endswith(".tmp")}
  assert drawn == contents(folder_of(tiny))


def test_other_arguments_have_another_folder(tiny, tmp_path):
  small = {**TINY, "n_train_families": 0, "n_background": 1, "n_queries": 0, "n_distractors": 0}
  made = [
    procedural.make(cache_dir=str(tmp_path), processes=1, progress=False, **{**small, **change})
    for change in ({}, {"seed": 4}, {"difficulty": 0.0})
  ]
  assert len({folder_of(data) for data in made}) == 3
  videos = [decoded(data.videos["background000"]) for data in made]
  assert videos[0].shape != videos[1].shape or (videos[0] != videos[1]).mean() > 0.5


def test_unwritable_cache_is_named(tmp_path):
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(DataError, match=r"data\.cache_dir=.*file.*another folder"):
    procedural.make(cache_dir=str(tmp_path / "file"), progress=False, **TINY)


@pytest.mark.parametrize("processes", [1, 2])
def test_full_disk_is_named(tmp_path, processes):
  folder = tmp_path / f"procedural-{procedural._digest(settings_of(TINY))}"
  # A folder in a file's place stops the rename, in this process and in others.
  (folder / "train000.mp4" / "x").mkdir(parents=True)
  with pytest.raises(DataError, match=r"data\.cache_dir=.*train000\.mp4"):
    procedural.make(cache_dir=str(tmp_path), processes=processes, progress=False, **TINY)
  assert not (folder / "index.json").exists()


def settings_of(arguments):
  return plans.Settings(**{"difficulty": 1.0, **arguments})


@pytest.mark.parametrize(
  "change", [{"size": 8}, {"fps": 0}, {"seconds": (3.0, 1.0)}, {"seed": -1}, {"difficulty": -1.0}]
)
def test_arguments_out_of_range_are_refused(tmp_path, change):
  with pytest.raises(ValueError, match="must be"):
    procedural.make(cache_dir=str(tmp_path), **{**TINY, **change})
  with pytest.raises(ValueError, match="n_queries"):
    procedural.make(cache_dir=str(tmp_path), **{**TINY, "n_queries": plans.MAX_QUERIES + 1})


def test_truth_lies_beside_the_videos_that_were_not_edited(tiny):
  facts = procedural.facts(tiny)
  assert set(facts) == set(tiny.videos)
  for id_, video in tiny.videos.items():
    path = procedural.truth_path(video.video)
    edited = facts[id_].kind in ("copy", "ND", "DS")
    assert path.exists() != edited
    if not edited:
      truth = load_truth(path)
      frames = decoded(video)
      assert truth.labels.shape == frames.shape[:3]
      in_scene = truth.stock < 0
      assert set(truth.scene[in_scene]) == {facts[id_].scene}
      assert set(truth.motion[in_scene]) == {facts[id_].motion}
      assert set(truth.appearance[in_scene]) == {facts[id_].appearance}
      assert abs(1 - in_scene.mean() - facts[id_].filler) < 1e-3


def test_index_has_the_checksum_of_every_file(tiny):
  import hashlib

  index = json.loads((folder_of(tiny) / "index.json").read_text())
  files = contents(folder_of(tiny))
  assert set(index["files"]) == set(files) - {"index.json"}
  for name, entry in index["files"].items():
    assert entry["sha256"] == hashlib.sha256(files[name]).hexdigest()
    assert entry["bytes"] == len(files[name])


def test_classes_say_who_is_relevant(planned):
  facts = planned.facts
  for query, labels in planned.annotation.items():
    q = facts[query]
    for label, ids in labels.items():
      for id_ in ids:
        other = facts[id_]
        assert (other.kind, other.family) == (label, q.family)
        assert (other.appearance, other.motion) == (q.appearance, q.motion)
        assert (other.scene == q.scene) == (label != "IS")
  combinations = collections.Counter(
    (f.appearance, f.motion) for f in facts.values() if f.kind == "query"
  )
  assert max(combinations.values()) == 1
  for fact in facts.values():
    if fact.kind in ("distractor", "train", "background"):
      assert (fact.appearance, fact.motion) not in combinations


def test_training_and_evaluation_share_neither_scenes_nor_classes_but_filler(planned):
  facts, videos = planned.facts, {v.id: v for group in planned.groups for v in group}
  training = {"train", "copy", "background"}
  used = {True: collections.defaultdict(set), False: collections.defaultdict(set)}
  for id_, video in videos.items():
    side = used[facts[id_].kind in training]
    for shot in video.shots:
      if isinstance(shot.source, SceneSpec):
        side["scene"].add(shot.source.seed)
        side["classes"].add((shot.source.appearance, shot.source.motion))
      else:
        side["stock"].add(shot.source.index)
  for what in ("scene", "classes"):
    assert used[True][what] and not used[True][what] & used[False][what]
  assert used[True]["stock"] == used[False]["stock"]


def test_pairs_share_a_copied_segment_and_others_don_t(planned):
  videos = {v.id: v for group in planned.groups for v in group}
  pairs = set(planned.pairs)

  def shown(id_):
    scene = planned.facts[id_].scene
    return {s.source for s in videos[id_].shots
            if isinstance(s.source, SceneSpec) and s.source.seed == scene}  # fmt: skip

  families = collections.defaultdict(list)
  for id_, fact in planned.facts.items():
    if fact.kind in ("train", "copy"):
      families[fact.family].append(id_)
  assert len(families) == 40
  for ids in families.values():
    for i, a in enumerate(ids):
      for b in ids[i + 1 :]:
        assert ((a, b) in pairs) == bool(shown(a) & shown(b))
  assert len(pairs) > 300 and all(shown(i) for pair in pairs for i in pair)


def test_filler_fills_a_third_to_two_thirds_and_recurs(planned):
  shares = [f.filler for f in planned.facts.values()]
  assert 0.2 < min(shares) and max(shares) < 0.7 and 0.4 < np.mean(shares) < 0.5
  counts = collections.Counter(
    s.source.index for g in planned.groups for v in g for s in v.shots
    if isinstance(s.source, StockSpec)
  )  # fmt: skip
  assert len(counts) == 16 and min(counts.values()) > 40


def test_difficulty_scales_filler_and_distractors(planned):
  easy = plans.plan(dataclasses.replace(DEFAULT, difficulty=0.0))
  assert max(f.filler for f in easy.facts.values()) == 0

  def alike(benchmark):
    queries = [f for f in benchmark.facts.values() if f.kind == "query"]
    others = [f for f in benchmark.facts.values() if f.kind == "distractor"]
    near = [queries[i % len(queries)].appearance for i in range(len(others))]
    return np.mean([o.appearance == a for o, a in zip(others, near, strict=True)])

  assert alike(planned) > alike(easy) + 0.2


@pytest.mark.slow
def test_filler_is_what_makes_a_plain_mean_fail(tmp_path):
  """Videos of one scene are found by mean frame features; without filler far more surely."""
  data = procedural.make(
    cache_dir=str(tmp_path), seed=1, size=64, fps=4, n_train_families=0, n_background=0,
    n_queries=12, n_per_label=(0, 0, 2, 0), n_distractors=48, progress=False,
  )  # fmt: skip
  whole, without = {}, {}
  for id_, video in data.videos.items():
    frames = decoded(video).astype(float)
    blocks = frames.reshape(len(frames), 4, 16, 4, 16, 3).mean((2, 4)).reshape(len(frames), -1)
    blocks /= np.linalg.norm(blocks, axis=1, keepdims=True)
    whole[id_] = blocks.mean(0)
    without[id_] = blocks[load_truth(procedural.truth_path(video.video)).stock < 0].mean(0)

  def found(features):
    centre = np.mean(list(features.values()), 0)
    unit = {i: (f - centre) / np.linalg.norm(f - centre) for i, f in features.items()}
    right = 0
    for query, labels in data.annotation.items():
      order = sorted(data.database, key=lambda i: -(unit[query] @ unit[i]))
      right += len(set(order[:2]) & set(labels["CS"]))
    return right / (2 * len(data.queries))

  assert found(without) > found(whole) + 0.2
