"""The systems' transforms: what they do, in which order, how often, and to which frames."""

import pickle

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data_pipelines import augment, picture
from data_pipelines.augment import colour, geometry, steps
from data_pipelines.augment.steps import (
  Blur,
  Chain,
  ColourJitter,
  EachFrame,
  Flip,
  Grey,
  RandomResizedCrop,
  RandomScaleCrop,
  Sometimes,
)

TRAINING = {
  "moco": augment.moco(16), "moco per frame": augment.moco(16, per_frame=True),
  "contrastive_video": augment.contrastive_video(16), "fine_tune": augment.fine_tune(16),
  "fine_tune_provico": augment.fine_tune_provico(16, short_side=(18, 24)),
  "linear": augment.linear(16), "linear_video": augment.linear_video(16, short_side=(18, 24)),
  "corrflow": augment.corrflow(16, 0.5), "corrflow_bottleneck": augment.corrflow_bottleneck(0.5),
}  # fmt: skip
TESTING = {"centre_view": augment.centre_view(16, short_side=18),
           "side_views": augment.side_views(16, short_side=16)}
EVERY = TRAINING | TESTING


def random_frames(shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def rng(seed):
  return np.random.default_rng(seed)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 40), (2, 40, 1), (3, 17, 33)])
@pytest.mark.parametrize("name", EVERY)
def test_every_transform_on_any_clip(name, shape):
  frames = random_frames(shape)
  frames.flags.writeable = False
  before = frames.copy()
  size = shape[1:] if name == "corrflow_bottleneck" else (16, 16)
  views = {"corrflow": (2,), "side_views": (3,)}.get(name, ())
  for seed in range(3):
    got = EVERY[name](frames, rng(seed))
    assert got.dtype == np.uint8 and got.flags.c_contiguous
    assert got.shape == (*views, shape[0], *size, 3)
    np.testing.assert_array_equal(got, EVERY[name](before, rng(seed)))
  np.testing.assert_array_equal(frames, before)


@pytest.mark.parametrize("name", TRAINING)
def test_random_numbers_matter_and_nothing_else(name):
  frames = random_frames((2, 20, 30))
  made = [TRAINING[name](frames, rng(seed)) for seed in range(12)]
  assert len({x.tobytes() for x in made}) > 1
  again = pickle.loads(pickle.dumps(TRAINING[name]))
  np.testing.assert_array_equal(again(frames, rng(3)), made[3])


@pytest.mark.parametrize("name", ["moco", "contrastive_video", "fine_tune", "fine_tune_provico",
                                  "linear", "linear_video", "centre_view", "side_views"])
def test_one_draw_serves_the_whole_clip(name):
  still = np.repeat(random_frames((1, 20, 30)), 4, 0)
  moving = random_frames((4, 20, 30), seed=1)
  for seed in range(5):
    got = EVERY[name](still, rng(seed))
    assert (got == np.take(got, [0], axis=-4)).all()
    # and it depends on the frame only: every frame alone gives the same
    whole = EVERY[name](moving, rng(seed))
    for t in range(4):
      np.testing.assert_array_equal(np.take(whole, [t], axis=-4),
                                    EVERY[name](moving[t:t + 1], rng(seed)))


@pytest.mark.parametrize("make", [augment.moco, augment.contrastive_video, augment.fine_tune])
def test_per_frame_draws_for_every_frame(make):
  still = np.repeat(random_frames((1, 20, 30)), 6, 0)
  got = make(16, per_frame=True)(still, rng(0))
  assert len({frame.tobytes() for frame in got}) == 6
  source, clip = rng(0), make(16)
  want = np.concatenate([clip(still[:1], source) for _ in range(6)])
  np.testing.assert_array_equal(got, want)


def moco_by_hand(frame, source, size):
  """One picture by plain Pillow calls, in the order of CycleContrast 3.3."""
  top, left, h, w = geometry.random_resized_crop_box(source, *frame.shape[:2], (0.2, 1))
  image = Image.fromarray(frame).crop((left, top, left + w, top + h))
  image = image.resize((size, size), Image.Resampling.BILINEAR)
  if source.random() < 0.8:
    params = colour.jitter_params(source, 0.4, 0.4, 0.4, 0.1)
    image = Image.fromarray(colour.colour_jitter(np.asarray(image)[None], **params)[0])
  if source.random() < 0.2:
    image = image.convert("L").convert("RGB")
  if source.random() < 0.5:
    image = image.filter(ImageFilter.GaussianBlur(source.uniform(0.1, 2.0)))
  if source.random() < 0.5:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  return np.asarray(image)


