"""The cycle's losses against float64 twins: values, gradients, closed forms, extremes."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import cycle as reference
from tests.reference.losses import gradient, unit
from vssl_jax.losses import cycle as ours

B, D, K, P, S = 3, 4, 7, 2, 3
CHOSEN = np.array([5, 0, 2])
COTANGENT = np.array([0.3, -1.0, 2.0], np.float32)
TAUS = dict(tau=0.2, neighbour_tau=0.3)


def draw(seed=0):
  """q [B, D], positives [B, P, D], queue [K, D], key [B, D], mask [B, K]."""
  rng = np.random.default_rng(seed)
  vectors = [unit(rng.standard_normal(s)).astype(np.float32)
             for s in ((B, D), (B, P, D), (K, D), (B, D))]
  mask = np.array([[1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1, 1], [1, 0, 1, 1, 1, 0, 1]], bool)
  return *vectors, mask


def check(loss, twin, *args):
  """Values and the gradient of each argument, for each query."""
  got, pull = jax.vjp(jax.jit(loss), *args)
  grads = pull(jnp.asarray(COTANGENT))
  for i in range(B):
    np.testing.assert_allclose(got[i], twin(i, *[a[i] for a in args]), rtol=1e-5, atol=1e-6)
    for k, grad in enumerate(grads):
      def moved(x, i=i, k=k):
        rows = [a[i] for a in args]
        rows[k] = x
        return twin(i, *rows)
      np.testing.assert_allclose(grad[i], COTANGENT[i] * gradient(moved, args[k][i]), rtol=2e-4,
                                 atol=2e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_intra_and_its_gradient(masked):
  q, p, queue, _, mask = draw()
  mask = mask if masked else np.ones_like(mask)
  check(lambda q, p: ours.intra(q, p, queue, mask if masked else None, tau=0.2)[0],
        lambda i, q, p: reference.intra(q, p, queue, mask[i], tau=0.2), q, p)


@pytest.mark.parametrize("chosen", [None, CHOSEN], ids=["all", "some"])
@pytest.mark.parametrize("with_self", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_cycle_and_its_gradient(chosen, with_self, masked):
  q, p, queue, key, mask = draw(1)
  mask = mask if masked else np.ones_like(mask)
  args = (q, p, key) if with_self else (q, p)
  check(lambda q, p, key=None: ours.cycle(q, p, queue, mask if masked else None, chosen, key=key,
                                          **TAUS)[0],
        lambda i, q, p, key=None: reference.cycle(q, p, queue, mask[i], chosen, key=key, **TAUS),
        *args)


def test_neighbours_are_those_of_the_twin():
  q, _, queue, key, mask = draw(2)
  for own in (None, key):
    got = ours.soft_neighbour(q, queue, mask, tau=0.3, key=own)
    for i in range(B):
      rows = [queue[k] for k in np.flatnonzero(mask[i])]
      vector, weights, alone = reference.neighbour(q[i], rows, tau=0.3,
                                                   key=None if own is None else own[i])
      np.testing.assert_allclose(got.vector[i], vector, atol=1e-6)
      np.testing.assert_allclose(got.weights[i][mask[i]], weights, rtol=1e-5)
      assert (got.weights[i][~mask[i]] == 0).all()
      np.testing.assert_allclose(got.own[i], alone, rtol=1e-5)


def test_closed_forms():
  """Equal similarities cost log(1 + negatives); what is right by far nothing."""
  same = np.ones((2, P), np.float32)
  np.testing.assert_allclose(ours.contrast(same, np.ones((2, K), np.float32)), math.log(1 + K),
                             rtol=1e-6)
  mask = np.array([[1, 0, 1, 0, 0, 0, 0], [0] * K], bool)
  np.testing.assert_allclose(ours.contrast(same, np.ones((2, K), np.float32), mask),
                             [math.log(3), 0], rtol=1e-6)
  got = ours.contrast(same, -np.ones((2, K), np.float32), tau=0.07)
  np.testing.assert_allclose(got, K * math.exp(-2 / 0.07), rtol=1e-5)  # digits, not 0
  # A single row is the neighbour whatever its similarity.
  q, p, queue, _, _ = draw()
  loss, scores, found = ours.cycle(q, p, queue, None, np.array([4]))
  np.testing.assert_allclose(found.vector, np.tile(queue[4], (B, 1)), rtol=1e-5)
  assert scores.mask.sum(1).tolist() == [K - 1] * B and not scores.mask[:, 4].any()
  np.testing.assert_allclose(loss, ours.intra(found.vector, p, np.delete(queue, 4, axis=0))[0],
                             rtol=1e-5)


def test_several_positives_are_the_mean_of_each_alone():
  q, p, queue, _, mask = draw(3)
  both, _ = ours.intra(q, p, queue, mask)
  alone = [ours.intra(q, p[:, k:k + 1], queue, mask)[0] for k in range(P)]
  np.testing.assert_allclose(both, np.mean(alone, axis=0), rtol=1e-5)


def test_rotations_and_the_order_of_rows_change_nothing():
  q, p, queue, key, mask = draw(4)
  turn = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0].astype(np.float32)
  order = np.array([3, 1, 6, 0, 2, 5, 4])
  want, _, _ = ours.cycle(q, p, queue, mask, CHOSEN, key=key, **TAUS)
  got, _, _ = ours.cycle(q @ turn, p @ turn, (queue @ turn)[order], mask[:, order],
                         np.argsort(order)[CHOSEN[::-1]], key=key @ turn, **TAUS)
  np.testing.assert_allclose(got, want, rtol=1e-4)


def test_rows_that_do_not_count_change_nothing():
  """Neither as neighbours nor as negatives, whatever they hold."""
  q, p, queue, _, _ = draw(5)
  mask = np.tile(np.arange(K) % 3 > 0, (B, 1))
  other = np.where(mask[0][:, None], queue, 9.0)
  for chosen in (None, CHOSEN):
    want, _, _ = ours.cycle(q, p, queue, mask, chosen)
    np.testing.assert_allclose(ours.cycle(q, p, other, mask, chosen)[0], want, rtol=1e-6)


def test_extremes_have_finite_gradients():
  """Zero vectors, one query, no neighbours, no negatives."""
  q, p, queue, key, mask = draw()
  empty = np.zeros_like(mask)
  zero = jax.tree.map(np.zeros_like, (q, p, queue, key))
  grad = jax.jit(jax.grad(lambda q, p, queue, key, mask: ours.cycle(
    q, p, queue, mask, CHOSEN, key=key)[0].sum() + ours.cycle(q, p, queue, mask, CHOSEN)[0].sum()
    + ours.intra(q, p, queue, mask)[0].sum(), argnums=(0, 1, 2, 3)))
  for arrays in ((q, p, queue, key), zero):
    for m in (mask, empty):
      assert all(np.isfinite(g).all() for g in grad(*arrays, m))
  loss, _, found = ours.cycle(q, p, queue, empty, CHOSEN)
  assert (loss == 0).all() and (found.weights == 0).all() and (found.vector == 0).all()
  none = np.ones_like(mask)
  none[:, CHOSEN] = False  # negatives but no neighbours: nothing to learn from
  np.testing.assert_allclose(ours.cycle(q, p, queue, none, CHOSEN)[0], math.log(1 + K - S),
                             rtol=1e-6)
  np.testing.assert_allclose(ours.intra(q[:1], p[:1], queue)[0], ours.intra(q, p, queue)[0][:1],
                             rtol=1e-6)


def test_bfloat16_stays_close():
  q, p, queue, key, mask = draw(6)
  want, _, _ = ours.cycle(q, p, queue, mask, CHOSEN, key=key, **TAUS)
  half = [jnp.asarray(x, jnp.bfloat16) for x in (q, p, queue)]
  got, scores, _ = ours.cycle(*half, mask, CHOSEN, key=jnp.asarray(key, jnp.bfloat16), **TAUS)
  assert got.dtype == scores.negative.dtype == jnp.float32
  np.testing.assert_allclose(got, want, atol=0.1)


def test_what_is_watched():
  mask = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]], bool)
  scores = ours.Scores(np.float32([[0.2, 0.5], [0.5, 0.1], [-1, -1]]),
                       np.float32([[0.4, 0.3, 0.9], [0.5, 0.2, 0.1], [1, 1, 1]]), mask)
  assert ours.returned(scores).tolist() == [True, False, True]
  weights = np.float32([[0.25, 0.25, 0.25, 0.25], [1, 0, 0, 0], [0.5, 0.25, 0, 0], [0] * 4])
  entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
  np.testing.assert_allclose(ours.effective_neighbours(weights), [4, 1, math.exp(entropy), 0],
                             rtol=1e-5)
  np.testing.assert_allclose(ours.weighted_mean(weights, np.array([4, 0, 0, 8])), [3, 4, 8 / 3, 0],
                             rtol=1e-6)
  share, judged = ours.purity(weights, np.array([2, 5, -1, 2]), np.array([2, -1, 2, 3]))
  np.testing.assert_allclose(share, [2 / 3, 0, 0, 0], rtol=1e-6)
  assert judged.tolist() == [True, True, False, False]


class Variants(chex.TestCase):

  @chex.all_variants(with_pmap=False)
  def test_under_every_transformation(self):
    q, p, queue, key, mask = draw(7)
    got = self.variant(lambda *a: ours.cycle(*a, key=key, **TAUS)[0])(q, p, queue, mask, CHOSEN)
    want = [reference.cycle(q[i], p[i], queue, mask[i], CHOSEN, key=key[i], **TAUS)
            for i in range(B)]
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_the_same_on_one_and_four_devices():
  q, p, queue, _, mask = (np.concatenate([a, a[:1]]) if len(a) == B else a for a in draw(8))
  split = jax.pmap(lambda q, p, m: ours.cycle(q, p, queue, m, CHOSEN, **TAUS)[0],
                   devices=jax.devices()[:4])(q[:, None], p[:, None], mask[:, None])
  want, _, _ = ours.cycle(q, p, queue, mask, CHOSEN, **TAUS)
  np.testing.assert_allclose(np.asarray(split).ravel(), want, rtol=1e-5)


def test_shapes_are_checked():
  q, p, queue, key, mask = draw()
  for wrong in (lambda: ours.intra(q, p[:2], queue), lambda: ours.intra(q, p[:, 0], queue),
                lambda: ours.intra(q, p, queue, mask[:, :2]),
                lambda: ours.soft_neighbour(q, queue, mask[:2]),
                lambda: ours.soft_neighbour(q, queue, key=key[:2])):
    with pytest.raises(AssertionError):
      wrong()
