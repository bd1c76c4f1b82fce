"""What the benchmark times is what the method computes, and it sees when a queue is copied."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import queues as benchmark
from tests.reference import cycle as reference

ARGS = argparse.Namespace(**benchmark.QUICK, clock="cpu")


def test_losses_are_the_twins():
  x, queues, record, chosen = benchmark.inputs(ARGS)
  fn, donated = benchmark.program("step, written last", ARGS)[0], jax.tree.map(jnp.copy, queues)
  found, after = fn(x, donated, record, chosen)
  x = {name: np.float64(v) for name, v in x.items()}
  names = ("intra", "cycle")
  draws = argparse.Namespace(neighbours=np.asarray(chosen), intra=np.zeros(ARGS.batch, int),
                             cycle=np.zeros(ARGS.batch, int))
  want = reference.step(
    *({n: list(x[f"{kind} {n}"]) for n in names} for kind in ("query", "key")),
    {n: [[v] for v in x[f"candidate {n}"]] for n in names},
    {n: np.float64(queues[n].keys) for n in names}, np.asarray(record),
    {n: np.asarray(queues[n].groups) for n in names}, draws, tau=benchmark.TAU,
    neighbour_tau=benchmark.TAU, weight=1.0, positives="random_frame", mask_same_video=True,
    groups=ARGS.groups, with_self=False)
  np.testing.assert_allclose([found[n][0] for n in names], want[:2], rtol=1e-5)
  assert all(np.abs(found[n][1]).max() > 1e-6 for n in names)
  np.testing.assert_array_equal(after["cycle"].keys[:ARGS.batch], np.float32(x["key cycle"]))


def test_it_sees_copies_of_queues():
  found = benchmark.measure("step", ARGS)
  assert found["kept_place"] and found["in_place"] >= found["queues"] > 0 == found["copies"]
  found = benchmark.measure("step, queues kept", ARGS)
  assert found["in_place"] == 0 and found["copies"] >= 2  # each must be


def test_floors_are_products_of_everything():
  """Of all rows: as written out with the queues multiplied first."""
  (fn, (query, queue)) = benchmark.program("intra floor", ARGS)
  np.testing.assert_allclose(fn(query, queue), query @ (queue.T @ queue), rtol=1e-4, atol=1e-5)
  fn, (query, near, rest) = benchmark.program("cycle floor", ARGS)
  assert near.shape[1] + rest.shape[1] == ARGS.cycle_queue
  both = np.concatenate([near, rest], axis=1)
  assert len(np.unique(both[0].round(6), axis=0)) == ARGS.cycle_queue
  square = [np.einsum("gsd,gse->gde", part, part) for part in (near, rest)]
  want = np.asarray(query) @ square[0] @ square[1] @ square[0]
  np.testing.assert_allclose(jax.device_get(fn(query, near, rest)), want, rtol=1e-3, atol=1e-4)