def test_moco_equals_the_same_steps_by_hand():
  frames = random_frames((1, 60, 80))
  for seed in range(40):
    np.testing.assert_array_equal(augment.moco(32)(frames, rng(seed))[0],
                                  moco_by_hand(frames[0], rng(seed), 32))


@pytest.mark.parametrize("transform, want", [
  # ProViCo 2
  (augment.contrastive_video(), Chain((
    RandomResizedCrop(224, (0.2, 0.766), (3 / 4, 4 / 3)), Sometimes(0.5, Flip()),
    Sometimes(0.8, ColourJitter(0.6, 0.6, 0.6, 0.15)), Sometimes(0.2, Grey()),
    Sometimes(0.5, Blur((0.1, 2.0)))))),
  # CycleContrast 8.1
  (augment.fine_tune(), Chain((
    RandomResizedCrop(224, (0.08, 1)), Sometimes(0.5, Flip()), ColourJitter(0.4, 0.4, 0.4, 0.2)))),
  # ProViCo 11.3
  (augment.fine_tune_provico(), Chain((
    RandomScaleCrop(224, (256, 320)), Sometimes(0.8, ColourJitter(0.4, 0.4, 0.4, 0.1)),
    Sometimes(0.2, Grey()), Sometimes(0.5, Flip())))),
  # CycleContrast 7
  (augment.linear(), Chain((RandomResizedCrop(224, (0.08, 1)), Sometimes(0.5, Flip())))),
  # ProViCo 11.1
  (augment.linear_video(), Chain((RandomScaleCrop(224, (256, 320)), Sometimes(0.5, Flip())))),
  # CorrFlow 4
  (augment.corrflow_bottleneck(), Sometimes(0.1, EachFrame(ColourJitter(0.1, 0.1, 0.1, 0.1)))),
])
def test_values_and_order_of_the_specifications(transform, want):
  assert transform == want


@pytest.mark.parametrize("kept, p", [("jitter_p", 0.8), ("grey_p", 0.2), ("blur_p", 0.5),
                                     ("flip_p", 0.5)])
@pytest.mark.parametrize("make", [augment.moco, augment.contrastive_video])
def test_steps_happen_as_often_as_they_should(make, kept, p):
  frames = random_frames((1, 8, 8))
  off = dict.fromkeys({"jitter_p", "grey_p", "blur_p", "flip_p"} - {kept}, 0.0)
  # Boxes of the whole area that fit are the whole picture.
  transform = make(8, area=(1.0, 1.0), sigma=(1.0, 2.0), **off)
  n = 600
  changed = np.mean([(transform(frames, rng(seed)) != frames).any() for seed in range(n)])
  assert abs(changed - p) < 4 * np.sqrt(p * (1 - p) / n)


def test_probabilities_nought_and_one():
  frames = random_frames((1, 4, 6))
  for seed in range(50):
    np.testing.assert_array_equal(Sometimes(0.0, Flip())(frames, rng(seed)), frames)
    np.testing.assert_array_equal(Sometimes(1.0, Flip())(frames, rng(seed)), frames[:, :, ::-1])


def test_scaled_crops_have_the_scale_and_place_asked_for():
  # Levels grow by one per pixel from the left and from the top, so a crop tells where it is from.
  across, down = np.meshgrid(np.arange(100), np.arange(60))
  frames = np.stack([across, down, 0 * down], -1).astype(np.uint8)[None]
  short, left, top = [], [], []
  for seed in range(500):
    got = RandomScaleCrop(50, (60, 120))(frames, rng(seed))[0].astype(float)
    scale = 40 / (got[25, 44, 0] - got[25, 4, 0])
    short.append(60 * scale)
    left.append(got[:, 25, 0].mean() - 24.5 / scale)
    top.append(got[25, :, 1].mean() - 24.5 / scale)
  assert 57 < min(short) < 64 and 116 < max(short) < 124 and abs(np.mean(short) - 90) < 4
  assert -1 < min(left) < 3 and -1 < min(top) < 1
  assert max(left) > 65 and max(top) > 30  # at twice the size 100 - 25 and 60 - 25 are the most


