"""Cross-entropy: value and gradient against the twin, closed forms, rows without a label."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.reference import classification as reference
from tests.reference.losses import gradient
from vssl_jax.losses.classification import cross_entropy

LABEL = np.int32([2, 0, -1, 3, 2])


def logits(seed=0):
  return np.random.default_rng(seed).normal(0, 3, (5, 4)).astype(np.float32)


def test_value_and_gradient():
  x, weight = logits(), np.arange(1.0, 6.0)
  got = cross_entropy(x, LABEL)
  np.testing.assert_allclose(got, reference.cross_entropy(x, LABEL), rtol=1e-5)
  assert got[2] == 0
  slope = jax.grad(lambda x: jnp.sum(weight * cross_entropy(x, LABEL)))(x)
  want = gradient(lambda x: float(weight @ reference.cross_entropy(x, LABEL)), x)
  np.testing.assert_allclose(slope, want, rtol=1e-3, atol=1e-5)
  assert not np.any(slope[2])


def test_closed_forms_and_invariance():
  np.testing.assert_allclose(cross_entropy(np.zeros((5, 7), np.float32), np.int32([6] * 5)),
                             np.log(7), rtol=1e-6)
  x = logits(1)
  np.testing.assert_allclose(cross_entropy(x + 100, LABEL), cross_entropy(x, LABEL), rtol=1e-4,
                             atol=1e-5)
  value, slope = jax.value_and_grad(lambda x: jnp.sum(cross_entropy(x, LABEL)))(1e30 * x)
  assert np.isfinite(value) and np.isfinite(slope).all()


def test_a_label_out_of_range_is_not_a_number():
  assert np.isnan(cross_entropy(logits(), np.int32([4, 0, 0, 0, 0]))).tolist() == [True] + 4 * [
      False]


def test_bfloat16_is_widened():
  x = jnp.asarray(logits(2), jnp.bfloat16)
  got = cross_entropy(x, LABEL)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, reference.cross_entropy(np.float32(x), LABEL), rtol=1e-5)
