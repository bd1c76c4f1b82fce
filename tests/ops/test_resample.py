"""Resampling between pixels and cells against loops and closed forms."""

import jax
import numpy as np
import pytest

from vssl_jax.ops import resample


def slow(x, size, place):
  """Bilinear samples of [H, W, C] at `place(i)`, edges clamped, in float64."""
  h, w = x.shape[:2]
  out = np.zeros((*size, x.shape[2]))
  for i, j in np.ndindex(*size):
    y, x_ = (np.clip(place(a, n, m), 0, n - 1) for a, n, m in ((i, h, size[0]), (j, w, size[1])))
    for a in range(h):
      for b in range(w):
        out[i, j] += max(0, 1 - abs(y - a)) * max(0, 1 - abs(x_ - b)) * x[a, b]
  return out


@pytest.mark.parametrize("size", [(12, 20), (3, 5), (7, 4), (1, 1)])
def test_bilinear(size):
  x = np.random.default_rng(0).normal(size=(2, 3, 5, 2)).astype(np.float32)
  got = resample.bilinear(x, size)
  for a, b in zip(got, x, strict=True):
    np.testing.assert_allclose(a, slow(b, size, lambda i, n, m: (i + 0.5) * n / m - 0.5),
                               atol=1e-6)


def test_cells_to_pixels():
  x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
  got = resample.to_pixels(x, (11, 16))
  np.testing.assert_allclose(got, slow(x, (11, 16), lambda i, n, m: i / 4), atol=1e-6)
  np.testing.assert_allclose(got[::4, ::4], x, atol=1e-6)  # a cell lies on its pixel


def test_a_ramp_stays_where_it_is():
  """Inside the map both ways keep the place of things: values are the pixels' coordinates."""
  ramp = np.tile(np.arange(32, dtype=np.float32)[:, None, None], (1, 24, 1))
  cells = resample.to_cells(ramp)
  np.testing.assert_allclose(cells[1:-1, :, 0], ramp[4:-4:4, ::4, 0], atol=1e-5)
  np.testing.assert_allclose(resample.to_pixels(cells, (32, 24))[4:24], ramp[4:24], atol=1e-5)
  released = resample.to_cells(ramp, align="half_pixel")
  np.testing.assert_allclose(released[:, 0, 0], 4 * np.arange(8) + 1.5, atol=1e-5)


def test_odd_sizes():
  x = np.ones((2, 13, 18, 3), np.float32)
  assert resample.to_cells(x).shape == (2, 4, 5, 3)
  np.testing.assert_allclose(resample.to_cells(x), 1, atol=1e-6)
  assert resample.to_cells(x, align="half_pixel").shape == (2, 3, 4, 3)


def test_labels():
  labels = np.zeros((1, 8, 16), int)
  labels[:, :, 5:] = 4
  soft = resample.labels_to_cells(labels, 5)
  np.testing.assert_allclose(soft.sum(-1), 1, atol=1e-6)
  assert set(np.flatnonzero(np.asarray(soft).sum((0, 1, 2)))) == {0, 4}
  np.testing.assert_allclose(soft[0, 1, 1, 4], 6 / 16, atol=1e-6)  # pixels 5, 6 and 7 of 1..7
  labels[:, :, 5] = 0  # the middle pixels of this cell are one of 0 and one of 4
  invented = resample.labels_to_cells(labels, 5, rule="id_average").argmax(-1)
  np.testing.assert_array_equal(invented[0, 0], [0, 2, 4, 4])
  sliced = resample.labels_to_cells(labels, 5, rule="slice").argmax(-1)
  np.testing.assert_array_equal(sliced, labels[:, ::4, ::4])


def test_gradient_is_the_transpose():
  rng = np.random.default_rng(0)
  x, ct = (rng.normal(size=s).astype(np.float32) for s in ((3, 4, 2), (12, 16, 2)))
  for align in resample.ALIGNMENTS:
    def f(x, align=align):
      return resample.to_pixels(x, (12, 16), align=align)
    (g,) = jax.vjp(f, x)[1](ct)
    np.testing.assert_allclose((g * x).sum(), (f(x) * ct).sum(), rtol=1e-4)


def test_wrong_names():
  x = np.zeros((4, 4, 1), np.float32)
  with pytest.raises(ValueError, match="align='corner'"):
    resample.to_cells(x, align="corner")
  with pytest.raises(ValueError, match="align='corner'"):
    resample.to_pixels(x, (4, 4), align="corner")
  with pytest.raises(ValueError, match="rule='mode'"):
    resample.labels_to_cells(x[..., 0].astype(int), 2, rule="mode")
