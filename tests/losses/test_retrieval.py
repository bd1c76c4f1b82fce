"""Retrieval losses: values and gradients against float64 twins, closed forms, masks, limits."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import losses as reference
from vssl_jax.losses import retrieval
from vssl_jax.ops.normalise import l2

N, M = 4, 6
CASES = {
  "softmax": ("info_nce", dict(tau=1.0)),
  "info_nce": ("info_nce", dict(tau=0.07)),
  "sharp_info_nce": ("info_nce", dict(tau=1 / 256)),
  "circle": ("circle", dict(gamma=256.0, margin=0.25)),
  "soft_circle": ("circle", dict(gamma=20.0, margin=0.4)),
  "attached_circle": ("circle", dict(gamma=20.0, margin=0.4, detach=False)),
  "hardest_triplet": ("triplet", dict(margin=0.5, hardest=True)),
  "mean_triplet": ("triplet", dict(margin=1.0, hardest=False)),
}


@functools.cache  # compiled once a shape for the whole file
def ours(case):
  name, args = CASES[case]
  return jax.jit(functools.partial(getattr(retrieval, name), **args))


@functools.cache
def gradients(case):
  """`(s_p, s_n, mask, cotangent) -> (losses, d_s_p, d_s_n)`."""

  def fn(s_p, s_n, mask, cotangent):
    losses, vjp = jax.vjp(lambda *s: ours(case)(*s, mask), s_p, s_n)
    return losses, *vjp(cotangent)

  return jax.jit(fn)


def twin(case, at=None):
  """The twin as a function of one anchor; `at` freezes the weights of a detached circle."""
  name, args = CASES[case]
  args = dict(args)
  if name == "circle":
    if args.pop("detach", True):
      args["weights_at"] = at
  return functools.partial(getattr(reference, name), **args)


def draw(seed=0, n=N, m=M):
  """Similarities of every kind, from opposite to equal, and a mask."""
  rng = np.random.default_rng(seed)
  s_p, s_n = rng.uniform(-0.3, 0.95, n), rng.uniform(-0.95, 0.9, (n, m))
  mask = rng.random((n, m)) < 0.6
  mask[:, 0] = True
  return s_p.astype(np.float32), s_n.astype(np.float32), mask


def expected_gradients(case, s_p, s_n, mask, cotangent):
  """Gradients of `sum(cotangent * loss)` by central differences of the twin, row by row."""
  d_p, d_n = np.zeros(s_p.shape), np.zeros(s_n.shape)
  for i, row in enumerate(mask):
    x = np.concatenate([s_p[i:i + 1], s_n[i][row]]).astype(np.float64)
    fn = twin(case, at=(x[0], list(x[1:])))
    grad = reference.gradient(lambda v, fn=fn: fn(v[0], list(v[1:])), x, 1e-7)
    d_p[i], d_n[i, row] = cotangent[i] * grad[0], cotangent[i] * grad[1:]
  return d_p, d_n


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient(case, masked):
  s_p, s_n, mask = draw()
  cotangent = np.array([0.3, -1.0, 2.0, 0.7], np.float32)
  keep = mask if masked else np.ones_like(mask)
  losses, d_p, d_n = gradients(case)(s_p, s_n, keep, cotangent)
  want = reference.rows(twin(case), s_p, s_n, keep)
  np.testing.assert_allclose(losses, want, rtol=1e-5, atol=1e-5)
  if not masked:
    np.testing.assert_allclose(ours(case)(s_p, s_n), losses, rtol=1e-6)
  want_p, want_n = expected_gradients(case, s_p, s_n, keep, cotangent)
  np.testing.assert_allclose(d_p, want_p, rtol=2e-4, atol=1e-4)
  np.testing.assert_allclose(d_n, want_n, rtol=2e-4, atol=1e-4)
  assert (np.asarray(d_n)[~keep] == 0).all()


@pytest.mark.parametrize("margin", [0.25, 0.4])
def test_released_circle(margin):
  args = dict(gamma=20.0, margin=margin)
  s_p, s_n, _ = draw(1)
  logits = np.concatenate([s_p[:, None], s_n], axis=1)
  want, grad = [], []
  for i, row in enumerate(logits.astype(np.float64)):
    frozen = functools.partial(reference.released_row, first_row=i == 0, weights_at=row, **args)
    want.append(reference.released_row(row, first_row=i == 0, **args))
    grad.append(reference.gradient(frozen, row))
  fn = jax.jit(functools.partial(retrieval.released_circle, **args))
  np.testing.assert_allclose(fn(logits), want, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(jax.grad(lambda x: jnp.sum(fn(x)))(logits), grad, atol=1e-4)
  paper = retrieval.circle(s_p, s_n, **args)
  assert (np.abs(np.asarray(paper) - want) > 0.1).all()


@pytest.mark.parametrize("m", [1, 7, 1000])
def test_equal_logits_give_log_of_their_number(m):
  s_p, s_n = np.full(2, 0.5, np.float32), np.full((2, m), 0.5, np.float32)
  want = np.full(2, math.log(1 + m))
  for case in ("softmax", "info_nce", "sharp_info_nce"):
    np.testing.assert_allclose(ours(case)(s_p, s_n), want, rtol=1e-6)
  # With margin 1/2 both of the circle's logits are 0 at similarity 1/2.
  circle = jax.jit(functools.partial(retrieval.circle, margin=0.5))
  np.testing.assert_allclose(circle(s_p, s_n), want, rtol=1e-6)
  logits = np.full((3, 1 + m), 0.1, np.float32)
  released = jax.jit(retrieval.released_circle)(logits)
  np.testing.assert_allclose(released, np.full(3, want[0]), rtol=1e-5)
  for case in ("hardest_triplet", "mean_triplet"):
    margin = CASES[case][1]["margin"]
    np.testing.assert_allclose(ours(case)(s_p, s_n), [margin, margin], rtol=1e-6)


def test_gradient_formula_of_circle():
  """dL/ds_p = -gamma a_p (1 - sigma_p), dL/ds_n = gamma a_n sigma_n (tca spec 6.2)."""
  gamma, m = 8.0, 0.25
  s_p, s_n, _ = draw(2)
  fn = functools.partial(retrieval.circle, gamma=gamma, margin=m)
  d_p, d_n = jax.jit(jax.grad(lambda *s: jnp.sum(fn(*s)), (0, 1)))(s_p, s_n)
  a_p, a_n = np.maximum(0, 1 + m - s_p), np.maximum(0, s_n + m)
  logits = np.concatenate([(a_p * (s_p - 1 + m))[:, None], a_n * (s_n - m)], axis=1)
  sigma = np.exp(gamma * logits.astype(np.float64))
  sigma /= sigma.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(d_p, -gamma * a_p * (1 - sigma[:, 0]), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(d_n, gamma * a_n * sigma[:, 1:], rtol=1e-4, atol=1e-6)


def test_gradient_formula_of_softmax_with_respect_to_the_unnormalised_anchor():
  """The formula of tca spec 6.5; a negative pulls with sqrt(1 - cos^2), a duplicate not at all."""
  rng = np.random.default_rng(3)
  w = rng.standard_normal(9).astype(np.float32)
  z = reference.unit(w.astype(np.float64))
  z_p, z_n = reference.unit(rng.standard_normal(9)), reference.unit(rng.standard_normal((5, 9)))

  def loss(w):
    z_a = l2(w)
    return retrieval.info_nce((z_p @ z_a)[None], (z_n @ z_a)[None], tau=1.0)[0]

  sigma = np.exp(np.concatenate([[z @ z_p], z_n @ z]))
  sigma /= sigma.sum()
  brackets = z_n - (z_n @ z)[:, None] * z
  want = (1 - sigma[0]) * ((z @ z_p) * z - z_p) + sigma[1:] @ brackets
  np.testing.assert_allclose(jax.jit(jax.grad(loss))(w), want / np.linalg.norm(w), atol=1e-6)
  pulls = jax.jit(jax.jacobian(lambda w: z_n.astype(np.float32) @ l2(w)))(w)
  norms = np.linalg.norm(pulls, axis=1) * np.linalg.norm(w)
  np.testing.assert_allclose(norms, np.sqrt(1 - (z_n @ z) ** 2), atol=1e-6)


def test_softmax_mines_hard_negatives_by_itself():
  """tca spec 6.5: an easy negative adds next to nothing to the anchor's gradient, a hard one does.

  Each negative is alone beside a positive at cosine 0.8, so its share of the gradient is
  `sigma_n sqrt(1 - cos^2)`; at cosine 1 it has no pull left either.
  """
  cosines, tau = np.array([-1.0, -0.9, -0.5, 0.0, 0.3, 0.6, 0.9, 1.0]), 0.2
  z_p = np.float32([0.8, 0.6, 0.0])

  def loss(w, z_n):
    z = l2(w)
    return retrieval.info_nce((z_p @ z)[None], (z_n @ z)[None, None], tau=tau)[0]

  def pull(cosine):
    """Length of a negative's part: it alone points along the third axis."""
    z_n = jnp.stack([cosine, 0 * cosine, jnp.sqrt(1 - cosine**2)])
    return jnp.abs(jax.grad(loss)(jnp.array([2.0, 0, 0]), z_n)[2])

  got = jax.jit(jax.vmap(pull))(jnp.asarray(cosines, jnp.float32))
  sigma = 1 / (1 + np.exp((0.8 - cosines) / tau))
  np.testing.assert_allclose(got, sigma * np.sqrt(1 - cosines**2) / tau / 2, rtol=1e-4, atol=1e-6)
  easiest, easy, _, hard, harder, hardest, _, duplicate = got
  assert easiest == duplicate == 0
  assert hard > 50 * easy
  assert easy < 5e-4
  assert hardest > harder > hard > 0.04


