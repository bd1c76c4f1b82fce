"""A folder as a data set: ids, who is held out, pairs, queries, and what is said of bad input."""

import itertools
import os

import pytest

from data_pipelines.datasets import folder
from data_pipelines.encode import decode_bytes
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import folder as made
from tests.data_pipelines.layouts import material

NAMES = ["a.mp4", "b/c.MOV", "b/d d.webm", "b/e/f.mkv", "ü.avi", "z.m4v"]


@pytest.fixture
def root(tmp_path):
  return fill(tmp_path / "videos", NAMES)


def fill(place, names):
  for name in names:
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(b"x")
  return place


def make(root, **kwargs):
  return folder.make(root=str(root), **kwargs)


def held_out(data) -> set[str]:
  return {i for lists in data.annotation.values() for i in lists["ND"]}


def test_lists_videos_by_relative_path(root):
  fill(root, ["notes.txt", ".hidden.mp4", ".git/x.mp4", "b/.x.mov", "noext", "mp4"])
  (root / "folder.mp4").mkdir()
  fill(root / "folder.mp4", ["inside.mp4"])
  data = make(root)
  assert data.database == ["a.mp4", "b/c.MOV", "b/d d.webm", "b/e/f.mkv", "folder.mp4/inside.mp4",
                           "z.m4v", "ü.avi"]
  assert all(data.videos[i].video == str(root / i) for i in data.database)
  assert make(root, extensions=(".MKV", ".avi", ".m4v")).database == ["b/e/f.mkv", "z.m4v", "ü.avi"]


def test_links_are_followed_once(root, tmp_path):
  elsewhere = fill(tmp_path / "elsewhere", ["g.mp4", "sub/h.mp4"])
  (root / "link").symlink_to(elsewhere)
  (root / "again").symlink_to(elsewhere / "sub")
  (root / "b/up").symlink_to(root)
  (elsewhere / "back").symlink_to(root)
  (root / "self").symlink_to(root / "self")
  (root / "gone.mp4").symlink_to(root / "nothing.mp4")  # told as missing when it is decoded
  assert set(make(root).database) == {*NAMES, "again/h.mp4", "link/g.mp4", "gone.mp4"}


def test_names_that_are_not_utf8_get_printable_ids(root):
  try:
    (root / os.fsdecode(b"\xff\xfe.mp4")).write_bytes(b"x")
  except OSError:
    pytest.skip("this file system refuses names that are not UTF-8")
  data = make(root)
  assert "\\xff\\xfe.mp4" in data.database
  "".join(data.videos).encode()  # can be written to a file
  assert os.path.exists(data.videos["\\xff\\xfe.mp4"].video)


def test_training_pairs(root):
  data = make(root, n_edits=3)
  train = [i for i in data.database if i not in held_out(data)]
  assert data.background == train
  want = []
  for i in train:
    want += [(i, f"{i}#edit1"), (i, f"{i}#edit2"), (i, f"{i}#edit3"),
             (f"{i}#edit1", f"{i}#edit2"), (f"{i}#edit1", f"{i}#edit3"),
             (f"{i}#edit2", f"{i}#edit3")]
  assert data.pairs == want
  for i in train:
    assert data.videos[i].edit_seed is None
    copies = [data.videos[f"{i}#edit{k}"] for k in (1, 2, 3)]
    assert all(c.video == data.videos[i].video and c.edit_seed is not None for c in copies)


def test_evaluation_is_apart_from_training(root):
  data = make(root, holdout=0.5, n_eval_edits=2)
  out = held_out(data)
  assert out and not out & set(data.train_ids)
  assert data.queries == [f"{i}#query{k}" for i in data.database if i in out for k in (1, 2)]
  assert data.annotation == {q: {"ND": [q.split("#")[0]]} for q in data.queries}
  assert not set(data.queries) & (set(data.train_ids) | set(data.database))
  trained_on = {data.videos[i].video for i in data.train_ids}
  assert not trained_on & {data.videos[q].video for q in data.queries}
  assert set(data.videos) == set(data.train_ids) | set(data.eval_ids)
  assert all(v.id == i for i, v in data.videos.items())


