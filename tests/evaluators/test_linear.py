"""The linear probe: torch's SGD step by step, recipes, streams, behaviour."""

import dataclasses

import numpy as np
import pytest

from tests.reference import classification as reference
from vssl_jax.evaluators import linear
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.ops import linear_probe
from vssl_jax.types import ConfigError

SHORT = {"lr": 1.0, "batch": 8, "epochs": 4, "milestones": (3,)}


def made(n, noise=0.3, seed=0, classes=3, dim=4, videos=True):
  rng = np.random.default_rng(seed)
  labels = np.arange(n) // 2 % classes
  x = np.eye(classes, dim)[labels] + noise * rng.normal(size=(n, dim))
  return Labelled(x, labels, np.arange(n) // 2 if videos else None)


def probe(train, test, changes=None, **kwargs):
  return linear.make(train, test, changes=SHORT | (changes or {}), progress=False, **kwargs)


def test_training_is_torchs_sgd():
  """Every step of every epoch, the incomplete last batch and the weight decay included."""
  train = made(19)
  changes = {"momentum": 0.8, "weight_decay": 0.05}
  report = probe(train, made(6), changes, seed=3).report()
  start = linear_probe.init(3, 4, 3)
  w, b = np.asarray(start.weight, np.float64).tolist(), [0.0] * 3
  vw, vb = np.zeros((4, 3)).tolist(), [0.0] * 3
  for epoch, row in enumerate(report.history):
    assert row["epoch"] == epoch + 1 and row["lr"] == pytest.approx(0.1 if epoch == 3 else 1.0)
    order, losses = np.random.default_rng((3, epoch)).permutation(19), []
    for at in (order[:8], order[8:16], order[16:]):
      w, b, vw, vb, loss = reference.sgd_step(
          w, b, vw, vb, train.features[at].astype(float).tolist(), train.labels[at].tolist(),
          row["lr"], 0.8, 0.05)
      losses.append(loss)
    assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
  np.testing.assert_allclose(report.weight, w, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(report.bias, b, rtol=1e-4, atol=1e-5)


def test_gradient_is_finite_and_padding_changes_nothing():
  start = linear_probe.init(0, 4, 3)
  x, labels = np.zeros((8, 4), np.float32), np.zeros(8, np.int32)
  junk = np.concatenate([x[:3], np.full((5, 4), 9, np.float32)])
  mask = np.arange(8) < 3
  a, b = (linear_probe.loss(start, rows, labels, mask) for rows in (x, junk))
  assert float(a) == float(b) == pytest.approx(np.log(3))


def test_informative_features_beat_random_ones():
  numbers = probe(made(60), made(30, seed=1), {"epochs": 8, "milestones": ()}, top=(2,))()
  assert numbers["top1"] > 0.85 and numbers["top2"] >= numbers["top1"]
  assert numbers["video/top1"] >= numbers["top1"] - 0.1
  rng = np.random.default_rng(0)
  random = [Labelled(rng.normal(size=x.features.shape), x.labels) for x in (made(60), made(30))]
  assert probe(*random)()["top1"] < 0.7


def test_separable_classes_and_one_class():
  assert probe(made(24, noise=0), made(12, noise=0))()["top1"] == 1
  one = Labelled(np.ones((5, 2)), np.zeros(5, int))
  assert probe(one, one)() == {"epoch": 4, "lr": pytest.approx(0.1), "loss": 0, "top1": 1,
                               "top5": 1, "best/epoch": 1, "best/top1": 1, "best/top5": 1}


def test_best_and_last():
  history = tuple({"epoch": float(e), "top1": t, "video/top1": v} for e, t, v in
                  ((1, 0.9, 0.2), (2, 0.1, 0.5), (3, 0.2, 0.5), (4, 0.3, 0.4)))
  numbers = linear.Report(np.ones((1, 1)), np.ones(1), history).numbers
  assert numbers == {"epoch": 4, "top1": 0.3, "video/top1": 0.4, "best/epoch": 2,
                     "best/top1": 0.1, "best/video/top1": 0.5}
  report = probe(made(8), made(6), every=3).report()
  assert [row["epoch"] for row in report.history] == [3, 4]


def test_a_rate_is_chosen_by_training_videos_alone():
  train, rates = made(120, noise=0.5), (1e-7, 1e38, 0.5, 1e-6)
  report = probe(train, made(20, seed=1), rates=rates).report()
  assert report.chosen == report.numbers["chosen/lr"] == 0.5
  want = probe(train, made(20, seed=1), {"lr": 0.5}).report()
  np.testing.assert_array_equal(report.weight, want.weight)  # of all training videos
  assert want.chosen is None and "chosen/lr" not in want.numbers
  assert report.history == want.history
  wrong = made(20, seed=1)
  wrong = dataclasses.replace(wrong, labels=(wrong.labels + 1) % 3)
  assert probe(train, wrong, rates=rates).report().chosen == 0.5
  unknown = dataclasses.replace(train, videos=None)
  assert probe(unknown, made(20, seed=1), rates=rates).report().chosen == 0.5
  with pytest.raises(ValueError, match="the probe diverged in epoch 0 at the learning rate 2e"):
    probe(train, made(20, seed=1), rates=(1e38, 2e38)).report()
  with pytest.raises(ConfigError, match="a video is held out, and there is no other"):
    probe(made(2), made(4), rates=(1.0,)).report()


def test_a_video_is_held_out_as_a_whole():
  part, held = linear._parts(made(40), 0)
  assert len(held) == 8 and len(part) == 32
  assert not set(part.videos) & set(held.videos)
  assert set(held.videos) != set(linear._parts(made(40), 1)[1].videos)


def test_the_seed_decides():
  def weight(seed, dropout=0.5):
    return probe(made(20), made(6), {"dropout": dropout}, seed=seed).report().weight
  np.testing.assert_array_equal(weight(0), weight(0))
  assert np.abs(weight(0) - weight(1)).max() > 1e-3
  assert np.abs(weight(0) - weight(0, dropout=0.0)).max() > 1e-3


def test_dropout_keeps_the_mean():
  x = np.ones((2000, 4), np.float32)
  dropped = np.asarray(linear_probe.drop(0, 5, x, 0.75))
  assert set(np.unique(dropped)) == {0, 4}
  assert dropped.mean() == pytest.approx(1, abs=0.1)


def test_a_stream_trains_as_the_same_features_do():
  """Batches with padding, embedded anew in each epoch, in the order of the arrays."""
  train, test, seen = made(19), made(6), []

  def stream(epoch):
    seen.append(epoch)
    order = np.random.default_rng((0, epoch)).permutation(19)
    for start in (0, 8, 16):
      at = np.resize(order[start:start + 8], 9)
      yield {"x": train.features[at] / 2, "label": train.labels[at],
             "mask": np.arange(9) < len(order[start:start + 8])}

  def embed(inputs):
    return {"pooled": 2 * inputs["x"]}

  streamed = probe(stream, test, stream=True, classes=3).report(embed)
  assert seen == [0, 1, 2, 3]
  given = probe(train, test).report()
  np.testing.assert_allclose(streamed.weight, given.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recipe, epoch, lr", [
    ("imagenet", 0, 30), ("imagenet", 59, 30), ("imagenet", 60, 3), ("imagenet", 99, 0.3),
    ("kinetics", 0, 0.001), ("kinetics", 8, 4 * (1 + np.cos(np.pi * 8 / 60)) / 2),
    ("kinetics", 4, 0.001 + (2 * (1 + np.cos(np.pi * 8 / 60)) - 0.001) / 2),
    ("kinetics", 30, 2), ("small_video", 50, 0.25)])
def test_recipes(recipe, epoch, lr):
  assert linear.learning_rate(linear.RECIPES[recipe], epoch) == pytest.approx(lr)


@pytest.mark.parametrize("kwargs, words", [
    ({"recipe": "imagnet"}, "there are imagenet"), ({"changes": {"rate": 1}}, "no 'rate'"),
    ({"changes": {"lr": 0}}, "lr"), ({"changes": {"warmup": 100}}, "warmup"),
    ({"changes": {"dropout": 1.0}}, "dropout"), ({"every": 0}, "every"), ({"top": (0,)}, "top"),
    ({"stream": True}, "stream=True"), ({"rates": (1.0, 0.0)}, "rates"),
    ({"rates": (1.0, 1.0)}, "rates"),
    ({"stream": True, "rates": (1.0,), "classes": 3, "train": lambda epoch: ()}, "rates")])
def test_impossible_settings(kwargs, words):
  with pytest.raises(ConfigError, match=words):
    linear.make(**{"train": made(4), "test": made(4)} | kwargs)


def test_what_does_not_fit_together():
  with pytest.raises(ValueError, match="label 2, but classes=2"):
    probe(made(6), made(6), classes=2)()
  with pytest.raises(ValueError, match="4 features in training, 5 in the test"):
    probe(made(6), made(6, dim=5))()
  with pytest.raises(ValueError, match="epoch 0 had no training batch"):
    probe(lambda epoch: (), made(6), stream=True, classes=3)(lambda x: x)
  wide = lambda epoch: [{"x": np.ones((9, 4)), "label": np.zeros(9, int)}]  # noqa: E731
  with pytest.raises(ValueError, match="up to 8 rows"):
    probe(wide, made(6), stream=True, classes=3)(lambda x: {"pooled": x["x"]})
  huge = dataclasses.replace(made(16), features=1e30 * made(16).features)
  with pytest.raises(ValueError, match="diverged in epoch"):
    probe(huge, made(6), {"lr": 1e10})()