@pytest.mark.parametrize("case", CASES)
def test_a_masked_negative_is_as_good_as_none(case):
  s_p, s_n, mask = draw(4)
  mask[:] = [True, False, True, True, False, True]
  masked = ours(case)(s_p, s_n, mask)
  removed = ours(case)(s_p, s_n[:, mask[0]])
  np.testing.assert_allclose(masked, removed, rtol=1e-6)
  other = np.where(mask, s_n, 1.0)
  np.testing.assert_array_equal(ours(case)(s_p, other, mask), masked)


@pytest.mark.parametrize("case", CASES)
def test_without_any_negative_the_loss_and_its_gradient_are_zero(case):
  s_p, s_n, mask = draw(5)
  mask[1] = False

  losses, d_p, d_n = gradients(case)(s_p, s_n, mask, np.ones(N, np.float32))
  assert losses[1] == 0
  assert d_p[1] == 0
  assert (d_n[1] == 0).all()
  assert np.isfinite(d_p).all()
  assert np.isfinite(d_n).all()
  assert (losses[jnp.array([0, 2, 3])] > 0).any()
  empty = jnp.zeros((2, 0))
  np.testing.assert_array_equal(ours(case)(s_p[:2], empty), [0, 0])


@pytest.mark.parametrize("case", CASES)
def test_order_of_negatives_does_not_matter(case):
  s_p, s_n, mask = draw(6)
  order = np.random.default_rng(0).permutation(M)
  got = ours(case)(s_p, s_n[:, order], mask[:, order])
  np.testing.assert_allclose(got, ours(case)(s_p, s_n, mask), rtol=1e-6)


