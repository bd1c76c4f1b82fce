"""The encoder of MoCo and CycleContrast: heads against NumPy, sizes, initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.models import contrast, resnet


@pytest.mark.parametrize(("backbone", "trunk", "head"), [
  ("resnet18", 11_176_512, 328_320), ("resnet50", 23_508_032, 4_458_624)])
def test_published_parameter_counts(backbone, trunk, head):
  """spec 2.1."""
  net = contrast.Encoder(backbone)
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  params = jax.eval_shape(net.init, jax.random.key(0), image)["params"]
  sizes = {n: sum(v.size for v in jax.tree.leaves(p)) for n, p in params.items()}
  assert sizes == {"trunk": trunk, "intra": head, "cycle": head}


def test_heads():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((5, 4)).astype(np.float32)
  for hidden in (True, False):
    net = contrast.Head(3, hidden)
    params = jax.tree.map(lambda v: rng.standard_normal(v.shape).astype(np.float32),
                          net.init(jax.random.key(0), x)["params"])
    want = np.float64(x)
    if hidden:
      want = np.maximum(want @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
    want = want @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(net.apply({"params": params}, x), want, rtol=1e-5, atol=1e-5)


@pytest.fixture
def small(monkeypatch):
  monkeypatch.setitem(resnet.BACKBONES, "resnet18", ((1,), False))
  return contrast.Encoder("resnet18", width=64, dim=16, heads=("intra", "cycle"), groups=2)


def test_initialisation(small):
  """Linear layers uniform in +-1/sqrt(fan-in), weights and biases, each with numbers of its own."""
  image = jnp.zeros((1, 32, 32, 3))
  for found in (contrast.random_variables(small, jax.random.key(0)),
                jax.jit(small.init)(jax.random.key(0), image)):
    shapes = jax.eval_shape(small.init, jax.random.key(0), image)
    assert jax.tree.map(lambda v: v.shape, found) == jax.tree.map(lambda v: v.shape, shapes)
    drawn = [found["params"][h][k][v] for h in ("intra", "cycle") for k in ("hidden", "out")
             for v in ("kernel", "bias")]
    for i, v in enumerate(drawn):
      assert np.abs(v).max() <= 1 / 8 and np.abs(v).max() > 0.6 / 8
      np.testing.assert_allclose(np.std(v), 1 / 8 / 3**0.5, rtol=0.35)
      assert not any(np.allclose(v.ravel()[:9], w.ravel()[:9]) for w in drawn[:i])
    kernel = found["params"]["trunk"]["conv1"]["kernel"]
    np.testing.assert_allclose(np.std(kernel), (2 / 49 / 64) ** 0.5, rtol=0.05)


def test_norms_are_grouped_and_half_precision_ends_at_the_trunk(small):
  variables = contrast.random_variables(small, jax.random.key(1))
  x = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)

  def apply(net, x):
    return jax.jit(lambda x: net.apply(variables, x, train=True, mutable=["batch_stats"])[0])(x)

  whole = apply(small, x)
  halves = [apply(small.clone(groups=1), x[i:i + 2]) for i in (0, 2)]
  for name in ("pooled", "intra", "cycle"):
    np.testing.assert_allclose(whole[name], np.concatenate([h[name] for h in halves]), rtol=1e-4,
                               atol=1e-5)
  half = apply(small.clone(dtype=jnp.bfloat16), x)
  for name, value in whole.items():
    assert half[name].dtype == jnp.float32
    assert np.linalg.norm(half[name] - value) < 0.05 * np.linalg.norm(value)
    assert np.abs(half[name] - value).max() > 0
