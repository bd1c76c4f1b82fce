"""Colours, blur and resizing against Pillow, OpenCV and the released CorrFlow modules."""

import numpy as np
import pytest

from data_pipelines.augment import colour, geometry


def load(golden_dir, method, name):
  file = golden_dir / method / f"{name}.npz"
  assert file.is_file(), f"{file} is missing"
  with np.load(file, allow_pickle=False) as f:
    return {k: f[k] for k in f.files}


def cases(data, prefix):
  found = [k for k in data if k.startswith(prefix)]
  assert found, f"no key begins with {prefix}"
  return found


def assert_levels(got, want, most, case=""):
  """Equal but for a few values that lie on the edge between two levels."""
  assert got.dtype == want.dtype == np.uint8
  off = np.abs(got.astype(int) - want)
  assert off.max() <= most and (off == 0).mean() >= 0.99, case


@pytest.fixture
def jitter(golden_dir):
  data = load(golden_dir, "corrflow", "jitter")
  np.testing.assert_array_equal((data["rgb_float"] * 255).astype(np.uint8),
                                data["rgb_u8_truncated"])
  return data, dict(zip(colour.ORDER, data["factors"].tolist(), strict=True))


def test_each_change_of_colour(jitter):
  data, factors = jitter
  frames = data["rgb_u8_truncated"][None]
  for key in cases(data, "only_"):
    name = key.removeprefix("only_")
    got = getattr(colour, name)(frames, factors[name])[0]
    assert_levels(got, data[key], 3 if name == "hue" else 1, key)


def test_changes_of_colour_in_order(jitter):
  data, factors = jitter
  frames = data["rgb_u8_truncated"][None]
  got = colour.colour_jitter(frames, **factors, order=data["order"].tolist())
  assert_levels(got[0], data["chain"], 3)


def test_colour_dropout(golden_dir):
  data = load(golden_dir, "corrflow", "colour_dropout")
  frames = np.moveaxis(data["rgb"], 1, -1)
  for key in cases(data, "drop_"):
    got = colour.drop_channels(frames, [int(c) for c in key.removeprefix("drop_")])
    np.testing.assert_allclose(got, np.moveaxis(data[key], 1, -1), atol=1e-6, err_msg=key)


def test_resize(golden_dir):
  data = load(golden_dir, "corrflow", "resize")
  for key in cases(data, "to_"):
    size = (int(n) for n in key.removeprefix("to_").split("x"))
    got = geometry.resize_bilinear(data["src"][None], *size)[0]
    np.testing.assert_allclose(got, data[key], rtol=0, atol=1e-6, err_msg=key)


def test_gaussian_blur(golden_dir):
  data = load(golden_dir, "cycle_contrast", "gaussian_blur")
  frames = np.repeat(data["image"][None], len(data["sigma"]), 0)
  assert len(frames)
  got = colour.gaussian_blur(frames, data["sigma"])
  assert_levels(got, data["blurred"], 1)
