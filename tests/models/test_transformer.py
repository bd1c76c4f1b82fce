"""The encoder: values and gradients against a float64 twin, masks, symmetries, initial values."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import transformer as reference
from vssl_jax.models.transformer import TransformerEncoder

B, T, D, HEADS, HIDDEN = 3, 5, 8, 2, 12
MODEL = TransformerEncoder(layers=2, heads=HEADS, feed_forward=HIDDEN, dropout=0.5)
LENGTH = np.int32([5, 2, 9])  # full, padded, cropped


def data(seed=0):
  return np.random.default_rng(seed).standard_normal((B, T, D)).astype(np.float32)


@functools.cache
def params():
  """Random parameters of the model, none of which is zero, one, or like another."""
  shapes = jax.eval_shape(MODEL.init, jax.random.key(0), data(), LENGTH)["params"]
  rng = np.random.default_rng(1)
  return jax.tree.map(
      lambda s: (0.6 * rng.standard_normal(s.shape) + 0.1).astype(np.float32), shapes)


def wide(tree):
  return jax.tree.map(np.float64, tree)


@functools.cache
def apply():
  return jax.jit(lambda p, x, length: MODEL.apply({"params": p}, x, length))


def test_values():
  out = apply()(params(), data(), LENGTH)
  video, frames = reference.encode(wide(params()), data(), LENGTH, HEADS)
  np.testing.assert_allclose(out["video"], video, atol=2e-6)
  np.testing.assert_allclose(out["frames"], frames, atol=2e-6)
  np.testing.assert_allclose(np.linalg.norm(out["video"], axis=-1), 1, rtol=1e-6)


def test_gradients():
  """Along a random direction for each parameter, and for each number of the input."""
  rng = np.random.default_rng(2)
  c_video, c_frames = rng.standard_normal((B, D)), rng.standard_normal((B, T, D))

  def ours(p, x):
    out = MODEL.apply({"params": p}, x, LENGTH)
    return jnp.sum(c_video * out["video"]) + jnp.sum(c_frames * out["frames"])

  def twin(p, x):
    video, frames = reference.encode(p, x, LENGTH, HEADS)
    return np.sum(c_video * video) + np.sum(c_frames * frames)

  grad_p, grad_x = jax.jit(jax.grad(ours, (0, 1)))(params(), data())
  p, x, h = wide(params()), np.float64(data()), 1e-6
  for path, leaf in jax.tree_util.tree_leaves_with_path(grad_p):
    direction = rng.standard_normal(leaf.shape)

    def at(step, path=path, direction=direction):
      moved = jax.tree_util.tree_map_with_path(
          lambda q, a: a + step * direction if q == path else a, p)
      return twin(moved, x)

    want = (at(h) - at(-h)) / (2 * h)
    name = jax.tree_util.keystr(path)
    np.testing.assert_allclose(np.sum(leaf * direction), want, rtol=1e-3, atol=2e-4, err_msg=name)
  moves = h * np.eye(x.size).reshape(x.size, *x.shape)
  want = [(twin(p, x + m) - twin(p, x - m)) / (2 * h) for m in moves]
  np.testing.assert_allclose(grad_x.reshape(-1), want, rtol=1e-3, atol=1e-4)


def test_order_of_frames():
  """Permuted frames give permuted frames and the same video: there are no positions."""
  x, order = data(), np.array([3, 1, 4, 0, 2])
  length = np.full(B, T, np.int32)
  straight, shuffled = apply()(params(), x, length), apply()(params(), x[:, order], length)
  np.testing.assert_allclose(shuffled["video"], straight["video"], atol=1e-6)
  np.testing.assert_allclose(shuffled["frames"], straight["frames"][:, order], atol=1e-6)


@pytest.mark.parametrize("value", [1e4, np.inf, np.nan])
def test_padding_is_never_seen(value):
  x, garbage = data(), data()
  garbage[1, 2:] = value
  clean, dirty = apply()(params(), x, LENGTH), apply()(params(), garbage, LENGTH)
  np.testing.assert_array_equal(dirty["video"], clean["video"])
  np.testing.assert_array_equal(dirty["frames"], clean["frames"])
  assert (dirty["frames"][1, 2:] == 0).all()
  shorter = apply()(params(), x[:, :2], np.full(B, 2, np.int32))
  np.testing.assert_allclose(shorter["video"][1], clean["video"][1], atol=1e-6)

  def loss(x):
    out = MODEL.apply({"params": params()}, x, LENGTH)
    return jnp.sum(out["video"][:, 0]) + jnp.sum(out["frames"][..., 1])

  grad = jax.jit(jax.grad(loss))(garbage)
  assert (grad[1, 2:] == 0).all()
  assert np.isfinite(grad).all()
  assert (np.abs(grad[1, :2]) > 0).any()


def test_a_length_beyond_the_window_means_the_whole_window():
  lengths = [np.full(B, n, np.int32) for n in (T, T + 1, 1000)]
  outs = [apply()(params(), data(), length) for length in lengths]
  for out in outs[1:]:
    np.testing.assert_array_equal(out["video"], outs[0]["video"])
    np.testing.assert_array_equal(out["frames"], outs[0]["frames"])


def test_gradients_are_finite_at_zero_input_and_without_any_frame():
  """Batch padding has rows of length 0; they must not spoil the others."""

  def loss(p, x, length):
    out = MODEL.apply({"params": p}, x, length)
    return jnp.sum(out["video"][:, 0] + out["frames"][:, 0, 1])

  grad = jax.jit(jax.value_and_grad(loss, (0, 1)))
  for x, length in [(np.zeros_like(data()), LENGTH), (data(), np.int32([5, 0, 9]))]:
    value, grads = grad(params(), x, length)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
  out = apply()(params(), data(), np.int32([5, 0, 9]))
  want = apply()(params(), data(), LENGTH)
  np.testing.assert_array_equal(out["video"][jnp.array([0, 2])], want["video"][jnp.array([0, 2])])
  assert (out["video"][1] == 0).all()


def test_bfloat16_stays_near_float32():
  half = MODEL.clone(dtype=jnp.bfloat16)
  shapes = jax.eval_shape(half.init, jax.random.key(0), data(), LENGTH)
  assert {s.dtype for s in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  out = jax.jit(lambda x: half.apply({"params": params()}, x, LENGTH))(data())
  want = apply()(params(), data(), LENGTH)
  for name in ("video", "frames"):
    assert out[name].dtype == jnp.float32
    np.testing.assert_allclose(out[name], want[name], atol=0.03)
    assert np.abs(out[name] - want[name]).max() > 1e-5  # it was half precision that did it


def test_heads_must_divide_the_features():
  with pytest.raises(ValueError, match="heads=3 does not divide the feature size 8"):
    TransformerEncoder(heads=3).init(jax.random.key(0), data(), LENGTH)


def test_dropout_is_random_in_training_and_absent_otherwise():
  run = jax.jit(lambda key: MODEL.apply(
      {"params": params()}, data(), LENGTH, train=True, rngs={"dropout": key})["video"])
  first, again, other = (run(jax.random.key(k)) for k in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert not np.allclose(first, other, atol=1e-2)
  video, _ = reference.encode(wide(params()), data(), LENGTH, HEADS)
  assert not np.allclose(first, video, atol=1e-2)
  off = MODEL.clone(dropout=0.0)
  out = off.apply({"params": params()}, data(), LENGTH, train=True)
  np.testing.assert_allclose(out["video"], video, atol=2e-6)


def test_dropout_is_in_the_four_places_of_a_layer():
  _, state = jax.eval_shape(
      lambda: MODEL.apply({"params": params()}, data(), LENGTH, train=True,
                          rngs={"dropout": jax.random.key(0)}, mutable=["intermediates"],
                          capture_intermediates=lambda m, _: isinstance(m, nn.Dropout)))
  layer = state["intermediates"]["layers_1"]
  attention = [v["__call__"][0].shape for k, v in layer["self_attn"].items() if "Dropout" in k]
  assert attention == [(B, HEADS, T, T)]
  shapes = [v["__call__"][0].shape for k, v in sorted(layer.items()) if "Dropout" in k]
  assert sorted(shapes) == [(B, T, D), (B, T, D), (B, T, HIDDEN)]
  # Everything dropped leaves the residual path alone: two norms a layer.
  all_dropped = MODEL.clone(dropout=1.0)
  got = all_dropped.apply({"params": params()}, data(), LENGTH, train=True,
                          rngs={"dropout": jax.random.key(0)})["frames"][0]
  y = np.float64(data()[0])
  for p in params().values():
    for norm in (p["norm1"], p["norm2"]):
      y = np.array([reference.layer_norm(row, norm["scale"], norm["bias"]) for row in y])
  np.testing.assert_allclose(got, y / np.linalg.norm(y, axis=1, keepdims=True), atol=2e-6)


def test_attention_weights_are_kept_for_figures():
  _, state = MODEL.apply({"params": params()}, data(), LENGTH, mutable=["intermediates"])
  weights = np.asarray(state["intermediates"]["layers_0"]["self_attn"]["attention"][0])
  np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
  assert (weights[1, ..., 2:] == 0).all()
  assert (weights[0] > 0).all()


def test_attention_received_is_the_mean_over_heads_and_valid_queries_of_the_last_layer():
  _, state = MODEL.apply({"params": params()}, data(), LENGTH, mutable=["intermediates"])
  weights = state["intermediates"]["layers_1"]["self_attn"]["attention"][0]
  got = np.asarray(apply()(params(), data(), LENGTH)["attention"])
  want = np.zeros((B, T))
  for b, n in enumerate(np.minimum(LENGTH, T)):
    for key in range(n):
      want[b, key] = np.mean([weights[b, h, q, key] for h in range(HEADS) for q in range(n)])
  np.testing.assert_allclose(got, want, atol=1e-6)
  np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-5)
  assert (got[1, 2:] == 0).all()
  assert np.ptp(got[0]) > 0.05


@pytest.mark.parametrize("value", [1e4, np.nan])
def test_attention_received_never_sees_padding_or_a_video_without_frames(value):
  garbage = data()
  garbage[1, 2:] = value
  clean, dirty = apply()(params(), data(), LENGTH), apply()(params(), garbage, LENGTH)
  np.testing.assert_array_equal(dirty["attention"], clean["attention"])
  empty = apply()(params(), data(), np.int32([5, 0, 9]))["attention"]
  assert (empty[1] == 0).all()


def test_attention_received_changes_no_bit_of_the_rest():
  names = ("video", "frames", "length")
  without = jax.jit(lambda p, x, length: {
      k: v for k, v in MODEL.apply({"params": p}, x, length).items() if k in names})
  want, got = without(params(), data(), LENGTH), apply()(params(), data(), LENGTH)
  for name in names:
    np.testing.assert_array_equal(got[name], want[name])


def test_initial_values_are_those_of_pytorch():
  dim, hidden = 64, 96
  model = TransformerEncoder(layers=1, heads=4, feed_forward=hidden)
  x = np.zeros((1, 2, dim), np.float32)
  layer = jax.jit(model.init)(jax.random.key(3), x, np.int32([2]))["params"]["layers_0"]
  bounds = {"in_proj": math.sqrt(6 / (4 * dim)), "out_proj": dim**-0.5, "linear1": dim**-0.5,
            "linear2": hidden**-0.5}
  leaves = layer | layer["self_attn"]
  for name, bound in bounds.items():
    kernel = np.asarray(leaves[name]["kernel"])
    assert 0.98 * bound < np.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / math.sqrt(3), rtol=0.03, err_msg=name)
    assert abs(kernel.mean()) < 0.05 * bound
    bias = np.asarray(leaves[name]["bias"])
    if name.startswith("linear"):
      assert 0.85 * bound < np.abs(bias).max() <= bound
    else:
      assert (bias == 0).all()
  for norm in ("norm1", "norm2"):
    assert (layer[norm]["scale"] == 1).all()
    assert (layer[norm]["bias"] == 0).all()
