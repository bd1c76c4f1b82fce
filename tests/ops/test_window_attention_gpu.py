"""The GPU kernel, interpreted, against loops in float64, and its lowering."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.ops.test_window_attention import maps, twin
from tests.reference import window_attention as reference
from vssl_jax.ops import window_attention, window_attention_gpu, window_tiles


def attend(q, k, v, radius, shape="square"):
  window = window_tiles.Window(q.shape[1:3], (radius,) * k.shape[1], shape, 1, None, "mask")
  return jax.jit(window_attention_gpu.attend, static_argnums=(3, 4))(q, k, v, window, True)


@pytest.mark.parametrize("shape, radius, form", [
  ((2, 1, 9, 19, 5, 3), 2, "square"), ((1, 3, 7, 9, 16, 17), 2.5, "disk"),
  ((1, 2, 4, 5, 3, 2), 9, "square"), ((1, 1, 5, 6, 3, 2), 0, "square")])
def test_values(shape, radius, form):
  q, k, v, _ = maps(*shape)
  np.testing.assert_allclose(attend(q, k, v, radius, form),
                             twin(q, k, v, radius=radius, shape=form), atol=3e-6)


def test_gradients():
  q, k, v, ct = maps(1, 2, 5, 7, 3, 2)
  got = jax.grad(lambda *a: (attend(*a, 2) * ct).sum(), argnums=(0, 1, 2))(q, k, v)
  for g, w in zip(got, reference.gradients(q, k, v, ct, (2, 2)), strict=True):
    np.testing.assert_allclose(g, w, atol=1e-5)


def test_bfloat16():
  q, k, v, _ = (jnp.asarray(a, jnp.bfloat16) for a in maps(1, 1, 7, 9, 8, 3, scale=0.5))
  got = attend(q, k, v, 2)
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(got, twin(q, k, v, radius=2), atol=2e-2)


def test_vmap():
  q, k, v, _ = maps(2, 1, 5, 6, 3, 2)
  mapped = jax.vmap(functools.partial(attend, radius=1))(*(a[:, None] for a in (q, k, v)))
  np.testing.assert_allclose(mapped[:, 0], attend(q, k, v, 1), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("radius, features", [(6, 64), (12, 256)])
def test_it_lowers_to_triton(radius, features, dtype):
  q, k, v = (jax.ShapeDtypeStruct(s, dtype) for s in [
    (1, 30, 53, features), (1, 2, 30, 53, features), (1, 2, 30, 53, 16)])
  f = functools.partial(window_attention.attend, radius=radius, implementation="pallas")
  text = jax.jit(f).trace(q, k, v).lower(lowering_platforms=("cuda",)).as_text()
  assert "triton" in text
