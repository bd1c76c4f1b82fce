"""The training loop: the same on any number of devices, and after any interruption."""

import functools
import itertools
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipelines import pipeline
from data_pipelines.records import RetrievalData
from data_pipelines.store import Store, StoreWriter
from vssl_jax import log as logs
from vssl_jax import optim, parallel, train
from vssl_jax.checkpoint import Checkpoints, same
from vssl_jax.methods import tca
from vssl_jax.types import Method, TrainState

BATCH, T, DIM, STEPS = 8, 4, 8, 8
MOMENTUM = dict(momentum=0.9)
PAIRS = [(f"a{i}", f"b{i}") for i in range(10)]
BACKGROUND = [f"n{i}" for i in range(12)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
  folder = tmp_path_factory.mktemp("store")
  rng = np.random.default_rng(0)
  with StoreWriter(folder, DIM, {}) as writer:
    for name in [*itertools.chain(*PAIRS), *BACKGROUND]:
      writer.append(name, rng.standard_normal((rng.integers(2, 9), DIM)))
  return Store(folder)


def batches(store, first_step=0, threads=2):
  data = RetrievalData(
      name="synthetic", videos={}, pairs=PAIRS, background=BACKGROUND, queries=[], database=[],
      groups={name: i for i, pair in enumerate(PAIRS) for name in pair}, annotation={})
  elements = pipeline.pairs(data, store, length=T, negatives=2, seed=5)
  return pipeline.batches(elements, batch=BATCH, first_step=first_step, threads=threads)


@functools.cache
def build(devices, **args):
  """Mesh, compiled step and a maker of first states of a small TCA with dropout."""
  mesh = parallel.mesh(jax.devices()[:devices])
  aggregators = dict(transformer=dict(heads=2, feed_forward=16, dropout=0.3))
  settings = dict(aggregators=aggregators, loss="info_nce", bank_size=40)
  method = tca.make(**(settings | args))
  tx = optim.make(steps=STEPS, learning_rate=1e-3)
  x = np.zeros((1, T, DIM), np.float32)
  example = {"anchor": {"x": x, "length": np.ones(1, np.int32)}}
  first_state = functools.partial(train.init_state, method, tx, example, 3, mesh)
  return mesh, train.make_step(method, tx, mesh), first_state


def without_key_bias(trees):
  """Attention does not depend on its keys' bias, so Adam makes steps of any size from rounding."""
  def clear(path, x):
    return x * (np.arange(3 * DIM) // DIM != 1) if path.endswith("['in_proj']['bias']") else x

  for tree in trees:
    yield jax.tree_util.tree_map_with_path(lambda p, x: clear(jax.tree_util.keystr(p), x), tree)


@pytest.mark.parametrize("args", [MOMENTUM, dict(bank_size=0, loss="circle", gamma=16.0)])
def test_one_and_four_devices_give_the_same_numbers(store, args):
  """With dropout: its masks, too, must not depend on the devices."""
  runs = []
  for devices in (1, 4):
    mesh, step, first_state = build(devices, **args)
    state, rows, source = first_state(), [], batches(store)
    for _ in range(5):
      state, metrics = step(state, parallel.place(next(source), mesh))
      rows.append({k: float(v) for k, v in metrics.items()})
    runs.append((rows, *without_key_bias(jax.device_get((state.params, state.aux)))))
  (one, params, aux), (four, params_4, aux_4) = runs
  for a, b in zip(one, four, strict=True):
    for k in a:
      np.testing.assert_allclose(a[k], b[k], rtol=1e-5, atol=1e-5, err_msg=k)
  assert len({row["loss"] for row in one}) == 5
  chex.assert_trees_all_close(params, params_4, atol=1e-5)
  chex.assert_trees_all_close(aux, aux_4, atol=1e-5)


def toy() -> Method:
  """Loss w . mean(x) + noise . w: everything about a step can be worked out by hand."""

  def init(key, batch):
    return {"w": jax.random.normal(key, batch.shape[1:])}, {"sum": jnp.zeros(())}

  def loss(params, aux, batch, key):
    noise = jax.random.normal(key, batch.shape[1:])
    value = params["w"] @ (jnp.mean(batch, axis=0) + noise)
    aux = {"sum": aux["sum"] + jnp.sum(batch)}
    return value, (aux, {"loss": value})

  return Method(init, loss, lambda params, aux, inputs: inputs @ params["w"])


def toy_batches(first=0):
  for step in itertools.count(first):
    yield np.random.default_rng(step).standard_normal((BATCH, 2)).astype(np.float32)


def test_a_step_by_hand():
  mesh, tx = parallel.mesh(), optax.sgd(0.1)
  first = next(toy_batches())
  state = train.init_state(toy(), tx, first, 11, mesh)
  key_init, key = jax.random.split(jax.random.key(11))
  w = np.asarray(jax.random.normal(key_init, (2,)))
  np.testing.assert_array_equal(state.params["w"], w)
  assert same(state.key, key)
  step, total = train.make_step(toy(), tx, mesh), 0.0
  for i, batch in zip(range(3), toy_batches(), strict=False):
    assert int(state.step) == i
    state, metrics = step(state, parallel.place(batch, mesh))
    grad = batch.mean(axis=0) + np.asarray(jax.random.normal(jax.random.fold_in(key, i), (2,)))
    total += batch.sum()
    np.testing.assert_allclose(metrics["loss"], w @ grad, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(grad), rtol=1e-5)
    w = w - 0.1 * grad
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.aux["sum"], total, rtol=1e-4, atol=1e-5)
    assert same(state.key, key)


def test_seeds_and_the_donated_state():
  mesh, tx = parallel.mesh(), optax.sgd(0.1)
  states = [train.init_state(toy(), tx, next(toy_batches()), seed, mesh) for seed in (1, 1, 2)]
  assert same(states[0], states[1])
  assert not same(states[0], states[2])
  train.make_step(toy(), tx, mesh)(states[0], parallel.place(next(toy_batches()), mesh))
  assert states[0].params["w"].is_deleted()


class Killed(Exception):
  """What a test raises where a process would die."""


@functools.cache
def build_toy():
  mesh, tx = parallel.mesh(), optax.sgd(0.1)
  first_state = functools.partial(train.init_state, toy(), tx, next(toy_batches()), 0, mesh)
  return mesh, train.make_step(toy(), tx, mesh), first_state


def fit_toy(folder, *, steps=STEPS, first=0, **args):
  """Trains the toy from the newest checkpoint, as the main job does; returns the state."""
  mesh, step_fn, first_state = build_toy()
  state = first_state()
  source = args.pop("batches", toy_batches)
  with Checkpoints(folder / "checkpoints", 2) as checkpoints:
    if checkpoints.latest is not None:
      state, position = checkpoints.restore(state, {"next_step": 0})
      assert position["next_step"] == int(state.step)
    assert int(state.step) == first
    with logs.Log(folder, start=first) as log:
      args = dict(checkpoint_every=3, log_every=1) | args
      return train.fit(state, step_fn, source(first), steps=steps, batch=BATCH, mesh=mesh, log=log,
                       checkpoints=checkpoints, **args)


def read(folder):
  return logs.read(folder / "metrics.jsonl")


def test_log_rows_checkpoints_and_evaluation_come_when_asked(tmp_path):
  seen = []

  def evaluate(state):
    seen.append(int(state.step))
    return {"eval/w": float(state.params["w"][0])}

  state = fit_toy(tmp_path, log_every=3, eval_every=2, evaluate=evaluate)
  assert int(state.step) == STEPS
  assert seen == [2, 4, 6]  # the last evaluation is for whoever called
  rows = {row["step"]: row for row in read(tmp_path)}
  assert sorted(rows) == [2, 3, 4, 6, 8]
  assert [s for s in rows if "loss" in rows[s]] == [3, 6, 8]
  assert [s for s in rows if "eval/w" in rows[s]] == [2, 4, 6]
  for row in (rows[3], rows[6], rows[8]):
    assert row["examples_per_second"] > 0
    assert 0 <= row["data_wait_fraction"] <= 1
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["6", "8"]


def test_the_row_of_a_step_tells_of_that_step(tmp_path):
  fit_toy(tmp_path / "each")
  fit_toy(tmp_path / "some", log_every=4)
  each = {row["step"]: row["loss"] for row in read(tmp_path / "each")}
  some = {row["step"]: row["loss"] for row in read(tmp_path / "some")}
  assert sorted(each) == list(range(1, STEPS + 1))
  assert some == {step: each[step] for step in (4, 8)}


def test_waiting_for_data_is_told(tmp_path):
  def slow(first):
    for batch in toy_batches(first):
      time.sleep(0.02)
      yield batch

  fit_toy(tmp_path, batches=slow)
  rows = read(tmp_path)[2:]  # the first steps compile
  assert np.median([row["data_wait_fraction"] for row in rows]) > 0.5
  assert all(row["examples_per_second"] < BATCH / 0.02 for row in rows)


@pytest.mark.parametrize("busy", [True, False])
def test_a_wait_counts_only_where_the_devices_have_nothing_to_do(busy):
  class Result:
    def is_ready(self):
      return not busy

  meter = train._Meter(BATCH)
  with meter.waiting({"loss": Result()}):
    time.sleep(0.02)
  fraction = meter.read()["data_wait_fraction"]
  assert fraction == 0 if busy else fraction > 0.5


@pytest.mark.parametrize("last", [1, 2, 3, 5])
def test_stop_saves_and_the_next_run_goes_on_to_the_same_end(tmp_path, last):
  straight = fit_toy(tmp_path / "straight")
  answers = iter([False] * last + [True])
  state = fit_toy(tmp_path / "stopped", stop=lambda: next(answers))
  assert int(state.step) == last
  state = fit_toy(tmp_path / "stopped", first=last)
  assert same(state, straight)
  assert_same_rows(read(tmp_path / "stopped"), read(tmp_path / "straight"))


@pytest.mark.parametrize("dies_at, continues_from", [(1, 0), (3, 3), (5, 3), (7, 6)])
def test_a_killed_run_loses_nothing_but_time(tmp_path, dies_at, continues_from):
  """It dies while it waits for the batch after step `dies_at`."""
  def dying(first):
    yield from itertools.islice(toy_batches(first), dies_at - first)
    raise Killed

  straight = fit_toy(tmp_path / "straight")
  with pytest.raises(Killed):
    fit_toy(tmp_path / "killed", batches=dying)
  assert [row["step"] for row in read(tmp_path / "killed")] == list(range(1, dies_at + 1))
  state = fit_toy(tmp_path / "killed", first=continues_from)
  assert same(state, straight)
  assert_same_rows(read(tmp_path / "killed"), read(tmp_path / "straight"))


def assert_same_rows(got, want):
  """The same losses, and every step exactly once."""
  assert [row["step"] for row in got] == [row["step"] for row in want]
  assert [row["loss"] for row in got] == [row["loss"] for row in want]


def test_a_finished_run_does_nothing(tmp_path):
  first = fit_toy(tmp_path)
  again = fit_toy(tmp_path, first=STEPS, batches=lambda first: iter(()))
  assert same(first, again)
  assert [row["step"] for row in read(tmp_path)] == list(range(1, STEPS + 1))


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
  def spoiled(first):
    yield from itertools.islice(toy_batches(first), 4)
    yield np.full((BATCH, 2), np.nan, np.float32)

  with pytest.raises(FloatingPointError, match="at step 5"):
    fit_toy(tmp_path, batches=spoiled)
  assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["3"]


def fit_tca(folder, store, *, stop_after=None, threads):
  mesh, step_fn, first_state = build(4, **MOMENTUM)
  state = first_state()
  with Checkpoints(folder / "checkpoints", 2) as checkpoints:
    if checkpoints.latest is not None:
      state, _ = checkpoints.restore(state, {"next_step": 0})
    first = int(state.step)
    answers = itertools.count(first)
    with logs.Log(folder, start=first) as log:
      state = train.fit(
          state, step_fn, batches(store, first, threads), steps=STEPS, batch=BATCH, mesh=mesh,
          log=log, checkpoints=checkpoints, checkpoint_every=2, log_every=1,
          stop=lambda: stop_after is not None and next(answers) >= stop_after)
  return state


def test_an_interrupted_run_of_tca_equals_a_straight_one_to_the_last_bit(tmp_path, store):
  """Parameters, moments, bank, momentum copy, dropout and data order, for other thread counts."""
  straight = fit_tca(tmp_path / "straight", store, threads=2)
  for stop_after, threads in ((3, 1), (6, 4), (None, 3)):
    state = fit_tca(tmp_path / "parts", store, stop_after=stop_after, threads=threads)
    assert int(state.step) == (stop_after or STEPS)
  assert isinstance(state, TrainState)
  assert same(state, straight)
  assert_same_rows(read(tmp_path / "parts"), read(tmp_path / "straight"))


def test_a_loss_that_is_no_number_never_gets_into_a_checkpoint(tmp_path):
  """It comes between two rows of the log, just before a checkpoint."""
  mesh, tx = parallel.mesh(), optax.sgd(0.1)
  method = toy()
  step = train.make_step(method, tx, mesh)
  state = train.init_state(method, tx, next(toy_batches()), 0, mesh)

  def source():
    for i, batch in enumerate(toy_batches()):
      yield batch * (np.nan if i == 5 else 1)

  with (Checkpoints(tmp_path / "checkpoints") as checkpoints, logs.Log(tmp_path) as log,
        pytest.raises(FloatingPointError, match="at step 6")):
    train.fit(state, step, source(), steps=20, batch=BATCH, mesh=mesh, log=log,
              checkpoints=checkpoints, checkpoint_every=3, log_every=20)
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert checkpoints.latest == 3
