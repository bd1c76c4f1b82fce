"""Retrieval by class, and what uncertainty tells: exact hit rates and rankings."""

import jax
import numpy as np
import pytest

from vssl_jax.metrics import recall, uncertainty
from vssl_jax.ops import gaussian


def load(path):
  with np.load(path, allow_pickle=False) as f:
    return {k: f[k] for k in f.files}


@pytest.fixture(scope="module")
def videos(golden_dir):
  return load(golden_dir / "provico" / "retrieval.npz")


@pytest.fixture(scope="module")
def levels(golden_dir):
  return load(golden_dir / "provico" / "uncertainty.npz")


def scores_by(name, data):
  """[Q, G] of the measure that the file's keys name."""
  q, g = (np.float64(data[k]) for k in ("query", "gallery"))
  if name == "bhattacharyya":
    with jax.enable_x64(True):
      sides = [[np.asarray(x) for x in gaussian.moment_match(
          *(np.float64(data[f"prob_{part}_{side}"]) for part in ("mu", "logvar")))]
          for side in ("query", "gallery")]
    return recall.bhattacharyya(*map(tuple, sides))
  if name == "cosine_clipnorm":
    q, g = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, g))
  q, g = q.mean(axis=1), g.mean(axis=1)
  if name == "euclid":
    return recall.euclidean(q, g)
  return recall.cosine(q, g, centred=name == "cosine_centred")


def test_retrieval(videos):
  names = [k.removeprefix("recall_") for k in videos if k.startswith("recall_")]
  assert names
  labels, ks = (videos["query_label"], videos["gallery_label"]), videos["ks"].tolist()
  for name in names:
    scores = scores_by(name, videos)
    got = recall.recall(scores, *labels, ks)
    assert list(got) == ks
    np.testing.assert_array_equal(list(got.values()), videos[f"recall_{name}"], err_msg=name)
    sure = videos[f"top10_gap_{name}"] > 1e-6
    want = videos[f"top10_{name}"]
    assert sure.any()
    np.testing.assert_array_equal(recall.nearest(scores, want.shape[1])[sure], want[sure],
                                  err_msg=name)


def test_float32_distances_on_the_device_give_the_same_hits(videos):
  from vssl_jax.ops import gaussian_pairs
  sides = [gaussian.moment_match(videos[f"prob_mu_{s}"], videos[f"prob_logvar_{s}"])
           for s in ("query", "gallery")]
  got = recall.recall(-np.asarray(gaussian_pairs.closed_form(*sides, block=64)),
                      videos["query_label"], videos["gallery_label"], videos["ks"].tolist())
  np.testing.assert_array_equal(list(got.values()), videos["recall_bhattacharyya"])


def test_uncertainty_of_videos(levels):
  for kind, key in (("geometric", "u_geometric"), ("arithmetic", "u_arithmetic"),
                    ("entropy", "entropy")):
    np.testing.assert_allclose(uncertainty.of_video(levels["logvar_v"], kind), levels[key],
                               rtol=1e-10)
    with jax.enable_x64(True):
      u = gaussian.uncertainty(np.float64(levels["logvar_v"]), kind)
    u = u if kind == "entropy" else np.exp(u)
    np.testing.assert_allclose(u, levels[key], rtol=1e-10)


def test_levels_and_correlations(levels):
  u, hit = levels["u_geometric"], levels["hit"]
  got = uncertainty.levels(u, hit, int(levels["bins"]))
  np.testing.assert_array_equal(got["size"], levels["level_sizes"])
  np.testing.assert_array_equal(got["recall"], levels["recall_per_level"])
  np.testing.assert_allclose(got["uncertainty"], levels["mean_uncertainty_per_level"], rtol=1e-10)
  for value, key in (
      (uncertainty.pearson(np.arange(len(got["recall"])), got["recall"]), "pearson_level_recall"),
      (uncertainty.pearson(u, hit), "pearson_u_hit"),
      (uncertainty.spearman(u, hit), "spearman_u_hit"),
      (uncertainty.pearson(levels["epoch_uncertainty"], levels["epoch_recall"]), "pearson_epoch")):
    np.testing.assert_allclose(value, levels[key], rtol=1e-10, err_msg=key)
