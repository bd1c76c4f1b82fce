import math

import numpy as np
import pytest

from tests.reference import retrieval as reference
from vssl_jax.metrics import average_precision as ap
from vssl_jax.metrics import retrieval

# Scores 9 8 7 6 5 and relevant items at ranks 1, 3 and 5.
SCORES = np.array([7.0, 9.0, 5.0, 8.0, 6.0])
RELEVANT = np.array([True, True, True, False, False])


def ranks(scores, relevant):
  return ap.relevant_ranks(np.asarray(scores), np.asarray(relevant, bool))


# One ranked list


def test_ranks_are_zero_based_and_ascending():
  assert ranks(SCORES, RELEVANT).tolist() == [0, 2, 4]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32, np.uint8])
def test_ties_keep_their_order(dtype):
  scores = np.array([1, 2, 1, 2, 1], dtype)
  assert ap.ranking(scores).tolist() == [1, 3, 0, 2, 4]


def test_average_precision_by_hand():
  want = (1 / 1 + 2 / 3 + 3 / 5) / 3
  assert ap.average_precision(np.array([0, 2, 4])) == pytest.approx(want, abs=1e-15)
  # A fourth relevant item that the system failed to return adds 0.
  assert ap.average_precision(np.array([0, 2, 4]), 4) == pytest.approx(want * 3 / 4, abs=1e-15)
  assert ap.average_precision(np.array([], int), 2) == 0.0


def test_trapezoid_by_hand():
  # k = 0 at rank 0: (1 + 1)/2; k = 1 at rank 2: (1/2 + 2/3)/2; k = 2 at rank 4: (2/4 + 3/5)/2.
  want = (1 + (1 / 2 + 2 / 3) / 2 + (2 / 4 + 3 / 5) / 2) / 3
  assert ap.trapezoid_average_precision(np.array([0, 2, 4])) == pytest.approx(want, abs=1e-15)
  # The first at rank 2 starts from precision 0, not 1.
  assert ap.trapezoid_average_precision(np.array([2])) == pytest.approx(1 / 6, abs=1e-15)


def test_interpolated_precision_by_hand():
  got = ap.interpolated_precision(SCORES, RELEVANT, points=5)  # recall 0, 1/4, 1/2, 3/4, 1
  np.testing.assert_allclose(got, [1, 1, 2 / 3, 3 / 5, 3 / 5], atol=1e-15)
  # Precision rises again further down: the curve takes the best that is still to come.
  got = ap.interpolated_precision(-np.arange(5.0), np.array([0, 0, 1, 1, 1], bool), points=3)
  np.testing.assert_allclose(got, [1, 3 / 5, 3 / 5], atol=1e-15)
  # Ties are one point: both at once give precision 1/2.
  got = ap.interpolated_precision(np.zeros(2), np.array([True, False]), points=2)
  np.testing.assert_allclose(got, [1, 0.5], atol=1e-15)


