"""Near-duplicate edits: valid on any video, and still the same video."""

import hashlib

import numpy as np
import pytest

from data_pipelines import edits
from data_pipelines.edits import EDITS, insert_into, random_edit
from data_pipelines.render import SceneSpec, render_scene

IN_ORDER = ("speed", "fast_forward", "slow_motion", "drop_frames", "temporal_crop", "pause")
TEMPORAL = (*IN_ORDER, "reverse", "shuffle")


@pytest.fixture(scope="module")
def video():
  spec = SceneSpec(seed=3, appearance=2, motion=2, height=48, width=64, n_frames=10, noise=0)
  return render_scene(spec)[0]


def thumbnail(frame):
  return edits.resize(frame[None], 12, 12)[0].mean(2)


def likeness(a, b):
  """Correlation of coarse luminance, the better of the frame and its mirror image."""
  a, b = thumbnail(a), thumbnail(b)
  return max(np.corrcoef(a.ravel(), c.ravel())[0, 1] for c in (b, b[:, ::-1]))


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (2, 1, 40), (3, 37, 21), (13, 16, 16)])
def test_every_edit_is_valid_on_any_video(name, shape):
  for seed in range(3):
    frames = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = frames.copy()
    out = EDITS[name](frames, np.random.default_rng(seed))
    assert out.dtype == np.uint8 and out.ndim == 4 and out.shape[3] == 3 and min(out.shape) >= 1
    assert len(out) == len(frames) or name in TEMPORAL
    np.testing.assert_array_equal(frames, before)
    np.testing.assert_array_equal(out, EDITS[name](before, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", [
  name for name in EDITS if name not in (*TEMPORAL, "inset")])
def test_every_spatial_edit_changes_pixels_but_not_the_content(name, video):
  other = render_scene(SceneSpec(seed=9, appearance=10, height=48, width=64, n_frames=1))[0]
  same, different = [], []
  for seed in range(5):
    out = EDITS[name](video, np.random.default_rng(seed))
    assert out.shape != video.shape or np.mean(out != video) > 0.005
    same.append(likeness(out[0], video[0]))
    different.append(likeness(out[0], other[0]))
  assert np.mean(same) > max(0.5, np.mean(different) + 0.2)


def numbered(n):
  """Frames whose grey level is their number."""
  return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 4, 4, 3))


def test_temporal_edits_keep_the_order():
  for seed in range(20):
    for name in IN_ORDER:
      shown = EDITS[name](numbered(50), np.random.default_rng(seed))[:, 0, 0, 0].astype(int)
      assert (np.diff(shown) >= 0).all()
    kept = edits.temporal_crop(numbered(50), np.random.default_rng(seed))[:, 0, 0, 0]
    np.testing.assert_array_equal(np.diff(kept.astype(int)), 1)
    assert 30 <= len(kept) <= 45
    faster = edits.speed(numbered(50), np.random.default_rng(seed))[:, 0, 0, 0]
    assert 50 / 1.61 < len(faster) < 50 / 0.69 and faster[0] == 0 and faster[-1] >= 48


def test_strong_temporal_edits():
  orders, cut = set(), 0
  for seed in range(20):
    def shown(name, n=50, seed=seed):
      return EDITS[name](numbered(n), np.random.default_rng(seed))[:, 0, 0, 0].astype(int)

    fast, slow, still = shown("fast_forward"), shown("slow_motion"), shown("pause")
    assert 50 / 3.1 < len(fast) < 50 / 1.55 and fast[0] == 0 and fast[-1] >= 46
    assert 50 * 1.55 < len(slow) < 50 * 3.1 and set(slow) == set(range(50))
    values, counts = np.unique(still, return_counts=True)
    assert len(values) == 50 and 5 <= counts.max() - 1 <= 25 and (counts > 1).sum() == 1
    np.testing.assert_array_equal(shown("reverse"), np.arange(50)[::-1])
    mixed = shown("shuffle")
    assert len(set(mixed)) == len(mixed) and (np.diff(mixed) != 1).sum() <= 5
    assert len(mixed) >= 50 // 6
    cut += len(mixed) < 50
    orders.add(tuple(mixed))
    assert len(shown("shuffle", 1)) == 1
  assert len(orders) > 12 and 5 < cut < 20


