"""The ridge filter against its normal equations, and what it does when the object moves."""

import numpy as np
import pytest

from tests.reference import tracking as reference
from vssl_jax.evaluators import matchers


def maps(*arrays):
  """An `embed` that gives these maps one after the other, whatever the crops show."""
  queue = list(arrays)
  return lambda inputs: {"features": queue.pop(0)}


def draw(shape=(1, 4, 5, 3), seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32) + 2


CROP = np.zeros((1, 8, 8, 3), np.uint8)


def test_the_filter_solves_the_normal_equations():
  first, later = draw(), draw(seed=1)
  ridge = matchers.Ridge(maps(first, later), regularisation=0.1, sigma=0.8)
  got = ridge.responses(ridge.template(CROP), CROP)[0]
  x, z = (matchers.windowed(m)[0] for m in (first, later))
  power = np.square(np.abs(np.fft.fft2(x, axes=(0, 1)))).sum(-1)
  # The strength is a share of the mean over the half of the spectrum that is stored.
  strength = 0.1 * power[:, :power.shape[1] // 2 + 1].mean()
  want = reference.ridge_responses(x, z, matchers.gaussian(4, 5, 0.8), strength)
  np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)


def test_the_peak_moves_with_the_object():
  scene = draw((1, 24, 24, 6), seed=2)
  first, later = scene[:, 4:20, 4:20], scene[:, 2:18, 5:21]  # the object moved by (2, -1)
  ridge = matchers.Ridge(maps(first, first, later))
  template = ridge.template(CROP)
  still, moved = ridge.responses(template, CROP)[0], ridge.responses(template, CROP)[0]
  middle = np.argwhere(still > 0.8 * still.max())
  np.testing.assert_array_equal(middle.mean(0), [7.5, 7.5])
  peak = np.argwhere(moved > 0.6 * moved.max()).mean(0)
  np.testing.assert_allclose(peak, [9.5, 6.5], atol=0.5)


def test_scale_and_offset_of_features_do_not_matter():
  first, later = draw((1, 6, 6, 4), seed=3), draw((2, 6, 6, 4), seed=4)
  out = []
  for change in (lambda x: x, lambda x: 100 * x + 7):
    ridge = matchers.Ridge(maps(change(first), change(later)))
    out.append(ridge.responses(ridge.template(CROP), CROP))
  assert out[0].shape == (2, 6, 6)
  np.testing.assert_allclose(out[0], out[1], rtol=1e-3, atol=1e-5)


def test_siamese_slides_the_exemplar():
  z, x = draw((1, 2, 3, 4)), draw((3, 5, 6, 4), seed=1)
  siamese = matchers.Siamese(lambda inputs: {"exemplar": z, "search": x})
  got = siamese.responses(siamese.template(CROP), CROP)
  np.testing.assert_allclose(got, [reference.cross_correlate(z[0], m) for m in x], rtol=1e-4)


def test_bad_features():
  flat = np.ones((1, 4, 4, 2), np.float32)
  with pytest.raises(ValueError, match="same everywhere"):
    matchers.Ridge(maps(flat)).template(CROP)
  ridge = matchers.Ridge(maps(draw(), draw((1, 4, 4, 3))))
  with pytest.raises(ValueError, match="don't fit"):
    ridge.responses(ridge.template(CROP), CROP)
  with pytest.raises(ValueError, match="needs 'exemplar'"):
    matchers.Siamese(maps(draw())).template(CROP)