@pytest.mark.parametrize("measure", [ap.average_precision, ap.trapezoid_average_precision])
def test_a_perfect_list_has_one_and_no_relevant_item_is_refused(measure):
  assert measure(np.arange(7)) == pytest.approx(1, abs=1e-15)
  with pytest.raises(ValueError, match="no relevant item"):
    measure(np.array([], int))
  with pytest.raises(ValueError, match="n_relevant is 1"):
    measure(np.arange(2), 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(bad):
  with pytest.raises(ValueError, match="position 1"):
    ap.ranking(np.array([0.0, bad, 1.0]))
  with pytest.raises(ValueError, match="row of numbers"):
    ap.ranking(np.zeros((2, 2)))
  with pytest.raises(ValueError, match="bool"):
    ap.relevant_ranks(np.zeros(2), np.zeros(2, int))


def test_single_lists_against_the_twin():
  rng = np.random.default_rng(0)
  for _ in range(50):
    n = int(rng.integers(2, 40))
    scores = rng.integers(0, 8, n) / 8  # many ties
    relevant = rng.random(n) < 0.4
    relevant[rng.integers(n)] = True
    by_id = dict(enumerate(scores))
    ids, extra = set(np.flatnonzero(relevant)), int(rng.integers(0, 3))
    order, total = reference.ranked(by_id), len(ids) + extra
    at = ranks(scores, relevant)
    assert ap.average_precision(at, total) == pytest.approx(
      reference.average_precision(order, ids, total), abs=1e-14)
    assert ap.trapezoid_average_precision(at, total) == pytest.approx(
      reference.trapezoid(order, ids, total), abs=1e-14)
    np.testing.assert_allclose(ap.interpolated_precision(scores, relevant),
                               reference.interpolated(by_id, ids), atol=1e-14)


# FIVR

DATABASE = ["q1", "a", "b", "c", "d", "e"]
ANNOTATION = {"q1": {"ND": ["a"], "DS": ["c", "gone"], "IS": ["e", "q1"], "DA": ["b"]},
              "q2": {"CS": ["d"]}}
#                      q1   a    b    c    d    e
FIVR = np.array([[9.0, 5.0, 8.0, 7.0, 6.0, 4.0],
                 [1.0, 5.0, 4.0, 3.0, 2.0, 6.0]])


def test_fivr_by_hand():
  got = retrieval.fivr(FIVR, ["q1", "q2"], DATABASE, ANNOTATION)
  # q1 leaves its own ranking: b c d a e. DSVR {a, c}: ranks 2 and 4; "gone" isn't available.
  dsvr = (1 / 2 + 2 / 4) / 2
  assert got["DSVR"].per_query == pytest.approx({"q1": dsvr})
  assert got["DSVR"].skipped == ("q2",) and got["DSVR"].mean == pytest.approx(dsvr)
  # q2: e a b c d q1, CS {d} at rank 5.
  assert got["CSVR"].per_query == pytest.approx({"q1": dsvr, "q2": 1 / 5})
  assert got["CSVR"].mean == pytest.approx((dsvr + 1 / 5) / 2)
  # ISVR of q1 {a, c, e} and itself, which is never ranked and still counts: P = 4.
  isvr = (1 / 2 + 2 / 4 + 3 / 5) / 4
  assert got["ISVR"].per_query["q1"] == pytest.approx(isvr)
  assert got["DAVR"].per_query == pytest.approx({"q1": 1.0})
  without = retrieval.fivr(FIVR, ["q1", "q2"], DATABASE, ANNOTATION, count_query=False)
  assert without["ISVR"].per_query["q1"] == pytest.approx(isvr * 4 / 3)
  assert without["DSVR"].per_query == got["DSVR"].per_query


def test_fivr_unavailable_videos_take_no_rank_and_are_named():
  available = {"q1", "q2", "a", "d", "e", "c"}  # no b
  got = retrieval.fivr(FIVR, ["q1", "q2"], DATABASE, ANNOTATION, available=available)["DSVR"]
  assert got.per_query["q1"] == pytest.approx((1 + 2 / 3) / 2)  # c d a e
  assert got.unavailable == ("b",)
  # A relevant one that isn't there doesn't count; one that is there without a result does.
  got = retrieval.fivr(FIVR[:1], ["q1"], DATABASE, ANNOTATION,
                       available=set(DATABASE) - {"c"})["DSVR"]
  assert got.per_query["q1"] == pytest.approx(1 / 3)  # b d a e
  returned = np.array([[True, True, True, False, True, True]])
  got = retrieval.fivr(FIVR[:1], ["q1"], DATABASE, ANNOTATION, returned=returned)["DSVR"]
  assert got.per_query["q1"] == pytest.approx(1 / 3 / 2)


def test_fivr_relevant_videos_outside_the_database_count_when_they_exist():
  got = retrieval.fivr(FIVR[:1], ["q1"], DATABASE, ANNOTATION,
                       available={*DATABASE, "gone"})["DSVR"]
  assert got.per_query["q1"] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_fivr_ties_keep_the_order_of_the_database():
  flat = np.zeros((1, 6), np.float32)
  got = retrieval.fivr(flat, ["q1"], DATABASE, ANNOTATION)["DSVR"]
  assert got.per_query["q1"] == pytest.approx((1 + 2 / 3) / 2)  # a b c d e


def test_fivr_no_query_to_use_gives_nan_and_says_so():
  got = retrieval.fivr(FIVR[1:], ["q2"], DATABASE, ANNOTATION)["DSVR"]
  assert math.isnan(got.mean) and got.skipped == ("q2",) and got.per_query == {}


def test_scores_without_result_are_ignored_and_others_must_be_finite():
  scores = FIVR.copy()
  scores[1, 3] = np.nan
  with pytest.raises(ValueError, match=r"query 'q2': the score of 'c' is nan"):
    retrieval.fivr(scores, ["q1", "q2"], DATABASE, ANNOTATION)
  got = retrieval.fivr(scores, ["q1", "q2"], DATABASE, ANNOTATION, returned=~np.isnan(scores))
  assert got["CSVR"].per_query["q2"] == pytest.approx(1 / 4)


def test_tables_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match=r"\(2, 6\) for 1 queries and 6 videos"):
    retrieval.fivr(FIVR, ["q1"], DATABASE, ANNOTATION)
  with pytest.raises(ValueError, match="returned is"):
    retrieval.fivr(FIVR, ["q1", "q2"], DATABASE, ANNOTATION, returned=np.ones(6, bool))
  with pytest.raises(ValueError, match="occurs twice"):
    retrieval.fivr(FIVR, ["q1", "q2"], [*DATABASE[:5], "a"], ANNOTATION)


