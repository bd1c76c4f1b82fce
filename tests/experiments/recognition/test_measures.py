"""Results of evaluations against numbers by hand, on features of a few videos."""

import ml_collections
import numpy as np
import pytest

from experiments.recognition import measures
from vssl_jax.evaluators import tracking, uncertainty
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.types import ConfigError

KEY = "evals.x.name"


def args(**values):
  return ml_collections.ConfigDict(values)


def part(directions, labels, prefix, views=2, **out):
  """What `Views.embedded` gives: each video has equal views, along the angle in `directions`."""
  x = np.stack([np.cos(directions), np.sin(directions)], 1).repeat(views, 0)
  names = np.array([f"{prefix}{k}" for k in range(len(labels))]).repeat(views)
  return Labelled(x, np.repeat(labels, views), names), out


TRAIN = part([0.0, 0.1, 1.4, 1.5], [0, 0, 1, 1], "t")
APART = part([0.05, 1.45, 0.02], [0, 1, 0], "q")
ONE_WRONG = part([0.05, 1.45, 0.02], [0, 1, 1], "q")
SHORT = dict(epochs=9, lr=2.0, warmup=0)
LABELLED = [("knn", args(ks=(3, 7)), "3-NN"), ("logistic", args(), "linear"),
            ("linear", args(recipe="small_video", changes=SHORT), "linear"),
            ("class_retrieval", args(ks=(1, 8)), "R@1"),
            ("class_retrieval", args(by_video=True, unit=True), "R@1")]


@pytest.mark.parametrize("name, given, head", LABELLED)
def test_right_answers_count_in_percent(name, given, head):
  measure = measures.LABELLED[name]
  measures.check(name, "evals.x", given)
  all_right = measure(TRAIN, APART, KEY, given)
  assert all_right.shown[head] == 100 and all_right.items[head] == {f"q{k}": 100 for k in range(3)}
  wrong = measure(TRAIN, ONE_WRONG, KEY, given)
  assert wrong.items[head] == {"q0": 100, "q1": 100, "q2": 0}
  np.testing.assert_allclose(wrong.shown[head], 200 / 3)
  for column, items in wrong.items.items():
    assert wrong.shown[column] == np.mean(list(items.values()))
  number = {"knn": "k=3/top1", "logistic": "video/top1", "linear": "video/top1"}.get(name, "R@1")
  np.testing.assert_allclose(wrong.numbers[number], 200 / 3)


def test_a_video_is_right_as_far_as_its_views_are():
  x = np.stack([np.cos([0.05, 1.4, 1.3, 1.5]), np.sin([0.05, 1.4, 1.3, 1.5])], 1)
  test = Labelled(x, np.array([0, 0, 1, 1]), np.array(["a", "a", "b", "b"])), {}
  found = measures.by_votes(TRAIN, test, KEY, args(ks=(1,)))
  assert found.items == {"1-NN": {"a": 50, "b": 100}} and found.shown == {"1-NN": 75}
  found = measures.by_rank(TRAIN, test, KEY, args(ks=(1, 5)))
  assert found.items == {"R@1": {"a": 50, "b": 100}, "R@5": {"a": 100, "b": 100}}


def test_whole_videos_may_vote():
  found = measures.by_votes(TRAIN, ONE_WRONG, KEY, args(ks=(1,), by_video=True))
  assert found.items == {"1-NN": {"q0": 100, "q1": 100, "q2": 0}}
  np.testing.assert_allclose(found.numbers["k=1/top1"], 200 / 3)


def test_numbers_that_are_no_shares_stay_as_they_are():
  given = args(recipe="small_video", changes=SHORT)
  found = measures.LABELLED["linear"](TRAIN, APART, KEY, given).numbers
  assert found["epoch"] == 9 and found["best/epoch"] <= 9 and 0 < found["loss"] < 1
  assert found["best/video/top1"] == 100


def test_a_probe_of_labels_without_meaning_knows_nothing():
  rng = np.random.default_rng(0)
  x, labels = rng.standard_normal((300, 3)), rng.integers(0, 2, 300)
  rows = Labelled(x[:150], labels[:150], np.arange(150).astype(str)), {}
  test = Labelled(x[150:], labels[150:], np.arange(150).astype(str)), {}
  for name, given, head in (("logistic", args(), "linear"), ("knn", args(ks=(5,)), "5-NN")):
    assert 35 < measures.LABELLED[name](rows, test, KEY, given).shown[head] < 65


def spread(videos=3, views=4, dim=5):
  rng = np.random.default_rng(0)
  mean, logvar = rng.standard_normal((2, videos * views, dim)).astype(np.float32)
  names = np.array([f"q{k}" for k in range(videos)]).repeat(views)
  labels = np.arange(videos).repeat(views)
  return Labelled(mean, labels, names), {"mean": mean, "logvar": logvar, "video": mean}


