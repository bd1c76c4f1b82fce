"""Losses of response maps against float64 twins: values, gradients, closed forms, extremes."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import tracking as reference
from tests.reference.losses import gradient
from vssl_jax.losses import tracking as ours

B, H, W = 3, 4, 5
CASES = [("focal", {}), ("focal", {"gamma": 1.0}), ("balanced", {}),
         ("balanced", {"negatives": 2.0})]


focal = jax.jit(ours.focal, static_argnames="gamma")
balanced = jax.jit(ours.balanced, static_argnames="negatives")
label_map = jax.jit(ours.label_map, static_argnames=("size", "stride", "positive", "negative"))


def draw(seed=0):
  rng = np.random.default_rng(seed)
  response = 2 * rng.normal(size=(B, H, W)).astype(np.float32)
  return response, (rng.uniform(size=(B, H, W)) < 0.3).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("name", "args"))
def value_and_grad(response, labels, *, name, args=()):
  return jax.value_and_grad(lambda r: getattr(ours, name)(r, labels, **dict(args)).mean())(response)


@pytest.mark.parametrize("name, args", CASES)
def test_value_and_gradient(name, args):
  response, labels = draw()
  value, grad = value_and_grad(response, labels, name=name, args=tuple(args.items()))
  twin = functools.partial(getattr(reference, name), labels=labels, **args)
  np.testing.assert_allclose(value, twin(response), rtol=1e-5)
  np.testing.assert_allclose(grad, gradient(twin, response), rtol=1e-3, atol=1e-6)


def test_cells_in_between_are_ignored_when_balanced():
  response, labels = draw(1)
  labels[:, 1:3] = 0.5
  value, grad = value_and_grad(response, labels, name="balanced")
  np.testing.assert_allclose(value, reference.balanced(response, labels), rtol=1e-5)
  assert (grad[:, 1:3] == 0).all() and (grad[:, 0] != 0).all()


def test_closed_forms():
  """An undecided response costs log 2 balanced; focal, log 2 too: its weights cancel."""
  _, labels = draw(2)
  zeros = np.zeros_like(labels)
  np.testing.assert_allclose(balanced(zeros, labels).mean(), math.log(2), rtol=1e-6)
  np.testing.assert_allclose(focal(zeros, labels), math.log(2), rtol=1e-6)
  # One kind alone takes the whole weight.
  np.testing.assert_allclose(balanced(zeros, zeros, negatives=3.0).mean(), math.log(2),
                             rtol=1e-6)


def test_extremes_have_finite_gradients():
  _, labels = draw(3)
  for name in ("focal", "balanced"):
    for sign in (1, -1):  # everything right, everything wrong, and certain
      value, grad = value_and_grad(np.float32(sign * 200 * (2 * labels - 1)), labels, name=name)
      assert np.isfinite(value) and np.isfinite(grad).all(), (name, sign)


def test_one_map_of_labels_serves_all_and_order_does_not_matter():
  response, labels = draw(4)
  for loss in (focal, balanced):
    one = loss(response, labels[0])
    np.testing.assert_allclose(one, loss(response, np.stack([labels[0]] * B)), rtol=1e-6)
    np.testing.assert_allclose(loss(response[::-1], labels[0]), one[::-1], rtol=1e-6)


def test_half_precision_is_widened():
  response, labels = draw(5)
  half = jnp.asarray(response, jnp.bfloat16)
  for name, loss in (("focal", focal), ("balanced", balanced)):
    got = loss(half, labels)
    assert got.dtype == jnp.float32
    want = getattr(reference, name)(np.asarray(half, np.float64), labels)
    np.testing.assert_allclose(got.mean(), want, rtol=1e-5)


@pytest.mark.parametrize("size, args", [
  ((5, 5), {}), ((6, 4), {}), ((9, 8), {"positive": 12, "negative": 32}), ((1, 3), {"stride": 4})])
def test_label_map(size, args):
  got = label_map(size, **args)
  np.testing.assert_array_equal(got, reference.label_map(size, **args))
  np.testing.assert_array_equal(got, got[::-1, ::-1])


def test_labels_move_with_the_target():
  offsets = np.array([[0, 0], [8, -16], [-3, 5.5], [400, 0]], np.float32)
  got = np.asarray(label_map((9, 8), negative=24, offset=offsets))
  assert got.shape == (4, 9, 8)
  for labels, offset in zip(got, offsets, strict=True):
    want = reference.label_map((9, 8), negative=24, offset=offset)
    np.testing.assert_array_equal(labels, want)
  np.testing.assert_array_equal(got[0], label_map((9, 8), negative=24))
  np.testing.assert_array_equal(got[1, 2:, :-3] == 1, got[0, 1:-1, 2:-1] == 1)  # by (1, -2) cells
  assert not got[3].any()  # beyond the map


def test_shapes_are_checked():
  response, labels = draw()
  with pytest.raises(AssertionError):
    ours.focal(response, labels[:, :2])
  with pytest.raises(AssertionError):
    ours.balanced(response[0], labels[0])


class Variants(chex.TestCase):

  @chex.all_variants(with_pmap=False)
  def test_under_every_transformation(self):
    response, labels = draw(6)
    value = self.variant(ours.focal)(response, labels).mean()
    np.testing.assert_allclose(value, reference.focal(response, labels), rtol=1e-5)