def test_precision_recall_by_hand():
  # Two relevant, one of them without a result: with score 0 it comes after "a" and "b", level with
  # the query itself, so at rank 4 of 4.
  scores, returned = np.array([[3.0, 2.0, 1.0, 9.0]]), np.array([[True, True, False, True]])
  got = retrieval.precision_recall(scores, ["q"], ["a", "b", "c", "q"], {"q": ["a", "c"]},
                                   returned=returned, points=3)
  np.testing.assert_allclose(got["q"], [1, 1, 2 / 4], atol=1e-15)
  assert retrieval.precision_recall(scores, ["q"], ["a", "b", "c", "q"], {"q": ["elsewhere"]}) == {}


# The others


def test_vcdb_by_hand():
  database, partners = ["a", "b", "c", "x"], {"a": ["b", "c"], "b": ["a"]}
  scores = np.array([[9.0, 3.0, 1.0, 2.0], [4.0, 9.0, 5.0, 1.0]])
  got = retrieval.vcdb(scores, ["a", "b"], database, partners)
  assert got.per_query == pytest.approx({"a": (1 + 2 / 3) / 2, "b": 1 / 2})
  released = retrieval.vcdb(scores, ["a", "b"], database, partners, count_query=True)
  assert released.per_query == pytest.approx({"a": (1 + 2 / 3) / 3, "b": 1 / 4})
  # One list: (a b) 3, (a x) 2, (a c) 1, (b c) 5, (b a) 4, (b x) 1 -> bc ba ab ax ac bx.
  micro = retrieval.micro_average_precision(scores, ["a", "b"], database, partners)
  assert micro == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)