@pytest.mark.parametrize("case", ["info_nce", "circle", "hardest_triplet", "mean_triplet"])
def test_gradients_are_finite_where_they_could_not_be(case):
  def loss(w_a, w_p, w_n):
    a = l2(w_a)
    return jnp.mean(ours(case)(jnp.sum(a * l2(w_p), -1), a @ l2(w_n).T))

  w = jnp.asarray(np.random.default_rng(7).standard_normal((3, 8)), jnp.float32)
  triples = [(w * 0, w, w), (w, w * 0, w * 0), (w, w, w), (w, -w, w), (w, w, w[jnp.zeros(3, int)])]
  grad = jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1, 2))))
  for inputs in ([jnp.stack(side) for side in zip(*triples, strict=True)],
                 [w[None, :1], w[None, 1:2], w[None, 2:]]):  # one anchor, one negative
    value, grads = grad(*inputs)
    assert np.isfinite(value).all()
    assert (value >= 0).all()
    assert all(np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("case", CASES)
def test_half_precision_is_widened_before_anything_else(case):
  s_p, s_n, mask = draw(8)
  s_p, s_n = jnp.asarray(s_p, jnp.bfloat16), jnp.asarray(s_n, jnp.bfloat16)
  got = ours(case)(s_p, s_n, mask)
  want = reference.rows(twin(case), np.float64(s_p), np.float64(s_n), mask)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_shapes_are_checked():
  with pytest.raises(AssertionError):
    retrieval.info_nce(jnp.zeros(3), jnp.zeros((2, 4)))
  with pytest.raises(AssertionError):
    retrieval.circle(jnp.zeros((3, 1)), jnp.zeros((3, 4)))
  with pytest.raises(AssertionError):
    retrieval.triplet(jnp.zeros(3), jnp.zeros((3, 4)), jnp.ones((3, 1), bool))
  with pytest.raises(AssertionError):
    retrieval.released_circle(jnp.zeros(3))


class Variants(chex.TestCase):
  """The same numbers with and without jit, and under pmap."""

  @chex.all_variants(with_pmap=True)
  def test_under_every_transformation(self):
    s_p, s_n, mask = draw(9)

    def losses(s_p, s_n):
      return jnp.stack([retrieval.info_nce(s_p, s_n, mask), retrieval.circle(s_p, s_n, mask),
                        retrieval.triplet(s_p, s_n, mask)])

    def value_and_gradient(s_p, s_n):
      value, vjp = jax.vjp(losses, s_p, s_n)
      return value, *vjp(jnp.ones_like(value))

    value, d_p, d_n = self.variant(value_and_gradient)(s_p, s_n)
    cases = ("info_nce", "circle", "hardest_triplet")
    want = [reference.rows(twin(case), s_p, s_n, mask) for case in cases]
    np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-5)
    grads = [expected_gradients(case, s_p, s_n, mask, np.ones(N)) for case in cases]
    np.testing.assert_allclose(d_p, sum(g[0] for g in grads), rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(d_n, sum(g[1] for g in grads), rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("case", ["info_nce", "circle", "hardest_triplet", "mean_triplet"])
def test_mapped_over_anchors_and_split_over_devices(case):
  assert jax.device_count() >= 4
  s_p, s_n, mask = draw(10, n=8)
  whole = ours(case)(s_p, s_n, mask)
  one = jax.jit(jax.vmap(lambda p, n, m: ours(case)(p[None], n[None], m[None])[0]))(
    s_p, s_n, mask)
  np.testing.assert_allclose(one, whole, rtol=1e-6)
  parts = [a.reshape(4, 2, *a.shape[1:]) for a in (s_p, s_n, mask)]
  split = jax.pmap(ours(case), devices=jax.devices()[:4])(*parts)
  np.testing.assert_allclose(np.asarray(split).reshape(8), whole, rtol=1e-6)


def test_summary_of_rows_with_and_without_negatives():
  s_p, s_n = np.float32([0.5, 0.25, -1.0]), np.float32([[0.75, 0.25], [0.5, 1.0], [1.0, 1.0]])
  mask = np.array([[False, True], [True, False], [False, False]])
  found = retrieval.summary(s_p, s_n, mask)
  want = {"positive": -0.25 / 3, "negative": 0.375, "hardest": (0.25 + 0.5 - 1) / 3, "top1": 1 / 3}
  chex.assert_trees_all_close(found, want, rtol=1e-6)
  assert not retrieval.summary(s_p, s_n, np.zeros_like(mask))["negative"]
  grad = jax.grad(lambda s: sum(retrieval.summary(s, s_n, mask).values()))(s_p)
  np.testing.assert_array_equal(grad, np.zeros(3))
