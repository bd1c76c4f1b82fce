"""Matrices over pairs of videos: against literal sums over samples, in blocks, and for scenes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import gaussian as reference
from tests.reference.losses import gradient
from vssl_jax.metrics import recall
from vssl_jax.ops import gaussian, gaussian_pairs
from vssl_jax.ops.gaussian_pairs import Samples

B, K, D = 5, 3, 4
LAM = 0.3


def draw(count=B, k=K, seed=0):
  rng = np.random.default_rng(seed)
  mean, logvar = rng.standard_normal((count, D)), rng.uniform(-2, 1, (count, D))
  eps = rng.standard_normal((count, k, D))
  return Samples(*(np.float32(x) for x in (
      mean, logvar, eps * np.exp(logvar / 2)[:, None])))


def literal(x):
  """[(samples, variances)] for the twins."""
  return [(np.float64(m) + d, np.exp(np.float64(l))) for m, l, d in zip(*x, strict=True)]


@functools.cache
def sampled(reading, block):
  fn = functools.partial(gaussian_pairs.sampled, lam=LAM, reading=reading, block=block)
  return jax.jit(lambda x, y: fn(Samples(*x), Samples(*y)))


@pytest.mark.parametrize("reading", gaussian.READINGS)
def test_mean_over_all_pairs_of_samples(reading):
  x, y = draw(), draw(3, seed=1)
  want = reference.matrix(functools.partial(reference.sampled, lam=LAM, reading=reading),
                          literal(x), literal(y))
  np.testing.assert_allclose(sampled(reading, 128)(x, y), want, rtol=1e-5)
  np.testing.assert_allclose(sampled(reading, 2)(x, y), want, rtol=1e-5)


def test_blocks_are_as_large_as_their_numbers_may_be(monkeypatch):
  x, held = draw(), []
  want = gaussian_pairs.closed_form(x[:2], x[:2])
  monkeypatch.setattr(gaussian_pairs, "NUMBERS", 2 * B * D)
  plain = gaussian.bhattacharyya
  monkeypatch.setattr(gaussian, "bhattacharyya", lambda *a, **k: (
      held.append(np.shape(a[2])), plain(*a, **k))[1])
  np.testing.assert_allclose(gaussian_pairs.closed_form(x[:2], x[:2]), want, rtol=1e-6, atol=1e-7)
  assert set(held) == {(2, D)}  # columns at a time


def test_samples_are_lam_apart_beside_what_their_distributions_are():
  """In expectation, by many draws; lam (1 - 1/K) for a video and itself (spec 7.4)."""
  x = draw()
  side = x.mean, x.logvar
  closed = np.asarray(gaussian_pairs.closed_form(side, side, lam=LAM, reading="mean"))
  want = np.where(np.eye(B, dtype=bool), LAM * (1 - 1 / K), closed + LAM)

  def one(key):
    eps = jax.random.normal(key, (B, K, D))
    z = Samples(x.mean, x.logvar, gaussian.deviations(x.logvar, eps))
    return gaussian_pairs.sampled(z, z, lam=LAM)

  got = jax.jit(lambda keys: jnp.mean(jax.lax.map(one, keys), axis=0))(
      jax.random.split(jax.random.key(0), 4000))
  np.testing.assert_allclose(got, want, rtol=0.03)


def test_a_video_and_itself_with_one_sample_or_none_apart():
  x = draw(k=1)
  np.testing.assert_array_equal(np.diagonal(gaussian_pairs.sampled(x, x)), np.zeros(B))
  side = x.mean, x.logvar
  closed = gaussian_pairs.closed_form(side, side)
  np.testing.assert_array_equal(np.diagonal(closed), np.zeros(B))
  np.testing.assert_allclose(closed, closed.T, rtol=1e-6)


def match_twin(x, a, b, eps_dist=1e-6, self_samples=True):
  z = [s for s, _ in literal(x)]
  return np.array([[reference.match(z[i], z[j], a, b, eps_dist=eps_dist, same=i == j,
                                    self_samples=self_samples)
                    for j in range(len(z))] for i in range(len(z))])


@functools.cache
def match(block=128, **args):
  """Both log probabilities, and gradients of their weighted sum by mean, deviation, a and b."""

  def total(mean, deviation, a, b, logvar, weights):
    found = gaussian_pairs.match(Samples(mean, logvar, deviation), a, b, block=block, **args)
    return sum(jnp.sum(w * x) for w, x in zip(weights, found, strict=True)), found

  def call(x, a, b, weights):
    (_, found), grads = jax.value_and_grad(total, (0, 1, 2, 3), has_aux=True)(
        x.mean, x.deviation, a, b, x.logvar, weights)
    return found, grads

  return jax.jit(call)


WEIGHTS = np.random.default_rng(5).standard_normal((2, B, B)).astype(np.float32)


@pytest.mark.parametrize("args", [dict(), dict(block=2), dict(block=2, exact=False),
                                  dict(self_samples=False)], ids=str)
def test_match_probability_and_gradient(args):
  x, a, b = draw(), np.float32(2.0), np.float32(1.5)
  rest = {k: v for k, v in args.items() if k == "self_samples"}
  (log_p, log_not_p), grads = match(**args)(x, a, b, WEIGHTS)
  p = match_twin(x, a, b, **rest)
  np.testing.assert_allclose(log_p, np.log(p), rtol=2e-5)
  np.testing.assert_allclose(log_not_p, np.log(1 - p), rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(np.logaddexp(log_p, log_not_p), 0, atol=1e-6)
  np.testing.assert_allclose(log_p, log_p.T, rtol=1e-5)

  def twin(v):
    moved = Samples(v[:B * D].reshape(B, D), x.logvar, v[B * D:-2].reshape(B, K, D))
    p = match_twin(moved, v[-2], v[-1], **rest)
    return np.sum(WEIGHTS[0] * np.log(p) + WEIGHTS[1] * np.log(1 - p))

  if "block" in args:  # the plain form's gradient was compared with the twin
    want = match()(x, a, b, WEIGHTS)[1]
    for got, other in zip(grads, want, strict=True):
      np.testing.assert_allclose(got, other, rtol=1e-3, atol=1e-4)
    return
  at = np.concatenate([x.mean.ravel(), x.deviation.ravel(), [a, b]])
  want = gradient(twin, at)
  got = np.concatenate([np.ravel(g) for g in grads])
  np.testing.assert_allclose(got, want, rtol=1e-3, atol=2e-4)


def test_without_its_own_samples_a_videos_gradient_is_the_others():
  """Terms k = k' of i = j are a constant: leaving them out or in scales the rest only."""
  x = draw(1)
  ones = np.ones((2, 1, 1), np.float32)
  (log_p, _), _ = match(eps_dist=0.0)(x, np.float32(2), np.float32(1), ones)
  (other, _), _ = match(eps_dist=0.0, self_samples=False)(x, np.float32(2), np.float32(1), ones)
  own = 1 / (1 + math.exp(-1.0))  # the sigmoid of b at no distance
  np.testing.assert_allclose(np.exp(log_p) * K**2, K * own + (K**2 - K) * np.exp(other), rtol=1e-5)