def test_rotation_keeps_the_middle_and_blackens_corners(video):
  white = np.full_like(video, 200)
  for seed in range(6):
    out = edits.rotate(white, np.random.default_rng(seed))
    assert (out[:, 12:36, 16:48] == 200).all()
    corners = out[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 0).all() and (out == 200).mean() > 0.7


def test_posterise_and_sharpen_act_on_levels_and_edges(video):
  for seed in range(4):
    out = edits.posterise(video, np.random.default_rng(seed))
    assert len(np.unique(out)) <= 8
    assert np.abs(out.astype(int) - video).max() <= 255 / 3 / 2 + 1
  detail = np.abs(np.diff(video.astype(float), axis=2)).mean()
  sharp = edits.sharpen(video, np.random.default_rng(0)).astype(float)
  assert np.abs(np.diff(sharp, axis=2)).mean() > 1.1 * detail
  flat = np.full_like(video, 90)
  np.testing.assert_array_equal(edits.sharpen(flat, np.random.default_rng(0)), flat)


def test_a_video_is_put_onto_another():
  frames, other = numbered(5), np.full((2, 9, 7, 3), 100, np.uint8)
  other[1] = 200
  frames = np.broadcast_to(frames[:, :1, :1], (5, 20, 30, 3))
  places = set()
  for seed in range(10):
    out = edits.put_onto(frames, other, np.random.default_rng(seed))
    assert out.shape == frames.shape
    inside = out[0, ..., 0] == 0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert 10 <= len(rows) <= 16 and 15 <= len(columns) <= 24
    assert inside.sum() == len(rows) * len(columns)
    for t, frame in enumerate(out[..., 0]):
      assert (frame[inside] == t).all() and (frame[~inside] == (100, 200)[t % 2]).all()
    places.add((rows[0], columns[0]))
  assert len(places) > 5


def test_an_inset_holds_the_whole_picture(video):
  for seed in range(2):
    out, errors = edits.inset(video, np.random.default_rng(seed))[0].mean(2), []
    for share in np.linspace(0.5, 0.8, 16):
      h, w = round(48 * share), round(64 * share)
      small = edits.resize(video[:1], h, w)[0].mean(2)
      windows = np.lib.stride_tricks.sliding_window_view(out, (h, w))
      errors.append(np.abs(windows - small).mean((2, 3)).min())
    assert min(errors) < 7 and min(errors) < 0.5 * np.median(errors)


def test_flip_mirrors_and_border_surrounds(video):
  np.testing.assert_array_equal(edits.flip(video, None), video[:, :, ::-1])
  out = edits.border(video, np.random.default_rng(0))
  top, left = (out.shape[1] - 48) // 2, (out.shape[2] - 64) // 2
  assert top + left > 0
  np.testing.assert_array_equal(out[:, top : top + 48, left : left + 64], video)


def test_crop_is_a_window(video):
  out = edits.crop(video, np.random.default_rng(1))
  h, w = out.shape[1:3]
  assert 0.69 * 48 <= h <= 0.96 * 48 and 0.69 * 64 <= w <= 0.96 * 64
  windows = np.lib.stride_tricks.sliding_window_view(video, (h, w), axis=(1, 2))
  same = (windows == out.transpose(0, 3, 1, 2)[:, None, None]).all(axis=(0, 3, 4, 5))
  assert same.sum() == 1


def test_grey_takes_colour_and_keeps_luma(video):
  out = edits.grey(video, np.random.default_rng(0)).astype(float)
  spread = np.ptp(video.astype(float), axis=3).mean()
  assert np.ptp(out, axis=3).mean() < 0.25 * spread
  luma = np.array([0.299, 0.587, 0.114])
  assert np.abs(out @ luma - video @ luma).mean() < 2


def test_noise_and_blur_act_on_detail(video):
  noisy = edits.noise(video, np.random.default_rng(0)).astype(float)
  middle = (video > 40) & (video < 215)
  assert 3 < (noisy - video)[middle].std() < 15
  assert not np.array_equal(noisy[0] - video[0], noisy[1] - video[1])
  detail = np.abs(np.diff(video.astype(float), axis=2)).mean()
  blurred = edits.blur(video, np.random.default_rng(0)).astype(float)
  assert np.abs(np.diff(blurred, axis=2)).mean() < 0.9 * detail


