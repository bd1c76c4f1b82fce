"""Window attention against loops in float64, in values, gradients, memory and transformations."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from tests.reference import window_attention as reference
from vssl_jax.ops import window_attention, window_tiles

attend = jax.jit(window_attention.attend, static_argnames=(
  "radius", "shape", "dilation", "temperature", "top_k", "hard", "border", "tile"))


def maps(b, r, h, w, d, c, seed=0, scale=1.0):
  """Query, key, value and a cotangent, random and without symmetry."""
  rng = np.random.default_rng(seed)
  shapes = [(b, h, w, d), (b, r, h, w, d), (b, r, h, w, c), (b, h, w, c)]
  return [(scale * rng.normal(size=s) + 0.1 * i).astype(np.float32)
          for i, s in enumerate(shapes)]


# shape of the maps, options; sizes that no tile divides, radii beyond the map
CASES = {
  "one reference": ((2, 1, 9, 13, 5, 3), dict(radius=2)),
  "own cell only": ((1, 1, 5, 6, 3, 2), dict(radius=0)),
  "three references": ((1, 3, 7, 9, 4, 2), dict(radius=2)),
  "beyond the map": ((2, 2, 5, 4, 3, 2), dict(radius=9)),
  "beyond the height": ((1, 1, 3, 18, 3, 2), dict(radius=4)),
  "one row": ((1, 2, 1, 11, 3, 2), dict(radius=2)),
  "whole map": ((1, 2, 5, 6, 3, 2), dict(radius=None)),
  "own radii": ((2, 3, 6, 9, 3, 2), dict(radius=(None, 1, 3))),
  "dilation": ((1, 2, 7, 11, 3, 2), dict(radius=2, dilation=2)),
  "dilation beyond the map": ((2, 1, 5, 7, 3, 2), dict(radius=4, dilation=3)),
  "disk": ((1, 2, 8, 11, 3, 2), dict(radius=3.0, shape="disk")),
  "disk of a broken radius": ((1, 1, 8, 9, 3, 2), dict(radius=2.5, shape="disk", dilation=2)),
  "disk over the map": ((1, 1, 4, 5, 3, 2), dict(radius=20.0, shape="disk")),
  "disk just too small": ((1, 1, 4, 5, 3, 2), dict(radius=5.0, shape="disk")),
  "temperature": ((1, 2, 6, 7, 4, 2), dict(radius=2, temperature=0.3)),
  "zero border": ((1, 2, 6, 9, 3, 2), dict(radius=3, border="zero")),
  "zero border beyond the map": ((1, 1, 4, 5, 3, 2), dict(radius=6, border="zero")),
  "zero border, dilation": ((1, 1, 7, 6, 3, 2), dict(radius=2, border="zero", dilation=2)),
  "released border": ((1, 1, 6, 9, 3, 2), dict(radius=3, border="released")),
  "top-k": ((1, 3, 6, 9, 4, 2), dict(radius=2, top_k=4)),
  "top-k of more than there are": ((1, 2, 4, 5, 3, 2), dict(radius=1, top_k=40)),
  "top-k, dilation and radii": ((1, 2, 6, 7, 3, 2), dict(radius=(None, 1), top_k=5, dilation=2)),
  "hard": ((1, 2, 6, 7, 3, 2), dict(radius=2, hard=True)),
}


def gradients(f):
  """Those of a function of query, key and value by all three, compiled as one."""
  return jax.jit(jax.grad(f, argnums=(0, 1, 2)))


def twin(query, key, value, radius, hard=False, **options):
  radii = radius if isinstance(radius, tuple) else (radius,) * key.shape[1]
  if hard:
    options["top_k"] = 1
  return reference.attend(query, key, value, radii, **options)


@pytest.mark.parametrize("name", CASES)
def test_values(name):
  shape, options = CASES[name]
  q, k, v, _ = maps(*shape)
  np.testing.assert_allclose(attend(q, k, v, **options), twin(q, k, v, **options), atol=2e-6)


@pytest.mark.parametrize("name", [
  "one reference", "own radii", "beyond the map", "dilation", "disk", "temperature"])
def test_gradients(name):
  shape, options = CASES[name]
  q, k, v, ct = maps(*shape)
  radius = options["radius"]
  radii = radius if isinstance(radius, tuple) else (radius,) * shape[1]
  want = reference.gradients(q, k, v, ct, radii, **{n: o for n, o in options.items()
                                                    if n != "radius"})
  got = gradients(lambda *a: (attend(*a, **options) * ct).sum())(q, k, v)
  for g, w in zip(got, want, strict=True):
    np.testing.assert_allclose(g, w, atol=1e-5 * max(1, np.abs(w).max()))


@pytest.mark.parametrize("name", ["zero border", "top-k", "top-k, dilation and radii", "hard"])
def test_slope_along_a_direction(name):
  """Against a difference quotient of the twin, for what has no closed gradient there."""
  shape, options = CASES[name]
  args, ct = maps(*shape)[:3], maps(*shape)[3]
  got = gradients(lambda *a: (attend(*a, **options) * ct).sum())(*args)
  for i in range(3):
    direction = np.random.default_rng(i).normal(size=args[i].shape)

    def moved(step, i=i, direction=direction):
      new = [a.astype(np.float64) for a in args]
      new[i] += step * direction
      return (twin(*new, **options) * ct).sum()

    want = (moved(1e-6) - moved(-1e-6)) / 2e-6
    np.testing.assert_allclose((got[i] * direction).sum(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tile", [(1, 1), (2, 5), (8, 3), (16, 16)])
def test_tiles_and_steps_do_not_matter(tile, monkeypatch):
  # Several steps, one of them cut short, and others backward.
  monkeypatch.setattr(window_tiles, "budgets", lambda platform: (300, 100))
  q, k, v, ct = maps(3, 2, 7, 9, 3, 2)
  radius = (2, 4)
  f = functools.partial(window_attention.attend, radius=radius, tile=tile)

  def loss(*args):
    out = f(*args)
    return (out * ct).sum(), out

  (_, out), got = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
  np.testing.assert_allclose(out, twin(q, k, v, radius), atol=2e-6)
  for g, w in zip(got, reference.gradients(q, k, v, ct, radius), strict=True):
    np.testing.assert_allclose(g, w, atol=1e-5)


def test_one_reference_needs_no_axis():
  q, k, v, _ = maps(1, 1, 5, 6, 3, 2)
  np.testing.assert_array_equal(attend(q, k[:, 0], v[:, 0], radius=2), attend(q, k, v, radius=2))


def test_equal_features_give_the_mean_of_the_window():
  ones, value = np.ones((1, 6, 7, 4), np.float32), maps(1, 1, 6, 7, 4, 3)[2][:, 0]
  got = attend(ones, ones, value, radius=1)
  np.testing.assert_allclose(got[0, 2, 3], value[0, 1:4, 2:5].mean((0, 1)), atol=1e-6)
  np.testing.assert_allclose(got[0, 0, 6], value[0, :2, 5:].mean((0, 1)), atol=1e-6)
  whole = attend(ones, ones, value, radius=None)
  np.testing.assert_allclose(whole[0, 4, 1], value.mean((0, 1, 2)), atol=1e-6)


def test_cells_outside_the_windows_change_nothing():
  q, k, v, _ = maps(1, 1, 12, 20, 3, 2)
  before = np.asarray(attend(q, k, v, radius=2))  # done, before its inputs change
  k[:, :, 8:], v[:, :, 8:] = 1e6, -1e6
  k[:, :, :, 13:], v[:, :, :, 13:] = -1e6, 1e6
  after = attend(q, k, v, radius=2)
  np.testing.assert_array_equal(before[:, :6, :11], after[:, :6, :11])
  assert not np.array_equal(before[:, 6], after[:, 6])


def test_all_zero_maps_have_finite_gradients():
  zeros = np.zeros((1, 5, 6, 3), np.float32)
  for options in (dict(), dict(top_k=2), dict(border="zero"), dict(border="released")):
    got = gradients(lambda *a: attend(*a, radius=1, **options).sum())(  # noqa: B023
      zeros, zeros, zeros)
    assert all(np.isfinite(g).all() for g in got)


def test_released_border_averages_a_window_without_scores():
  q, k, v, _ = maps(1, 1, 6, 9, 3, 2)
  q[:, ::2, 1] = 0
  options = dict(radius=2, border="released")
  np.testing.assert_allclose(attend(q, k, v, **options), twin(q, k, v, **options), atol=2e-6)


def test_large_scores_neither_overflow_nor_vanish():
  q, k, v, _ = maps(1, 1, 6, 9, 8, 2, scale=30.0)
  np.testing.assert_allclose(attend(q, k, v, radius=2), twin(q, k, v, radius=2), rtol=2e-3)
  np.testing.assert_allclose(attend(-np.abs(q), np.abs(k), v, radius=2),
                             twin(-np.abs(q), np.abs(k), v, radius=2), rtol=2e-3)


def test_ties_of_top_k_go_to_the_first_cell():
  q, k, v, _ = maps(1, 2, 5, 6, 3, 1)
  q[:] = 1
  k[:] = 0  # all scores equal
  options = dict(radius=1, top_k=3)
  np.testing.assert_allclose(attend(q, k, v, **options), twin(q, k, v, **options), atol=1e-6)


def test_bfloat16():
  q, k, v, ct = (jnp.asarray(a, jnp.bfloat16) for a in maps(1, 2, 7, 9, 8, 3, scale=0.5))
  got = attend(q, k, v, radius=2)
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(got, twin(q, k, v, radius=2), atol=1e-2)
  grads = gradients(lambda *a: (attend(*a, radius=2) * ct).astype(jnp.float32).sum())(q, k, v)
  for g, w in zip(grads, reference.gradients(q, k, v, ct, (2, 2)), strict=True):
    assert g.dtype == jnp.bfloat16
    np.testing.assert_allclose(g, w, atol=2e-2 * np.abs(w).max())


def test_vmap_and_devices():
  q, k, v, _ = maps(4, 2, 5, 6, 3, 2)
  want = attend(q, k, v, radius=2)
  one = functools.partial(attend, radius=2)
  each = (a[:, None] for a in (q, k, v))
  np.testing.assert_allclose(jax.vmap(one)(*each)[:, 0], want, atol=1e-6)
  if jax.device_count() >= 4:
    each = (a[:, None] for a in (q, k, v))
    mapped = jax.pmap(one, devices=jax.devices()[:4])
    np.testing.assert_allclose(mapped(*each)[:, 0], want, atol=1e-6)


def test_one_compilation():
  f = jax.jit(chex.assert_max_traces(window_attention.attend, n=1), static_argnums=3)
  for seed in range(2):
    f(*maps(1, 1, 5, 6, 3, 2, seed=seed)[:3], 2)


def biggest(jaxpr) -> int:
  """Numbers in the largest array inside a jaxpr."""
  most = 0
  for eqn in jaxpr.eqns:
    most = max([most, *(int(np.prod(v.aval.shape)) for v in eqn.outvars)])
    for inner in jaxprs_in_params(eqn.params):
      most = max(most, biggest(inner))
  return most


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_memory_does_not_grow_with_map_times_window(platform):
  h, w, m, d = 240, 400, 12, 64
  args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in [
    (1, h, w, d), (1, 2, h, w, d), (1, 2, h, w, 16)]]
  window = window_tiles.Window((h, w), (m, m), "square", 1, None, "mask")

  def f(q, k, v):
    return window_tiles.attend(q, k, v, window=window, platform=platform).sum()

  volume = h * w * 2 * (2 * m + 1) ** 2
  memory = jax.jit(jax.grad(f, argnums=(0, 1, 2))).lower(*args).compile().memory_analysis()
  assert memory.temp_size_in_bytes < 4 * volume  # the scores alone, without features
  limit = {"cpu": volume / 5, "gpu": volume / 2}[platform]
  assert biggest(jax.make_jaxpr(jax.grad(f, argnums=(0, 1, 2)))(*args).jaxpr) < limit


@pytest.mark.parametrize("dilation, shape, radius", [(1, (2, 6, 7, 3), 2), (2, (1, 5, 4, 3), 3),
                                                     (1, (1, 3, 4, 2), 5)])
def test_correlation(dilation, shape, radius):
  rng = np.random.default_rng(0)
  q, k = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
  want = reference.correlation(q, k, radius, dilation)
  f = functools.partial(window_attention.correlation, radius=radius, dilation=dilation)
  np.testing.assert_allclose(jax.jit(f)(q, k), want, atol=1e-5)
  mask = window_attention.border_mask(*shape[1:3], radius, dilation=dilation)
  np.testing.assert_array_equal(mask, reference.correlation(
    np.ones_like(q), np.ones_like(k), radius, dilation)[0] > 0)
  # The volume is linear in each map.
  ct = rng.normal(size=want.shape)
  dq, dk = jax.jit(jax.grad(lambda *a: (f(*a) * ct).sum(), argnums=(0, 1)))(q, k)
  np.testing.assert_allclose((dq * q).sum(), (want * ct).sum(), rtol=1e-4)
  np.testing.assert_allclose((dk * k).sum(), (want * ct).sum(), rtol=1e-4)


@pytest.mark.parametrize("change, message", [
  (dict(radius=1.5), "radius=1.5"),
  (dict(radius=-1), "radius=-1"),
  (dict(radius=(1, 2, 3)), "3 radii for 2 references"),
  (dict(radius=0.0, shape="disk"), "above 0"),
  (dict(shape="round"), "shape='round'"),
  (dict(dilation=0), "dilation=0"),
  (dict(top_k=0), "top_k=0"),
  (dict(border="reflect"), "border='reflect'"),
  (dict(border="released", dilation=2), "knows no dilation"),
  (dict(implementation="cuda"), "implementation='cuda'"),
  (dict(implementation="pallas", top_k=2), "top_k"),
  (dict(implementation="pallas", radius=(1, 2)), "one radius"),
  (dict(tile=(0, 4)), "tile"),
])
def test_wrong_options(change, message):
  q, k, v, _ = maps(1, 2, 5, 6, 3, 2)
  with pytest.raises(ValueError, match=message.replace("(", r"\(")):
    window_attention.attend(q, k, v, **(dict(radius=2) | change))


def test_maps_that_do_not_fit():
  q, k, v, _ = maps(1, 2, 5, 6, 3, 2)
  for args in [(q[0], k, v), (q, k[..., :2], v), (q, k[:, :1], v), (q, k, v[:, :, :4]),
               (q, k[:, :0], v[:, :0])]:
    with pytest.raises(ValueError, match="attend"):
      window_attention.attend(*args, 2)
