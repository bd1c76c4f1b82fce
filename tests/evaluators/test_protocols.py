import types

import numpy as np
import pytest

from tests.reference import retrieval as reference
from vssl_jax.evaluators import protocols, retrieval

N = 24
DATABASE = [f"v{i:02d}" for i in range(N)]
QUERIES = ["q0", "q1", "v03", "lost"]  # one of them is in the database, one is missing
MISSING = ("lost", "v05", "v11", "v17")
AVAILABLE = {*QUERIES, *DATABASE}.difference(MISSING)
SIMILARITIES = ("cosine", "chamfer")


@pytest.fixture
def scores():
  """Few different values, so that there are ties; both signs; nan where a video is missing."""
  rng = np.random.default_rng(0)
  x = np.round(rng.standard_normal((2, len(QUERIES), N)), 1).astype(np.float32)
  x[:, QUERIES.index("lost")] = np.nan
  x[:, :, [DATABASE.index(i) for i in MISSING if i in DATABASE]] = np.nan
  return dict(zip(SIMILARITIES, x, strict=True))


def twin(scores):
  """query -> video -> score, of those that are there."""
  return {q: {v: float(s) for v, s in zip(DATABASE, row, strict=True) if v in AVAILABLE}
          for q, row in zip(QUERIES, scores, strict=True) if q in AVAILABLE}


def draw(labels, seed):
  """Query -> label -> ids, some of them missing or in no database."""
  rng = np.random.default_rng(seed)
  names = [*DATABASE, "#gone"]
  return {q: {label: sorted(rng.choice(names, 4, replace=False).tolist()) for label in labels}
          for q in QUERIES}


def evaluate(protocol, scores, annotation, **args):
  results = {name: protocols.measure(protocol, s, QUERIES, DATABASE, AVAILABLE,
                                     {"annotation": annotation, **args})
             for name, s in scores.items()}
  return retrieval.Report(tuple(QUERIES), tuple(DATABASE), annotation, scores, results, MISSING,
                          protocol)


def mean(values):
  return sum(values) / len(values)


def curve(kept, relevant):
  return reference.interpolated(kept, relevant)


@pytest.mark.parametrize("micro", [False, True])
def test_fivr(scores, micro):
  annotation = draw(("ND", "DS", "CS", "IS", "DA"), 1)
  annotation["q1"] = {"ND": ["v05"], "DA": []}  # missing: q1 is skipped
  report = evaluate("fivr", scores, annotation, micro=micro)
  labels = {"DSVR": ("ND", "DS"), "CSVR": ("ND", "DS", "CS"), "ISVR": ("ND", "DS", "CS", "IS"),
            "DAVR": ("DA",)}
  curves = protocols.mean_curves(report)
  assert list(curves) == list(labels)
  for name, found in report.results.items():
    assert set(found) == set(labels) | ({"DSVD", "CSVD", "ISVD", "DAVD"} if micro else set())
    given = twin(scores[name])
    for task, own in labels.items():
      values, skipped = reference.fivr(given, annotation, own, AVAILABLE)
      assert found[task].per_query == pytest.approx(values, abs=1e-12)
      assert list(found[task].skipped) == skipped == ["q1"]
      relevant = {q: {i for label in own for i in annotation[q].get(label, ())} for q in QUERIES}
      if micro:
        want = reference.micro(given, {q: relevant[q] for q in given}, AVAILABLE)
        assert found[f"{task[:-1]}D"].mean == pytest.approx(want, abs=1e-12)
      zeros = {q: dict.fromkeys(AVAILABLE - given[q].keys() | {q}, 0.0) for q in given}
      want = [curve({v: s for v, s in given[q].items() if v != q} | zeros[q],
                    relevant[q] & AVAILABLE) for q in ("q0", "v03")]
      np.testing.assert_allclose(curves[task][name], np.mean(want, axis=0), atol=1e-12)


