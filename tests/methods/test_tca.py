"""TCA's three functions: what is compared with what, what gets a gradient, what is remembered."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.reference import losses as reference
from vssl_jax import optim, parallel, train
from vssl_jax.methods import tca
from vssl_jax.types import ConfigError

B, M, T, D = 4, 3, 5, 8
SMALL = dict(dropout=0.0, bank_size=17)
KEY = jax.random.key(7)


def videos(rng, *shape, group=None):
  return {"x": rng.standard_normal((*shape, T, D)).astype(np.float32),
          "length": rng.integers(1, T + 3, shape).astype(np.int32),
          "group": np.full(shape, -1, np.int32) if group is None else np.int32(group)}


def make_batch(seed, **groups):
  rng = np.random.default_rng(seed)
  return {"anchor": videos(rng, B, group=groups.get("anchor")),
          "positive": videos(rng, B, group=groups.get("anchor")),
          "negative": videos(rng, B, M, group=groups.get("negative"))}


def make(feed_forward=16, **args):
  """A small method; `dropout` and `feed_forward` are the Transformer's."""
  args = SMALL | args
  settings = dict(heads=2, feed_forward=feed_forward, dropout=args.pop("dropout"))
  return tca.make(aggregators=dict(transformer=settings), **args)


@functools.cache
def build(**args):
  """The method, its start, its jitted loss with gradient, its jitted embedding."""
  method = make(**args)
  params, aux = jax.jit(method.init)(KEY, make_batch(0))
  # Away from the symmetric start, and for momentum the two encoders from each other.
  params = jax.tree.map(lambda p: p + 0.1 * jnp.sin(jnp.arange(p.size)).reshape(p.shape), params)
  step = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
  embed = jax.jit(lambda p, v: method.embed(p, {}, v)["video"])
  return method, params, aux, step, embed


def flat(side):
  return {"x": side["x"].reshape(-1, T, D), "length": side["length"].reshape(-1)}


def similarities(embed, params, key_params, batch, rows=None):
  """`s_p` [B] and `s_n` [B, K] in float64; without `rows` against the batch's own negatives."""
  z_a = np.float64(embed(params, batch["anchor"]))
  z_p = np.float64(embed(key_params, batch["positive"]))
  rows = embed(key_params, flat(batch["negative"])) if rows is None else rows
  return np.sum(z_a * z_p, axis=1), z_a @ np.float64(rows).T


