"""The training loop of every method."""

import contextlib
import time
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import optax

from vssl_jax import parallel
from vssl_jax.checkpoint import Checkpoints
from vssl_jax.log import Log, check_finite, progress
from vssl_jax.types import Method, TrainState


def init_state(method: Method, tx: optax.GradientTransformation, batch, seed: int, mesh):
  """The state before the first step, replicated over the mesh. `batch` is any local batch."""

  def init(key, batch):
    key_init, key_steps = jax.random.split(key)
    params, aux = method.init(key_init, batch)
    return TrainState(jnp.zeros((), jnp.int32), params, aux, tx.init(params), key_steps)

  return jax.jit(init, out_shardings=parallel.replicated(mesh))(jax.random.key(seed), batch)


def make_step(method: Method, tx: optax.GradientTransformation, mesh) -> Callable:
  """`(state, batch) -> (state, metrics)`, one update; jitted over the mesh, donates the state."""

  def step(state, batch):
    grad_fn = jax.value_and_grad(method.loss, has_aux=True)
    key = jax.random.fold_in(state.key, state.step)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # for `ops.placement`
      (_, (aux, metrics)), grads = grad_fn(state.params, state.aux, batch, key)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = metrics | {"grad_norm": optax.tree.norm(grads)}
    return TrainState(state.step + 1, params, aux, opt_state, state.key), metrics

  everywhere, split = parallel.replicated(mesh), parallel.over_data(mesh)
  return jax.jit(step, in_shardings=(everywhere, split), out_shardings=(everywhere, everywhere),
                 donate_argnums=0)


def fit(state: TrainState, step_fn: Callable, batches: Iterable, *, steps: int, batch: int, mesh,
        log: Log, checkpoints: Checkpoints, checkpoint_every: int, log_every: int,
        evaluate: Callable | None = None, eval_every: int = 0,
        stop: Callable[[], bool] = lambda: False) -> TrainState:
  """Trains from `state.step` to `steps`, or until `stop()`; the last state is always saved.

  Args:
    batches: local batches from `state.step` on; the order is a function of seed and step, so the
      step is all that a checkpoint has to say about the data.
    batch: global batch size, for the rate in the log.
    evaluate: called with the state every `eval_every` steps; its numbers go into the log.
  """
  first = int(state.step)
  batches, meter, metrics = iter(batches), _Meter(batch), {}
  with progress(name="train", total=steps, initial=first, unit="steps") as bar:
    for done in range(first + 1, steps + 1):
      if (jax.process_count() == 1 or done % log_every == 0) and parallel.any_process(stop()):
        break
      with meter.waiting(metrics):
        local = next(batches)
      state, metrics = step_fn(state, parallel.place(local, mesh))
      bar.update()
      meter.steps += 1
      row = {}
      if done % log_every == 0 or done == steps:
        row = {k: float(v) for k, v in jax.device_get(metrics).items()} | meter.read()
        shown = f"loss {row['loss']:.3f}, waiting for data {row['data_wait_fraction']:.0%}"
        bar.set_postfix_str(shown, refresh=False)
      if evaluate and eval_every and done % eval_every == 0 and done < steps:
        with meter.paused():
          row |= evaluate(state)
      if row:
        log.write(done, row)
      if done % checkpoint_every == 0 and done < steps:
        check_finite(done, float(metrics["loss"]))  # the same command would continue from a NaN
        checkpoints.save(done, state, {"next_step": done})
  checkpoints.wait()
  if int(state.step) != checkpoints.latest:
    checkpoints.save(int(state.step), state, {"next_step": int(state.step)})
  checkpoints.wait()
  return state


class _Meter:
  """Examples a second, and the share of the time that devices waited for data, since last read."""

  def __init__(self, batch: int):
    self._batch = batch
    self._reset()

  def _reset(self) -> None:
    self.steps, self._waited, self._start = 0, 0.0, time.perf_counter()

  @contextlib.contextmanager
  def waiting(self, previous):
    """Counts the time of the block as waiting, unless the devices still compute `previous`.

    Steps are dispatched ahead of time, so a wait that ends before the step before it costs nothing.
    """
    start = time.perf_counter()
    yield
    if all(x.is_ready() for x in jax.tree.leaves(previous)):
      self._waited += time.perf_counter() - start

  @contextlib.contextmanager
  def paused(self):
    """Leaves the time of the block out."""
    start = time.perf_counter()
    yield
    self._start += time.perf_counter() - start

  def read(self) -> dict[str, float]:
    """The figures, for the log; begins anew."""
    elapsed = max(time.perf_counter() - self._start, 1e-9)
    figures = {"examples_per_second": self.steps * self._batch / elapsed,
               "data_wait_fraction": self._waited / elapsed}
    self._reset()
    return figures
