"""Retrieval among distributions, and what uncertainty tells of failures and of corruption."""

import dataclasses

import numpy as np
import pytest

from tests.reference import gaussian as gaussian_reference
from tests.reference import recall as reference
from vssl_jax.evaluators import uncertainty
from vssl_jax.evaluators.uncertainty import Row, by_strength, report
from vssl_jax.types import ConfigError

D, CLASSES = 5, 4


def made(n, seed, *, clips=2):
  """Videos of a class's mean with noise; the noisier, the larger the variance."""
  rng = np.random.default_rng(seed)
  labels = np.arange(n) % CLASSES
  spread = rng.uniform(0.05, 1.5, (n, 1))
  mean = (np.eye(CLASSES, D)[labels] + spread * rng.normal(size=(n, D))).astype(np.float32)
  logvar = (2 * np.log(spread) + 0.1 * rng.normal(size=(n, D))).astype(np.float32)
  clip_mean = mean[:, None] + 0.1 * rng.normal(size=(n, clips, D)).astype(np.float32)
  return Row(labels, mean + 2, mean, logvar, clip_mean, np.repeat(logvar[:, None], clips, 1))


QUERY, GALLERY = made(41, 0), made(23, 1)


def test_scores_against_the_twins():
  unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (QUERY.video, GALLERY.video)]
  np.testing.assert_allclose(uncertainty.scores(QUERY, GALLERY, "cosine"), unit[0] @ unit[1].T,
                             rtol=1e-5)
  centred = [x - x.mean(axis=0) for x in (QUERY.video, GALLERY.video)]
  unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in centred]
  np.testing.assert_allclose(uncertainty.scores(QUERY, GALLERY, "centred"), unit[0] @ unit[1].T,
                             atol=1e-5)
  sides = [[(m, np.exp(v)) for m, v in zip(np.float64(r.mean), np.float64(r.logvar), strict=True)]
           for r in (QUERY, GALLERY)]
  want = [[-gaussian_reference.closed_form(x, y, lam=0.25, reading="sum") for y in sides[1]]
          for x in sides[0]]
  np.testing.assert_allclose(uncertainty.scores(QUERY, GALLERY, "bhattacharyya"), want, rtol=1e-4)


def test_report_against_the_twins():
  found = report(QUERY, GALLERY, ks=(1, 5, 99), bins=6)
  assert tuple(found.hits) == uncertainty.MEASURES
  u = np.exp(np.float64(QUERY.logvar).mean(axis=1))
  np.testing.assert_allclose(found.u, u, rtol=1e-6)
  for name in uncertainty.MEASURES:
    scores = uncertainty.scores(QUERY, GALLERY, name)
    for k in (1, 5, 23):
      want = reference.recall(scores, QUERY.labels, GALLERY.labels, k)
      assert found.numbers[f"{name}/R@{99 if k == 23 else k}"] == pytest.approx(want)
    hit = found.hits[name][0]
    risks = np.array(reference.risks(u, hit))
    best = np.array(reference.risks(1 - hit, hit))
    want = {"aurc": risks.mean(), "e_aurc": risks.mean() - best.mean(),
            "aurc_ratio": risks.mean() / (1 - hit.mean()),
            "distance/aurc_ratio": np.mean(reference.risks(-scores.max(1), hit)) / (1 - hit.mean()),
            "pearson": reference.pearson(u, hit),
            "spearman": reference.pearson(reference.ranks(u), reference.ranks(hit))}
    assert {k: found.numbers[f"{name}/{k}"] for k in want} == pytest.approx(want)
    parts = np.array_split(np.argsort(u), 6)
    recalls = [hit[p].mean() for p in parts]
    np.testing.assert_allclose(found.levels[name]["recall"], recalls)
    assert found.numbers[f"{name}/levels/pearson"] == pytest.approx(
        reference.pearson(range(6), recalls))
    np.testing.assert_allclose(found.curves[name][1], risks)


def test_uncertainty_that_is_noise_tells_of_failures_and_a_shuffled_one_doesnt():
  query, gallery = made(400, 3), made(200, 4)
  numbers = report(query, gallery, measures=("cosine",)).numbers
  assert numbers["cosine/spearman"] < -0.3
  assert numbers["cosine/aurc_ratio"] < 0.8 and numbers["cosine/levels/pearson"] < -0.7
  order = np.random.default_rng(0).permutation(400)
  shuffled = dataclasses.replace(query, logvar=query.logvar[order])
  assert abs(report(shuffled, gallery).numbers["cosine/spearman"]) < 0.15


