"""The probabilistic head, in float64 and float32."""

import jax
import numpy as np
import pytest

from vssl_jax.models.probabilistic import Head


@pytest.fixture(scope="module")
def cases(golden_dir):
  paths = sorted((golden_dir / "provico").glob("heads*.npz"))
  assert paths
  return [dict(np.load(path, allow_pickle=False)) for path in paths]


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_head(cases, dtype, tolerance):
  for data in cases:
    given = {k: np.asarray(v, dtype) for k, v in data.items()}
    params = {"mean": {"kernel": given["W_mu"].T, "bias": given["b_mu"]},
              "norm": {"scale": given["ln_scale"], "bias": given["ln_bias"]},
              "logvar": {"kernel": given["W_sigma"].T, "bias": given["b_sigma"]}}
    assert data["ln_eps"] == 1e-5
    with jax.enable_x64(dtype == np.float64):
      head = Head(len(data["b_mu"]))
      (mean, logvar), state = head.apply({"params": params}, given["v"],
                                         capture_intermediates=True)
      inner = state["intermediates"]["norm"]["__call__"][0]
      softplus = Head(len(data["b_mu"]), form="softplus").apply({"params": params}, given["v"])[1]
    for got, key in ((mean, "mu"), (logvar, "logvar"), (np.exp(logvar), "sigma2"),
                     (inner, "ln_out")):
      assert got.dtype == dtype
      assert np.abs(got - data[key]).max() <= tolerance * np.abs(data[key]).max(), key
    np.testing.assert_allclose(np.exp(softplus), np.log1p(data["sigma2"]), rtol=1e-5)
