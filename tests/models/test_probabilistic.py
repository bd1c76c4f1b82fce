"""The probabilistic head: how it starts, what its outputs may be, and in what precision."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.models.probabilistic import Head, Probabilistic, log_softplus

C, D = 12, 16
KEY = jax.random.key(0)


def build(**args):
  head = Head(D, **args)
  x = np.random.default_rng(0).standard_normal((5, 3, C)).astype(np.float32)
  return head, x, head.init(KEY, x)


@pytest.mark.parametrize("form", ["log", "softplus"])
def test_it_starts_with_noise_of_the_length_asked_for(form):
  head, x, variables = build(form=form, noise=0.2)
  mean, logvar = head.apply(variables, x)
  assert mean.shape == logvar.shape == (5, 3, D)
  np.testing.assert_allclose(np.linalg.norm(mean, axis=-1), 1, rtol=1e-5)
  length = np.sqrt(np.exp(logvar).sum(-1))
  np.testing.assert_allclose(length, 0.2, rtol=0.1)
  assert np.std(logvar) > 1e-3  # it depends on the feature
  assert variables["params"]["norm"].keys() == {"scale", "bias"}
  # Two layers that share nothing, and a layer norm.
  assert sum(p.size for p in jax.tree.leaves(variables)) == 2 * (C * D + D) + 2 * D


def test_a_hidden_layer_is_of_the_variance_alone():
  head, x, variables = build(hidden=7)
  mean, logvar = head.apply(variables, x)
  p = jax.tree.map(np.float64, variables["params"])
  hidden = np.maximum(x @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
  assert hidden.shape[-1] == 7 and (hidden == 0).any()
  want = hidden @ p["logvar"]["kernel"] + p["logvar"]["bias"]
  np.testing.assert_allclose(logvar, want, rtol=1e-5)
  np.testing.assert_allclose(np.sqrt(np.exp(logvar).sum(-1)), 0.3, rtol=0.1)  # as without it
  same = {"params": {k: variables["params"][k] for k in ("mean", "norm")} | {
      "logvar": build()[2]["params"]["logvar"]}}
  np.testing.assert_array_equal(mean, Head(D).apply(same, x)[0])


def test_limits_are_soft():
  head, x, variables = build(clamp=(-1.0, 1.0))
  x = 1e4 * x
  _, logvar = head.apply(variables, x)
  free = Head(D).apply(variables, x)[1]
  assert np.abs(free).max() > 10
  # The upper end bends what lies at the lower one by so much as softplus reaches.
  assert logvar.max() <= 1
  np.testing.assert_allclose(logvar.min(), -1 - np.log1p(np.exp(-2)), rtol=1e-6)


def test_softplus_far_below_zero():
  x = np.float32([-1e4, -100, -41, -39, -1, 0, 5, 100])
  want = np.where(x < -30, np.float64(x), np.log(np.logaddexp(0, np.maximum(np.float64(x), -30))))
  np.testing.assert_allclose(log_softplus(x), want, rtol=1e-6, atol=1e-7)
  slope = jax.vmap(jax.grad(log_softplus))(x)
  assert np.isfinite(slope).all() and (slope > 0).all()
  np.testing.assert_allclose(slope[:4], 1, rtol=1e-6)


def test_a_large_common_offset_of_features_leaves_digits():
  """Layer norm subtracts before it squares; the gradient at a constant vector is finite."""
  head, x, variables = build()
  shifted = jax.tree.map(lambda p: p, variables)
  shifted["params"]["mean"]["bias"] = jnp.full(D, 1e3)
  mean, _ = head.apply(shifted, x)
  want, _ = head.apply(variables, x)
  np.testing.assert_allclose(mean, want, atol=1e-3)
  grad = jax.grad(lambda v: jnp.sum(head.apply(variables, v)[0] ** 3))(np.zeros((1, C), np.float32))
  assert np.isfinite(grad).all()


class Backbone(nn.Module):
  """Half precision features, with what a network gives besides."""

  @nn.compact
  def __call__(self, x, *, train=False):
    return {"pooled": nn.Dense(C, dtype=x.dtype)(x.mean(axis=(1, 2, 3))), "map": x}


def test_after_a_backbone_in_half_precision_everything_is_float32():
  net = Probabilistic(Backbone(), Head(D), jnp.bfloat16)
  x = np.random.default_rng(1).standard_normal((2, 3, 4, 4, 3)).astype(np.float32)
  variables = net.init(KEY, x)
  assert variables["params"].keys() == {"backbone", "head"}
  out = net.apply(variables, x)
  assert {k: v.dtype for k, v in out.items()} == dict.fromkeys(("feature", "mean", "logvar"),
                                                               jnp.float32)
  wide = Probabilistic(Backbone(), Head(D)).apply(variables, x)
  for key, value in out.items():
    np.testing.assert_allclose(value, wide[key], atol=0.05)
  assert not np.array_equal(out["feature"], wide["feature"])
  mean, _ = Head(D).apply({"params": variables["params"]["head"]}, out["feature"])
  np.testing.assert_allclose(out["mean"], mean, atol=1e-6)