@pytest.mark.parametrize("name", ["text", "logo", "emoji"])
def test_overlays_are_the_same_in_every_frame_and_local(name, video):
  flat = np.full_like(video, 128)
  for seed in range(4):
    change = EDITS[name](flat, np.random.default_rng(seed)) != flat
    np.testing.assert_array_equal(change, np.broadcast_to(change[:1], change.shape))
    assert 0.005 < change.any(3).mean() < 0.4


def test_reencode_is_worse_than_a_good_encoding(video):
  error = np.abs(edits.reencode(video, np.random.default_rng(0)).astype(float) - video).mean()
  assert 1 < error < 25


def test_random_edit_is_fixed_by_its_seed_and_differs_between_seeds(video):
  outs = [random_edit(video, seed) for seed in range(8)]
  for seed, out in enumerate(outs):
    np.testing.assert_array_equal(out, random_edit(video.copy(), seed))
  sums = {(out.shape, int(out.astype(np.int64).sum())) for out in outs}
  assert len(sums) == 8


def test_random_edit_uses_the_names_and_counts_it_is_given(video, monkeypatch):
  used = []
  for name in EDITS:
    monkeypatch.setitem(EDITS, name, lambda f, rng, name=name: used.append(name) or f)
  counts = set()
  for seed in range(60):
    used.clear()
    random_edit(video, seed, n=(2, 4))
    assert len(set(used)) == len(used)
    assert used == [name for name in EDITS if name in used]
    counts.add(len(used))
    used.clear()
    random_edit(video, seed, n=(1, 2), names=("crop", "blur"))
    assert set(used) <= {"crop", "blur"}
  assert counts == {2, 3, 4}


def test_default_edits_are_those_that_stored_data_was_made_with(monkeypatch):
  """More edits in the table must not change what a seed stands for."""
  used = []
  for name in EDITS:
    monkeypatch.setitem(EDITS, name, lambda f, rng, name=name: used.append(name) or f)
  frames, drawn = np.zeros((2, 4, 4, 3), np.uint8), []
  for seed in range(40):
    used.clear()
    random_edit(frames, seed)
    drawn += used
  assert set(drawn) == set(edits.USUAL) and len(edits.USUAL) == 14
  text = " ".join(drawn)
  assert hashlib.sha256(text.encode()).hexdigest()[:16] == "270b9a3a9936cc0f"
  used.clear()
  for seed in range(60):
    random_edit(frames, seed, **edits.STRENGTHS["strong"])
  assert set(used) == set(EDITS) and 3 * 60 <= len(used) <= 6 * 60


def test_no_edits_give_an_equal_copy(video):
  out = random_edit(video, 0, n=(0, 0))
  np.testing.assert_array_equal(out, video)
  assert not np.shares_memory(out, video)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 20), (4, 224, 160)])
def test_random_edit_on_frames_sampled_once_a_second(shape):
  frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
  for seed in range(12):
    out = random_edit(frames, seed)
    assert out.dtype == np.uint8 and min(out.shape) >= 1 and out.flags.c_contiguous


def test_insert_puts_one_piece_between_the_others_frames():
  frames, other = numbered(20), np.full((8, 6, 2, 3), 200, np.uint8)
  other = other + np.arange(8, dtype=np.uint8)[:, None, None, None]
  places = set()
  for seed in range(30):
    shown = insert_into(frames, other, np.random.default_rng(seed))
    assert shown.shape[1:] == (4, 4, 3)
    shown = shown[:, 0, 0, 0].astype(int)
    inside = np.flatnonzero(shown < 100)
    assert 8 <= len(inside) <= 20
    np.testing.assert_array_equal(np.diff(inside), 1)
    np.testing.assert_array_equal(np.diff(shown[inside]), 1)
    np.testing.assert_array_equal(shown[shown >= 100], 200 + np.arange(8))
    places.add(int(inside[0]))
  assert len(places) > 4


def test_insert_of_single_frames():
  one = np.zeros((1, 1, 1, 3), np.uint8)
  assert insert_into(one, one + 9, np.random.default_rng(0)).shape == (2, 1, 1, 3)
