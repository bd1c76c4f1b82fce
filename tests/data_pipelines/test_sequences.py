"""A record's frames in order and the label maps that belong to them."""

import dataclasses

import numpy as np
import pytest

from data_pipelines import sequences
from data_pipelines.datasets import davis, procedural
from data_pipelines.errors import DataError, VideoError
from data_pipelines.media import open_media
from data_pipelines.pictures import read_labels
from data_pipelines.records import Record
from data_pipelines.render import MOTIONS, load_truth
from tests.data_pipelines.layouts import davis as layout

SMALL = dict(size=32, seconds=(2.0, 3.0), n_train_families=1, n_train_edits=1, n_background=1,
             n_queries=1, n_per_label=(1, 0, 0, 0), n_distractors=6, difficulty=0.5, progress=False,
             processes=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def shots(cache):
  return procedural.read(cache, "all", shots=True, **SMALL).records


def test_a_shot_is_the_longest_of_its_video_with_its_truth(cache, shots):
  assert len(shots) >= 3
  edited = {r.id for r in procedural.read(cache, "all", **SMALL).records if "_" in r.id}
  assert edited and not edited & {r.id for r in shots}
  for record in shots:
    known = load_truth(procedural.truth_path(record.video))
    counts = np.bincount(known.shot[known.stock < 0])
    assert len(record.truth["labels"]) == counts.max()
    first = round(record.start * 8)
    numbers = np.arange(first, first + counts.max())
    assert len(set(known.shot[numbers])) == 1 and (known.stock[numbers] < 0).all()
    np.testing.assert_array_equal(record.truth["points"], known.points[numbers, 0])
    assert known.visible[first, 0].all()
    with open_media(record) as media:
      want = media.frames(numbers)
    got = list(sequences.labelled(record))
    np.testing.assert_array_equal(np.stack([frame for frame, _ in got]), want)
    np.testing.assert_array_equal(np.stack(list(sequences.frames(record))), want)
    for (_, labels), full in zip(got, known.labels[numbers], strict=True):
      seen = np.unique(known.labels[first])
      want_labels = np.searchsorted(seen, full) * np.isin(full, seen)
      np.testing.assert_array_equal(labels, want_labels)
    labels = np.unique(record.truth["labels"][0])
    assert labels.tolist() == list(range(len(labels))) and len(labels) > 1


def test_unsteady_colours_are_those_of_the_steady_scene_with_other_gains(cache, shots):
  same = {r.id: r for r in procedural.read(cache, "all", shots=True, flicker=0.4, **SMALL).records}
  assert same.keys() == {r.id for r in shots}
  steady = shots[0]
  unsteady = same[steady.id]
  assert unsteady.video != steady.video
  np.testing.assert_array_equal(unsteady.truth["labels"], steady.truth["labels"])
  a, b = (np.stack(list(sequences.frames(r))).mean((1, 2)) for r in (steady, unsteady))
  gains = np.log(b / a)
  assert gains.std(0).min() > 0.1 and np.log(a).std(0).max() < 0.1


def test_pictures_with_label_maps(tmp_path):
  layout.write(tmp_path)
  record = davis.read(str(tmp_path), "val", allow_missing=True).records[0]
  got = list(sequences.labelled(record))
  assert len(got) == len(record.frames)
  for (frame, labels), mask in zip(got, record.masks, strict=True):
    assert frame.shape[:2] == labels.shape
    np.testing.assert_array_equal(labels, read_labels(mask))
  without = dataclasses.replace(record, masks=(record.masks[0], *[""] * (len(got) - 1)))
  labels = [x for _, x in sequences.labelled(without)]
  assert labels[0] is not None and labels[1:] == [None] * (len(got) - 1)
  part = dataclasses.replace(record, start=1 / 24, end=3 / 24)
  np.testing.assert_array_equal(np.stack([f for f, _ in sequences.labelled(part)]),
                                np.stack([f for f, _ in got[1:3]]))


def test_what_cannot_be_read(shots):
  short = dataclasses.replace(shots[0], truth={"labels": shots[0].truth["labels"][:1]})
  with pytest.raises(VideoError, match="label maps for 1 frames only"):
    list(sequences.labelled(short))
  with pytest.raises(VideoError, match="neither a video nor pictures"):
    list(sequences.frames(Record("empty")))


def test_plain_scenes_differ_in_motion_alone(cache):
  found = procedural.read(cache, "all", shots=True, plain=True, **SMALL)
  assert {r.text for r in found.records} <= set(MOTIONS)
  pairs = [(next(iter(sequences.labelled(r)))) for r in found.records]
  looks = [[frame[labels == k].mean(0) for k in (0, 1)] for frame, labels in pairs]
  # Light and viewpoint differ, colours don't.
  assert np.ptp(looks, axis=0).max() < 60
  others = [frame.mean((0, 1)) for r in procedural.read(cache, "all", shots=True, **SMALL).records
            for frame in list(sequences.frames(r))[:1]]
  assert np.ptp(others, axis=0).max() > 90
  with pytest.raises(DataError, match="everything looks alike"):
    procedural.read(cache, "all", plain=True, label="appearance", **SMALL)
