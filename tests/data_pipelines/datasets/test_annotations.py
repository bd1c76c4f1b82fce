import collections
import gzip
import json
import pathlib

import pytest

from data_pipelines.datasets import annotations
from data_pipelines.errors import DataError


def write(folder, name, content):
  with gzip.open(folder / name, "wt", encoding="utf-8") as f:
    f.write(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def folder(data_dir):
  path = data_dir / "annotations" / "retrieval"
  if not path.is_dir():
    pytest.skip(f"no annotation lists in {path}")
  return path


# The published lists


def test_fivr(folder):
  lists = annotations.read_fivr(folder)
  assert len(lists.queries_200k) == 100 and len(lists.queries_5k) == 50
  assert len(lists.database_200k) == len(set(lists.database_200k)) == 225_960
  assert len(lists.database_5k) == 5_000 and len(lists.easy_duplicates) == 4_873
  assert set(lists.queries_200k) <= set(lists.database_200k)
  assert len(set(lists.queries_5k) & set(lists.database_5k)) == 1
  assert "eCrhXArKE24" in lists.annotation["eCrhXArKE24"]["IS"]
  audio = [sum(len(x.get("DA", ())) for x in a.values())
           for a in (lists.annotation, lists.annotation_official_latest)]
  assert audio == [322, 3_397]


def test_evve(folder):
  lists = annotations.read_evve(folder)
  assert (len(lists.queries), len(lists.database), len(lists.positives)) == (620, 2_373, 13)
  assert set(lists.event_of) == set(lists.queries) and not set(lists.queries) & set(lists.database)
  assert sum(map(len, lists.positives.values())) == 1_252
  assert list(lists.event_of.values()).count("strokkur+geyser") == 215


def test_cc_web_video(folder):
  lists = annotations.read_cc_web_video(folder)
  assert len(lists.queries) == 24 and len(lists.database) == 13_115
  assert all(lists.labels[q][q] == "E" and q in lists.database for q in lists.queries)
  assert lists.labels[lists.queries[3]]["#2005"] == "S"  # positive, but not in the database
  assert {x for entry in lists.labels.values() for x in entry.values()} == set("ESVMLXx")


def test_vcdb(folder):
  lists = annotations.read_vcdb(folder)
  assert (len(lists.core), len(lists.pairs), len(lists.background)) == (528, 5_612, 99_782)
  assert len(lists.distractors) == 99_180 and len(set(lists.distractors)) == 99_176
  counts = [len(ids) for ids in lists.partners.values()]
  assert (min(counts), max(counts), sum(counts)) == (1, 42, 2 * 5_612)
  assert all(a in lists.partners[b] and b in lists.partners[a] for a, b in lists.pairs[::500])
  sizes = collections.Counter(lists.groups.values())
  assert (len(sizes), min(sizes.values()), max(sizes.values())) == (29, 3, 43)


# Small files


CC = {"names": [None, "a", "b"], "queries": ["a"], "labels": [{"0": "S", "1": "E", "2": "X"}],
      "excluded": [[2]]}
VCDB = {"core": ["a", "b", "c"], "pairs": [[2, 0]], "overlap": [[0.5, 2.0]],
        "background": ["x", "y", "x"], "not_used_as_negative": [1]}


def test_numbers_become_names(tmp_path):
  write(tmp_path, "cc_web_video.json.gz", CC)
  lists = annotations.read_cc_web_video(tmp_path)
  assert lists.database == ("a", "b") and lists.excluded == {"a": ("b",)}
  assert lists.labels == {"a": {"#0": "S", "a": "E", "b": "X"}}
  write(tmp_path, "vcdb.json.gz", VCDB)
  lists = annotations.read_vcdb(tmp_path)
  assert lists.pairs == (("c", "a"),) and lists.distractors == ("x", "x")
  assert lists.partners == {"a": ("c",), "b": (), "c": ("a",)}


def test_groups_are_what_pairs_link_directly_or_over_others():
  lists = annotations.Vcdb(core=tuple("edcbaf"), pairs=(("a", "c"), ("b", "e"), ("a", "d")),
                           overlap=(), background=(), distractors=())
  assert lists.groups == {"e": 0, "b": 0, "d": 1, "c": 1, "a": 1, "f": 2}


def test_files_need_not_be_compressed_nor_hold_what_only_some_need(tmp_path):
  lists = {k: VCDB[k] for k in ("core", "pairs", "background")}
  (tmp_path / "vcdb.json").write_text(json.dumps(lists))
  found = annotations.read_vcdb(tmp_path)
  assert found.pairs == (("c", "a"),) and found.overlap == ()
  assert found.distractors == found.background == ("x", "y", "x")
  write(tmp_path, "vcdb.json.gz", VCDB)  # which comes first
  assert annotations.read_vcdb(tmp_path).distractors == ("x", "x")
  (tmp_path / "fivr_200k_ids.txt").write_text("q\nb\n")
  labels = {"queries_200k": ["q"], "annotation_official_latest": {"q": {"ND": ["b"]}}}
  (tmp_path / "fivr.json").write_text(json.dumps(labels))
  fivr = annotations.read_fivr(tmp_path)
  assert (fivr.database_200k, fivr.database_5k, fivr.annotation) == (("q", "b"), (), {})
  (tmp_path / "fivr.json").write_text(json.dumps({"queries_200k": ["q"]}))
  with pytest.raises(DataError, match="has neither annotation nor annotation_official_latest"):
    annotations.read_fivr(tmp_path)
  (tmp_path / "evve.json").write_bytes(b"\xff\xfe")
  with pytest.raises(DataError, match=r"evve\.json: not a readable text file"):
    annotations.read_evve(tmp_path)


def test_the_folder_is_the_data_sets_own_unless_one_is_named(tmp_path, monkeypatch):
  assert annotations.folder(tmp_path) == tmp_path / "annotations"
  assert annotations.folder(tmp_path, "/elsewhere") == pathlib.Path("/elsewhere")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert annotations.folder("x", "~/lists") == tmp_path / "lists"


READERS = {"fivr_200k_ids.txt.gz": annotations.read_fivr, "evve.json.gz": annotations.read_evve,
           "cc_web_video.json.gz": annotations.read_cc_web_video,
           "vcdb.json.gz": annotations.read_vcdb}


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_is_named(tmp_path, name):
  with pytest.raises(DataError, match=rf"{tmp_path}/{name}: no such file"):
    READERS[name](tmp_path)


@pytest.mark.parametrize(("content", "words"), [
  (b"\x1f\x8b\x08\x00broken", "not a readable gzip"), (b"{}", "not a readable gzip"),
  (gzip.compress(b"{", mtime=0), "not JSON"), (gzip.compress(b"[1]", mtime=0), "is a list"),
  (gzip.compress(b"{}", mtime=0), "no key 'core'; it has none"),
  (gzip.compress(b'{"core": 3}', mtime=0), "'core' should be a list, is a int"),
  (gzip.compress(b"\xff\xfe", mtime=0), "not a readable gzip")])
def test_a_broken_file_is_named_and_explained(tmp_path, content, words):
  (tmp_path / "vcdb.json.gz").write_bytes(content)
  with pytest.raises(DataError, match=rf"vcdb\.json\.gz: .*{words}"):
    annotations.read_vcdb(tmp_path)


@pytest.mark.parametrize(("name", "content", "words"), [
  ("vcdb.json.gz", VCDB | {"pairs": [[0, 3]]}, r"pair \[0, 3\] points outside the 3 core videos"),
  ("vcdb.json.gz", VCDB | {"overlap": []}, "1 pairs, but 0 overlaps"),
  ("vcdb.json.gz", {k: v for k, v in VCDB.items() if k != "pairs"}, "no key 'pairs'"),
  ("cc_web_video.json.gz", CC | {"labels": []}, "1 queries, but 0 entries in 'labels'"),
  ("cc_web_video.json.gz", CC | {"excluded": [[7]]}, "video number 7, but 3 entries in 'names'"),
  ("evve.json.gz", {"queries": ["q"], "database": [], "events": {}}, "'q' belongs to no event"),
  ("evve.json.gz", {"queries": [], "database": [], "events": {"x": {"queries": []}}},
   "event 'x' has no 'positives'"),
])
def test_lists_that_do_not_fit_together_are_refused(tmp_path, name, content, words):
  write(tmp_path, name, content)
  with pytest.raises(DataError, match=words) as error:
    READERS[name](tmp_path)
  assert name in str(error.value)


def test_fivr_needs_labels_for_every_query(tmp_path):
  write(tmp_path, "fivr_200k_ids.txt.gz", "a\nb\n")
  lists = {"queries_200k": ["q"], "queries_5k": [], "database_5k": [], "easy_duplicates": [],
           "annotation": {"q": {"ND": ["a"]}}, "annotation_official_latest": {}}
  write(tmp_path, "fivr.json.gz", lists)
  with pytest.raises(DataError, match="'annotation_official_latest' has no entry for query 'q'"):
    annotations.read_fivr(tmp_path)
  write(tmp_path, "fivr.json.gz", lists | {"annotation_official_latest": lists["annotation"]})
  assert annotations.read_fivr(tmp_path).database_200k == ("a", "b")
  write(tmp_path, "fivr_200k_ids.txt.gz", "\n")
  with pytest.raises(DataError, match="no ids in it"):
    annotations.read_fivr(tmp_path)