def scenes(*videos):
  """Videos of clips with variance 0.1 around these places, and their moments."""
  clips = np.float32(videos)
  logvar = np.full_like(clips, np.log(0.1))
  return Row(np.arange(len(clips)), clips.mean(1) + 20, clips.mean(1),
             np.log(0.1 + clips.var(1)), clips, logvar)


def test_of_two_scenes_one_shared_is_found_by_the_mixture_and_not_by_moments():
  """A video of two other scenes around the same middle has the very moments of the query."""
  query = scenes([(4, 4), (-4, -4)])
  gallery = scenes([(4, 4), (4, -40)], [(4, -4), (-4, 4)])  # the first shares a scene
  found = report(query, gallery, measures=("bhattacharyya", "mixture"), ks=(1,))
  assert found.numbers["mixture/R@1"] == 1 and found.numbers["bhattacharyya/R@1"] == 0
  moments = uncertainty.scores(query, gallery, "bhattacharyya")[0]
  np.testing.assert_allclose(moments[1], 0, atol=1e-6)
  mixture = uncertainty.scores(query, gallery, "mixture")[0]
  np.testing.assert_allclose(mixture[0], -np.log(2), rtol=1e-5)
  assert mixture[1] < -50


def test_strengths():
  rng = np.random.default_rng(0)
  base = dataclasses.replace(QUERY, logvar=np.repeat(rng.normal(size=(41, 1)), D, 1))
  rows = {s: dataclasses.replace(base, logvar=base.logvar + s) for s in (2.0, 0.0, 1.0)}
  found = by_strength("noise", rows, GALLERY)
  np.testing.assert_array_equal(found.strengths, [0, 1, 2])
  for s, u in zip((0, 1, 2), found.u, strict=True):
    np.testing.assert_allclose(u, np.exp(base.logvar[:, 0] + s), rtol=1e-6)
  numbers = found.numbers
  assert numbers["noise/within"] == pytest.approx(1) and numbers["noise/rising"] == 1
  every = np.repeat([0, 1, 2], 41)
  want = reference.pearson(reference.ranks(every), reference.ranks(found.u.ravel()))
  assert numbers["noise/spearman"] == pytest.approx(want) and 0 < want < 1
  assert numbers["noise/R@1/0"] == report(QUERY, GALLERY).numbers["cosine/R@1"]
  falling = {s: dataclasses.replace(base, logvar=base.logvar - s) for s in (0.0, 1.0)}
  assert by_strength("blur", falling).numbers["blur/within"] == pytest.approx(-1)
  assert by_strength("blur", falling).numbers["blur/rising"] == 0
  same = by_strength("blur", {0.0: base, 1.0: base}).numbers
  assert same["blur/within"] == 0 and same["blur/spearman"] == pytest.approx(0)


def test_clips_have_uncertainty_of_their_own():
  """Of the clips' variances, however far their means are apart; the videos' may say otherwise."""
  at = {s: dataclasses.replace(QUERY, clip_logvar=QUERY.clip_logvar + s, logvar=QUERY.logvar - s)
        for s in (0.0, 1.0)}
  found = by_strength("blur", at)
  want = np.exp(np.float64(QUERY.clip_logvar).mean(-1)).mean(1)
  np.testing.assert_allclose(found.clips, [want, np.e * want], rtol=1e-5)
  assert found.numbers["blur/clips/within"] == pytest.approx(1)
  assert found.numbers["blur/within"] == pytest.approx(-1)
  assert found.numbers["blur/clips/u/1"] == pytest.approx(np.e * want.mean(), rel=1e-5)
  bare = {s: dataclasses.replace(row, clip_logvar=None) for s, row in at.items()}
  assert "blur/clips/within" not in by_strength("blur", bare).numbers


