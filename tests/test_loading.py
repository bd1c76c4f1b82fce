"""Training on clips decoded from disk: devices don't wait where decoding keeps up, and it shows."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines import augment, clips, sample, source
from tests.data_pipelines.layouts import folder
from vssl_jax import log as logs
from vssl_jax import parallel, train
from vssl_jax.checkpoint import Checkpoints
from vssl_jax.types import TrainState

BATCH, STEPS = 4, 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  root = tmp_path_factory.mktemp("folder")
  folder.write(root)
  return source.load("folder", str(root), folder.SPLIT, **folder.OPTIONS)


def batches(data, first_step=0, delay=0.0):
  choose = functools.partial(sample.clip, n_frames=4, stride=1)
  read = clips.Reader(choose, augment.moco(size=24), short_side=32)

  def slow(record, rng):
    time.sleep(delay)
    return read(record, rng)

  return clips.batches(clips.training(data, slow, seed=0), batch=BATCH, first_step=first_step)


def fit(workdir, data, *, step_seconds, delay=0.0):
  """A run whose step keeps the devices busy for so long, without taking the cores from decoding."""
  mesh = parallel.mesh(jax.devices()[:1])

  def compute(x):
    time.sleep(step_seconds)
    return np.float32(x)

  @jax.jit
  def step(state, batch):
    total = state.params + jnp.mean(batch["frames"].astype(jnp.float32))
    busy = jax.pure_callback(compute, jax.ShapeDtypeStruct((), jnp.float32), total)
    return TrainState(state.step + 1, busy, state.aux, state.opt_state, state.key), {"loss": busy}

  state = TrainState(jnp.zeros((), jnp.int32), jnp.zeros(()), {}, {}, jax.random.key(0))
  with Checkpoints(workdir / "checkpoints", 1) as checkpoints, logs.Log(workdir, start=0) as log:
    state = train.fit(state, step, batches(data, delay=delay), steps=STEPS, batch=BATCH, mesh=mesh,
                      log=log, checkpoints=checkpoints, checkpoint_every=1000, log_every=8)
  return state, logs.read(workdir / "metrics.jsonl")


def test_devices_wait_less_than_a_twentieth_where_decoding_keeps_up(tmp_path, data):
  _, rows = fit(tmp_path, data, step_seconds=0.15)
  assert max(row["data_wait_fraction"] for row in rows[1:]) < 0.05


def test_the_log_tells_where_it_does_not(tmp_path, data):
  _, rows = fit(tmp_path, data, step_seconds=0.01, delay=0.1)
  assert min(row["data_wait_fraction"] for row in rows[1:]) > 0.5


def test_the_same_frames_whatever_the_step_takes(tmp_path, data):
  one, _ = fit(tmp_path / "a", data, step_seconds=0.0)
  two, _ = fit(tmp_path / "b", data, step_seconds=0.02)
  assert float(one.params) == float(two.params) > 0
