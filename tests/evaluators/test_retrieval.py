import collections
import types

import numpy as np
import pytest

from tests.reference import retrieval as reference
from vssl_jax.evaluators import retrieval
from vssl_jax.metrics import retrieval as metrics
from vssl_jax.types import ConfigError

# "q1" is in the database too; "lost" and "empty" can't be decoded, nor can the query "q4".
QUERIES = ["q1", "q2", "q3", "q4"]
DATABASE = ["a", "lost", "q1", "b", "c", "empty", "d", "long", "e"]
ANNOTATION = {"q1": {"ND": ["a", "lost"], "CS": ["c"]}, "q2": {"DS": ["long"], "IS": ["e", "b"]},
              "q3": {"ND": ["empty"], "CS": ["d"]}, "q4": {"ND": ["e"]}}
LENGTHS = {"a": 5, "q1": 8, "b": 1, "c": 9, "d": 16, "long": 100, "e": 3, "q2": 12, "q3": 70}


def make_data(queries=QUERIES, database=DATABASE, annotation=ANNOTATION):
  return types.SimpleNamespace(queries=queries, database=database, annotation=annotation)


@pytest.fixture
def descriptors():
  rng = np.random.default_rng(0)
  found = {name: rng.standard_normal((n, 6)).astype(np.float32) for name, n in LENGTHS.items()}
  return found | {"empty": np.zeros((0, 6), np.float32)}


def make(data, descriptors, **kwargs):
  return retrieval.make(data, descriptors, progress=False, **kwargs)


def twin_scores(descriptors):
  unit = {k: x / np.linalg.norm(x, axis=1, keepdims=True) for k, x in descriptors.items() if len(x)}
  pairs = {
    "cosine": lambda q, t: reference.cosine(descriptors[q].mean(0), descriptors[t].mean(0)),
    "chamfer": lambda q, t: reference.chamfer(unit[q], unit[t]),
    "symmetric_chamfer": lambda q, t: reference.symmetric_chamfer(unit[q], unit[t]),
  }
  return {name: {q: {t: f(q, t) for t in DATABASE if t in unit} for q in QUERIES if q in unit}
          for name, f in pairs.items()}


@pytest.mark.parametrize("block", [1, 3, 256])
def test_report_equals_the_twins_whatever_the_block(descriptors, block):
  report = make(make_data(), descriptors, block=block).report(retrieval.mean_pool)
  twins = twin_scores(descriptors)
  available = set(LENGTHS)
  assert list(report.scores) == list(retrieval.DEFAULT)
  for name, twin in twins.items():
    scores = report.scores[name]
    assert scores.dtype == np.float32
    for i, q in enumerate(QUERIES):
      for j, t in enumerate(DATABASE):
        want = twin.get(q, {}).get(t, np.nan)
        np.testing.assert_allclose(scores[i, j], want, atol=1e-6)
    for task in ("DSVR", "CSVR", "ISVR"):
      values, skipped = reference.fivr(twin, ANNOTATION, metrics.TASKS[task], available)
      assert report.results[name][task].per_query == pytest.approx(values, abs=1e-12)
      assert list(report.results[name][task].skipped) == skipped
      assert report.numbers[f"{task}/{name}"] == pytest.approx(np.mean(list(values.values())))


def test_missing_videos_are_counted_and_named(descriptors):
  evaluator = make(make_data(), descriptors, similarities=("cosine",))
  report = evaluator.report(retrieval.mean_pool)
  assert report.missing == ("q4", "lost", "empty")
  assert report.numbers["missing_videos"] == 3
  result = report.results["cosine"]["DSVR"]
  assert result.unavailable == ("lost", "empty")
  assert result.skipped == ("q3",)  # its only match is missing
  assert list(result.per_query) == ["q1", "q2"]
  assert evaluator(retrieval.mean_pool) == report.numbers