def test_clips_find_their_own_video():
  """Two videos of three clips; one clip lies with the other video, and is the least certain."""
  mean = np.eye(2)[[[0, 0, 1], [1, 1, 1]]] + [[[0.1, 0], [0, 0.1], [-0.5, 0]],
                                             [[0, 0], [0.2, 0], [0.1, 0]]]
  logvar = np.log([[1.0, 1, 3], [1, 2, 1]])[..., None] * np.ones(2)
  row = Row(np.arange(2), np.eye(2), np.eye(2), np.zeros((2, 2)), mean, logvar)
  hit, u = uncertainty.find_own(row)
  assert hit.tolist() == [True, True, False, True, True, True]
  np.testing.assert_allclose(u, [1, 1, 3, 1, 2, 1])
  numbers = report(row, row).numbers
  assert numbers["clips/R@1"] == pytest.approx(5 / 6)
  assert numbers["clips/aurc_ratio"] == pytest.approx((1 / 6) / 6 / (1 / 6))
  want = reference.pearson(reference.ranks(u), reference.ranks(hit))
  assert numbers["clips/spearman"] == pytest.approx(want)
  alone = dataclasses.replace(row, clip_mean=mean[:, :1], clip_logvar=logvar[:, :1])
  assert uncertainty.find_own(alone) is None
  assert "clips/R@1" not in report(alone, alone).numbers


def test_risk_over_all_strengths():
  """Videos that fail once they are made worse, and that are less certain then: the best order."""
  apart = np.arange(6)
  good = Row(apart, np.eye(6), np.eye(6), np.zeros((6, 6)))
  bad = dataclasses.replace(good, video=np.roll(np.eye(6), 1, 0), logvar=np.ones((6, 6)))
  numbers = by_strength("noise", {0.0: good, 1.0: bad}, good).numbers
  assert (numbers["noise/R@1/0"], numbers["noise/R@1/1"]) == (1, 0)
  risk = np.r_[np.zeros(6), np.arange(1, 7) / np.arange(7, 13)]
  assert numbers["noise/aurc_ratio"] == pytest.approx(risk.mean() / 0.5)
  turned = {0.0: dataclasses.replace(good, logvar=np.ones((6, 6))),
            1.0: dataclasses.replace(bad, logvar=np.zeros((6, 6)))}
  assert by_strength("noise", turned, good).numbers["noise/aurc_ratio"] > 1
  assert by_strength("noise", {0.0: good, 1.0: good}, good).numbers["noise/aurc_ratio"] == 1


def test_methods_without_distributions():
  points = [Row.of({"video": r.video, "projection": r.mean}, r.labels) for r in (QUERY, GALLERY)]
  found = report(*points)
  assert found.u is None and tuple(found.hits) == uncertainty.OF_FEATURES
  assert all("R@" in k or "/distance/" in k for k in found.numbers)
  whole = Row.of({k: getattr(QUERY, k) for k in uncertainty.SIDE}, QUERY.labels)
  assert uncertainty.measures_of(whole, GALLERY) == uncertainty.MEASURES


@pytest.mark.parametrize("call, message", [
    (lambda: report(QUERY, GALLERY, measures=("l1",)), "measure='l1'.*cosine"),
    (lambda: report(Row(QUERY.labels, QUERY.video), GALLERY, measures=("mixture",)), "clip_mean"),
    (lambda: report(QUERY, GALLERY, ks=(0,)), "ks="),
    (lambda: report(QUERY, GALLERY, bins=0), "bins=0"),
    (lambda: by_strength("blur", {1.0: QUERY}), "blur: needs two strengths"),
    (lambda: by_strength("blur", {0.0: QUERY, 1.0: Row(QUERY.labels, QUERY.video)}), "logvar")])
def test_refusals_of_settings(call, message):
  with pytest.raises(ConfigError, match=message):
    call()


@pytest.mark.parametrize("change, message", [
    (dict(mean=QUERY.mean[:3]), "mean"), (dict(clip_mean=QUERY.mean), "3 axes"),
    (dict(logvar=np.full_like(QUERY.logvar, np.nan)), "logvar.*finite"),
    (dict(labels=QUERY.labels[:0]), "0 labels")])
def test_refusals_of_rows(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(QUERY, **change)


def test_strengths_of_other_videos():
  other = dataclasses.replace(QUERY, labels=QUERY.labels[::-1])
  with pytest.raises(ValueError, match="same videos"):
    by_strength("blur", {0.0: QUERY, 1.0: other})
