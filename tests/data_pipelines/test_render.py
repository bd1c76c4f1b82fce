"""Drawn scenes and their ground truth."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.errors import DataError
from data_pipelines.render import (
  APPEARANCES,
  CAMERAS,
  MOTIONS,
  N_STOCK,
  SceneSpec,
  join_truth,
  load_truth,
  render_scene,
  save_truth,
  scene,
  stock_shot,
)
from data_pipelines.render.motion import main_pose
from data_pipelines.render.stock import stock_truth
from data_pipelines.render.truth import take_truth

CLEAN = SceneSpec(seed=5, appearance=3, motion=2, n_frames=12, noise=0, light=0, n_objects=4)


def coordinate_words(n):
  """A texture whose colours are its own row and column, opaque everywhere."""
  row, column = np.mgrid[:n, :n].astype(np.uint32)
  return (row | column << 8 | np.uint32(0xFF000000)).astype("<u4")


@pytest.mark.parametrize("motion", range(len(MOTIONS)))
@pytest.mark.parametrize("camera", CAMERAS)
def test_key_points_lie_where_their_texels_are_drawn(motion, camera):
  spec = dataclasses.replace(CLEAN, motion=motion, camera=camera, camera_seed=motion, n_frames=6)
  _, materials = scene.build(spec.seed, spec.appearance, 1, 256)
  material = dataclasses.replace(materials[0], words=coordinate_words(256))
  seconds = np.arange(spec.n_frames) / spec.fps
  pose = main_pose(MOTIONS[motion], spec.seed, seconds)
  affine = scene._compose(scene._camera(spec, seconds), pose, material.size)
  bend = scene._Bend.at(material, seconds)
  points = scene._forward(material.points, bend, affine)
  canvas = np.zeros((spec.n_frames, spec.height, spec.width), "<u4")
  scene._draw_object(canvas, np.zeros(canvas.shape, np.uint8), 1, material, bend, affine)
  texel = (material.points / scene.SPAN + 1) / 2 * 256 - 0.5
  errors = []
  for t, p in np.ndindex(points.shape[:2]):
    x, y = np.rint(points[t, p]).astype(int)
    if 0 <= x < spec.width and 0 <= y < spec.height:
      word = int(canvas[t, y, x])
      seen = np.array([word >> 8 & 255, word & 255])
      texels_per_pixel = 256 / (2 * scene.SPAN) / np.linalg.svd(affine[0][t])[1].min()
      # The rest is the point's way to the middle of its pixel, and what the bend stretches.
      way = np.linalg.inv(affine[0][t]) @ (np.array([x, y]) - points[t, p]) * 256 / 2 / scene.SPAN
      errors.append((seen - texel[p] - way) / texels_per_pixel)
  assert len(errors) > 8
  assert np.abs(errors).max() < 0.75 and np.abs(np.mean(errors, 0)).max() < 0.15


def patch(frame, point, r=3):
  x, y = (round(float(c)) for c in point)
  return frame[y - r : y + r + 1, x - r : x + r + 1].astype(float)


def test_texture_round_a_key_point_moves_with_it():
  spec = dataclasses.replace(CLEAN, motion=MOTIONS.index("left_right"), n_objects=1, fps=24)
  frames, truth = render_scene(dataclasses.replace(spec, appearance=0))
  along, still = [], []
  for t in range(1, spec.n_frames):
    for here, before in zip(truth.points[t, 0], truth.points[t - 1, 0], strict=True):
      far = np.linalg.norm(here - before) > 3
      if far and min(here.min(), before.min()) > 4 and max(here.max(), before.max()) < 123:
        now = patch(frames[t], here)
        along.append(np.abs(now - patch(frames[t - 1], before)).mean())
        still.append(np.abs(now - patch(frames[t - 1], here)).mean())
  assert len(along) > 10 and np.mean(along) < 0.5 * np.mean(still)


def test_visible_points_lie_in_the_mask_of_their_object_and_hidden_ones_don_t():
  hidden = 0
  for seed in range(6):
    truth = render_scene(dataclasses.replace(CLEAN, seed=seed, n_objects=5))[1]
    for t, k, p in np.ndindex(truth.visible.shape):
      x, y = np.rint(truth.points[t, k, p]).astype(int)
      inside = 0 <= x < 128 and 0 <= y < 128
      assert truth.visible[t, k, p] == (inside and truth.labels[t, y, x] == k + 1)
      if inside and not truth.visible[t, k, p]:
        assert truth.labels[t, y, x] > 0  # another object is in front of it
        hidden += 1
  assert hidden > 20


def test_boxes_enclose_what_is_seen():
  truth = render_scene(dataclasses.replace(CLEAN, n_objects=5, height=64, width=96))[1]
  empty = 0
  for t, k in np.ndindex(truth.boxes.shape[:2]):
    ys, xs = np.nonzero(truth.labels[t] == k + 1)
    box = truth.boxes[t, k].tolist()
    if len(ys) == 0:
      assert box == [0, 0, 0, 0]
      empty += 1
    else:
      assert box == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
  assert empty < truth.boxes.shape[0] * truth.boxes.shape[1]


def test_labels_are_where_an_object_changes_the_picture():
  alone, _ = render_scene(dataclasses.replace(CLEAN, n_objects=1))
  all_, truth = render_scene(CLEAN)
  changed = (alone != all_).any(3)
  added = truth.labels > 1
  assert added.sum() > 5000 and changed[added].mean() > 0.98
  # Beyond the labels only soft rims change: pixels beside a label.
  beside = np.zeros_like(added)
  for shift in (-1, 1):
    beside |= np.roll(added, shift, 1) | np.roll(added, shift, 2)
  assert (changed & ~added & ~beside).mean() < 0.002


def test_another_time_of_the_scene_is_the_same_film_cut_elsewhere():
  long, truth = render_scene(dataclasses.replace(CLEAN, n_frames=20))
  late, late_truth = render_scene(dataclasses.replace(CLEAN, time=1.0, n_frames=12))
  np.testing.assert_array_equal(long[8:], late)
  np.testing.assert_allclose(truth.points[8:], late_truth.points, atol=1e-3)
  assert np.abs(long[:12].astype(int) - late).mean() > 1


def test_another_camera_sees_the_same_world():
  a = render_scene(dataclasses.replace(CLEAN, camera_seed=1))[1].points
  b = render_scene(dataclasses.replace(CLEAN, camera_seed=2, camera="pan"))[1].points
  for t in range(len(a)):
    first, second = a[t].reshape(-1, 2), b[t].reshape(-1, 2)
    design = np.column_stack([first, np.ones(len(first))])
    solution, *_ = np.linalg.lstsq(design, second, rcond=None)
    assert np.abs(design @ solution - second).max() < 1e-2
    assert np.abs(first - second).mean() > 2


def test_the_ground_lies_in_the_same_world_as_the_objects():
  """The map between two views that fits the key points also fits the ground."""
  views = [render_scene(dataclasses.replace(CLEAN, appearance=5, camera_seed=seed, n_frames=1))
           for seed in (1, 4)]  # fmt: skip
  (a, a_truth), (b, b_truth) = views
  first, second = (truth.points[0].reshape(-1, 2) for truth in (a_truth, b_truth))
  design = np.column_stack([first, np.ones(len(first))])
  affine = np.linalg.lstsq(design, second, rcond=None)[0]
  y, x = np.nonzero(a_truth.labels[0] == 0)
  u, v = np.rint(np.column_stack([x, y, np.ones(len(x))]) @ affine).astype(int).T
  inside = (u >= 0) & (u < 128) & (v >= 0) & (v < 128)
  x, y, u, v = (c[inside] for c in (x, y, u, v))
  ground = b_truth.labels[0, v, u] == 0
  seen, expected = a[0, y, x][ground].ravel(), b[0, v, u][ground].ravel()
  assert len(seen) > 10_000 and np.corrcoef(seen, expected)[0, 1] > 0.95
  assert np.corrcoef(a[0].ravel(), b[0].ravel())[0, 1] < 0.8


def test_same_spec_same_pixels_and_every_seed_matters():
  frames, truth = render_scene(SceneSpec(seed=1, n_frames=3))
  again, _ = render_scene(SceneSpec(seed=1, n_frames=3))
  np.testing.assert_array_equal(frames, again)
  assert frames.dtype == np.uint8 and frames.shape == (3, 128, 128, 3)
  assert set(truth.scene) == {1} and set(truth.stock) == {-1}
  for change in ({"seed": 2}, {"appearance": 1}, {"motion": 3}, {"camera_seed": 1}, {"time": 0.5}):
    other, _ = render_scene(dataclasses.replace(SceneSpec(seed=1, n_frames=3), **change))
    assert np.abs(frames.astype(int) - other).mean() > 1, change


def test_noise_light_and_blur_do_what_they_say():
  clean = render_scene(CLEAN)[0].astype(float)
  noisy = render_scene(dataclasses.replace(CLEAN, noise=5.0))[0].astype(float)
  middle = (clean > 30) & (clean < 225)
  assert 4 < (noisy - clean)[middle].std() < 6
  lit = render_scene(dataclasses.replace(CLEAN, light=3.0))[0].astype(float)
  assert np.std(lit.mean((1, 2, 3))) > 2 * np.std(clean.mean((1, 2, 3)))
  blurred = render_scene(dataclasses.replace(CLEAN, blur=2.0))[0].astype(float)
  assert np.abs(np.diff(blurred, axis=1)).mean() < 0.6 * np.abs(np.diff(clean, axis=1)).mean()


@pytest.mark.parametrize("size", [(16, 16), (33, 50), (1, 1)])
def test_any_size(size):
  frames, truth = render_scene(SceneSpec(seed=0, height=size[0], width=size[1], n_frames=2))
  assert frames.shape == (2, *size, 3) and truth.labels.shape == (2, *size)
  assert frames.std() > 0


def test_number_of_objects():
  assert {render_scene(SceneSpec(s, n_frames=1, height=16))[1].points.shape[1]
          for s in range(20)} == {2, 3, 4, 5}  # fmt: skip
  assert render_scene(SceneSpec(0, n_frames=1, n_objects=1))[1].points.shape[1] == 1


def test_unknown_camera_is_refused():
  with pytest.raises(ValueError, match="camera must be one of"):
    render_scene(SceneSpec(0, camera="drone"))


def test_motion_classes_move_as_they_are_named():
  t = np.linspace(0, 12, 400)
  for seed in range(4):
    poses = {m: main_pose(m, seed, t) for m in MOTIONS}
    extent = {m: np.ptp(p.centre, axis=0) for m, p in poses.items()}
    assert extent["left_right"][0] > 2 * extent["left_right"][1]
    assert extent["up_down"][1] > 2 * extent["up_down"][0]
    for still in ("pulse", "spin"):
      assert extent[still].max() == 0
    assert np.ptp(poses["pulse"].scale) > 0.3 and np.ptp(poses["spin"].scale) == 0
    assert (np.diff(poses["spin"].angle) > 0).all() and np.ptp(poses["circle"].angle) == 0
    circle = poses["circle"].centre
    radii = np.linalg.norm(circle - (circle.max(0) + circle.min(0)) / 2, axis=1)
    assert np.ptp(radii) < 0.05 * radii.mean()
    steps = np.linalg.norm(np.diff(poses["stop_and_go"].centre, axis=0), axis=1)
    assert 0.3 < np.mean(steps < 1e-6) < 0.7
    assert np.ptp(poses["swing"].angle) > 1


def test_no_two_motion_classes_are_alike():
  t = np.linspace(0, 8, 100)
  tracks = []
  for motion in MOTIONS:
    pose = main_pose(motion, 0, t)
    track = np.column_stack([pose.centre, np.log(pose.scale), 0.2 * np.unwrap(pose.angle)])
    tracks.append(track - track.mean(0))
  for i in range(len(tracks)):
    for j in range(i):
      assert np.abs(tracks[i] - tracks[j]).max() > 0.1, (MOTIONS[i], MOTIONS[j])


def test_appearance_classes_can_be_told_apart_by_colour():
  features = np.empty((4, len(APPEARANCES), 64))
  for seed, a in np.ndindex(features.shape[:2]):
    spec = SceneSpec(100 * seed + a, a, n_frames=1, n_objects=1, height=64, width=64)
    frames, _ = render_scene(spec)
    bins = (frames // 64 @ np.array([16, 4, 1])).ravel()
    features[seed, a] = np.sqrt(np.bincount(bins, minlength=64) / bins.size)
  right = 0
  for seed in range(4):
    centres = np.delete(features, seed, 0).mean(0)
    right += np.sum((features[seed] @ centres.T).argmax(1) == np.arange(len(APPEARANCES)))
  assert right / features[..., 0].size > 0.4  # chance is 1 in 16


def test_truth_survives_its_file(tmp_path):
  truth = render_scene(dataclasses.replace(CLEAN, n_frames=3))[1]
  save_truth(tmp_path / "a.npz", truth)
  save_truth(tmp_path / "b.npz", truth)
  assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
  loaded = load_truth(tmp_path / "a.npz")
  for field in dataclasses.fields(truth):
    a, b = getattr(truth, field.name), getattr(loaded, field.name)
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
  assert (tmp_path / "a.npz").stat().st_size < truth.labels.nbytes / 5


def test_damaged_truth_is_named(tmp_path):
  (tmp_path / "bad.npz").write_bytes(b"PK nonsense")
  for name in ("bad.npz", "missing.npz"):
    with pytest.raises(DataError, match=name):
      load_truth(tmp_path / name)


def test_joined_truth_keeps_every_shot():
  one = render_scene(dataclasses.replace(CLEAN, n_frames=3, n_objects=2))[1]
  two = render_scene(dataclasses.replace(CLEAN, n_frames=4, n_objects=4, appearance=7))[1]
  joined = join_truth([one, stock_truth(6, 2, 128, 128), take_truth(two, slice(1, 3))])
  assert joined.shot.tolist() == [0, 0, 0, 1, 1, 2, 2]
  assert joined.stock.tolist() == [-1, -1, -1, 6, 6, -1, -1]
  assert joined.appearance.tolist() == [3, 3, 3, -1, -1, 7, 7]
  np.testing.assert_array_equal(joined.points[:3, :2], one.points)
  assert np.isnan(joined.points[:3, 2:]).all() and np.isnan(joined.points[3:5]).all()
  assert not joined.visible[:3, 2:].any() and not joined.visible[3:5].any()
  np.testing.assert_array_equal(joined.labels[5:], two.labels[1:3])
  np.testing.assert_array_equal(joined.boxes[5:], two.boxes[1:3])


def test_stock_shots_are_fixed_and_differ():
  shots = [stock_shot(0, i, 32, 48, 10, 4) for i in range(N_STOCK)]
  for i, shot in enumerate(shots):
    assert shot.shape == (10, 32, 48, 3) and shot.dtype == np.uint8
    stock_shot.cache_clear()
    np.testing.assert_array_equal(shot, stock_shot(0, i, 32, 48, 10, 4))
    assert all(np.abs(shot.astype(int) - other).mean() > 3 for other in shots[:i])
  other_pool = stock_shot(1, 1, 32, 48, 10, 4)
  assert np.abs(other_pool.astype(int) - shots[1]).mean() > 3
