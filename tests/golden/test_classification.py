"""Accuracies, schedules, video pooling and retrieval by class against golden files."""

import pathlib

import jax
import numpy as np
import pytest

from tests.golden import rules
from vssl_jax.convert import resnet as convert
from vssl_jax.evaluators import class_retrieval, linear
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.metrics import classification
from vssl_jax.models import resnet

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "golden"


def files(golden_dir, method, name):
  """All files NAME.npz and NAME_suffix.npz of a method; at least one."""
  found = sorted((golden_dir / method).glob(f"{name}*.npz"))
  assert found, f"no {name}*.npz in {golden_dir / method}"
  return [np.load(path) for path in found]


def test_accuracies(golden_dir):
  for data in files(golden_dir, "cycle_contrast", "topk"):
    ks = [int(key[3:]) for key in data if key.startswith("acc")]
    ours = classification.accuracy(data["logits"], data["target"], ks)
    for k in ks:
      assert 100 * ours[k] == pytest.approx(data[f"acc{k}"].item(), abs=1e-4)


def test_schedules(golden_dir):
  for data in files(golden_dir, "cycle_contrast", "lr_schedules"):
    probe = linear.make(None, None, changes={"lr": float(data["lincls.base_lr"]),
                                             "epochs": int(data["lincls.epochs"])}).recipe
    tuned = linear.Recipe(float(data["ucf_multistep"][0]), 32, len(data["ucf_multistep"]),
                          milestones=(6, 10, 14), gamma=0.3)
    cosine = linear.Recipe(float(data["cos.base_lr"]), 1, int(data["cos.epochs"]), cosine=True)
    for recipe, name in ((probe, "lincls"), (tuned, "ucf_multistep"), (cosine, "cos")):
      ours = [linear.learning_rate(recipe, e) for e in range(recipe.epochs)]
      np.testing.assert_allclose(ours, data[name], rtol=1e-6, err_msg=name)


def test_clips_make_a_video(golden_dir):
  for data in files(golden_dir, "cycle_contrast", "ucf_video_pool"):
    logits = data["clip_logits"]
    videos, clips, classes = logits.shape
    shuffled = np.random.default_rng(0).permutation(videos * clips)
    of = np.repeat(np.arange(videos), clips)[shuffled]
    labels = of % classes
    ours, theirs = classification.video_confidence(
        logits.reshape(-1, classes)[shuffled], of, labels)
    order = list(dict.fromkeys(of.tolist()))  # as they first occur
    np.testing.assert_allclose(ours, data["video_confidence"][order], rtol=1e-5)
    np.testing.assert_array_equal(theirs, np.array(order) % classes)


def test_frames_make_a_clip(golden_dir):
  """An image network frame by frame, and the mean over time."""
  folder = golden_dir / "cycle_contrast"
  if not (folder / "names.json").is_file():
    folder = SHARED / "cycle_contrast"
    if not folder.is_dir():
      pytest.skip(f"no names.json in {golden_dir / 'cycle_contrast'} or {folder}")
  state = rules.make_params(rules.load_cases(folder)["ucf_video_pool"])
  backbone, width = convert.identify(state)
  apply = jax.jit(resnet.make(backbone, width=width).apply)
  for data in files(golden_dir, "cycle_contrast", "ucf_video_pool"):
    frames = data["video"].transpose(0, 2, 3, 4, 1)
    b, t = frames.shape[:2]
    pooled = apply(convert.from_torch(state), frames.reshape(b * t, *frames.shape[2:]))["pooled"]
    _, ours = classification.mean_by_group(pooled, np.repeat(np.arange(b), t))
    error = np.linalg.norm(ours - data["pool"]) / np.linalg.norm(data["pool"])
    assert error < 1e-5


@pytest.mark.parametrize("name, settings", [
    ("cosine", {}), ("cosine_centred", {"centre": True}), ("cosine_clipnorm", {"unit": True})])
def test_retrieval_by_class(golden_dir, name, settings):
  def rows(data, which):
    x = data[which]
    videos, clips, dim = x.shape
    return Labelled(x.reshape(-1, dim), data[f"{which}_label"].repeat(clips),
                    np.repeat(np.arange(videos), clips))

  for data in files(golden_dir, "provico", "retrieval"):
    ks = tuple(int(k) for k in data["ks"])
    evaluator = class_retrieval.make(rows(data, "gallery"), rows(data, "query"), ks=ks,
                                     by_video=True, block=(32, 100), **settings)
    report = evaluator.report()
    ours = [report.numbers[f"R@{k}"] for k in ks]
    np.testing.assert_allclose(ours, data[f"recall_{name}"], atol=1e-12)
    clear = data[f"top10_gap_{name}"] > 1e-6
    top = data[f"top10_{name}"]
    assert clear.sum() > len(clear) / 2
    np.testing.assert_array_equal(report.index[clear, :top.shape[1]], top[clear])
