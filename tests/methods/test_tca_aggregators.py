"""TCA with other aggregators: what is learnt, and whose statistics move and are used."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.methods.test_tca import KEY, D, M, T, make_batch
from vssl_jax import optim, parallel, train
from vssl_jax.checkpoint import Checkpoints, same
from vssl_jax.methods import tca
from vssl_jax.models import aggregators
from vssl_jax.types import ConfigError

SETTINGS = {
    "netvlad": dict(clusters=4, output=12, reduction=2, dropout=0.0),
    "nextvlad": dict(clusters=4, groups=2, output=12, reduction=2, dropout=0.0),
    "lstm": dict(hidden=12, dropout=0.0), "gru": dict(hidden=12, dropout=0.0)}
every = pytest.mark.parametrize("name", SETTINGS)
B = 8


def pairs(seed):
  """A batch of 8 pairs, whole windows, with little in common but what training finds."""
  halves = make_batch(seed), make_batch(seed + 1)
  batch = jax.tree.map(lambda *x: np.concatenate(x), *halves)
  for side in batch.values():
    side["length"][:] = T
  batch["positive"]["x"] = 0.3 * batch["anchor"]["x"] + 0.7 * batch["positive"]["x"]
  return batch


@functools.cache
def build(name, devices=4, **args):
  """Method, first state, step and mesh."""
  settings = dict(bank_size=40, loss="info_nce", tau=0.2) | args
  method = tca.make(aggregator=name, aggregators={name: SETTINGS[name]}, **settings)
  counted = method._replace(loss=chex.assert_max_traces(method.loss, 1))
  tx = optim.make(steps=1, schedule="constant", learning_rate=5e-3, weight_decay=0)
  mesh = parallel.mesh(jax.devices()[:devices])
  state = train.init_state(method, tx, pairs(1), 0, mesh)
  return method, state, train.make_step(counted, tx, mesh), mesh


def run(built, batches, state=None):
  """The state after a step on each batch, and the metrics of each."""
  chex.clear_trace_counter()
  _, first, step, mesh = built
  state, seen = jax.tree.map(lambda x: x.copy(), first if state is None else state), []
  for batch in batches:
    state, metrics = step(state, parallel.place(batch, mesh))
    seen.append({k: float(v) for k, v in metrics.items()})
  return state, seen


@every
def test_a_handful_of_videos_is_learnt_by_heart(name):
  """By what `embed` gives, so with running statistics: how far positives stand above negatives."""
  method, first, _, _ = build(name)
  state, seen = run(build(name), [pairs(11)] * 120)
  embed, batch = jax.jit(method.embed), pairs(11)
  sides = [batch["anchor"], batch["positive"],  # 8 videos each: compiled once
           *({k: v[:, m] for k, v in batch["negative"].items()} for m in range(M))]

  def gap(state):
    a, p, *n = (embed(state.params, state.aux, {k: side[k] for k in ("x", "length")})["video"]
                for side in sides)
    n = jnp.concatenate(n)
    return jnp.mean(jnp.sum(a * p, axis=1)) - jnp.mean(a @ n.T)

  before, after = gap(first), gap(state)
  assert after > 0.6, (before, after)
  assert after > before + 0.4, (before, after)
  assert np.mean([row["top1"] for row in seen[-10:]]) > 0.8
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, first.params)
  assert all(m > 0 for m in jax.tree.leaves(moved))


@every
def test_anchors_alone_move_the_running_statistics_and_embed_uses_them(name):
  method, first, _, _ = build(name)
  batch = pairs(1)
  state, _ = run(build(name), [batch])
  assert state.aux["bank"].keys.shape == (40, 12)
  model = aggregators.make(name, SETTINGS[name])
  variables = {"params": first.params, "batch_stats": first.aux["batch_stats"]}

  def moved(key):
    side = batch["anchor"]
    return model.apply(variables, side["x"], side["length"], train=True, mutable=["batch_stats"],
                       rngs={"dropout": key})[1]["batch_stats"]

  key = jax.random.split(jax.random.fold_in(first.key, 0), 3)[0]
  chex.assert_trees_all_close(state.aux["batch_stats"], jax.jit(moved)(key), rtol=1e-4, atol=1e-6)
  assert (state.aux["batch_stats"]["bn1"]["mean"] != first.aux["batch_stats"]["bn1"]["mean"]).all()
  variables = {"params": state.params, "batch_stats": state.aux["batch_stats"]}
  x, length = batch["positive"]["x"], batch["positive"]["length"]
  got = jax.jit(method.embed)(state.params, state.aux, {"x": x, "length": length})
  chex.assert_trees_all_close(got, model.apply(variables, x, length), atol=1e-5)
  other = jax.jit(method.embed)(state.params, first.aux, {"x": x, "length": length})
  assert np.abs(other["video"] - got["video"]).max() > 1e-3


def test_numbers_do_not_depend_on_the_number_of_devices():
  """One step: Adam's second would divide what rounding left of gradients that are zero."""
  (one, seen), (four, other) = (run(build("netvlad", n), [pairs(1)]) for n in (1, 4))
  chex.assert_trees_all_close(one.aux, four.aux, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose([*seen[0].values()], [*other[0].values()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["nextvlad", "gru"])
def test_an_interrupted_run_goes_on_as_if_it_were_not(name, tmp_path):
  batches = [pairs(i) for i in range(6)]
  whole, _ = run(build(name), batches)
  half, _ = run(build(name), batches[:3])
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(3, half, {"next_step": 3})
  with Checkpoints(tmp_path) as checkpoints:
    back, _ = checkpoints.restore(build(name)[1], {"next_step": 0})
  end, _ = run(build(name), batches[3:], back)
  assert same(end, whole)


def test_a_momentum_encoder_has_parameters_and_no_statistics_of_its_own():
  method = tca.make(aggregator="gru", aggregators={"gru": SETTINGS["gru"]},
                    bank_size=40, momentum=0.7)
  batch = pairs(1)
  params, aux = jax.jit(method.init)(KEY, batch)
  assert sorted(aux) == ["bank", "batch_stats", "key_params"]
  ahead = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)
  _, (after, _) = jax.jit(method.loss)(ahead, aux, batch, KEY)
  want = jax.tree.map(lambda k, q: 0.7 * k + 0.3 * q, params, ahead)
  chex.assert_trees_all_close(after["key_params"], want, rtol=1e-5, atol=1e-6)
  # The keys of the negatives are normalised by the negatives' statistics.
  x, length = (batch["negative"][k].reshape(-1, *s) for k, s in (("x", (T, D)), ("length", ())))
  model = aggregators.make("gru", SETTINGS["gru"])
  keys, _ = model.apply({"params": want, "batch_stats": aux["batch_stats"]}, x, length, train=True,
                        mutable=["batch_stats"])
  np.testing.assert_allclose(after["bank"].keys[:len(x)], keys["video"], atol=1e-5)


def test_settings_are_by_aggregator_and_left_out_ones_have_defaults():
  batch = {"anchor": {"x": np.zeros((1, 2, 1024), np.float32), "length": np.ones(1, np.int32)}}
  sizes = {}
  for args in (dict(aggregator="gru"), dict(aggregator="gru", aggregators=dict(lstm={})),
               dict(aggregator="gru", aggregators=dict(gru=dict(hidden=16), lstm=dict(layers=9)))):
    params, aux = jax.eval_shape(tca.make(**args).init, KEY, batch)
    sizes[len(sizes)] = (sum(p.size for p in jax.tree.leaves(params)), aux["bank"].keys.shape[1])
  # 2 layers of 3 gates with 2 biases each, and a batch norm
  assert sizes[0] == sizes[1] == (2 * 3 * 1024 * (1024 + 1024 + 2) + 2 * 1024, 1024)
  assert sizes[2] == (3 * 16 * (1024 + 16 + 2 + 16 + 16 + 2) + 2 * 1024, 16)


@pytest.mark.parametrize("args, message", [
    (dict(aggregator="gruu"), r"method\.args\.aggregator=gruu is no aggregator; did you mean 'g"),
    (dict(aggregators=dict(netvald={})), r"method\.args\.aggregators\.netvald is no aggregator"),
    (dict(aggregators=dict(gru=dict(hidden=0))), r"aggregators\.gru\.hidden=0 must be at least 1"),
    (dict(aggregators=dict(gru=dict(hid=0))), r"aggregators\.gru takes no 'hid'; did you mean 'h"),
])
def test_wrong_settings_are_named(args, message):
  with pytest.raises(ConfigError, match=message):
    tca.make(**args)


def test_gradients_reach_every_parameter_and_are_finite_with_a_video_of_no_frames():
  method, state, _, _ = build("netvlad")
  batch = pairs(1)
  batch["positive"]["length"][0] = 0
  grad = jax.jit(jax.grad(lambda p: method.loss(p, state.aux, batch, KEY)[0]))(state.params)
  assert np.isfinite(optax.tree.norm(grad))
  assert all((np.abs(g) > 0).any() for g in jax.tree.leaves(grad))