LOSSES = {
    "circle": (dict(gamma=32.0, margin=0.3),
               functools.partial(reference.circle, gamma=32.0, margin=0.3)),
    "info_nce": (dict(tau=0.2), functools.partial(reference.info_nce, tau=0.2)),
    "triplet": (dict(margin=0.9), functools.partial(reference.triplet, margin=0.9, hardest=True)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_metrics_are_those_of_the_bank_before_the_step(name):
  args, twin = LOSSES[name]
  _, params, aux, step, embed = build(loss=name, **args)
  rows = np.array(aux["bank"].keys)
  for i in range(3):
    batch = make_batch(10 + i)
    (value, (aux, metrics)), _ = step(params, aux, batch, KEY)
    s_p, s_n = similarities(embed, params, params, batch, rows)
    np.testing.assert_allclose(value, reference.rows(twin, s_p, s_n).mean(), rtol=1e-4)
    for j, row in enumerate(np.asarray(embed(params, flat(batch["negative"])))):
      rows[(i * B * M + j) % len(rows)] = row
    np.testing.assert_allclose(aux["bank"].keys, rows, atol=1e-6)
    want = {"loss": value, "positive": s_p.mean(), "negative": s_n.mean(),
            "hardest": s_n.max(axis=1).mean(), "top1": np.mean(s_p > s_n.max(axis=1)),
            "bank_filled": min((i + 1) * B * M, 17) / 17}
    assert metrics.keys() == want.keys()
    for key, number in want.items():
      np.testing.assert_allclose(metrics[key], number, atol=1e-5, rtol=1e-5, err_msg=key)


def test_released_circle_sees_the_rows_of_the_batch():
  _, params, aux, step, embed = build(loss="released_circle", gamma=32.0, margin=0.3)
  batch = make_batch(1)
  (value, _), _ = step(params, aux, batch, KEY)
  s_p, s_n = similarities(embed, params, params, batch, aux["bank"].keys)
  rows = np.concatenate([s_p[:, None], s_n], axis=1)
  want = [reference.released_row(row, first_row=i == 0, gamma=32.0, margin=0.3)
          for i, row in enumerate(rows)]
  np.testing.assert_allclose(value, np.mean(want), rtol=1e-4)


def test_a_steps_own_negatives_are_used_from_the_next_step_on():
  _, params, aux, step, _ = build(loss="info_nce")
  batch = make_batch(2)
  other = batch | {"negative": make_batch(3)["negative"]}
  (value, (aux_1, _)), grad = step(params, aux, batch, KEY)
  (value_2, (aux_2, _)), grad_2 = step(params, aux, other, KEY)
  assert value == value_2
  chex.assert_trees_all_equal(grad, grad_2)
  (later, _), _ = step(params, aux_1, make_batch(4), KEY)
  (later_2, _), _ = step(params, aux_2, make_batch(4), KEY)
  assert abs(later - later_2) > 1e-3


@pytest.mark.parametrize("positive_gradient", [False, True])
def test_gradient_goes_through_the_anchor_and_if_asked_the_positive(positive_gradient):
  """Against the gradient of a loss in which the constants are written out as numbers."""
  method, params, aux, step, embed = build(
      loss="info_nce", tau=0.2, positive_gradient=positive_gradient)
  batch = make_batch(5)
  _, grad = step(params, aux, batch, KEY)
  constant = np.asarray(embed(params, batch["positive"]))

  def written_out(params):
    z_a = method.embed(params, {}, batch["anchor"])["video"]
    z_p = method.embed(params, {}, batch["positive"])["video"] if positive_gradient else constant
    logits = jnp.concatenate([jnp.sum(z_a * z_p, 1)[:, None], z_a @ aux["bank"].keys.T], 1) / 0.2
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.zeros(B, int)))

  want = jax.jit(jax.grad(written_out))(params)
  chex.assert_trees_all_close(grad, want, rtol=1e-3, atol=1e-5)


def test_positive_gradient_changes_the_gradient_and_not_the_loss():
  args = dict(loss="info_nce", tau=0.2)
  (_, params, aux, step, _), (*_, through, _) = build(**args), build(positive_gradient=True, **args)
  (a, _), grad_a = step(params, aux, make_batch(5), KEY)
  (b, _), grad_b = through(params, aux, make_batch(5), KEY)
  np.testing.assert_allclose(a, b, rtol=1e-6)
  difference = optax.tree.norm(jax.tree.map(jnp.subtract, grad_a, grad_b))
  assert difference > 0.1 * optax.tree.norm(grad_a)


