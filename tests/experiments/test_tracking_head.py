"""A head trained on frozen features tracks what it has never seen; tracking on drawn videos."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from data_pipelines import tracks
from data_pipelines.datasets import procedural
from data_pipelines.errors import DataError
from data_pipelines.render import load_truth
from experiments import tracking_head
from tests.data_pipelines.layouts import procedural as small
from tests.evaluators import moving
from vssl_jax import parallel
from vssl_jax.evaluators import tracker, tracking
from vssl_jax.methods import siamfc
from vssl_jax.ops import crops
from vssl_jax.types import ConfigError

PROTOCOL = dataclasses.replace(tracker.PROTOCOLS["corrected"], exemplar=63, search=127)
BATCH = 8


def features(inputs):
  return {"features": moving.colours(inputs)["features"] / 30}


def pairs(seed=0):
  """The first and the last frame of clip after clip, the target in the middle of both crops."""
  for start in itertools.count(1000 * (seed + 1), BATCH):
    batch = {"exemplar": [], "search": []}
    for k in range(BATCH):
      clip = moving.clip("", start + k, length=2)
      for name, frame, box in zip(batch, clip.frames, clip.truth["boxes"], strict=True):
        state = tracker.start(box, PROTOCOL)
        batch[name].append(crops.squares(frame, state.centre, [getattr(state, name)],
                                         getattr(PROTOCOL, name))[0])
    yield {name: np.stack(v) for name, v in batch.items()}


@pytest.fixture(scope="module")
def method():
  return siamfc.make(channels=8, scale=0.01, radius=8)


def train(method, epochs=3, batches=None, final=0.005, **kwargs):
  return tracking_head.train_head(
    method, features, batches or pairs(), epochs=epochs, steps_per_epoch=10, learning_rate=0.05,
    final=final, mesh=parallel.mesh(jax.devices()[:1]), **kwargs)


@pytest.fixture(scope="module")
def trained(method):
  return train(method)


def test_a_trained_head_beats_an_untrained_one(method, trained):
  evaluator = tracking.make([moving.clip(str(i), i, length=5) for i in range(3)], moving.frames,
                            matcher="siamese", protocol=PROTOCOL, progress=False)
  batch = next(pairs(5))
  first = method.init(jax.random.key(1), {k: features({"image": x})["features"]
                                          for k, x in batch.items()})[0]
  before, after = (evaluator(tracking_head.embed(method, p, features))
                   for p in (first, trained.params))
  assert after["success"] > 0.6 and after["success"] > before["success"] + 0.2
  assert len(trained.loss) == 30 and trained.loss[-5:].mean() < 0.7 * trained.loss[:3].mean()
  assert trained.centred[-5:].mean() > 0.8


def test_the_seed_decides_and_the_rate_falls_from_epoch_to_epoch(method, trained):
  one, other = train(method, epochs=1), train(method, epochs=1, seed=1)
  np.testing.assert_array_equal(one.loss, trained.loss[:10])
  assert one.loss[0] != other.loss[0]
  # So steep that the second epoch changes nothing.
  two = train(method, epochs=2, final=1e-30)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one.params, two.params)


def test_the_rate_drops_to_a_tenth(method):
  """As after one of two epochs at equal ratios down to a hundredth."""
  one, other = (train(method, epochs=2, **how) for how in (
      dict(drops=(1,)), dict(final=0.05 / 100)))
  np.testing.assert_array_equal(one.loss, other.loss)
  never = train(method, epochs=2, drops=(2,))
  np.testing.assert_array_equal(never.loss[:11], one.loss[:11])
  assert (never.loss[11:] != one.loss[11:]).any()


def moved(tell):
  """Pairs whose search shows the target 16 pixels lower."""
  for batch in pairs():
    offset = {"offset": np.tile(np.float32([16, 0]), (BATCH, 1))} if tell else {}
    yield {"exemplar": batch["exemplar"], "search": np.roll(batch["search"], 16, 1)} | offset


def test_labels_move_with_the_target(method, trained):
  told, untold = (train(method, epochs=1, batches=moved(tell)) for tell in (True, False))
  assert told.centred.mean() > untold.centred.mean() + 0.3


def test_bad_training(method):
  with pytest.raises(ConfigError, match="end after 1 batches of 10"):
    train(method, epochs=1, batches=itertools.islice(pairs(), 1))
  with pytest.raises(ConfigError, match="nothing to train"):
    train(method, epochs=0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
  options = small.OPTIONS | {"size": 96, "fps": 8, "n_train_edits": 1}
  return procedural.read(str(tmp_path_factory.mktemp("drawn")), "train", truth=True, **options)


def test_tracks_of_drawn_videos_are_evaluated(drawn):
  data = tracks.drawn(drawn, least=3)
  evaluator = tracking.make(data, tracks.frames, progress=False)
  report = evaluator.report(moving.colours)
  assert report.numbers["tracks"] == len(data.records) >= 1
  assert 0 < report.numbers["success"] <= 1
  for record in data.records:
    assert len(report.tracks[record.id].boxes) == len(record.truth["boxes"]) >= 3


def test_a_track_is_one_shot_and_its_frames_are_those_of_its_boxes(drawn):
  by_id = {record.id: record for record in drawn.records}
  for track in tracks.drawn(drawn, least=3).records:
    whole = by_id[track.id.partition("#")[0]]
    truth = load_truth(procedural.truth_path(whole.video))
    shown = list(tracks.frames(dataclasses.replace(whole, start=None, end=None)))
    mine = list(tracks.frames(track))
    same = (truth.boxes[:, 0] == track.truth["boxes"][0]).all(1)
    at = next(i for i in np.flatnonzero(same) if (shown[i] == mine[0]).all())
    assert len(mine) == len(track.truth["boxes"])
    np.testing.assert_array_equal(mine, shown[at:at + len(mine)])
    np.testing.assert_array_equal(truth.boxes[at:at + len(mine), 0], track.truth["boxes"])
    assert len(set(truth.shot[at:at + len(mine)])) == 1
  with pytest.raises(DataError, match="no track of 1000 frames"):
    tracks.drawn(drawn, least=1000)