def test_seeds_of_edits_differ_and_last(root):
  data = make(root)
  seeds = [v.edit_seed for v in data.videos.values() if v.edit_seed is not None]
  assert len(set(seeds)) == len(seeds)
  assert all(isinstance(s, int) and 0 <= s < 2**31 for s in seeds)
  assert make(root) == data
  other = make(root, seed=1)
  assert other.database == data.database
  assert not set(seeds) & {v.edit_seed for v in other.videos.values()}


def test_strong_edits_are_for_training_alone(root):
  data, usual = make(root, strength="strong"), make(root)
  kinds = {i: v.edit_strength for i, v in data.videos.items()}
  assert all(kinds[i] == ("strong" if "#edit" in i else "") for i in kinds)
  assert "strong" in kinds.values() and not any(v.edit_strength for v in usual.videos.values())
  with pytest.raises(DataError, match=r"data\.strength='hard' is unknown; choose"):
    make(root, strength="hard")


def test_groups_are_the_videos(root):
  data = make(root)
  assert set(data.groups) == set(data.videos)
  for i, j in itertools.combinations(data.videos, 2):
    same = data.videos[i].video == data.videos[j].video
    assert (data.groups[i] == data.groups[j]) == same


def test_holding_out_is_a_property_of_the_video(tmp_path):
  names = [f"{k:03}.mp4" for k in range(200)]
  root = fill(tmp_path / "many", names)
  before = held_out(make(root, n_edits=1))
  assert 25 < len(before) < 55  # a fifth of 200
  fill(root, ["0000.mp4", "new/one.mp4", "zzz.mp4"])
  after = held_out(make(root, n_edits=1))
  assert before == after & set(names)
  assert held_out(make(root, n_edits=1, seed=7)) != after
  assert before < held_out(make(root, n_edits=1, holdout=0.5))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("holdout", [0.01, 0.99])
def test_three_videos_are_enough(tmp_path, seed, holdout):
  data = make(fill(tmp_path, ["a.mp4", "b.mp4", "c.mp4"]), holdout=holdout, seed=seed)
  assert len(held_out(data)) == 1 and len(data.background) == 2


@pytest.mark.parametrize("n", [1, 2])
def test_too_few(tmp_path, n):
  fill(tmp_path, NAMES[:n])
  with pytest.raises(DataError, match=rf"data\.root: .* has {n} video.* at least 3"):
    make(tmp_path)


def test_max_videos(root):
  few = make(root, max_videos=4)
  assert len(few.database) == 4 and few.database == sorted(few.database)
  assert few.database != make(root, max_videos=4, seed=3).database
  assert make(root, max_videos=99) == make(root, max_videos=None) == make(root, max_videos=0)
  with pytest.raises(DataError, match=r"max_videos"):
    make(root, max_videos=2)


def test_own_queries_are_ranked_but_not_scored(root, tmp_path):
  mine = fill(tmp_path / "mine", ["q1.mp4", "more/q2.mp4", "note.txt"])
  listed = tmp_path / "list.txt"
  listed.write_text(f"# mine\n\nmine/q1.mp4\n{mine / 'more/q2.mp4'}\n")
  plain = make(root)
  for queries, ids in ((mine, ["query:more/q2.mp4", "query:q1.mp4"]),
                       (listed, ["query:mine/q1.mp4", f"query:{mine}/more/q2.mp4"]),
                       (mine / "q1.mp4", ["query:q1.mp4"])):
    data = make(root, queries=str(queries))
    assert data.queries == plain.queries + ids
    assert data.annotation == plain.annotation
    assert (data.pairs, data.database, data.groups) == (plain.pairs, plain.database, plain.groups)
    for i in ids:
      name = i.removeprefix("query:").split("mine/")[-1]
      assert os.path.samefile(data.videos[i].video, mine / name)
      assert data.videos[i].edit_seed is None


