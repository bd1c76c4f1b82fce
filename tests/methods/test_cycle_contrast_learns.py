"""What the cycle alone teaches: the way to other videos leads to those of the same class."""

import jax
import numpy as np
import optax
import pytest

from vssl_jax.methods import cycle_contrast
from vssl_jax.models import resnet

CLASSES, VIDEOS, SIDE, STEPS = 4, 6, 8, 100
N = CLASSES * VIDEOS  # a batch is all videos, of which the queue holds the last two rounds
KEY = jax.random.key(3)


def make_batches(steps):
  """Pictures of vertical or horizontal stripes, wide or narrow: the class.

  Each picture has a colour of its own, which is more of it, and another place of the stripes.
  """
  rng = np.random.default_rng(5)
  label = np.arange(N) % CLASSES
  at = np.arange(SIDE)
  for _ in range(steps):
    colour = rng.uniform(0.2, 0.8, (N, 3, 1, 1, 1, 3))
    shift = rng.integers(0, 4, (N, 3, 1))
    wide, upright = label[:, None, None] % 2, label[:, None] // 2
    line = ((at + shift) // (1 + wide) % 2).astype(float)  # [N, 3, SIDE]
    across, down = (np.broadcast_to(x, (N, 3, SIDE, SIDE)) for x in
                    (line[:, :, None], line[:, :, :, None]))
    pattern = np.where(upright[..., None, None], across, down)[:, :, None, ..., None]
    frames = colour + 0.4 * (pattern - 0.5) + rng.normal(0, 0.05, (N, 3, 1, SIDE, SIDE, 3))
    yield {"frames": np.float32(frames.clip(0, 1)), "label": np.int32(label),
           "record": np.arange(N, dtype=np.int32)}


@pytest.fixture(scope="module")
def learned():
  """weight -> metrics of each step, trained by the cycle's part of the loss times that weight."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(resnet.BACKBONES, "resnet18", ((1,), False))
    method = cycle_contrast.make(
      backbone="resnet18", width=8, dim=16, intra_queue=N, cycle_queue=2 * N, neighbours=N,
      momentum=0.5, cycle=1.0, groups=1, shuffle=False, temperature=0.2,
      neighbour_temperature=0.1)
    tx = optax.adam(5e-3)
    first = next(make_batches(1))
    params, aux = jax.jit(method.init)(KEY, first)

    def objective(params, aux, batch, key, weight):
      value, (aux, metrics) = method.loss(params, aux, batch, key)
      return weight * (value - metrics["intra"]), (aux, metrics)

    @jax.jit
    def step(state, batch, key, weight):
      params, aux, moments = state
      grads, (aux, metrics) = jax.grad(objective, has_aux=True)(params, aux, batch, key, weight)
      updates, moments = tx.update(grads, moments)
      return (optax.apply_updates(params, updates), aux, moments), metrics

    seen = {}
    for weight in (0.0, 1.0):
      state, seen[weight] = (params, aux, tx.init(params)), []
      for t, batch in enumerate(make_batches(STEPS)):
        state, metrics = step(state, batch, jax.random.fold_in(KEY, t), weight)
        seen[weight].append(metrics)
    return jax.device_get(seen)


def mean(rows, name):
  return np.mean([row[name] for row in rows])


def test_the_cycle_alone_learns_to_return_by_way_of_its_class(learned):
  """As against its start, from when the queue is full of frames, and against no gradient at all."""
  for rows in (learned[1.0][2:8], learned[0.0][-20:]):
    for name, gain in (("cycle_return", 0.06), ("purity", 0.35), ("cycle", -0.7)):
      before, after = mean(rows, name), mean(learned[1.0][-20:], name)
      assert (after - before) / gain > 1, (name, before, after)
  assert mean(learned[1.0][-20:], "purity") > 0.6  # 0.25 by chance