def numbered(height, width):
  """The row number in red, half the column's in green."""
  frame = np.zeros((height, width, 3), np.uint8)
  frame[..., 0] = np.arange(height)[:, None]
  frame[..., 1] = np.arange(width) // 2
  return frame[None]


def test_side_views_touch_both_ends():
  wide = augment.side_views(24, short_side=24)(numbered(24, 100), None)
  np.testing.assert_array_equal(wide[:, 0, 0, 0, 1] , [0, 38 // 2, 76 // 2])
  np.testing.assert_array_equal(wide[:, 0, 0, -1, 1], [23 // 2, 61 // 2, 99 // 2])
  tall = augment.side_views(20, short_side=24)(numbered(100, 24), None)
  np.testing.assert_array_equal(tall[:, 0, 0, 0, 0], [0, 40, 80])
  assert (tall[:, 0, :, 0, 1] == 1).all()  # column 2: the middle 20 of 24
  five = augment.side_views(24, short_side=24, n=5)(numbered(24, 64), None)
  np.testing.assert_array_equal(five[:, 0, 0, 0, 1], [0, 5, 10, 15, 20])


@pytest.mark.parametrize("height, width", [(24, 100), (101, 24), (24, 24)])
def test_the_centre_view_is_the_centre(height, width):
  frames = random_frames((2, height, width))
  got = augment.centre_view(21, short_side=24)(frames, None)
  np.testing.assert_array_equal(got, picture.centre_crop(frames, 21))


def test_views_at_another_scale_resize_first():
  frames = np.repeat(np.repeat(random_frames((1, 6, 10)), 8, 1), 8, 2)
  got = augment.centre_view(12, short_side=24)(frames, None)[0]
  whole = Image.fromarray(frames[0]).resize((40, 24), Image.Resampling.BILINEAR)
  off = np.abs(np.asarray(whole)[6:18, 14:26].astype(int) - got)
  assert off.max() <= 2 and off.mean() < 0.3


def test_corrflow_changes_all_frames_of_a_clip_or_none():
  still = np.repeat(random_frames((1, 12, 16)), 3, 0)
  changed = 0
  n = 1000
  for seed in range(n):
    clean, seen = augment.corrflow(8)(still, rng(seed))
    np.testing.assert_array_equal(clean, geometry.resize_bilinear(still, 8, 8))
    frames = {frame.tobytes() for frame in seen}
    jittered = seen.tobytes() != clean.tobytes()
    assert len(frames) == (3 if jittered else 1)
    assert np.abs(seen.astype(int) - clean).mean() < 60
    changed += jittered
  assert abs(changed / n - 0.1) < 4 * np.sqrt(0.09 / n)


def test_views_draw_one_after_the_other():
  frames = random_frames((1, 20, 30))
  pair = steps.Views((augment.moco(16), augment.moco(16)))(frames, rng(0))
  source = rng(0)
  np.testing.assert_array_equal(pair[0], augment.moco(16)(frames, source))
  np.testing.assert_array_equal(pair[1], augment.moco(16)(frames, source))
  assert (pair[0] != pair[1]).any()


@pytest.mark.parametrize("make", [
  lambda: augment.moco(jitter_p=1.2), lambda: augment.moco(area=(0.5, 0.2)),
  lambda: augment.moco(area=(0.5, 1.2)), lambda: augment.moco(sigma=(2, 1)),
  lambda: augment.moco(jitter=(0.4, 0.4, 0.4, 0.6)), lambda: augment.moco(jitter=(-1, 0, 0, 0)),
  lambda: augment.linear_video(300), lambda: augment.centre_view(300)(random_frames((1, 9, 9))),
  lambda: augment.side_views(n=0), lambda: augment.moco()(random_frames((1, 9, 9))[0], rng(0)),
])
def test_values_that_make_no_sense_are_refused(make):
  with pytest.raises(ValueError):
    make()