@pytest.mark.parametrize(("queries", "message"), [
    ("missing", r"data\.queries: can't read .*missing"),
    ("missing.mp4", r"data\.queries: 1 of 1 videos not found"),
    ("list.txt", r"data\.queries: 2 of 3 videos not found, first: .*x\.mp4, .*y\.mp4"),
    ("blank.txt", r"data\.queries: .*blank\.txt names no videos"),
    ("picture.bin", r"data\.queries: can't read .*picture\.bin"),
    ("none", r"data\.queries: .*none names no videos"),
])
def test_bad_queries(root, tmp_path, queries, message):
  (tmp_path / "list.txt").write_text("x.mp4\nvideos/a.mp4\ny.mp4\n")
  (tmp_path / "blank.txt").write_text("\n# nothing\n")
  (tmp_path / "picture.bin").write_bytes(b"\xff\xd8\xff")
  (tmp_path / "none").mkdir()
  with pytest.raises(DataError, match=message):
    make(root, queries=str(tmp_path / queries))


def test_bad_root(tmp_path, monkeypatch):
  (tmp_path / "file.mp4").write_bytes(b"x")
  fill(tmp_path / "texts", ["a.txt"])
  for place, message in (("missing", "data.root: there is no folder .*missing"),
                         ("file.mp4", "data.root: .*file.mp4 is a file"),
                         ("texts", r"data.root: no videos in .*texts.*\.mp4")):
    with pytest.raises(DataError, match=message):
      make(tmp_path / place)
  with pytest.raises(DataError, match=r"data\.root is not set"):
    folder.make(root="")

  def denied(path):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(folder.os, "scandir", denied)
  with pytest.raises(DataError, match=r"data.root: can't read .*texts \(Permission denied\)"):
    make(tmp_path / "texts")


@pytest.mark.parametrize(("setting", "value"), [
    ("n_edits", 0), ("n_eval_edits", 0), ("holdout", 0.0), ("holdout", 1.0), ("max_videos", -1)])
def test_bad_settings(root, setting, value):
  with pytest.raises(DataError, match=f"data.{setting} "):
    make(root, **{setting: value})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  place = tmp_path_factory.mktemp("folder")
  made.write(place)
  return place


def test_read_gives_the_videos_by_class(written):
  data = folder.read(str(written), made.SPLIT, **made.OPTIONS)
  assert [(r.id, r.label, r.text) for r in data.records] == [
    ("cats/a.mp4", 0, "cats"), ("cats/more/b.AVI", 0, "cats"),
    ("dogs & co/d.webm", 1, "dogs & co"), ("dogs & co/ä.mkv", 1, "dogs & co")]
  assert (data.name, data.split, data.classes) == ("folder", "all", ("cats", "dogs & co"))
  for record in data.records:
    with open(record.video, "rb") as f:
      frames = decode_bytes(f.read())
    want = material.clip(made.VIDEOS.index(record.id))
    assert abs(frames.astype(int) - want).mean() < 16


def test_read_without_classes(root):
  data = folder.read(str(root))
  assert [r.id for r in data.records] == sorted(make(root).database)
  assert data.classes == () and {r.label for r in data.records} == {-1}
  assert [r.id for r in folder.read(str(root), extensions=(".avi",)).records] == sorted(
    i for i in make(root).database if i.endswith(".avi"))


def test_read_of_a_wrong_folder(root, tmp_path):
  (root / "loose.mp4").write_bytes(b"x")
  with pytest.raises(DataError, match=r"by_class needs videos in folders .*loose\.mp4 in .* none"):
    folder.read(str(root / "."), by_class=True, extensions=("loose.mp4",))
  found = folder.read(str(root), by_class="optional")
  assert {r.id: r.label for r in found.records}["loose.mp4"] == -1 < max(
    r.label for r in found.records)
  with pytest.raises(DataError, match="by_class='maybe' should be True, False or 'optional'"):
    folder.read(str(root), by_class="maybe")
  with pytest.raises(DataError, match=r"folder: no videos in .*empty"):
    folder.read(str(fill(tmp_path / "empty", ["a.txt"])))
  with pytest.raises(DataError, match=r"folder: .*nothing doesn't exist"):
    folder.read(str(tmp_path / "nothing"))
  with pytest.raises(DataError, match=r"no split 'trian'; did you mean 'train'"):
    folder.read(str(root), "trian")
