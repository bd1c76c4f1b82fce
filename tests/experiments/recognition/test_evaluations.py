"""The evaluations of a config: what they share, what is left out, corruption, tracking."""


import ml_collections
import numpy as np
import pytest

from experiments.recognition import data, evaluations
from experiments.recognition.described import Described
from tests.data_pipelines.layouts import procedural as small
from tests.experiments.recognition import videos
from vssl_jax.types import ConfigError

OPTIONS = {k: v for k, v in small.OPTIONS.items() if k not in ("processes", "progress")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


def config(cache, kind="clips", **evals):
  return ml_collections.ConfigDict(dict(
      seed=0, method=dict(args=dict(backbone="resnet18")), views=videos.training(kind), evals=evals,
      data=dict(name="procedural", root="", split="train", cache_dir=str(cache),
                max_bad_fraction=0.0, **OPTIONS, label="motion")))


def labelled(name, kind="clips", test="eval", **args):
  return dict(name=name, data=dict(name="", root="", train="train", test=test, label="appearance"),
              views=videos.views(kind), args=args)


def test_a_part_is_read_and_described_once(cache):
  found, skipped = evaluations.make_all(config(
      cache, a=labelled("knn", ks=(1,)), b=labelled("class_retrieval", ks=(1,)),
      c=labelled("logistic", test="train")))
  assert list(found) == ["a", "b", "c"] and not skipped
  assert found["a"].datasets[1] is found["b"].datasets[1]
  assert found["a"].datasets[0] is found["c"].datasets[1]
  assert {r.text for r in found["a"].datasets[0].records} <= set(found["a"].datasets[0].classes)
  calls = []

  def embed(inputs):
    calls.append(len(inputs["clip"]))
    return data.pixels(inputs)

  described = Described(embed, "video", 4)
  for evaluation in found.values():
    result = evaluation.measure(None, described)
    assert set(next(iter(result.items.values()))) == {r.id for r in evaluation.datasets[1].records}
    assert not evaluation.bad
  assert sum(calls) == 2 * sum(len(d.records) for d in found["a"].datasets)
  assert result.shown == {"linear": 100.0}  # of what it was fitted to
  train, test = found["a"].datasets
  assert found["a"].about == (
      f"{len(test.records)} videos of procedural, eval, by {len(train.records)} of train; of each "
      f"2 clips of 4 frames, 2 apart, of 16 x 16 pixels; {len(test.classes)} classes")
  ids = [r.id for r in test.records[:2]]
  pages = found["a"].thumbnails(ids)
  assert set(pages) == set(ids) and all(x.shape == (16, 16, 3) for x in pages.values())


def test_training_videos_may_have_views_of_their_own(cache):
  views = videos.views("clips", train_clips=1, train_crops=0)
  found, _ = evaluations.make_all(config(cache, a=labelled("knn", ks=(1,)) | dict(views=views),
                                         b=labelled("knn", ks=(1,))))
  train, test = found["a"].datasets
  assert found["a"].about == (
      f"{len(test.records)} videos of procedural, eval, by {len(train.records)} of train (1 clip "
      "of 4 frames, 2 apart, of 16 x 16 pixels); of each 2 clips of 4 frames, 2 apart, of 16 x 16 "
      f"pixels; {len(test.classes)} classes")
  described, calls = Described(lambda x: (calls.append(len(x["clip"])), data.pixels(x))[1],
                               "video", 99), []
  for name in "ab":
    found[name].measure(None, described)
  assert calls == [len(train.records), 2 * len(test.records), 2 * len(train.records)]


def as_trained(kind, views):
  """The views of an evaluation, in a run of this kind, all of whose settings are None."""
  settings = ml_collections.ConfigDict({"views": dict.fromkeys(
      ("frames", "stride", "fps", "short", "size", "short_side")) | {"clips": 10} | views})
  like = videos.training(kind, size=224, short_side=256, fps=30.0)
  return evaluations._views(settings, "test", like, "evals.a").to_dict()


def test_views_are_as_in_training_where_nothing_else_is_said():
  assert as_trained("clips", dict(crops=1)) == dict(
      clips=10, crops=1, frames=4, stride=2, fps=30.0, short="hold", size=224, short_side=256)
  assert as_trained("clips", dict(crops=3))["size"] == 256
  assert as_trained("clips", dict(crops=3, short_side=128))["size"] == 128
  assert as_trained("clips", dict(crops=1, size=112, stride=8, fps=0.0))["fps"] == 0.0
  frames = as_trained("frames", dict(crops=1))
  assert (frames["frames"], frames["stride"], frames["size"]) == (1, 1, 224)
  with pytest.raises(ConfigError, match=r"evals\.a\.views\.train_crops=-1 should be at least 0"):
    as_trained("clips", dict(crops=1, train_crops=-1))


def test_data_sets_without_a_folder_are_left_out(cache):
  other = labelled("knn")
  other["data"]["name"] = "ucf101"
  found, skipped = evaluations.make_all(config(cache, a=labelled("knn"), b=other))
  assert list(found) == ["a"] and list(skipped) == ["b"]
  with pytest.raises(ConfigError, match=r"nothing to evaluate on: evals\.b\.data\.root is empty"):
    evaluations.make_all(config(cache, b=other))


@pytest.mark.parametrize("change, words", [
    (dict(name="knnn"), r"evals\.a\.name='knnn'; did you mean 'knn'"),
    (dict(data=dict(name="", root="", train="trian", test="eval")), r"evals\.a\.data: .*trian"),
    (dict(data=dict(name="", root="", train="train", test="eval", siz=3)),
     r"evals\.a\.data: .*siz"),
    (dict(views=videos.views("clips", stride=0)), r"evals\.a\.views\.stride=0")])
def test_errors_name_the_evaluation(cache, change, words):
  with pytest.raises(ConfigError, match=words):
    evaluations.make_all(config(cache, a=labelled("knn") | change))


def gaussians(inputs):
  """A distribution whose variance is that of the pixels."""
  x = inputs["clip"].reshape(len(inputs["clip"]), -1)
  return {"video": data.pixels(inputs)["video"], "mean": x[:, :4] / np.float32(255),
          "logvar": np.log(1 + x.var(1, dtype=np.float32))[:, None] * np.ones(4, np.float32)}


def test_what_is_made_worse_is_measured_beside(cache):
  found, _ = evaluations.make_all(config(cache, u=labelled(
      "uncertainty", corruptions=dict(noise=(0, 64), blur=(0, 3)))))
  result = found["u"].measure(None, Described(gaussians, "video", 3))
  assert result.shown["noise"] > 50 and result.shown["blur"] < -50  # variance of pixels
  again = found["u"].measure(None, Described(gaussians, "video", 2))
  np.testing.assert_equal(again.numbers, result.numbers)  # some may be NaN
  plain = found["u"].measure(None, Described(data.pixels, "video", 3))
  assert np.isnan(plain.shown["noise"]) and plain.shown["R@1"] == result.shown["R@1"]
  assert set(result.items) == {"R@1", "noise", "blur"} and len(result.items["R@1"]) == len(
      found["u"].datasets[1].records)


def test_corruption_is_a_function_of_the_video():
  views = np.full((2, 3, 8, 8, 3), 128, np.uint8)
  assert evaluations._corruption("noise", 8.0).name == ("noise", 8.0)
  noise = evaluations._corruption("noise", 8.0).apply
  np.testing.assert_array_equal(noise("a", views), noise("a", views))
  assert (noise("a", views) != noise("b", views)).any()
  assert noise("a", views).shape == views.shape
  more = evaluations._corruption("noise", 16.0).apply("a", views).astype(int) - 128
  np.testing.assert_allclose(more, 2 * (noise("a", views).astype(int) - 128), atol=1.5)
  np.testing.assert_array_equal(evaluations._corruption("blur", 0).apply("a", views), views)


@pytest.mark.parametrize("name", ["classification", "instance_retrieval"])
def test_arguments_that_are_not_taken(cache, name):
  with pytest.raises(ConfigError, match=rf"evals\.a\.name='{name}' takes no 'kss'"):
    evaluations.make_all(config(cache, a=labelled(name, kss=(1,))))
