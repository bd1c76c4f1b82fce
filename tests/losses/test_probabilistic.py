"""Losses between distributions: against literal formulas, closed forms, masks without a kind."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import gaussian as reference
from tests.reference.losses import gradient
from vssl_jax.losses import probabilistic

B = 4


def draw(seed=0, size=B):
  """Log probabilities of pairs and of their contrary, a mask with the diagonal, u."""
  rng = np.random.default_rng(seed)
  logit = 3 * rng.standard_normal((size, size))
  mask = (rng.random((size, size)) < 0.4) | np.eye(size, dtype=bool)
  log_p, log_not_p = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
  return (*(x.astype(np.float32) for x in (log_p, log_not_p)), mask,
          rng.uniform(-3, 1, size).astype(np.float32))


def objective(log_p, log_not_p, u, kl, mask, **args):
  """The scalar, from all of the functions."""
  soft = probabilistic.soft_contrastive(log_p, log_not_p, mask)
  losses = probabilistic.stochastic_contrastive(soft, u)
  weights = probabilistic.pair_weights(mask, **args)
  return jnp.mean(probabilistic.per_video(losses, weights, kl, beta=0.1))


def twin(log_p, log_not_p, u, kl, mask, balanced=False, self_pairs=True):
  size = len(u)
  losses = [[reference.stochastic(-(log_p if mask[i, j] else log_not_p)[i, j], math.exp(u[i]),
                                  math.exp(u[j])) for j in range(size)] for i in range(size)]
  pairs = reference.pair_mean(losses, mask, balanced=balanced, self_pairs=self_pairs)
  return pairs + 0.1 * np.mean(kl)


@pytest.mark.parametrize("args", [dict(), dict(balanced=True), dict(self_pairs=False),
                                  dict(balanced=True, self_pairs=False)], ids=str)
def test_value_and_gradient(args):
  log_p, log_not_p, mask, u = draw()
  kl = np.float32([[1.0, 2.0], [3.0, 0.5], [1.0, 1.0], [0.0, 4.0]])
  inputs = log_p, log_not_p, u, kl
  value, grads = jax.jit(jax.value_and_grad(
      lambda *x: objective(*x, mask, **args), (0, 1, 2, 3)))(*inputs)
  shapes = [x.shape for x in inputs]
  ends = np.cumsum([x.size for x in inputs])[:-1]

  def flat(v):
    parts = [p.reshape(s) for p, s in zip(np.split(v, ends), shapes, strict=True)]
    return twin(*parts, mask, **args)

  at = np.concatenate([np.float64(x).ravel() for x in inputs])
  np.testing.assert_allclose(value, flat(at), rtol=1e-5)
  np.testing.assert_allclose(np.concatenate([np.ravel(g) for g in grads]), gradient(flat, at),
                             rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("self_pairs", [False, True])
@pytest.mark.parametrize("kind", ["all", "itself"])
def test_batches_without_a_kind_of_pairs(balanced, self_pairs, kind):
  for size in (1, B):
    log_p, log_not_p, _, u = draw(1, size)
    mask = np.ones((size, size), bool) if kind == "all" else np.eye(size, dtype=bool)
    kl = np.ones(size, np.float32)
    value, grads = jax.value_and_grad(
        lambda *x, m=mask: objective(*x, m, balanced=balanced, self_pairs=self_pairs), (0, 1, 2))(
        log_p, log_not_p, u, kl)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in grads)
    if size > 1:
      want = twin(log_p, log_not_p, u, kl, mask, balanced, self_pairs)
      np.testing.assert_allclose(value, want, rtol=1e-5)


def test_uncertainty_settles_at_the_loss_itself():
  """At s_i s_j = L the loss is least, 1 + log L; above and below it is more."""
  loss = np.float32([[2.0, 0.3], [0.3, 5.0]])
  for i in range(2):
    best = np.full(2, np.log(loss[i, i]), np.float32)
    at, up, down = (np.asarray(probabilistic.stochastic_contrastive(loss, best + d))[i, i]
                    for d in (0.0, 0.1, -0.1))
    np.testing.assert_allclose(at, 1 + np.log(loss[i, i]), rtol=1e-6)
    assert up > at + 1e-3 and down > at + 1e-3


def test_without_its_logarithms_a_pair_is_divided_alone():
  log_p, log_not_p, mask, u = draw()
  soft = probabilistic.soft_contrastive(log_p, log_not_p, mask)
  half = (u[:, None] + u) / 2
  np.testing.assert_allclose(probabilistic.stochastic_contrastive(soft, u, log_term=False),
                             soft * np.exp(-half), rtol=1e-5)
  np.testing.assert_allclose(probabilistic.stochastic_contrastive(soft, u),
                             soft * np.exp(-half) + half, rtol=1e-5)


@pytest.mark.parametrize("x, pull, value, slope", [
    (3.0, 1.0, 3.0, 1.0), (3.0, -1.0, 3.0, -1.0), (-2.0, 1.0, 1.0, 0.0), (-2.0, -1.0, 1.0, -1.0),
    (1.0, 1.0, 1.0, 0.0), (1.0, -1.0, 1.0, -1.0), (9.0, -1.0, 5.0, 0.0), (9.0, 1.0, 5.0, 1.0),
    (5.0, -1.0, 5.0, 0.0), (5.0, 1.0, 5.0, 1.0)])
def test_a_bounded_scale_finds_back(x, pull, value, slope):
  """A step goes against the gradient: at the lower end one that leads up gets through."""
  got, back = jax.vjp(lambda x: probabilistic.bounded(x, 1.0, 5.0), jnp.float32(x))
  assert got == value and back(jnp.float32(pull))[0] == slope


def test_weights_are_a_mean():
  *_, mask, _ = draw(2)
  for balanced in (False, True):
    weights = np.asarray(probabilistic.pair_weights(mask, balanced=balanced))
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    assert weights[mask].sum() == pytest.approx(0.5 if balanced else mask.mean())
  off = np.asarray(probabilistic.pair_weights(mask, self_pairs=False))
  assert (np.diagonal(off) == 0).all() and off.sum() == pytest.approx(1)


@pytest.mark.parametrize("neighbours", [0, 1, 2, 50])
def test_positives(neighbours):
  rng = np.random.default_rng(3)
  distance = rng.random((7, 7)).astype(np.float32)
  distance = (distance + distance.T) / 2
  owner = np.array([0, 0, 1, 2, 3, 3, 4])
  for same in (np.eye(7, dtype=bool), owner[:, None] == owner):
    got = probabilistic.positives(distance, 0.5, same, neighbours=neighbours)
    want = reference.positives(distance, 0.5, same, neighbours)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got, np.transpose(got))
    assert (np.asarray(got)[same]).all()
  if neighbours == 1:
    mined = np.asarray(probabilistic.positives(distance, 9.0, neighbours=1)).sum(1) - 1
    assert mined.any() and (mined <= 1).all()


def test_no_threshold_leaves_a_video_alone_and_nothing_flows_through_the_mask():
  distance = np.zeros((B, B), np.float32)
  np.testing.assert_array_equal(probabilistic.positives(distance, -jnp.inf), np.eye(B, dtype=bool))
  grad = jax.grad(lambda d: jnp.sum(jnp.where(probabilistic.positives(d, 0.5), 1.0, 2.0)))(distance)
  np.testing.assert_array_equal(grad, distance)


def test_thresholds_of_samples_and_of_distributions_mean_the_same():
  """Samples are lam apart, in each dimension that is summed, beside what distributions are."""
  args = dict(lam=0.2, dim=10)
  for reading, unit in (("mean", 1), ("sum", 10), ("iso", 10)):
    sampled = probabilistic.threshold(1.5, reading=reading, sampled=True, **args)
    closed = probabilistic.threshold(1.5, reading=reading, sampled=False, **args)
    assert sampled == pytest.approx(0.5 * unit)
    assert sampled - closed == pytest.approx(0.2 * unit)


def test_summary_counts_what_was_mined():
  mask = np.eye(4, dtype=bool)
  mask[0, 1] = mask[1, 0] = mask[0, 2] = mask[2, 3] = True
  same = np.eye(4, dtype=bool)
  same[2, 3] = True
  found = probabilistic.summary(mask, same, np.array([5, 5, 6, -1]))
  chex.assert_trees_all_close(found, {"positives": 0.75, "positive_precision": 2 / 3}, rtol=1e-6)
  assert probabilistic.summary(mask)["positives"] == 1
  nothing = probabilistic.summary(same, same, np.zeros(4, int))
  assert nothing["positives"] == nothing["positive_precision"] == 0


def test_half_precision_is_widened_and_shapes_are_checked():
  log_p, log_not_p, mask, u = draw(4)
  half = [jnp.asarray(x, jnp.bfloat16) for x in (log_p, log_not_p, u)]
  soft = probabilistic.soft_contrastive(*half[:2], mask)
  losses = probabilistic.stochastic_contrastive(soft, half[2])
  assert soft.dtype == losses.dtype == jnp.float32
  u = np.float64(half[2])
  want = [[reference.stochastic(-np.float64(half[0] if mask[i, j] else half[1])[i, j],
                                math.exp(u[i]), math.exp(u[j])) for j in range(B)]
          for i in range(B)]
  np.testing.assert_allclose(losses, want, rtol=1e-5)
  for wrong in (lambda: probabilistic.soft_contrastive(log_p, log_not_p, mask[:2]),
                lambda: probabilistic.stochastic_contrastive(soft, u[:2]),
                lambda: probabilistic.positives(log_p[:2], 0.5),
                lambda: probabilistic.positives(log_p, 0.5, mask[:2]),
                lambda: probabilistic.pair_weights(mask[:2])):
    with pytest.raises(AssertionError):
      wrong()


class Variants(chex.TestCase):
  """The same numbers with and without jit, and under pmap."""

  @chex.all_variants(with_pmap=True)
  def test_under_every_transformation(self):
    log_p, log_not_p, mask, u = draw(5)
    kl = np.ones(B, np.float32)
    value = self.variant(lambda *x: objective(*x, mask, balanced=True))(log_p, log_not_p, u, kl)
    np.testing.assert_allclose(value, twin(log_p, log_not_p, u, kl, mask, True), rtol=1e-5)