def test_without_a_bank_the_steps_negatives_serve_all_anchors_with_gradient():
  method, params, aux, step, embed = build(loss="info_nce", tau=0.2, bank_size=0)
  assert aux == {}
  batch = make_batch(6)
  (value, (aux, metrics)), grad = step(params, {}, batch, KEY)
  assert aux == {}
  assert "bank_filled" not in metrics
  s_p, s_n = similarities(embed, params, params, batch)
  assert s_n.shape == (B, B * M)
  twin = functools.partial(reference.info_nce, tau=0.2)
  np.testing.assert_allclose(value, reference.rows(twin, s_p, s_n).mean(), rtol=1e-5)
  constant = np.asarray(embed(params, batch["positive"]))

  def written_out(params):
    z_a = method.embed(params, {}, batch["anchor"])["video"]
    z_n = method.embed(params, {}, flat(batch["negative"]))["video"]
    logits = jnp.concatenate([jnp.sum(z_a * constant, 1)[:, None], z_a @ z_n.T], 1) / 0.2
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.zeros(B, int)))

  chex.assert_trees_all_close(grad, jax.jit(jax.grad(written_out))(params), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("bank_size", [0, 17])
def test_videos_of_one_group_are_never_each_others_negatives(bank_size):
  anchor = [0, 1, -1, 2]
  negative = [[0, 1, 2], [-1, 0, 5], [1, 1, -1], [2, 3, 4]]
  _, params, aux, step, embed = build(loss="info_nce", tau=0.2, bank_size=bank_size)
  batch = make_batch(8, anchor=anchor, negative=negative)
  rows, groups = embed(params, flat(batch["negative"])), np.reshape(negative, -1)
  if bank_size:
    (_, (aux, _)), _ = step(params, aux, batch, KEY)  # fills the bank
    np.testing.assert_array_equal(aux["bank"].groups, [*groups, *[-1] * 5])
    rows, groups = aux["bank"].keys, np.asarray(aux["bank"].groups)
  (value, (_, metrics)), _ = step(params, aux, batch, KEY)
  mask = np.array([[a < 0 or g != a for g in groups] for a in anchor])
  assert not mask.all()
  s_p, s_n = similarities(embed, params, params, batch, rows)
  twin = functools.partial(reference.info_nce, tau=0.2)
  np.testing.assert_allclose(value, reference.rows(twin, s_p, s_n, mask).mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics["negative"], s_n[mask].mean(), atol=1e-5)
  hardest = np.where(mask, s_n, -1).max(axis=1)
  np.testing.assert_allclose(metrics["hardest"], hardest.mean(), atol=1e-5)
  np.testing.assert_allclose(metrics["top1"], np.mean(s_p > hardest))


def test_filled_only_ignores_the_random_rows():
  _, params, aux, step, embed = build(loss="info_nce", tau=0.2, filled_only=True)
  (value, (aux, _)), grad = step(params, aux, make_batch(8), KEY)
  assert value == 0  # an empty bank, so nothing to tell apart
  assert all((g == 0).all() for g in jax.tree.leaves(grad))
  (value, _), _ = step(params, aux, make_batch(9), KEY)
  s_p, s_n = similarities(embed, params, params, make_batch(9), aux["bank"].keys[:B * M])
  twin = functools.partial(reference.info_nce, tau=0.2)
  np.testing.assert_allclose(value, reference.rows(twin, s_p, s_n).mean(), rtol=1e-5)


@pytest.mark.parametrize("positive_gradient", [False, True])
def test_momentum(positive_gradient):
  _, params, aux, step, embed = build(loss="info_nce", tau=0.2, momentum=0.7,
                                      positive_gradient=positive_gradient)
  batch, old, rows = make_batch(9), aux["key_params"], aux["bank"].keys
  (value, (aux, _)), _ = step(params, aux, batch, KEY)
  want = jax.tree.map(lambda k, q: 0.7 * np.float64(k) + 0.3 * np.float64(q), old, params)
  chex.assert_trees_all_close(aux["key_params"], want, rtol=1e-5, atol=1e-6)
  key_params = aux["key_params"]  # updated before anything is encoded with them
  s_p, s_n = similarities(embed, params, params if positive_gradient else key_params, batch, rows)
  twin = functools.partial(reference.info_nce, tau=0.2)
  np.testing.assert_allclose(value, reference.rows(twin, s_p, s_n).mean(), rtol=1e-5)
  negatives = embed(key_params, flat(batch["negative"]))
  np.testing.assert_allclose(aux["bank"].keys[:B * M], negatives, atol=1e-6)


@pytest.mark.parametrize("positive_gradient", [False, True])
def test_dropout_masks_differ_between_the_sides_and_depend_on_the_key(positive_gradient):
  _, params, aux, step, embed = build(dropout=0.5, positive_gradient=positive_gradient)
  batch = make_batch(9)
  batch["positive"] = batch["anchor"]
  (value, (aux_1, metrics)), _ = step(params, aux, batch, KEY)
  (again, _), _ = step(params, aux, batch, KEY)
  (other, _), _ = step(params, aux, batch, jax.random.key(8))
  assert value == again
  assert abs(value - other) > 1e-3
  assert metrics["positive"] < 0.99
  # Keys are dropped out too; an embedding never is.
  clean = embed(params, flat(batch["negative"]))
  assert np.abs(aux_1["bank"].keys[:B * M] - clean).max() > 0.01
  exact = build()[-1](params, flat(batch["negative"]))
  np.testing.assert_array_equal(clean, exact)


def test_bfloat16_stays_near_float32():
  (_, params, aux, step, _), (*_, half, _) = build(), build(dtype="bfloat16")
  (_, (aux_32, wide)), _ = step(params, aux, make_batch(9), KEY)
  (_, (aux_16, narrow)), grads = half(params, aux, make_batch(9), KEY)
  assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(grads))
  np.testing.assert_allclose(narrow["positive"], wide["positive"], atol=0.02)
  np.testing.assert_allclose(aux_16["bank"].keys, aux_32["bank"].keys, atol=0.03)
  assert not np.array_equal(aux_16["bank"].keys, aux_32["bank"].keys)


