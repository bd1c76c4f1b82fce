"""Learnt frame weights: they start equal, follow the frames, and weigh the mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.models.frame_weights import FrameWeights, Weighted, weigh
from vssl_jax.models.transformer import TransformerEncoder
from vssl_jax.ops.normalise import l2

B, T, D = 3, 5, 8
MODEL = Weighted(TransformerEncoder(1, 2, 16, 0.0), hidden=6)


def draw(seed=0):
  rng = np.random.default_rng(seed)
  x = rng.standard_normal((B, T, D)).astype(np.float32)
  return np.asarray(l2(x)), np.array([5, 3, 7], np.int32)


@pytest.fixture(scope="module")
def params():
  """Away from the start at zero."""
  params = jax.jit(MODEL.init)(jax.random.key(0), *draw())["params"]
  return jax.tree.map(lambda p: p + 0.3 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)


apply = jax.jit(lambda params, x, length: MODEL.apply({"params": params}, x, length))


def test_logits_in_float64(params):
  """Written out for one frame at a time."""
  x, length = draw(1)
  p = jax.tree.map(np.float64, params["weights"])
  want = np.zeros((B, T))
  for i in range(B):
    topic = np.mean(np.float64(x[i, :length[i]]), axis=0)
    topic /= np.linalg.norm(topic)
    for t in range(min(length[i], T)):
      f = np.float64(x[i, t])
      seen = np.concatenate([D**0.5 * f, D**0.5 * topic, D * f * topic])
      hidden = np.maximum(seen @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
      want[i, t] = 1 / (1 + np.exp(-(hidden @ p["logit"]["kernel"] + p["logit"]["bias"])[0]))
  out = apply(params, x, length)
  np.testing.assert_allclose(out["weights"], want, atol=1e-5)
  assert np.ptp(want[0]) > 0.01
  mean = np.einsum("bt,btd->bd", want, np.float64(out["frames"]))
  mean /= np.linalg.norm(mean, axis=1, keepdims=True)
  np.testing.assert_allclose(out["video"], mean, atol=1e-5)


def test_at_first_all_frames_weigh_the_same():
  x, length = draw()
  params = MODEL.init(jax.random.key(0), x, length)["params"]
  out = apply(params, x, length)
  inside = np.arange(T) < length[:, None]
  np.testing.assert_array_equal(out["weights"], np.where(inside, 0.5, 0))
  np.testing.assert_allclose(out["video"], l2(jnp.sum(out["frames"], axis=1)), atol=1e-6)


def test_padding_changes_nothing_and_order_of_frames_only_that_of_weights(params):
  x, length = draw(2)
  out = apply(params, x, length)
  inside = (np.arange(T) < length[:, None])[..., None]
  spoilt = apply(params, np.where(inside, x, np.nan), length)
  for name in ("video", "frames", "weights", "length"):
    np.testing.assert_array_equal(out[name], spoilt[name], err_msg=name)
  order = np.array([2, 0, 1, 3, 4])
  moved = apply(params, x[:, order], length)
  np.testing.assert_allclose(moved["weights"], out["weights"][:, order], atol=1e-6)
  np.testing.assert_allclose(moved["video"], out["video"], atol=1e-6)


@pytest.mark.parametrize("level", [-1e3, 1e3])
def test_only_proportions_count_and_extremes_are_finite(level):
  frames, length = draw(3)
  encoded = {"video": frames[:, 0], "frames": frames, "length": np.minimum(length, T)}
  logits = np.full((B, T), level, np.float32)

  def total(logits):
    return jnp.sum(weigh(encoded, logits)["video"])

  inside = (np.arange(T) < length[:, None])[..., None]
  want = l2(jnp.sum(jnp.where(inside, frames, 0), axis=1))
  np.testing.assert_allclose(weigh(encoded, logits)["video"], want, atol=1e-6)
  assert np.isfinite(jax.grad(total)(logits)).all()
  low = np.float32([[-200, -201, -199, -200, -202]] * B)  # e^l: the sigmoid itself is 0 in float32
  weights = np.where(inside, np.exp(np.float64(low) + 200)[..., None], 0)
  mean = np.sum(weights * np.float64(frames), axis=1)
  mean /= np.linalg.norm(mean, axis=1, keepdims=True)
  np.testing.assert_allclose(weigh(encoded, low)["video"], mean, atol=1e-5)


def test_bfloat16_stays_near_float32(params):
  x, length = draw(4)
  full = FrameWeights(6).apply({"params": params["weights"]}, x, length)
  half = FrameWeights(6, jnp.bfloat16).apply({"params": params["weights"]}, x, length)
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, full, atol=0.1, rtol=0.03)
  assert not np.array_equal(half, full)