def test_videos_are_embedded_whole_and_in_few_shapes(descriptors):
  found = {name: x.copy() for name, x in descriptors.items()}
  for i, name in enumerate(LENGTHS):
    found[name][0, 0] = 100 + i
  shapes, embedded = set(), collections.Counter()

  def embed(inputs):
    x, length = inputs["x"], inputs["length"]
    assert x.dtype == np.float32 and length.dtype == np.int32 and set(inputs) == {"x", "length"}
    shapes.add(x.shape)
    names = [list(LENGTHS)[int(v) - 100] for v in x[:, 0, 0]]
    for name, row, n in zip(names, x, length, strict=True):
      assert n == LENGTHS[name]
      np.testing.assert_array_equal(row[:n], found[name])
      assert not row[n:].any()
    embedded.update(set(names))  # fillers repeat a video of the same batch
    return retrieval.mean_pool(inputs)

  make(make_data(), found, block=4).report(embed)
  assert embedded == dict.fromkeys(LENGTHS, 1) | {"q1": 2}  # as query and in the database
  assert {t for _, t, _ in shapes} == {8, 16, 128}
  assert all(b * t <= 4 * 64 or b == 1 for b, t, _ in shapes)


def test_descriptors_are_read_once_as_queries_and_once_in_the_database(descriptors):
  reads = collections.Counter()

  class Lazy(collections.UserDict):
    def __getitem__(self, key):
      reads[key] += 1
      return super().__getitem__(key)

  make(make_data(), Lazy(descriptors)).report(retrieval.mean_pool)
  assert reads == dict.fromkeys([*LENGTHS, "empty"], 1) | {"q1": 2}


def test_tasks_are_those_that_the_labels_can_tell_apart(descriptors):
  data = make_data(annotation={"q1": {"ND": ["a"], "DS": [], "CS": []}})
  assert set(make(data, descriptors, similarities=("chamfer",))(retrieval.mean_pool)) == {
    "DSVR/chamfer", "missing_videos"}
  data = make_data(annotation={"q1": {"ND": ["a"], "IS": ["b"]}})
  report = make(data, descriptors).report(retrieval.mean_pool)
  assert list(report.results["chamfer"]) == ["DSVR", "ISVR"] and report.shown == "ISVR"


def test_rankings_leave_out_query_and_missing_and_keep_ties_in_order(descriptors):
  same = {name: np.eye(6, dtype=np.float32)[np.zeros(n, int)] for name, n in LENGTHS.items()}
  report = make(make_data(), same, block=2).report(retrieval.mean_pool)
  rows = list(retrieval.rankings(report, "chamfer"))
  q1 = [row for row in rows if row[0] == "q1"]
  assert [row[2] for row in q1] == ["a", "b", "c", "d", "long", "e"]
  assert [row[1] for row in q1] == [1, 2, 3, 4, 5, 6]
  assert [row[3] for row in q1] == [1] * 6
  assert [row[2] for row in rows if row[0] == "q2"] == ["a", "q1", "b", "c", "d", "long", "e"]
  assert not [row for row in rows if row[0] == "q4"]
  assert len(list(retrieval.rankings(report, "cosine", top=2))) == 6

  report = make(make_data(), descriptors).report(retrieval.mean_pool)
  twin = twin_scores(descriptors)["chamfer"]["q2"]
  assert [video for video, _ in report.ranked("q2", "chamfer")] == reference.ranked(twin)


def test_label_is_the_strongest(descriptors):
  data = make_data(annotation={"q1": {"IS": ["a", "b"], "ND": ["a"]}})
  report = make(data, descriptors).report(retrieval.mean_pool)
  assert [report.label("q1", v) for v in "abc"] == ["ND", "IS", "distractor"]


def test_frames_find_a_part_where_the_mean_finds_what_looks_like_the_mean(descriptors):
  part = descriptors["q3"][30:35]
  found = descriptors | {"part": part, "alike": np.tile(part.mean(0), (5, 1))}
  data = make_data(["part"], ["a", "alike", "b", "q3"], {"part": {"ND": ["q3"]}})
  report = make(data, found).report(retrieval.mean_pool)
  assert report.numbers["DSVR/chamfer"] == 1.0 and report.numbers["DSVR/cosine"] < 1.0
  assert [report.ranked("part", name)[0] for name in ("chamfer", "cosine")] == [
    ("q3", pytest.approx(1)), ("alike", pytest.approx(1))]


