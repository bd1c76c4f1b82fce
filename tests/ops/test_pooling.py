"""Frame descriptors against float64 loops; properties that follow from their definitions."""

import functools

import jax
import numpy as np
import pytest

from tests.reference import pooling as reference
from vssl_jax.ops import pooling

SIDES = (56, 28, 14, 7)


def maps_of(sides, channels=(3, 4, 5, 6), n=2, seed=0):
  rng = np.random.default_rng(seed)
  shapes = [(n, *np.broadcast_to(s, 2), c) for s, c in zip(sides, channels, strict=True)]
  return [np.maximum(rng.normal(size=s), 0).astype(np.float32) for s in shapes]


@functools.partial(jax.jit, static_argnums=0)
def run(pool, maps):
  return pool(maps)


@pytest.mark.parametrize(
  "sides", [SIDES, (32, 16, 8, 4), (28, 14, 7, 4), ((40, 56), (20, 28), (10, 14), (5, 7))]
)
def test_imac_and_l3_irmac_against_loops(sides):
  maps = maps_of(sides)
  for ours, twin in (
    (pooling.imac, reference.imac),
    (lambda m: pooling.imac(m, local_l2=False), lambda m: reference.imac(m, False)),
    (pooling.l3_irmac, reference.l3_irmac),
  ):
    expected = [twin([m[i] for m in maps]) for i in range(2)]
    np.testing.assert_allclose(run(ours, maps), expected, atol=1e-6)


@pytest.mark.parametrize(
  "sides", [SIDES, (28, 14, 7, 4), (40, 20, 10, 5), ((64, 72), (32, 36), (16, 18), (8, 9))]
)
def test_l3_imac_against_loops(sides):
  maps = maps_of(sides)
  expected = [reference.l3_imac([m[i] for m in maps]) for i in range(2)]
  np.testing.assert_allclose(run(pooling.l3_imac, maps), expected, atol=1e-6)


def test_l3_irmac_is_imac_where_one_channel_fires_everywhere():
  """On a constant map all regions are the same vector, whatever their number."""
  maps = [np.broadcast_to(np.float32([3, 0, 4]), (1, s, s, 3)) for s in SIDES]
  expected = np.tile([0.6, 0, 0.8], 4)[None]
  np.testing.assert_allclose(run(pooling.l3_irmac, maps), expected, atol=1e-6)
  np.testing.assert_allclose(run(pooling.imac, maps), expected, atol=1e-6)


def test_norms_and_mirror_image():
  maps = maps_of(SIDES, seed=3)
  mirrored = [m[:, :, ::-1] for m in maps]
  for f in (pooling.imac, pooling.l3_irmac):
    y = np.asarray(run(f, maps))
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 2, rtol=1e-6)
    np.testing.assert_allclose(run(f, mirrored), y, atol=1e-6)  # 3 x 3 windows lie symmetrically


def test_l3_imac_regions_follow_the_image():
  maps = maps_of(SIDES, seed=3)
  regions = np.asarray(run(pooling.l3_imac, maps)).reshape(2, 3, 3, -1)
  np.testing.assert_allclose(np.linalg.norm(regions, axis=-1), 1, rtol=1e-6)
  turned = run(pooling.l3_imac, [m.swapaxes(1, 2) for m in maps]).reshape(2, 3, 3, -1)
  np.testing.assert_allclose(turned, regions.swapaxes(1, 2), atol=1e-6)


def test_black_frame_has_no_descriptor_and_no_gradient():
  maps = [np.zeros_like(m) for m in maps_of((28, 14, 7, 4), n=1)]
  for f in (pooling.imac, pooling.l3_irmac, pooling.l3_imac):
    value, grads = jax.jit(jax.value_and_grad(lambda m, f=f: f(m).sum()))(maps)
    assert value == 0
    assert not any(g.any() for g in grads)


def test_half_precision_maps_are_pooled_in_float32():
  maps = maps_of(SIDES)
  half = [m.astype(jax.numpy.bfloat16) for m in maps]
  rounded = [m.astype(np.float32) for m in half]
  for f in (pooling.imac, pooling.l3_irmac, pooling.l3_imac):
    y = run(f, half)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, run(f, rounded), atol=1e-6)


@pytest.mark.parametrize(
  ("pool", "sides", "reason"),
  [
    (pooling.l3_irmac, (24, 12, 6, 3), r"at least 4x4, got 3x3.*97 pixels"),
    (pooling.l3_imac, (24, 12, 6, 3), r"at least 28x28, got 24x24.*109 pixels"),
    (pooling.l3_imac, SIDES[:3], "4 stages, got 3"),
  ],
)
def test_too_small_maps_are_refused_with_a_remedy(pool, sides, reason):
  maps = maps_of(sides, channels=(3, 4, 5, 6)[:len(sides)])
  with pytest.raises(ValueError, match=reason):
    jax.eval_shape(pool, maps)
