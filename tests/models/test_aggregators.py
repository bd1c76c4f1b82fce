"""NetVLAD, NeXtVLAD, LSTM and GRU against float64 twins, with and without batch statistics."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import recurrent, vlad
from vssl_jax.models import aggregators

B, T, D = 4, 5, 6
LENGTH = np.int32([5, 2, 9, 1])  # full, padded, cropped, shortest
TWINS = {  # name -> settings, (params, batch_stats, x, length, train=) -> (video, frames)
    "netvlad": (dict(clusters=3, output=5, reduction=2), vlad.netvlad),
    "nextvlad": (dict(clusters=3, expansion=2, groups=4, output=5, reduction=2),
                 functools.partial(vlad.nextvlad, groups=4)),
    "lstm": (dict(layers=2, hidden=5), functools.partial(recurrent.encode, recurrent.lstm)),
    "gru": (dict(layers=3, hidden=5), functools.partial(recurrent.encode, recurrent.gru)),
}
every = pytest.mark.parametrize("name", TWINS)


def data(seed=0):
  return np.random.default_rng(seed).standard_normal((B, T, D)).astype(np.float32)


def model(name, dropout=0.0, **more):
  return aggregators.make(name, TWINS[name][0] | {"dropout": dropout}, **more)


@functools.cache
def variables(name):
  """Random variables of the model, none of which is zero, one, or like another."""
  shapes = jax.eval_shape(model(name).init, jax.random.key(0), data(), LENGTH)
  rng = np.random.default_rng(1)

  def draw(path, shape):
    z = rng.standard_normal(shape.shape)
    positive = path[-1].key == "var"
    return (1 + 0.3 * np.abs(z) if positive else 0.6 * z + 0.1).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def apply(name, train=False):
  """`(variables, x, length) -> outputs`, jitted."""
  return jax.jit(lambda v, x, length: model(name).apply(
      v, x, length, train=train, mutable=["batch_stats"])[0])


@functools.cache
def gradient(name):
  """In training, of random sums of the outputs: `(params, x, length) -> value, grads`."""

  def value(p, x, length):
    out = model(name).apply(variables(name) | {"params": p}, x, length, train=True,
                            mutable=["batch_stats"])[0]
    return sum(jnp.sum(cotangent(out[key].shape) * out[key]) for key in ("video", "frames"))

  return jax.jit(jax.value_and_grad(value, (0, 1)))


def cotangent(shape):
  return np.random.default_rng(2).standard_normal(shape)


def twin(name, params, x, length=LENGTH, train=False):
  stats = jax.tree.map(np.float64, variables(name)["batch_stats"])
  return TWINS[name][1](params, stats, x, length, train=train)


def wide(name):
  return jax.tree.map(np.float64, variables(name)["params"])


@every
@pytest.mark.parametrize("train", [False, True])
def test_values(name, train):
  out = apply(name, train)(variables(name), data(), LENGTH)
  video, frames = twin(name, wide(name), data(), train=train)
  np.testing.assert_allclose(out["video"], video, atol=1e-5)
  np.testing.assert_allclose(out["frames"], frames, atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(out["video"], axis=-1), 1, rtol=1e-6)
  want = [3] * B if "vlad" in name else [5, 2, 5, 1]
  np.testing.assert_array_equal(out["length"], want)
  assert out["length"].dtype == jnp.int32


@every
def test_gradients_through_batch_statistics(name):
  """Along a random direction for each parameter, and some for the input."""

  def value(p, x):
    return sum(np.sum(cotangent(out.shape) * out) for out in twin(name, p, x, train=True))

  got, (grad_p, grad_x) = gradient(name)(variables(name)["params"], data(), LENGTH)
  p, x, h, rng = wide(name), np.float64(data()), 1e-6, np.random.default_rng(3)
  np.testing.assert_allclose(got, value(p, x), rtol=1e-5)
  for path, leaf in jax.tree_util.tree_leaves_with_path(grad_p):
    direction = rng.standard_normal(leaf.shape)

    def at(step, path=path, direction=direction):
      moved = jax.tree_util.tree_map_with_path(
          lambda q, a: a + step * direction if q == path else a, p)
      return value(moved, x)

    want = (at(h) - at(-h)) / (2 * h)
    label = jax.tree_util.keystr(path)
    np.testing.assert_allclose(np.sum(leaf * direction), want, rtol=2e-3, atol=5e-4, err_msg=label)
  for direction in rng.standard_normal((3, *x.shape)):
    want = (value(p, x + h * direction) - value(p, x - h * direction)) / (2 * h)
    np.testing.assert_allclose(np.sum(grad_x * direction), want, rtol=2e-3, atol=5e-4)


@every
@pytest.mark.parametrize("garbage", [1e4, np.nan])
def test_padding_is_never_seen(name, garbage):
  x, dirty = data(), data()
  x[1, 2:], x[3, 1:], dirty[1, 2:], dirty[3, 1:] = 0, 0, garbage, garbage
  for train in (False, True):
    want, got = (apply(name, train)(variables(name), a, LENGTH) for a in (x, dirty))
    jax.tree.map(np.testing.assert_array_equal, got, want)
  _, (_, grad) = gradient(name)(variables(name)["params"], dirty, LENGTH)
  assert (grad[1, 2:] == 0).all()
  assert np.isfinite(grad).all()
  assert (np.abs(grad[1, :2]) > 0).any()
  cut = model(name).apply(variables(name), x[:, :2], np.full(B, 2, np.int32))
  whole = apply(name)(variables(name), x, LENGTH)
  np.testing.assert_allclose(cut["video"][1], whole["video"][1], atol=1e-6)


@every
def test_a_length_beyond_the_window_means_the_whole_window(name):
  outs = [apply(name)(variables(name), data(), np.full(B, n, np.int32)) for n in (T, T + 1, 1000)]
  for out in outs[1:]:
    jax.tree.map(np.testing.assert_array_equal, out, outs[0])


@every
def test_zeros_and_videos_without_any_frame_spoil_nothing(name):
  """Batch padding has rows of length 0."""
  for x, length in [(np.zeros_like(data()), LENGTH), (data(), np.int32([5, 0, 9, 1]))]:
    value, grads = gradient(name)(variables(name)["params"], x, length)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
  some, full = (apply(name)(variables(name), data(), n) for n in (np.int32([5, 0, 9, 1]), LENGTH))
  for key in ("video", "frames"):
    assert np.isfinite(some[key]).all()
    np.testing.assert_array_equal(some[key][2], full[key][2])
  assert (some["frames"][1] == 0).all()


@every
def test_order_of_frames(name):
  """VLADs see a set of frames; recurrent layers a past and no future."""
  x, length, order = data(), np.full(B, T, np.int32), np.array([1, 0, 4, 2, 3])
  straight, other = (apply(name)(variables(name), a, length) for a in (x, x[:, order]))
  if "vlad" in name:
    np.testing.assert_allclose(other["video"], straight["video"], atol=1e-5)
    np.testing.assert_allclose(other["frames"], straight["frames"], atol=1e-5)
    return
  assert np.abs(other["video"] - straight["video"]).max() > 0.01
  x[:, 3:] += 1
  later = apply(name)(variables(name), x, length)
  np.testing.assert_array_equal(later["frames"][:, :3], straight["frames"][:, :3])
  assert (np.abs(later["frames"][:, 3:] - straight["frames"][:, 3:]).max(axis=(1, 2)) > 0.01).all()


@every
def test_bfloat16_stays_near_float32(name):
  half = model(name, dtype=jnp.bfloat16)
  shapes = jax.eval_shape(half.init, jax.random.key(0), data(), LENGTH)
  assert {s.dtype for s in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  out = jax.jit(lambda x: half.apply(variables(name), x, LENGTH))(data())
  want = apply(name)(variables(name), data(), LENGTH)
  for key in ("video", "frames"):
    assert out[key].dtype == jnp.float32
    np.testing.assert_allclose(out[key], want[key], atol=0.05)
    assert np.abs(out[key] - want[key]).max() > 1e-5  # it was half precision that did it


@every
def test_dropout_is_where_it_belongs_and_only_in_training(name):
  def run(train):
    rngs = {"dropout": jax.random.key(1)}
    return model(name, dropout=0.5).apply(
        variables(name), data(), LENGTH, train=train, rngs=rngs,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda m, _: isinstance(m, nn.Dropout))

  _, state = jax.eval_shape(lambda: run(True))
  shapes = [leaf.shape for leaf in jax.tree.leaves(state["intermediates"])]
  width = {"netvlad": 3 * D, "nextvlad": 3 * 3}  # of the flat cluster descriptors
  between = {"lstm": 1, "gru": 2}  # layers
  assert shapes == ([(B, width[name])] if name in width else [(B, T, 5)] * between[name])
  if name in ("nextvlad", "gru"):  # the others share their code
    trained, clean = jax.jit(lambda: (run(True)[0], run(False)[0]))()
    want = apply(name)(variables(name), data(), LENGTH)
    np.testing.assert_allclose(clean["video"], want["video"], atol=1e-6)
    plain = apply(name, True)(variables(name), data(), LENGTH)
    assert not np.allclose(trained["video"], plain["video"], atol=1e-2)


@pytest.mark.parametrize("name, settings, message", [
    ("grru", {}, r"grru is no aggregator; did you mean 'gru'\? \(all: transformer, netvlad, "),
    ("gru", {"hiden": 3}, r"gru takes no 'hiden'; did you mean 'hidden'\?"),
    ("gru", {"cell": 3}, "gru takes no 'cell'"),
    ("lstm", {"name": "x"}, "lstm takes no 'name'"),
    ("gru", {"layers": 0}, r"gru\.layers=0 must be at least 1"),
    ("netvlad", {"clusters": 2.5}, r"netvlad\.clusters=2\.5 must be a whole number"),
    ("nextvlad", {"dropout": 1.0}, r"nextvlad\.dropout=1\.0 must be at least 0 and less than 1"),
])
def test_wrong_names_and_settings(name, settings, message):
  with pytest.raises(ValueError, match=message):
    aggregators.make(name, settings)


@pytest.mark.parametrize("name, settings, message", [
    ("netvlad", {"output": 4, "reduction": 5}, "reduction=5 leaves nothing of output=4"),
    ("nextvlad", {"groups": 5}, "groups=5 does not divide the 12 features of expansion=2 times 6"),
    ("transformer", {"heads": 4}, "heads=4 does not divide the feature size 6"),
])
def test_settings_that_do_not_fit_the_features(name, settings, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(aggregators.make(name, settings).init, jax.random.key(0), data(), LENGTH)
