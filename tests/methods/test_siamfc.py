"""The head as a method: loss, labels, and `embed` as two halves of the response."""

import jax
import numpy as np
import pytest

from tests.reference import tracking as reference
from vssl_jax.methods import siamfc
from vssl_jax.ops.correlation import cross_correlate
from vssl_jax.types import ConfigError


def batch(seed=0, b=2, d=6):
  rng = np.random.default_rng(seed)
  return {"exemplar": rng.normal(size=(b, 2, 2, d)).astype(np.float32),
          "search": rng.normal(size=(b, 6, 6, d)).astype(np.float32)}


@pytest.fixture(scope="module")
def made():
  method = siamfc.make(channels=4, scale=0.1)
  return method, method.init(jax.random.key(0), batch())[0]


def response(method, params, data):
  """By `embed`: the scale is in the search's projection."""
  halves = {k: method.embed(params, {}, {"features": data[k]}) for k in ("exemplar", "search")}
  return np.asarray(cross_correlate(halves["exemplar"]["exemplar"], halves["search"]["search"]))


@pytest.mark.parametrize("loss, twin", [("focal", reference.focal),
                                        ("balanced", reference.balanced)])
def test_the_loss_is_that_of_the_response(made, loss, twin):
  method, params = made
  data = batch()
  value, (aux, metrics) = siamfc.make(channels=4, scale=0.1, loss=loss).loss(params, {}, data, None)
  got = response(method, params, data)
  labels = np.broadcast_to(reference.label_map((5, 5)), got.shape)
  np.testing.assert_allclose(value, twin(got, labels), rtol=1e-5)
  assert aux == {} and metrics["loss"] == value
  assert metrics["centred"] == np.mean([r[2, 2] == r.max() for r in got])


def test_the_target_may_be_elsewhere(made):
  method, params = made
  data = batch() | {"offset": np.array([[16, -8], [-4, 8]], np.float32)}
  value, (_, metrics) = method.loss(params, {}, data, None)
  got = response(method, params, data)
  labels = np.stack([reference.label_map((5, 5), offset=o) for o in data["offset"]])
  np.testing.assert_allclose(value, reference.focal(got, labels), rtol=1e-5)
  assert abs(value - method.loss(params, {}, batch(), None)[0]) > 1e-4
  hits = [got[0, 4, 1] == got[0].max(), got[1, 1:3, 3].max() == got[1].max()]
  assert metrics["centred"] == np.mean(hits)


def test_every_parameter_gets_a_gradient(made):
  """But for the search's bias, which adds the same to all cells of a response: nearly."""
  method, params = made
  grads = jax.grad(lambda p: method.loss(p, {}, batch(), None)[0])(params)
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_bad_settings():
  with pytest.raises(ConfigError, match="loss='hinge'"):
    siamfc.make(loss="hinge")
  with pytest.raises(ConfigError, match="channels=0"):
    siamfc.make(channels=0)
  with pytest.raises(ConfigError, match="radius=0"):
    siamfc.make(radius=0)
