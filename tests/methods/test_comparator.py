"""Triplets of a learned similarity, its scores, and what it makes of regions."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import comparator as reference
from tests.reference import losses
from tests.reference import retrieval as retrieval_reference
from vssl_jax import optim, parallel, train
from vssl_jax.methods import comparator
from vssl_jax.models.comparator import Comparator
from vssl_jax.types import ConfigError

B, M, T, D = 4, 2, 6, 4
KEY = jax.random.key(5)


def videos(rng, *shape, regions=1, group=None):
  x = rng.standard_normal((*shape, T, regions, D))
  x /= np.linalg.norm(x, axis=-1, keepdims=True)
  return {"x": x.reshape(*shape, T, regions * D).astype(np.float32),
          "length": rng.integers(1, T + 3, shape).astype(np.int32),
          "group": np.full(shape, -1, np.int32) if group is None else np.int32(group)}


def make_batch(seed, regions=1, anchor=None, negative=None):
  rng = np.random.default_rng(seed)
  return {"anchor": videos(rng, B, regions=regions, group=anchor),
          "positive": videos(rng, B, regions=regions, group=anchor),
          "negative": videos(rng, B, M, regions=regions, group=negative)}


@functools.cache
def start(attention):
  """Parameters that bring outputs to both sides of the clip, for any number of regions."""
  params, _ = jax.jit(comparator.make(attention=attention).init)(KEY, make_batch(0))
  return params | {"comparator": jax.tree.map(lambda v: 3 * v, params["comparator"])}


@functools.cache
def build(**args):
  """The method, its parameters, and its jitted parts."""
  method, params = comparator.make(**args), start(args.get("attention", False))
  return (method, params, jax.jit(jax.value_and_grad(method.loss, has_aux=True)),
          jax.jit(method.score))


def valid(side, *index, regions=1):
  """A video without its padding, [n, R, D]."""
  n = min(int(side["length"][index]), T)
  return side["x"][index][:n].reshape(n, regions, D)


def twin(params, x, y, rescale=False):
  """Score and excess of x [n, R, D] with y."""
  if "context" in params:
    u = np.float64(params["context"])
    u = u / np.linalg.norm(u)
    x, y = (v * (v @ u / 2 + 0.5)[..., None] for v in (np.float64(x), np.float64(y)))
  return reference.compare(params["comparator"], reference.region_matrix(x, y), rescale)[1:]


@pytest.mark.parametrize("args", [
    dict(regulariser=0.3), dict(hardest=False, margin=0.2, regulariser=0.1),
    dict(regions=2, attention=True, symmetric=True, rescale=True)], ids=str)
def test_loss_and_metrics_are_those_of_the_twin(args):
  regions = args.get("regions", 1)
  _, params, step, _ = build(**args)
  batch = make_batch(1, regions, anchor=[0, 1, -1, 2],
                     negative=[[0, 5], [2, 3], [-1, 4], [1, 1]])
  (value, (aux, metrics)), grad = step(params, {}, batch, KEY)

  def pair(x, y):
    forward = twin(params, x, y, args.get("rescale", False))
    if not args.get("symmetric", False):
      return forward
    return np.mean([forward, twin(params, y, x, args["rescale"])], axis=0)

  triplets, excesses, ranks = [], [], []
  for i in range(B):
    anchor = valid(batch["anchor"], i, regions=regions)
    s_p, excess = pair(anchor, valid(batch["positive"], i, regions=regions))
    used = [1] if i == 0 else [0, 1]  # the first negative is of the first anchor's group
    found = [pair(anchor, valid(batch["negative"], i, j, regions=regions)) for j in used]
    s_n = [s for s, _ in found]
    triplets.append(losses.triplet(s_p, s_n, margin=args.get("margin", 0.5),
                                   hardest=args.get("hardest", True)))
    excesses.append(excess + np.mean([e for _, e in found]))
    ranks.append(s_p > max(s_n))
  weight = args.get("regulariser", 1.0)
  assert np.mean(excesses) > 0.01
  np.testing.assert_allclose(value, np.mean(triplets) + weight * np.mean(excesses), rtol=1e-4)
  np.testing.assert_allclose(metrics["triplet"], np.mean(triplets), rtol=1e-4)
  np.testing.assert_allclose(metrics["excess"], np.mean(excesses), rtol=1e-4)
  np.testing.assert_allclose(metrics["top1"], np.mean(ranks))
  assert aux == {}
  assert all(np.isfinite(g).all() and g.any() for g in jax.tree.leaves(grad))


@pytest.mark.parametrize("regions", [1, 2])
def test_scores_are_those_of_the_twin_whatever_is_compared_at_once(regions, monkeypatch):
  method, params, _, score = build(regions=regions)
  rng = np.random.default_rng(3)
  q, t = videos(rng, 2, regions=regions), videos(rng, 5, regions=regions)
  query, target = method.embed(params, {}, q), method.embed(params, {}, t)
  got = score(params, {}, query, target)
  names = {"comparator", "symmetric_comparator"} | ({"region_chamfer"} if regions > 1 else set())
  assert got.keys() == names
  for i in range(2):
    for j in range(5):
      x, y = valid(q, i, regions=regions), valid(t, j, regions=regions)
      forward, backward = twin(params, x, y)[0], twin(params, y, x)[0]
      np.testing.assert_allclose(got["comparator"][i, j], forward, atol=1e-5)
      np.testing.assert_allclose(got["symmetric_comparator"][i, j], (forward + backward) / 2,
                                 atol=1e-5)
      if regions > 1:
        matrix = reference.region_matrix(x, y)
        np.testing.assert_allclose(got["region_chamfer"][i, j], matrix.max(axis=1).mean(),
                                   atol=1e-6)
  # g(S) and g(S^T) are no transposes of each other.
  assert np.abs(got["comparator"] - got["symmetric_comparator"]).max() > 1e-3
  if regions > 1:  # once, as it takes a compilation: two pairs at a time, and one that remains
    monkeypatch.setattr(comparator, "ENTRIES", 2 * T * T)
    again = jax.jit(comparator.make(regions=regions).score)(params, {}, query, target)
    for name in names:
      np.testing.assert_allclose(again[name], got[name], atol=1e-6)


@pytest.mark.parametrize("regions", [1, 3])
def test_embeddings_are_unit_vectors_and_ignore_padding(regions):
  method = comparator.make(regions=regions)
  side = videos(np.random.default_rng(5), 4, regions=regions)
  side["length"][:] = [1, 3, T, T + 9]
  inside = np.arange(T) < side["length"][:, None]
  side["x"] = np.where(inside[..., None], 5 * side["x"], np.nan)
  out = method.embed({}, {}, side)
  np.testing.assert_array_equal(out["length"], [1, 3, T, T])
  np.testing.assert_allclose(np.linalg.norm(out["frames"], axis=-1), inside, atol=1e-6)
  for i in range(4):
    x = valid(side, i, regions=regions) / 5
    mean = x.reshape(len(x), -1).mean(axis=0)
    np.testing.assert_allclose(out["video"][i], mean / np.linalg.norm(mean), atol=1e-6)
    frames = np.asarray(out["frames"][i, :len(x)])
    # A dot product of frames is the mean over regions.
    want = [[np.mean([retrieval_reference.cosine(a, b) for a, b in zip(f, g, strict=True)])
             for g in x] for f in x]
    np.testing.assert_allclose(frames @ frames.T, want, atol=1e-6)


def test_blank_frames_have_finite_gradients():
  _, params, step, _ = build(regions=2, attention=True, symmetric=True, rescale=True)
  batch = make_batch(6, 2)
  for side in batch.values():
    side["x"][...] = 0
  _, grad = step(params, {}, batch, KEY)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grad))


@pytest.mark.parametrize("name, value", [("regions", 0), ("margin", -0.1), ("regulariser", -1.0)])
def test_an_argument_out_of_its_range_is_named(name, value):
  with pytest.raises(ConfigError, match=rf"method\.args\.{name}={value} must be"):
    comparator.make(**{name: value})


def test_descriptors_that_are_not_so_many_regions_are_refused():
  method = comparator.make(regions=3)
  with pytest.raises(ValueError, match="of 4 numbers can't be regions=3 vectors"):
    jax.eval_shape(method.init, KEY, make_batch(0))


def test_a_handful_of_pairs_is_learnt_by_heart_on_four_devices_and_traced_once():
  """Copies share a run of frames, shifted by one. The first loss is that of one device."""
  chex.clear_trace_counter()
  method = comparator.make()
  method = method._replace(loss=chex.assert_max_traces(method.loss, 1))
  batch = make_batch(11)
  for side in batch.values():
    side["length"][:] = T
  batch["positive"]["x"][:, 1:] = batch["anchor"]["x"][:, :-1]
  tx, mesh = optim.make(steps=60, learning_rate=3e-3, weight_decay=0), parallel.mesh()
  state = train.init_state(method, tx, batch, 0, mesh)
  step, placed, seen = train.make_step(method, tx, mesh), parallel.place(batch, mesh), []
  alone, _ = jax.jit(comparator.make().loss)(jax.device_get(state.params), {}, batch, KEY)
  for _ in range(60):
    state, metrics = step(state, placed)
    seen.append({k: float(v) for k, v in metrics.items()})
  np.testing.assert_allclose(seen[0]["loss"], alone, rtol=1e-5)
  assert seen[0]["positive"] - seen[0]["hardest"] < 0.1
  assert seen[-1]["positive"] > seen[-1]["hardest"] + 0.4
  embeds = [method.embed({}, {}, batch[side]) for side in ("anchor", "positive")]
  scores = np.asarray(jax.jit(method.score)(state.params, {}, *embeds)["comparator"])
  np.testing.assert_allclose(np.diag(scores).mean(), seen[-1]["positive"], atol=0.05)


def test_the_network_is_as_large_as_visils():
  one = jnp.ones(1, int)
  params = jax.eval_shape(Comparator().init, KEY, jnp.zeros((1, 4, 4)), one, one)["params"]
  weights = sum(p.size for p in jax.tree.leaves(params))
  assert weights == 32 * 10 + 64 * 289 + 128 * 577 + 129
