"""Training batches: what is drawn, how evenly, and that nothing but seed and index decides it."""

import collections
import itertools

import numpy as np
import pytest

from data_pipelines import pipeline
from data_pipelines.errors import DataError
from data_pipelines.records import RetrievalData

LENGTH, NEGATIVES = 5, 3
PAIRS = [(f"core{i}", f"core{j}") for i, j in ((0, 1), (1, 2), (3, 4), (5, 6), (0, 2), (4, 3))]
IDS = [f"core{i}" for i in range(7)] + [f"back{i}" for i in range(8)]
GROUPS = {"core0": 0, "core1": 0, "core2": 0, "core3": 1, "core4": 1, "back0": 0, "back1": 1,
          "back2": 7}


def frames(index: int, count: int) -> np.ndarray:
  """Frame t of video i is [i + 1, t + 1], so that a window tells where it is from."""
  return np.float32([[index + 1, t + 1] for t in range(count)])


STORE = {name: frames(i, 1 + i) for i, name in enumerate(IDS)}  # 1 to 15 frames


def dataset(**changes) -> RetrievalData:
  fields = dict(name="synthetic", videos={}, pairs=PAIRS, background=IDS[7:], groups=GROUPS,
                queries=[], database=[], annotation={})
  return RetrievalData(**(fields | changes))


def elements(seed=0, store=STORE, negatives=NEGATIVES, sampling="window", **changes):
  return pipeline.pairs(dataset(**changes), store, length=LENGTH, negatives=negatives, seed=seed,
                        sampling=sampling)


def name_of(x: np.ndarray) -> str:
  return IDS[int(x[0, 0]) - 1]


def names(element):
  return (name_of(element["anchor"]["x"]), name_of(element["positive"]["x"]),
          [name_of(x) for x in element["negative"]["x"]])


def assert_same(a, b):
  for side, field in itertools.product(("anchor", "positive", "negative"),
                                       ("x", "length", "group")):
    np.testing.assert_array_equal(a[side][field], b[side][field])


def take(count, **args):
  return list(itertools.islice(pipeline.batches(elements(), batch=4, **args), count))


def test_fit_length():
  x = frames(0, 4)
  np.testing.assert_array_equal(pipeline.fit_length(x, 4), x)
  np.testing.assert_array_equal(pipeline.fit_length(x, 6), [*x, [0, 0], [0, 0]])
  for start in range(3):
    np.testing.assert_array_equal(pipeline.fit_length(x, 2, start), x[start:start + 2])
  for start in (None, -1, 3):
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
      pipeline.fit_length(x, 2, start)


def test_a_video_is_its_padded_frames_or_a_window_with_its_true_length_and_group():
  data = elements()
  for i in range(60):
    element = data[i]
    negative = element["negative"]
    sides = [element["anchor"], element["positive"],
             *({k: v[j] for k, v in negative.items()} for j in range(NEGATIVES))]
    for side in sides:
      name = name_of(side["x"])
      whole = STORE[name]
      assert side["length"] == len(whole)
      assert side["group"] == GROUPS.get(name, -1)
      assert (side["x"].dtype, side["length"].dtype, side["group"].dtype) == (
          np.float32, np.int32, np.int32)
      start = int(side["x"][0, 1]) - 1
      rows = whole[start:start + LENGTH]
      assert len(rows) == min(LENGTH, len(whole))
      np.testing.assert_array_equal(side["x"][:len(rows)], rows)
      np.testing.assert_array_equal(side["x"][len(rows):], 0)


def test_every_pair_comes_once_an_epoch_as_it_is_written_and_in_a_new_order_each():
  data = elements()
  epochs = [[names(data[len(PAIRS) * e + i])[:2] for i in range(len(PAIRS))] for e in range(5)]
  for epoch in epochs:
    assert sorted(epoch) == sorted(PAIRS)
  assert len({tuple(e) for e in epochs}) > 3
  assert epochs[0] != PAIRS
  assert [names(elements(seed=1)[i])[:2] for i in range(6)] != epochs[0]


def test_windows_start_anywhere_with_equal_chances_the_last_start_included():
  store = STORE | {"back7": frames(14, LENGTH + 3)}
  data = elements(store=store, pairs=[("back7", "core6")])
  drawn = [data[i] for i in range(400)]
  starts = collections.Counter(int(e["anchor"]["x"][0, 1]) - 1 for e in drawn)
  assert sorted(starts) == [0, 1, 2, 3]
  for count in starts.values():  # 100 expected; the standard deviation is 8.7
    assert abs(count - 100) < 43
  assert {int(e["positive"]["x"][0, 1]) for e in drawn} == {1, 2, 3}
  both = {(int(e["anchor"]["x"][0, 1]), int(e["positive"]["x"][0, 1])) for e in drawn}
  assert len(both) == 12  # drawn independently


