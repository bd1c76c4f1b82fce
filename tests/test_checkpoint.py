"""Checkpoints: equal to the last bit, the newest complete one, and no more than asked for."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax import parallel
from vssl_jax.checkpoint import Checkpoints, load_state, same
from vssl_jax.types import ConfigError, TrainState


def make_state(seed=0, mesh=None) -> TrainState:
  """A state with every kind of leaf: numbers that have no short form, integers, a typed key."""
  rng = np.random.default_rng(seed)
  state = TrainState(
      jnp.int32(seed), {"w": jnp.asarray(rng.standard_normal((4, 3)), jnp.float32) / 3},
      {"bank": {"groups": jnp.asarray(rng.integers(-1, 9, 5), jnp.int32)}, "none": {}},
      ({"m": jnp.asarray(rng.standard_normal(3) * 1e-30, jnp.float32)},
       jnp.asarray(rng.standard_normal(2), jnp.bfloat16)), jax.random.key(seed + 7))
  return jax.device_put(state, parallel.replicated(mesh or parallel.mesh()))


def save(folder, steps, **args):
  with Checkpoints(folder, **args) as checkpoints:
    for step in steps:
      checkpoints.save(step, make_state(step), {"next_step": step})


def half_written(folder, step):
  """A copy of the newest checkpoint as a writer leaves it that is killed before the last moment."""
  newest = max((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
  partial = folder / f"{step}.orbax-checkpoint-tmp"
  shutil.copytree(newest, partial)
  for file in partial.rglob("*"):
    if file.is_file() and "manifest" in file.name:
      file.unlink()
  return partial


def test_everything_comes_back_to_the_last_bit(tmp_path):
  save(tmp_path / "deep" / "run", [3])
  with Checkpoints(tmp_path / "deep" / "run") as checkpoints:
    assert checkpoints.latest == 3
    state, data = checkpoints.restore(make_state(0), {"next_step": 0})
  assert data == {"next_step": 3}
  assert jax.tree.structure(state) == jax.tree.structure(make_state(3))
  assert same(state, make_state(3))
  assert not same(state, make_state(0))
  for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(make_state(3)), strict=True):
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
  assert (jax.random.normal(state.key) == jax.random.normal(make_state(3).key)).all()


@pytest.mark.parametrize("devices", [1, 4])
def test_a_checkpoint_is_restored_onto_any_number_of_devices(tmp_path, devices):
  save(tmp_path, [2])
  mesh = parallel.mesh(jax.devices()[:devices])
  with Checkpoints(tmp_path) as checkpoints:
    state, _ = checkpoints.restore(make_state(0, mesh), {"next_step": 0})
  for leaf in jax.tree.leaves(state):
    assert leaf.sharding.device_set == set(mesh.devices.flat)
  assert same(state, make_state(2, mesh))


def test_the_state_may_change_while_it_is_written(tmp_path):
  """The step donates the state that is being saved, so saving must have copied it."""
  state = make_state(1)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, {"next_step": 1})
    jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)(
        (state.params, state.aux, state.opt_state))
  step, got = load_state(tmp_path, make_state(0))
  assert step == 1
  assert same(got, make_state(1))


def test_only_the_newest_are_kept(tmp_path):
  save(tmp_path, [1, 2, 3, 5], keep=2)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "5"]
  save(tmp_path, [8], keep=1)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["8"]
  with pytest.raises(ConfigError, match=r"train\.keep=0"):
    Checkpoints(tmp_path, keep=0)


def test_a_step_saved_twice_holds_what_came_last(tmp_path):
  save(tmp_path, [4])
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(4, make_state(9), {"next_step": 4})
  assert same(load_state(tmp_path, make_state(0))[1], make_state(9))


def test_no_save_is_skipped_while_another_is_being_written(tmp_path):
  save(tmp_path, range(1, 6), keep=5)
  assert sorted(p.name for p in tmp_path.iterdir()) == list("12345")


def test_a_half_written_checkpoint_is_ignored_and_cleared_away_by_the_next_run(tmp_path):
  save(tmp_path, [3])
  partial = half_written(tmp_path, 7)
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest == 3
    assert same(checkpoints.restore(make_state(0), {"next_step": 0})[0], make_state(3))
    assert not partial.exists()
    checkpoints.save(7, make_state(7), {"next_step": 7})
  step, state = load_state(tmp_path, make_state(0))
  assert step == 7
  assert same(state, make_state(7))


def test_reading_leaves_alone_what_a_run_is_writing(tmp_path):
  save(tmp_path, [3])
  partial = half_written(tmp_path, 7)
  before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
  step, state = load_state(tmp_path, make_state(0))
  assert step == 3
  assert same(state, make_state(3))
  assert partial.exists()
  assert before == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))


def test_where_there_is_no_checkpoint(tmp_path):
  with Checkpoints(tmp_path / "new") as checkpoints:
    assert checkpoints.latest is None
  with pytest.raises(ConfigError, match="holds no complete checkpoint; train first"):
    load_state(tmp_path / "new", make_state(0))
  with pytest.raises(ConfigError, match="no checkpoints here"):
    load_state(tmp_path / "nowhere", make_state(0))
  assert not (tmp_path / "nowhere").exists()


def test_same_sees_a_single_bit():
  state = make_state(0)
  assert same(state, make_state(0))
  w = np.array(state.params["w"])
  w[1, 1] = np.nextafter(w[1, 1], 1)
  others = [TrainState(state.step, {"w": jnp.asarray(w)}, *_rest(state)),
            TrainState(state.step + 1, state.params, *_rest(state)),
            TrainState(state.step, state.params, state.aux, state.opt_state, jax.random.key(0))]
  for other in others:
    placed = jax.device_put(other, parallel.replicated(parallel.mesh()))
    assert not same(state, placed)


def _rest(state):
  return state.aux, state.opt_state, state.key
