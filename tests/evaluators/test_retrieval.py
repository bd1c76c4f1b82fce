import collections
import types

import numpy as np
import pytest

from tests.reference import retrieval as reference
from vssl_jax.evaluators import learned, retrieval
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


def weighed(inputs):
  """The mean's embedding, frames weighing what their first number says; padding counts for most."""
  valid = np.arange(inputs["x"].shape[1]) < inputs["length"][:, None]
  return retrieval.mean_pool(inputs) | {
      "weights": np.where(valid, 1 / (1 + np.exp(-2 * inputs["x"][..., 0])), 9.0)}


def test_frames_count_by_the_weights_that_an_embedding_gives(descriptors):
  names = ("chamfer", "symmetric_chamfer", "two_stage")
  evaluator = make(make_data(), descriptors, similarities=names)
  report, even = (evaluator.report(embed) for embed in (weighed, retrieval.mean_pool))

  def one(x, y):
    x, y = np.float64(x), np.float64(y)
    weights = 1 / (1 + np.exp(-2 * x[:, 0]))
    x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    return weights @ (x @ y.T).max(axis=1) / weights.sum()

  for i, q in enumerate(QUERIES[:3]):
    for j, t in enumerate(DATABASE):
      if t in LENGTHS:
        forward = one(descriptors[q], descriptors[t])
        both = (forward + one(descriptors[t], descriptors[q])) / 2
        np.testing.assert_allclose([report.scores[name][i, j] for name in names],
                                   [forward, both, forward], atol=1e-6)
  assert np.nanmax(np.abs(report.scores["chamfer"] - even.scores["chamfer"])) > 0.02


def test_half_precision_is_near_and_spares_cosine_and_two_stages(descriptors):
  names = ("cosine", "chamfer", "symmetric_chamfer", "two_stage")
  half, full = (make(make_data(), descriptors, similarities=names, dtype=dtype).report(weighed)
                for dtype in ("bfloat16", "float32"))
  for name in ("cosine", "two_stage"):
    np.testing.assert_array_equal(half.scores[name], full.scores[name])
  for name in ("chamfer", "symmetric_chamfer"):
    assert half.scores[name].dtype == np.float32
    assert 0 < np.nanmax(np.abs(half.scores[name] - full.scores[name])) < 0.01


def total(x):
  """What a learned score may read, as one vector a video."""
  inside = np.arange(x["frames"].shape[1]) < x["length"][:, None]
  return x["video"] * x["length"][:, None] + (x["frames"] * inside[..., None]).sum(axis=1)


SCORE = learned.Score(("a", "b"), lambda q, t: {"a": total(q) @ total(t).T,
                                                "b": -total(q) @ total(t).T})


def test_a_learned_score_is_measured_beside_the_others(descriptors):
  report = make(make_data(), descriptors, similarities=("chamfer",)).report(
      retrieval.mean_pool, SCORE)
  assert list(report.scores) == list(report.results) == ["chamfer", "a", "b"]
  one = {i: total(retrieval.mean_pool({"x": x[None], "length": np.int32([len(x)])}))[0]
         for i, x in descriptors.items() if len(x)}
  for i, q in enumerate(QUERIES):
    for j, t in enumerate(DATABASE):
      want = one[q] @ one[t] if {q, t} <= one.keys() else np.nan
      np.testing.assert_allclose(report.scores["a"][i, j], want, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(report.scores["b"], -report.scores["a"])
  best = [i for i, _ in report.ranked("q2", "a")]
  assert [i for i, _ in report.ranked("q2", "b")] == best[::-1] and len(best) == 7


class Stop(Exception):
  pass


@pytest.mark.parametrize("calls", [2, 4, 8])
def test_an_interrupted_report_goes_on_in_its_folder_and_ends_equal(descriptors, tmp_path, calls):
  """Embedding is cut short at one of its calls: 3, a query each, then 7, a database video each."""
  evaluator, seen = make(make_data(), descriptors, block=1), []
  want = evaluator.report(weighed, SCORE)

  def embed(inputs):
    seen.append(inputs)
    if len(seen) == calls:
      raise Stop
    return weighed(inputs)

  with pytest.raises(Stop):
    evaluator.report(embed, SCORE, tmp_path, {"step": 1})
  for left in (10 - max(0, calls - 4), 3):  # what was embedded of the database is not again
    seen[:] = [None] * calls
    got = evaluator.report(embed, SCORE, tmp_path, {"step": 1})
    assert len(seen) - calls == left
    assert got.numbers == want.numbers and got.missing == want.missing
    for name, scores in want.scores.items():
      np.testing.assert_array_equal(got.scores[name], scores)
  with pytest.raises(ConfigError, match="something else"):
    evaluator.report(embed, SCORE, tmp_path, {"step": 2})


def test_a_folder_follows_videos_that_can_be_read_later_and_what_is_kept_of_them(descriptors,
                                                                                tmp_path):
  make(make_data(), descriptors).report(weighed, folder=tmp_path)
  more = descriptors | {"lost": descriptors["long"][:30] + 1}
  got = make(make_data(), more).report(weighed, folder=tmp_path)
  want = make(make_data(), more).report(weighed)
  for name, scores in want.scores.items():
    np.testing.assert_allclose(got.scores[name], scores, atol=1e-6)
  with pytest.raises(ConfigError, match="something else"):
    make(make_data(), descriptors, similarities=("cosine",)).report(weighed, folder=tmp_path)


@pytest.mark.parametrize(("weights", "words"), [
    (lambda i: np.ones(len(i["length"])), r"embed gave weights \(\d,\) for frames"),
    (lambda i: np.full(i["x"].shape[:2], np.nan), "the frame weights of '.*' should be finite"),
    (lambda i: np.zeros(i["x"].shape[:2]), "should be finite, at least 0 and not all 0")])
def test_wrong_frame_weights_are_refused(descriptors, weights, words):
  with pytest.raises(ValueError, match=words):
    make(make_data(), descriptors)(lambda i: retrieval.mean_pool(i) | {"weights": weights(i)})


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
