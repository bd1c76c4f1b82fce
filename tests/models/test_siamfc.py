"""SiamFC's trunk and head: sizes of maps, what moves with what, first weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import tracking as reference
from vssl_jax.models import resnet, siamfc

WIDTH, CHANNELS = 4, 5


@pytest.fixture(scope="module")
def head():
  head = siamfc.SiamFCHead(CHANNELS, 0.01)
  z, x = (jnp.ones((1, n, n, 6)) for n in (2, 4))
  return head, jax.jit(head.init)(jax.random.key(0), z, x)["params"]


@pytest.mark.parametrize("exemplar, search, cells", [(120, 255, 18), (120, 239, 16),
                                                     (127, 255, 17)])
def test_sizes_of_maps(exemplar, search, cells):
  """Those of the specification: 15 and 32 cells, 15 and 30, and what is meant, 16 and 32."""
  net = siamfc.trunk("resnet18", width=WIDTH)
  variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  maps = [jax.eval_shape(lambda v, x: siamfc.features(net, v, x), variables,
                         jax.ShapeDtypeStruct((1, n, n, 3), jnp.uint8)).shape
          for n in (exemplar, search)]
  assert maps[0] == (1, -(-exemplar // 8), -(-exemplar // 8), 8 * WIDTH)
  assert maps[1][1] - maps[0][1] + 1 == cells


def test_the_trunk_has_the_parameters_of_the_ordinary_one():
  image = jnp.zeros((1, 32, 32, 3))
  ours, plain = (jax.eval_shape(net.init, jax.random.key(0), image)
                 for net in (siamfc.trunk("resnet50", width=2), resnet.make("resnet50", width=2)))
  assert jax.tree.map(lambda v: v.shape, ours) == jax.tree.map(lambda v: v.shape, plain)


def test_pixels_are_normalised_and_no_gradient_passes():
  net = siamfc.trunk("resnet18", width=WIDTH)
  variables = resnet.random_variables(net, jax.random.key(0))
  image = np.random.default_rng(0).integers(0, 256, (1, 40, 48, 3)).astype(np.uint8)

  @jax.jit
  def both(image):
    x = (image - jnp.array(siamfc.MEAN)) / jnp.array(siamfc.STD)
    value, grad = jax.value_and_grad(lambda i: siamfc.features(net, variables, i).sum())(image)
    return siamfc.features(net, variables, image), net.apply(variables, x)["stage4"], value, grad

  ours, want, _, grad = both(image.astype(np.float32))
  assert ours.shape == (1, 5, 6, 8 * WIDTH)
  np.testing.assert_allclose(ours, want, rtol=1e-5)
  assert (np.asarray(grad) == 0).all()


def test_the_head_is_the_correlation_of_projections(head):
  net, params = head
  rng = np.random.default_rng(0)
  z, x = (rng.normal(size=(2, *s, 6)).astype(np.float32) for s in ((2, 3), (4, 4)))
  got = net.apply({"params": params}, z, x)
  p, q = ({k: np.float64(v) for k, v in params[branch]["linear"].items()}
          for branch in ("exemplar", "search"))
  for i in range(2):
    want = 0.01 * reference.cross_correlate(z[i] @ p["kernel"] + p["bias"],
                                            x[i] @ q["kernel"] + q["bias"])
    np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-6)
  projected = net.apply({"params": params}, x, method="project")
  np.testing.assert_allclose(projected[0], x @ p["kernel"] + p["bias"], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(projected[1], x @ q["kernel"] + q["bias"], rtol=1e-4, atol=1e-5)


def test_first_weights_are_those_of_a_linear_layer(head):
  _, params = head
  for leaf in jax.tree.leaves(params):
    assert np.abs(leaf).max() <= 6**-0.5 and np.std(leaf) > 0.1
  assert not np.allclose(params["exemplar"]["linear"]["kernel"],
                         params["search"]["linear"]["kernel"])