def test_vcdb(scores):
  annotation = draw(("DS",), 2)
  annotation["v03"]["DS"].append("v03")  # never its own partner
  report = evaluate("vcdb", scores, annotation)
  curves = protocols.mean_curves(report)
  assert list(curves) == ["VCDB"]
  for name, found in report.results.items():
    given, partners = twin(scores[name]), {q: set(annotation[q]["DS"]) for q in QUERIES}
    values, _ = reference.fivr(given, annotation, ("DS",), AVAILABLE, count_query=False)
    assert found["VCDB"].per_query == pytest.approx(values, abs=1e-12) and len(values) == 3
    want = reference.micro(given, {q: partners[q] for q in given}, AVAILABLE)
    assert found["VCDB_micro"].mean == pytest.approx(want, abs=1e-12)
    want = [curve({v: s for v, s in given[q].items() if v != q}, (partners[q] - {q}) & AVAILABLE)
            for q in given]
    np.testing.assert_allclose(curves["VCDB"][name], np.mean(want, axis=0), atol=1e-12)
    assert f"VCDB_micro/{name}" in report.numbers and f"VCDB_micro/{name}" not in report.intervals
    low, high = report.intervals[f"VCDB/{name}"]
    assert low < report.numbers[f"VCDB/{name}"] < high


def test_evve(scores):
  drawn = draw(("x",), 3)
  positives = {"a party": [i for i in drawn["q0"]["x"] if i != "v03"], "storm": drawn["q1"]["x"]}
  event_of = {"q0": "storm", "q1": "a party", "v03": "a party", "lost": "storm"}
  annotation = {q: {event: positives[event]} for q, event in event_of.items()}
  report = evaluate("evve", scores, annotation)
  for name, found in report.results.items():
    given = {q: {v: s for v, s in row.items() if v != q} for q, row in twin(scores[name]).items()}
    values, events = reference.evve(given, event_of, positives, AVAILABLE)
    assert found["EVVE"].per_query == pytest.approx(values, abs=1e-12)
    assert found["EVVE"].per_event == pytest.approx(events, abs=1e-12)
    assert found["EVVE"].mean == pytest.approx(mean(values.values()))
    want = [curve(given[q], set(positives[event_of[q]]) & AVAILABLE) for q in given]
    np.testing.assert_allclose(protocols.mean_curves(report)["EVVE"][name],
                               np.mean(want, axis=0), atol=1e-12)


def test_cc_web_video_counts_what_is_missing(scores):
  annotation = draw(("E", "V", "X"), 4)
  annotation["v03"]["E"] = ["v03"]  # the query itself is ranked and counts
  for q, entry in annotation.items():  # a video has one letter
    entry["V"] = sorted({*entry["V"]} - {*entry["E"]})
    entry["X"] = sorted({*entry["X"]} - {*entry["E"], *entry["V"]})
    entry["excluded"] = [*entry["V"][:1], *entry["X"][:2]] if q != "q1" else []
  report = evaluate("cc_web_video", scores, annotation)
  curves = protocols.mean_curves(report)
  names = ["cc_web", "cc_web_star", "cc_web_c", "cc_web_c_star"]
  assert list(curves) == names
  for name, found in report.results.items():
    given = twin(scores[name])
    labels = {q: {i: letter for letter in "EVX" for i in annotation[q][letter]} for q in given}
    want = reference.cc_web_video(given, labels, {q: annotation[q]["excluded"] for q in given})
    assert [found[task].mean for task in names] == pytest.approx(want, abs=1e-12)
    assert list(found["cc_web"].per_query) == ["q0", "q1", "v03"]
    for task in names:
      rows = []
      for q in given:
        out = set(annotation[q]["excluded"]) if task in names[2:] else set()
        kept = {v: s for v, s in given[q].items()
                if v not in out and ("star" in task or v in labels[q])}
        rows.append(curve(kept, {*annotation[q]["E"], *annotation[q]["V"]} - out))
      np.testing.assert_allclose(curves[task][name], np.mean(rows, axis=0), atol=1e-12)
      assert curves[task][name][-1] < 1  # the missing ones can't be found
  assert report.label("q0", annotation["q0"]["V"][0]) == "V"
  assert report.label("q0", annotation["q0"]["X"][0]) == retrieval.DISTRACTOR