def test_a_video_is_the_mixture_of_its_views():
  rows, out = spread()
  found = measures.distributions((rows, out))
  mean, variance = (out["mean"].astype(float).reshape(3, 4, 5),
                    np.exp(out["logvar"].astype(float)).reshape(3, 4, 5))
  np.testing.assert_array_equal(found.clip_mean, out["mean"].reshape(3, 4, 5))
  np.testing.assert_array_equal(found.clip_logvar, out["logvar"].reshape(3, 4, 5))
  np.testing.assert_allclose(found.mean, mean.mean(1), rtol=1e-5, atol=1e-6)
  wanted = (variance + mean**2).mean(1) - mean.mean(1)**2
  np.testing.assert_allclose(np.exp(found.logvar), wanted, rtol=1e-5)
  np.testing.assert_allclose(found.video, mean.mean(1), rtol=1e-5, atol=1e-6)
  assert found.labels.tolist() == [0, 1, 2]
  alone = measures.distributions((rows, {"video": out["video"]}))
  assert alone.logvar is None and alone.clip_mean is None


def uncertain(u):
  """Three queries of which the third is wrong, with these uncertainties, beside their gallery."""
  def row(part, logvar):
    rows, _ = part
    wide = np.repeat(np.log(logvar), 2)[:, None] * np.ones(2)
    return measures.distributions((rows, {"mean": 0 * rows.features, "logvar": wide}))
  return row(TRAIN, np.ones(4)), row(ONE_WRONG, np.asarray(u))


@pytest.mark.parametrize("u, risk", [
    ([1, 2, 3], (0 + 0 + 1 / 3) / 3), ([2, 3, 1], (1 + 1 / 2 + 1 / 3) / 3)])
def test_risk_is_below_100_where_the_uncertain_fail(u, risk):
  train, test = uncertain(u)
  given = args(measures=("cosine",))
  found = measures.by_uncertainty(train, test, ["q0", "q1", "q2"], {}, given)
  assert found.items == {"R@1": {"q0": 100, "q1": 100, "q2": 0}}
  np.testing.assert_allclose(found.shown["R@1"], 200 / 3)
  np.testing.assert_allclose(found.shown["risk"], 100 * risk / (1 / 3))
  # The wrong one is nearest to a training video: first to be answered.
  assert found.shown["risk by distance"] == pytest.approx(100 * (1 + 1 / 2 + 1 / 3))
  np.testing.assert_allclose(found.numbers["cosine/aurc"], risk)
  np.testing.assert_allclose(found.numbers["cosine/R@1"], 200 / 3)
  np.testing.assert_allclose(found.numbers["uncertainty"], 2, rtol=1e-6)


def test_corruptions_are_correlated_with_their_strength():
  train, _ = uncertain([1, 2, 3])
  worse = {"noise": {0.0: uncertain([1, 2, 5])[1], 8.0: uncertain([2, 3, 4])[1],
                     16.0: uncertain([3, 4, 3])[1]}}
  found = measures.by_uncertainty(train, uncertain([1, 2, 3])[1], ["q0", "q1", "q2"], worse,
                                  args(measures=("cosine",), corruptions=dict(noise=(0, 8, 16))))
  np.testing.assert_allclose(found.shown["noise"], 100 * (1 + 1 - 1) / 3)
  np.testing.assert_allclose(found.numbers["noise/within"], 1 / 3)
  np.testing.assert_allclose(found.numbers["noise/rising"], 2 / 3)
  np.testing.assert_allclose(found.numbers["noise/u/16"], 10 / 3, rtol=1e-6)
  np.testing.assert_allclose(found.numbers["noise/R@1/8"], 200 / 3)


def test_the_table_shows_what_clips_have_on_their_own():
  """Clips that agree the more the worse they are make a certain video of uncertain clips."""
  rows, _ = ONE_WRONG
  train, _ = uncertain([1, 1, 1])

  def worse(apart, variance):
    signs = np.tile([1.0, -1.0], 3)[:, None] * np.ones(2)
    logvar = np.log(variance * np.repeat([1.0, 1.1, 1.2], 2))[:, None] * np.ones(2)
    return measures.distributions((rows, {"mean": apart * signs, "logvar": logvar}))

  steps = {0.0: worse(9.0, 1), 1.0: worse(3.0, 2), 2.0: worse(1.0, 3)}
  found = measures.by_uncertainty(train, steps[0.0], ["q0", "q1", "q2"], {"blur": steps},
                                  args(measures=("cosine",), corruptions=dict(blur=(0, 1, 2))))
  assert found.numbers["blur/within"] == pytest.approx(-1)
  assert found.shown["blur"] == pytest.approx(100)
  # Means of a video's two clips are opposite: none finds its own, and any order is as good.
  assert found.numbers["clips/R@1"] == 0 and found.shown["own risk"] == 100
  np.testing.assert_allclose(found.shown["risk"], 100 / 3)  # the last of three fails