def test_frame_matrix_is_without_padding(descriptors):
  evaluator = make(make_data(), descriptors)
  got = evaluator.frame_matrix(retrieval.mean_pool, "q2", "c")
  x, y = (descriptors[i] / np.linalg.norm(descriptors[i], axis=1, keepdims=True)
          for i in ("q2", "c"))
  np.testing.assert_allclose(got, x @ y.T, atol=1e-6)
  assert evaluator.frame_matrix(retrieval.mean_pool, "e", "e").shape == (3, 3)
  with pytest.raises(ValueError, match="'lost' has no descriptor"):
    evaluator.frame_matrix(retrieval.mean_pool, "q2", "lost")


def test_mean_pool_ignores_padding():
  rng = np.random.default_rng(1)
  x = rng.standard_normal((2, 4, 3)).astype(np.float32)
  x[0, 2:] = np.nan
  got = retrieval.mean_pool({"x": x, "length": np.array([2, 9], np.int32)})
  for row, valid in zip((0, 1), (x[0, :2], x[1]), strict=True):
    mean = valid.mean(0)
    np.testing.assert_allclose(got["video"][row], mean / np.linalg.norm(mean), atol=1e-6)
    unit = valid / np.linalg.norm(valid, axis=1, keepdims=True)
    np.testing.assert_allclose(got["frames"][row, :len(valid)], unit, atol=1e-6)
  assert not got["frames"][0, 2:].any()


def spoiled(change):
  def embed(inputs):
    out = retrieval.mean_pool(inputs)
    return {key: change(key, value, inputs) for key, value in out.items()}
  return embed


def test_a_blank_frame_is_allowed(descriptors):
  descriptors["a"][2] = 0
  report = make(make_data(), descriptors).report(retrieval.mean_pool)
  assert np.isfinite(report.scores["chamfer"][0, 0])


@pytest.mark.parametrize(("change", "words"), [
  (lambda k, v, i: v * 3 if k == "frames" else v, r"'.*' have norms up to 3"),
  (lambda k, v, i: np.where(i["length"][:, None] == 12, np.nan, v) if k == "video" else v,
   "embedding of 'q2' isn't finite"),
  (lambda k, v, i: v[:, :2] if k == "frames" else v, r"\[B, S, D\] and up to S"),
  (lambda k, v, i: v[0] if k == "frames" else v, r"should be \[B, D\], \[B, S, D\]"),
])
def test_a_wrong_embedding_is_refused(descriptors, change, words):
  with pytest.raises(ValueError, match=words):
    make(make_data(), descriptors)(spoiled(change))


@pytest.mark.parametrize(("name", "value", "words"), [
  ("c", np.full((3, 6), np.inf), "descriptors of 'c' should be finite"),
  ("c", np.zeros(6), r"descriptors of 'c' should be finite \[T, D\], are \(6,\)"),
  ("c", np.ones((9, 5)), "has 6 features|has 5 features"),
])
def test_wrong_descriptors_are_refused(descriptors, name, value, words):
  with pytest.raises(ValueError, match=words):
    make(make_data(), descriptors | {name: value})(retrieval.mean_pool)


def test_an_embedding_without_frames_is_refused(descriptors):
  with pytest.raises(ValueError, match=r"embed gave \['video'\]"):
    make(make_data(), descriptors)(lambda x: {"video": retrieval.mean_pool(x)["video"]})


def test_wrong_arguments_are_refused(descriptors):
  with pytest.raises(ConfigError, match="chamfr"):
    make(make_data(), descriptors, similarities=("chamfr",))
  with pytest.raises(ConfigError, match="block=0"):
    make(make_data(), descriptors, block=0)
  with pytest.raises(ValueError, match="none of ND, DS, CS, IS, DA: nothing"):
    make(make_data(annotation={"q1": {"XX": ["a"], "DA": []}}), descriptors)
  with pytest.raises(ValueError, match="no query is there: nothing to evaluate"):
    make(make_data(queries=[]), descriptors)
  with pytest.raises(ValueError, match="twice among the database"):
    make(make_data(database=["a", "a"]), descriptors)
  with pytest.raises(ValueError, match=r"no descriptor.*q4"):
    make(make_data(queries=["q4"]), descriptors)(retrieval.mean_pool)