def test_labels_are_the_strongest_or_the_event():
  entry = {"IS": ["a", "b"], "ND": ["a"], "DA": ["c", "b"]}
  assert [protocols.label("fivr", entry, v) for v in "abcd"] == ["ND", "IS", "DA", None]
  assert protocols.relevant("fivr", entry) == {"a", "b", "c"}
  assert protocols.label("evve", {"a storm": ["a"]}, "a") == "a storm"
  assert protocols.label("vcdb", {"DS": ["a"]}, "b") is None
  assert protocols.relevant("cc_web_video", {"X": ["a"], "L": ["b"], "excluded": ["c"]}) == {"b"}


def test_no_available_partner_is_no_number(scores):
  report = evaluate("vcdb", scores, {q: {"DS": ["v05"]} for q in QUERIES})
  result = report.results["cosine"]
  assert np.isnan(result["VCDB"].mean) and np.isnan(result["VCDB_micro"].mean)
  assert report.intervals == {} and protocols.mean_curves(report) == {}


@pytest.mark.parametrize(("protocol", "annotation", "words"), [
  ("fvr", {"q": {"ND": ["a"]}}, "protocol 'fvr' is unknown; there are fivr, vcdb, evve, cc_web_"),
  ("fivr", {"q": {"E": ["a"]}}, "none of ND, DS, CS, IS, DA: nothing to evaluate by .* 'fivr'"),
  ("vcdb", {"q": {"ND": ["a"]}}, "query 'q' should have partners under the label DS"),
  ("vcdb", {}, "query 'q' should have partners"),
  ("evve", {"q": {"storm": ["a"], "party": ["b"]}}, "query 'q' should belong to one event"),
  ("cc_web_video", {"q": {"ND": ["a"]}}, "query 'q' should have labels E, S, V, M, L"),
  ("cc_web_video", {"q": {"X": ["a"], "excluded": []}}, "query 'q' should have labels E"),
])
def test_data_of_another_protocol_are_refused(protocol, annotation, words):
  data = types.SimpleNamespace(queries=["q"], database=["a"], annotation=annotation,
                               protocol=protocol)
  with pytest.raises(ValueError, match=words):
    retrieval.make(data, {}, progress=False)


def test_the_evaluator_measures_by_the_protocol_of_its_data():
  rng = np.random.default_rng(5)
  x = {i: rng.standard_normal((4, 6)).astype(np.float32) for i in ("q", "a", "b", "c")}
  data = types.SimpleNamespace(queries=["q", "gone"], database=["a", "b", "c", "lost"],
                               annotation={"q": {"storm": ["b", "lost"]}, "gone": {"party": ["a"]}},
                               protocol="evve", protocol_args={})
  report = retrieval.make(data, x, progress=False).report(retrieval.mean_pool)
  assert report.missing == ("gone", "lost") and report.shown == "EVVE"
  rank = [v for v, _ in report.ranked("q", "chamfer")].index("b")
  want = reference.trapezoid([v for v, _ in report.ranked("q", "chamfer")], {"b"}, 1)
  assert report.numbers["EVVE/chamfer"] == pytest.approx(want)
  assert report.intervals["EVVE/chamfer"] == (pytest.approx(want),) * 2
  assert [row[3] for row in retrieval.rankings(report, "chamfer")] == sorted(
    (row[3] for row in retrieval.rankings(report, "chamfer")), reverse=True)
  assert report.label("q", report.ranked("q", "chamfer")[rank][0]) == "storm"