def test_an_unknown_loss_is_named_with_the_ones_there_are():
  with pytest.raises(ConfigError, match=r"method\.args\.loss='cirle'.*circle, info_nce, triplet"):
    tca.make(loss="cirle")


@pytest.mark.parametrize("name, value", [
    ("bank_size", -1), ("momentum", 1.0), ("gamma", -1.0), ("margin", -0.1), ("tau", 0.0)])
def test_an_argument_out_of_its_range_is_named(name, value):
  with pytest.raises(ConfigError, match=rf"method\.args\.{name}={value} must be"):
    tca.make(**{name: value})


def test_the_defaults_are_the_papers():
  method = tca.make()
  x = np.zeros((1, 2, 1024), np.float32)
  batch = {"anchor": {"x": x, "length": np.ones(1, np.int32)}}
  params, aux = jax.eval_shape(method.init, KEY, batch)
  assert aux["bank"].keys.shape == (4096, 1024)
  assert "key_params" not in aux
  # tca spec 4: about 8.4 M parameters.
  assert sum(p.size for p in jax.tree.leaves(params)) == 8_399_872


@pytest.mark.parametrize("args", [
    dict(loss="circle", gamma=32.0), dict(loss="info_nce", momentum=0.5),
    dict(loss="info_nce", bank_size=0, positive_gradient=True)])
def test_a_handful_of_videos_is_learnt_by_heart_and_traced_once(args):
  """Pairs with so little in common that only training brings them together."""
  chex.clear_trace_counter()
  method = make(feed_forward=64, **args)
  method = method._replace(loss=chex.assert_max_traces(method.loss, 1))
  batch = make_batch(11)
  for side in batch.values():
    side["length"][:] = T
  batch["positive"]["x"] = 0.3 * batch["anchor"]["x"] + 0.7 * batch["positive"]["x"]
  tx, mesh = optim.make(steps=100, learning_rate=3e-3, weight_decay=0), parallel.mesh()
  state = train.init_state(method, tx, batch, 0, mesh)
  step, placed, seen = train.make_step(method, tx, mesh), parallel.place(batch, mesh), []
  for _ in range(100):
    state, metrics = step(state, placed)
    seen.append({k: float(v) for k, v in metrics.items()})
  assert seen[0]["top1"] < 0.6
  assert all(row["top1"] == 1 for row in seen[-10:])
  assert seen[-1]["positive"] > seen[-1]["hardest"] + 0.1