def test_equal_samples_have_no_gradient_and_none_that_is_nan():
  """The norm's slope at 0 is 0 / 0."""
  x = Samples(*(np.zeros_like(v) for v in draw()))
  for args in (dict(eps_dist=0.0), dict(eps_dist=0.0, self_samples=False)):
    (log_p, _), grads = match(**args)(x, np.float32(3), np.float32(0), np.abs(WEIGHTS))
    np.testing.assert_allclose(log_p, math.log(0.5), rtol=1e-5)
    np.testing.assert_array_equal(grads[0], np.zeros((B, D)))
    np.testing.assert_array_equal(grads[1], np.zeros((B, K, D)))
    assert np.isfinite(grads[2:]).all()


@pytest.mark.parametrize("args", [dict(), dict(block=2), dict(self_samples=False)], ids=str)
def test_means_of_logarithms(args):
  """Against literal means, their gradient by differences; by Jensen below the means' logarithms."""
  x, a, b = draw(), np.float32(2.0), np.float32(1.5)
  rest = {k: v for k, v in args.items() if k == "self_samples"}
  found, grads = match(mean_of_log=True, **args)(x, a, b, WEIGHTS)

  def twin(z, a, b):
    pairs = [[reference.probabilities(z[i], z[j], a, b, eps_dist=1e-6, same=i == j,
                                      **{"self_samples": True} | rest)
              for j in range(B)] for i in range(B)]
    return [np.array([[np.mean(np.log(p if side else 1 - np.array(p))) for p in row]
                      for row in pairs]) for side in (True, False)]

  def total(v):
    moved = v[:B * D].reshape(B, 1, D) + v[B * D:-2].reshape(B, K, D)
    return sum(np.sum(w * y) for w, y in zip(WEIGHTS, twin(moved, v[-2], v[-1]), strict=True))

  for got, want, bound in zip(found, twin([z for z, _ in literal(x)], a, b),
                              match(**args)(x, a, b, WEIGHTS)[0], strict=True):
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
    assert (got <= bound + 1e-6).all() and (got < bound - 0.01).any()
  at = np.concatenate([x.mean.ravel(), x.deviation.ravel(), [a, b]]).astype(np.float64)
  got = np.concatenate([np.ravel(g) for g in grads])
  np.testing.assert_allclose(got, gradient(total, at), rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("offset", [-2000.0, 2000.0])
@pytest.mark.parametrize("args", [dict(), dict(mean_of_log=True)], ids=str)
def test_saturated_probabilities_keep_their_slope(offset, args):
  """One of them is near 0, the other as far from it as the logit, with slope 1 in b."""
  x = draw()
  ones = np.ones((2, B, B), np.float32)
  (log_p, log_not_p), grads = match(**args)(x, np.float32(1), np.float32(offset), ones)
  far, near = (log_p, log_not_p) if offset < 0 else (log_not_p, log_p)
  assert (np.asarray(far) < -1900).all() and (np.abs(near) < 1e-6).all()
  np.testing.assert_allclose(grads[3], -np.sign(offset) * B * B, rtol=1e-4)
  assert all(np.isfinite(g).all() for g in grads)


@functools.cache
def mixture(block=128, reading="sum", lam=0.25):
  return jax.jit(functools.partial(gaussian_pairs.mixture, lam=lam, reading=reading, block=block))


def clips(count, n, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.standard_normal((count, n, D)).astype(np.float32),
          rng.uniform(-2, 1, (count, n, D)).astype(np.float32))


@pytest.mark.parametrize("reading", gaussian.READINGS)
def test_mixtures(reading):
  x, y = clips(4, 3), clips(3, 2, seed=1)
  twin = functools.partial(reference.mixture, lam=0.25, reading=reading)
  want = reference.matrix(twin, *([(np.float64(m), np.exp(np.float64(l))) for m, l in
                                   zip(*s, strict=True)] for s in (x, y)))
  np.testing.assert_allclose(mixture(2, reading)(x, y), want, rtol=1e-5, atol=1e-6)
  order = [a[:, [2, 0, 1]] for a in x]
  np.testing.assert_allclose(mixture(2, reading)(tuple(order), y), want, rtol=1e-5, atol=1e-6)


def test_mixture_of_one_clip_or_of_equal_ones_is_a_gaussian():
  x = clips(4, 1)
  many = tuple(np.repeat(a, 3, axis=1) for a in x)
  side = tuple(a[:, 0] for a in x)
  want = gaussian_pairs.closed_form(side, side)
  np.testing.assert_allclose(mixture()(x, x), want, atol=2e-6)
  np.testing.assert_allclose(mixture()(many, many), want, atol=2e-6)


def test_apart_clips_give_the_overlap_of_the_mixtures_densities():
  """`-log integral sqrt(p q)` in one dimension; scenes 30 deviations apart."""
  means, grid = np.float32([[0.0, 30.0], [0.8, 64.0]]), np.linspace(-20, 90, 400_001)

  def density(m):
    return sum(np.exp(-(grid - c) ** 2 / 2) for c in m) / (2 * math.sqrt(2 * math.pi))

  want = -math.log(np.sqrt(density(means[0]) * density(means[1])).sum() * (grid[1] - grid[0]))
  x, y = ((m[None, :, None], np.zeros((1, 2, 1), np.float32)) for m in means)
  np.testing.assert_allclose(mixture()(x, y), want, rtol=1e-4)


def test_videos_that_share_one_of_two_scenes():
  """They are log 2 apart as mixtures, wherever the other scenes are."""
  scene = 20 * np.eye(3, D, dtype=np.float32)
  logvar = np.zeros((1, 2, D), np.float32)
  x, y = ((scene[list(i)][None], logvar) for i in ((0, 1), (0, 2)))
  np.testing.assert_allclose(mixture()(x, y), math.log(2), rtol=1e-5)
  np.testing.assert_allclose(mixture()(x, x), 0, atol=1e-6)


def test_keeping_scenes_apart_finds_videos_that_share_one():
  """Videos cut from two scenes each: the one of which a part recurs is found by its mixture.

  Moments average two scenes into a place where neither is.
  """
  rng, count, dim = np.random.default_rng(0), 40, 16
  scenes = rng.standard_normal((3 * count, dim))
  scenes /= np.linalg.norm(scenes, axis=1, keepdims=True)
  first, *others = scenes[:, None].reshape(3, count, 1, dim)

  def video(a, b):
    mean = np.concatenate([a, a, b, b], axis=1) + 0.05 * rng.standard_normal((count, 4, dim))
    return mean.astype(np.float32), np.full((count, 4, dim), math.log(0.05**2), np.float32)

  query, gallery = video(first, others[0]), video(others[1], first)
  labels = np.arange(count)
  found = {}
  for name, score in {
      "mixture": mixture()(query, gallery),
      "matched": gaussian_pairs.closed_form(gaussian.moment_match(*query),
                                            gaussian.moment_match(*gallery))}.items():
    found[name] = recall.recall(-np.asarray(score), labels, labels, [1])[1]
  assert found["mixture"] == 1
  assert found["matched"] < 0.9


def test_blocks_bound_the_memory():
  """Beside its inputs and its result a program in blocks holds the pairs of one block."""
  rows, k, dim, block = 64, 4, 16, 8
  x = Samples(*(jax.ShapeDtypeStruct(s, jnp.float32)
                for s in ((rows, dim), (rows, dim), (rows, k, dim))))

  def loss(x, block):
    return sum(jnp.sum(v) for v in gaussian_pairs.match(x, 2.0, 1.0, block=block))

  def held(block):
    compiled = jax.jit(jax.grad(functools.partial(loss, block=block))).lower(x).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert held(block) < held(rows) / 3
  assert held(rows) < 4 * rows * rows * k * k * dim  # nor is a difference of samples ever laid out


@pytest.mark.parametrize("masked", [False, True])
def test_sums_of_sigmoids_are_those_of_logarithms(masked):
  """Of videos whose samples all match, all differ, do both, and lie where both are as likely."""
  rng = np.random.default_rng(2)
  middle = np.array([-500, -90, -3, 0, 3, 90, 500], np.float32)
  logit = middle + rng.normal(size=(K, 1, K, len(middle))).astype(np.float32)
  logit = np.concatenate([logit, 200 * rng.normal(size=logit.shape), 0 * logit], axis=1)
  logit = logit.astype(np.float32)
  # What doesn't count lies where a scale that counts would overflow.
  valid = ~np.eye(K, dtype=bool)[:, None, :, None] if masked else None
  if masked:
    logit = np.where(valid, logit, np.float32(1.0))

  def plain(logit):
    return [jax.nn.logsumexp(jax.nn.log_sigmoid(s * logit), axis=(0, 2), where=valid)
            for s in (1, -1)]

  ct = rng.normal(size=(2, 3, len(middle))).astype(np.float32)
  want, pull = jax.vjp(plain, logit)
  got, pull_back = jax.vjp(lambda x: gaussian_pairs._log_sums(x, valid), logit)
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
  np.testing.assert_allclose(pull_back(tuple(ct))[0], pull(list(ct))[0], rtol=2e-5, atol=1e-6)