def test_random_sampling_draws_frames_of_long_videos_with_replacement_and_unsorted():
  data = elements(sampling="random", pairs=[("back7", "core1")])
  drawn = [data[i]["anchor"] for i in range(200)]
  assert all(e["length"] == 15 for e in drawn)
  frames = np.array([e["x"][:, 1] for e in drawn]).astype(int)
  counts = np.bincount(frames.reshape(-1), minlength=16)
  assert counts[0] == 0
  assert np.abs(counts[1:] - 1000 / 15).max() < 5 * np.sqrt(1000 / 15)
  assert any(len(set(row)) < LENGTH for row in frames)
  assert any(list(row) != sorted(row) for row in frames)
  short = data[0]["positive"]  # two frames, padded as ever
  np.testing.assert_array_equal(short["x"], pipeline.fit_length(STORE["core1"], LENGTH))


def test_negatives_are_distinct_unrelated_to_the_anchor_and_equally_likely():
  data, seen = elements(), collections.defaultdict(collections.Counter)
  for i in range(400):
    anchor, _, negatives = names(data[i])
    group = GROUPS.get(anchor, -1)
    assert len(set(negatives)) == NEGATIVES
    for name in negatives:
      assert name.startswith("back")
      assert group < 0 or GROUPS.get(name, -1) != group
      seen[group][name] += 1
  assert len(seen) == 3
  assert len(seen[-1]) == 8
  for group, counts in seen.items():
    assert len(counts) == (8 if group < 0 else 7)
    expected = sum(counts.values()) / len(counts)
    for count in counts.values():
      assert abs(count - expected) < 5 * np.sqrt(expected)


def test_as_many_negatives_as_there_are():
  element = elements(negatives=7, pairs=PAIRS[:3])[0]
  assert len(set(names(element)[2])) == 7


@pytest.mark.parametrize("args", [dict(threads=1), dict(threads=8, buffer=1), dict(buffer=100)])
def test_threads_and_buffers_change_nothing(args):
  for got, want in zip(take(6, **args), take(6), strict=True):
    assert_same(got, want)


def test_batches_are_the_elements_in_order_across_epochs():
  data = elements()
  for i, batch in enumerate(take(6)):
    for row in range(4):
      got = {side: {k: v[row] for k, v in fields.items()} for side, fields in batch.items()}
      assert_same(got, data[4 * i + row])


@pytest.mark.parametrize("count", [2, 4])
def test_the_global_batch_is_the_same_for_any_number_of_processes(count):
  parts = [take(5, process=(i, count), threads=1 + i) for i in range(count)]
  for step, whole in enumerate(take(5)):
    joined = {side: {k: np.concatenate([p[step][side][k] for p in parts]) for k in fields}
              for side, fields in whole.items()}
    assert_same(joined, whole)


@pytest.mark.parametrize("process", [(0, 1), (1, 2)])
def test_starting_later_skips_batches(process):
  whole = take(7, process=process)
  for first in (1, 3, 5):
    for got, want in zip(take(2, process=process, first_step=first), whole[first:], strict=False):
      assert_same(got, want)


def test_starting_at_a_far_step_costs_nothing():
  assert_same(take(1, first_step=10**9)[0], take(1, first_step=10**9, threads=3)[0])


def test_the_same_seed_gives_the_same_windows_and_negatives_and_another_gives_others():
  first, again, other = elements(seed=3), elements(seed=3), elements(seed=4)
  for i in range(20):
    assert_same(first[i], again[i])
  assert [names(first[i])[2] for i in range(20)] != [names(other[i])[2] for i in range(20)]
  # Nor does an epoch repeat the draws of the one before.
  draws = [[n for p, n in sorted((names(first[6 * e + i])[:2], names(first[6 * e + i])[2])
                                 for i in range(6))] for e in range(2)]
  assert draws[0] != draws[1]


def test_videos_that_could_not_be_read_are_left_out():
  store = {k: v for k, v in STORE.items() if k not in ("core1", "back3")}
  data = elements(store=store)
  seen = [names(data[i]) for i in range(40)]
  assert {(a, p) for a, p, _ in seen} == {p for p in PAIRS if "core1" not in p}
  assert {n for *_, negatives in seen for n in negatives} == set(IDS[7:]) - {"back3"}


def test_what_is_missing_is_named():
  with pytest.raises(DataError, match=r"synthetic: none of (the )?6 training pairs"):
    elements(store={k: v for k, v in STORE.items() if k.startswith("back")})
  with pytest.raises(DataError, match=r"7 background videos .* fewer than pairs\.negatives=8"):
    elements(negatives=8)
  with pytest.raises(DataError, match=r"pairs\.sampling='windw' is unknown; .*window, random"):
    elements(sampling="windw")
  with pytest.raises(DataError, match=r"train\.batch=4 can't be split over 3 processes"):
    next(pipeline.batches(elements(), batch=4, process=(0, 3)))


def test_only_the_anchors_own_groups_take_from_the_background():
  groups = {"core0": 0} | {f"back{i}": 9 for i in range(8)}
  data = elements(negatives=8, groups=groups, pairs=PAIRS[:1])
  assert len(set(names(data[0])[2])) == 8


def test_an_id_listed_twice_counts_once():
  with pytest.raises(DataError, match="1 background videos"):
    elements(negatives=2, background=["back4", "back4"])
  data = elements(negatives=2, background=["back4", "back4", "back5"])
  assert {tuple(sorted(names(data[i])[2])) for i in range(20)} == {("back4", "back5")}