def test_a_row_without_variances_has_dashes():
  train, test = (measures.distributions(x) for x in (TRAIN, ONE_WRONG))
  given = args(measures=("cosine", "bhattacharyya"), corruptions=dict(blur=(0, 1)))
  found = measures.by_uncertainty(train, test, ["q0", "q1", "q2"], {}, given)
  assert {k for k, v in found.shown.items() if np.isnan(v)} == {"R@1 B.", "risk", "own risk",
                                                                "blur"}
  assert found.report.report.u is None and set(found.report.report.hits) == {"cosine"}


def test_every_column_of_uncertainty_is_explained():
  train, test = (measures.distributions(x) for x in (TRAIN, ONE_WRONG))
  given = args(measures=("cosine",), corruptions=dict(noise=(0, 1), blur=(0, 1)))
  shown = measures.by_uncertainty(train, test, ["q0", "q1", "q2"], {}, given).shown
  explained = {head for part in measures.MEANING["uncertainty"].split("; ")
               for head in part.partition(":")[0].split(", ")}
  assert explained == set(shown)


@pytest.mark.parametrize("name, given, words", [
    ("kn", {}, r"evals\.x\.name='kn'.*knn"),
    ("knn", dict(kz=(1,)), r"evals\.x\.name='knn' takes no 'kz'"),
    ("knn", dict(ks=(0,)), r"evals\.x\.args: ks="),
    ("logistic", dict(penalty=0.0), r"evals\.x\.args: penalty=0"),
    ("linear", dict(recipe="imagnet"), r"evals\.x\..*imagnet"),
    ("class_retrieval", dict(unit=True), r"evals\.x\.args: unit=True changes nothing"),
    ("uncertainty", dict(kind="harmonic"), r"evals\.x\.args: .*harmonic"),
    ("uncertainty", dict(measurez=()), r"evals\.x\.args: .*measurez"),
    ("uncertainty", dict(measures=("bhattacharyya",)), r"evals\.x\.args: .*cosine"),
    ("uncertainty", dict(ks=(5, 10)), r"evals\.x\.args: .*ks begin with 1"),
    ("uncertainty", dict(corruptions=dict(nois=(0, 1))), r"evals\.x\.args: .*'nois'"),
    ("uncertainty", dict(corruptions=dict(noise=(0,))), r"evals\.x\.args: noise: needs two"),
    ("uncertainty", dict(corruptions=dict(blur=(0, -1))), r"evals\.x\.args: .*-1")])
def test_impossible_evaluations_are_told_before_anything_is_read(name, given, words):
  with pytest.raises(ConfigError, match=words):
    measures.check(name, "evals.x", args(**given))


def test_all_measures_of_uncertainty_may_be_asked_for():
  measures.check("uncertainty", "evals.x", args(measures=uncertainty.MEASURES, ks=(1, 5)))
  measures.check("uncertainty", "evals.x", args(corruptions=dict(noise=(0.0, 8), blur=(0, 1))))
  measures.check("tracking", "evals.x", args())


@pytest.mark.parametrize("benchmark, heads", [("otb", ["success", "precision"]),
                                              ("got10k", ["AO", "SR0.5"])])
def test_tracks_are_items(benchmark, heads):
  boxes = np.array([[2, 2, 8, 8]] * 4, np.float64)

  class Record:
    def __init__(self, id_, step):
      self.id, self.truth = id_, {"boxes": boxes + np.arange(4)[:, None] * [step, 0, 0, 0]}

  evaluator = tracking.make([Record("still", 0), Record("moving", 30)],
                            lambda record: np.zeros((4, 32, 140, 3), np.uint8),
                            benchmark=benchmark, progress=False)
  found = measures.of_tracks(evaluator.identity())
  assert list(found.shown) == heads
  for head in heads:
    assert found.items[head]["still"] > found.items[head]["moving"]
    np.testing.assert_allclose(found.shown[head], np.mean(list(found.items[head].values())))
    np.testing.assert_allclose(found.shown[head], found.numbers[head])
  assert found.numbers.get("tracks") == 2


def test_views_find_their_own_video():
  """Two videos of two views: a's are alike, b's first is nearer to those of a."""
  rows = Labelled(np.float32([[1, 0], [1, 0.01], [1, 0.03], [0, 1]]), np.array([0, 0, 1, 1]),
                  np.array(["a", "a", "b", "b"]))
  found = measures.by_instance((rows, {}), dict(ks=(1, 3)))
  assert found.items["R@1"] == {"a": 100, "b": 50}
  assert found.shown == {"R@1": 75, "R@3": 100}
  with pytest.raises(ConfigError, match=r"evals\.x.*ks=\[0\]"):
    measures.check("instance_retrieval", "evals.x", dict(ks=(0,)))