def test_evve_by_hand():
  database = ["a", "b", "c", "d"]
  event_of, positives = {"q1": "X", "q2": "X", "q3": "Y"}, {"X": ["a", "c"], "Y": ["d"], "Z": ["b"]}
  scores = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
  got = retrieval.evve(scores, ["q1", "q2", "q3"], database, event_of, positives)
  q1 = (1 + (1 / 2 + 2 / 3) / 2) / 2
  q2 = ((0 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2
  assert got.per_query == pytest.approx({"q1": q1, "q2": q2, "q3": 1.0})
  assert got.mean == pytest.approx((q1 + q2 + 1) / 3)  # over queries, not over events
  assert got.per_event == pytest.approx({"X": (q1 + q2) / 2, "Y": 1.0})
  got = retrieval.evve(scores, ["q1", "q2", "q3"], database, event_of, positives,
                       available={"q1", "q2", "q3", "a", "b", "c"})
  assert got.skipped == ("q3",) and got.unavailable == ("d",)
  assert got.per_query["q2"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)


def test_cc_web_video_by_hand():
  database = ["q", "a", "b", "c", "x"]
  labels = {"q": {"q": "E", "a": "S", "b": "X", "c": "L", "#7": "M"}}
  scores = np.array([[9.0, 5.0, 7.0, 4.0, 6.0]])
  got = retrieval.cc_web_video(scores, ["q"], database, labels, {"q": ["b", "c"]})
  # The query counts; "#7" isn't in the database and still counts: P = 4.
  assert {name: result.mean for name, result in got.items()} == pytest.approx({
    "cc_web": (1 + 2 / 3 + 3 / 4) / 4,  # q b a c
    "cc_web_star": (1 + 2 / 4 + 3 / 5) / 4,  # q b x a c
    "cc_web_c": (1 + 2 / 2) / 3,  # q a; c has left P
    "cc_web_c_star": (1 + 2 / 3) / 3,  # q x a
  })


def test_a_lower_case_x_is_negative():
  got = retrieval.cc_web_video(np.array([[2.0, 1.0]]), ["q"], ["q", "a"],
                               {"q": {"q": "E", "a": "x"}}, {})
  assert got["cc_web_star"].mean == 1.0


def random_table(rng):
  database = [f"v{i}" for i in range(30)]
  queries = ["v3", "u1", "u2", "v8"]
  scores = rng.integers(0, 12, (4, 30)) / 4
  returned = rng.random((4, 30)) < 0.9
  available = {i for i in [*database, *queries, "w"] if rng.random() < 0.85} | set(queries)
  results = {q: {v: scores[r, c] for c, v in enumerate(database) if returned[r, c]}
             for r, q in enumerate(queries)}
  names = [*database, "w", "nowhere"]
  def some(n):
    return list(rng.choice(names, n, replace=False))
  return (scores, queries, database), dict(available=available, returned=returned), results, some


@pytest.mark.parametrize("seed", range(10))
def test_protocols_against_the_twins(seed):
  rng = np.random.default_rng(seed)
  table, options, results, some = random_table(rng)
  queries, available = table[1], options["available"]
  annotation = {q: {label: some(int(rng.integers(0, 5))) for label in ("ND", "DS", "CS", "IS")}
                for q in queries}
  annotation["v3"]["IS"].append("v3")
  for count_query in (True, False):
    got = retrieval.fivr(*table, annotation, count_query=count_query, **options)
    for task, labels in retrieval.TASKS.items():
      values, skipped = reference.fivr(results, annotation, labels, available, count_query)
      assert got[task].per_query == pytest.approx(values, abs=1e-14)
      assert list(got[task].skipped) == skipped

  relevant = {q: some(6) for q in queries}
  assert retrieval.micro_average_precision(*table, relevant, **options) == pytest.approx(
    reference.micro(results, relevant, available), abs=1e-14)

  positives = {"X": some(7), "Y": some(3)}
  events = ["e1", "e2", "e3", "e4"]  # EVVE's queries are never in the database
  event_of = dict(zip(events, "XXYX", strict=True))
  got = retrieval.evve(table[0], events, table[2], event_of, positives, **options)
  values, groups = reference.evve(dict(zip(events, results.values(), strict=True)), event_of,
                                  positives, available)
  assert got.per_query == pytest.approx(values, abs=1e-14)
  assert got.per_event == pytest.approx(groups, abs=1e-14)

  letters = {q: {v: str(rng.choice(list("ESVMLXx"))) for v in some(15)} | {q: "E"}
             for q in queries}
  excluded = {q: [v for v in some(4) if v != q] for q in queries}
  got = retrieval.cc_web_video(*table, letters, excluded, returned=options["returned"])
  assert [got[name].mean for name in retrieval.CC_WEB_NUMBERS] == pytest.approx(
    reference.cc_web_video(results, letters, excluded), abs=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_curves_against_the_twin(seed):
  table, options, results, some = random_table(np.random.default_rng(100 + seed))
  queries, available = table[1], options["available"]
  relevant = {q: some(5) for q in queries}
  got = retrieval.precision_recall(*table, relevant, **options)
  for query, scores in results.items():
    wanted = {v for v in relevant[query] if v in available}
    # Every available video that has no result, and the query, enters with 0.
    filled = dict.fromkeys(available, 0.0)
    filled |= {v: s for v, s in scores.items() if v in available and v != query}
    np.testing.assert_allclose(got[query], reference.interpolated(filled, wanted), atol=1e-14)
