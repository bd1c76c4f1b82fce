import numpy as np
import pytest

from vssl_jax.evaluators import figures_embedding as figures
from vssl_jax.evaluators import retrieval
from vssl_jax.metrics.neighbours import purity

ANNOTATION = {"q1": {"ND": ["a", "both"], "IS": ["i"]}, "q2": {"DS": ["b", "both"], "CS": ["c"]},
              "q3": {"ND": ["gone"]}, "q4": {"IS": ["j"]}}
DATABASE = ["a", "b", "c", "both", "i", "j", "gone", "x", "y", "z"]


def sample(**kwargs):
  return figures.sample_videos(ANNOTATION, DATABASE, lambda i: i != "gone", **kwargs)


def test_a_sample_is_queries_what_is_relevant_and_distractors():
  got = sample()
  assert got.queries == ("q1", "q2")  # q3's match is missing, q4's isn't of these labels
  groups = dict(zip(got.ids, got.groups.tolist(), strict=True))
  # i and j are relevant to a query in some way, so no distractors; "both" has no one colour.
  assert groups == {"q1": 0, "a": 0, "q2": 1, "b": 1, "c": 1, "x": -1, "y": -1, "z": -1}


def test_a_sample_is_random_but_the_same_for_a_seed():
  drawn = [sample(others=2, seed=seed).ids[-2:] for seed in range(8)]
  assert len(set(drawn)) > 1
  assert sample(others=2, seed=3).ids[-2:] == drawn[3]
  many = {f"q{i:02}": {"ND": [f"v{i:02}"]} for i in range(30)}
  got = figures.sample_videos(many, [v for e in many.values() for v in e["ND"]], lambda i: True)
  assert len(got.queries) == figures.MOST_QUERIES
  assert sorted(np.bincount(got.groups)) == [2] * figures.MOST_QUERIES


def test_too_few_queries():
  with pytest.raises(ValueError, match="fewer than two queries"):
    figures.sample_videos({"q1": ANNOTATION["q1"]}, DATABASE, lambda i: True)


def test_vectors_come_in_the_order_asked_for():
  rng = np.random.default_rng(0)
  x = {name: rng.standard_normal((n, 4)).astype(np.float32)
       for name, n in (("a", 3), ("b", 20), ("c", 5))}
  got = figures.video_vectors(("b", "a", "c"), x, retrieval.mean_pool)
  for row, name in zip(got, "bac", strict=True):
    mean = x[name].mean(axis=0)
    np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-5)
  with pytest.raises(ValueError, match="'d' has no descriptor"):
    figures.video_vectors(("a", "d"), x, retrieval.mean_pool)


def test_panels_show_every_video_and_the_purity_of_the_descriptors():
  rng, chosen = np.random.default_rng(0), sample()
  x = rng.standard_normal((2, len(chosen.ids), 6))
  x /= np.linalg.norm(x, axis=-1, keepdims=True)
  page = figures.embedding_figure({"mean": x[0], "trained": x[1]}, chosen)
  for panel, values in zip(page.axes, x, strict=True):
    points = np.concatenate([c.get_offsets() for c in panel.collections])
    assert len(points) == len(chosen.ids) == len(np.unique(points, axis=0))
    share = np.mean(list(purity(values, chosen.groups).values()))
    assert panel.get_title(loc="left").startswith(f"{share:.0%} of nearest")
  assert [panel.texts[0].get_text() for panel in page.axes] == ["mean", "trained"]
  assert any("3 distractors" in t.get_text() for t in page.texts)
