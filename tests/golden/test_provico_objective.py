"""ProViCo's objective and its gradients, in float64 and float32, and where formulas overflow."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.methods.provico_objective import Options, objective
from vssl_jax.ops import gaussian, gaussian_pairs
from vssl_jax.ops.gaussian_pairs import Samples

INPUTS = ("mu", "logvar", "eps", "a", "b")
VALUES = {"distance": "dist", "log_p": "log_p", "log_not_p": "log_1mp", "soft": "l_soft",
          "stochastic": "l_stoc"}
# Prefix of the file's keys -> what differs from the defaults.
VARIANTS = {
  "": {},
  "alt1_": dict(reading="sum", uncertainty="arithmetic", self_samples=False, balanced=True,
                kl="clip"),
  "alt2_": dict(reading="iso", self_pairs=False),
  "product_": dict(exact=False),  # the default's numbers, with distances from a matrix product
}
# The others' float32 is the default's; the product matters there.
COMPUTED = {np.float64: ("", "alt1_", "alt2_"), np.float32: ("", "product_")}
SCALARS = ("a", "b", "lam", "tau", "beta", "eps_dist")


@pytest.fixture(scope="module")
def cores(golden_dir):
  paths = sorted((golden_dir / "provico").glob("core_*.npz"))
  assert paths, f"no core_*.npz in {golden_dir / 'provico'}"
  return {path.stem: dict(np.load(path, allow_pickle=False)) for path in paths}


@pytest.fixture(scope="module")
def extremes(golden_dir):
  """case -> its arrays, named as those of core."""
  cases = {}
  with np.load(golden_dir / "provico" / "extreme.npz", allow_pickle=False) as f:
    for key in f.files:
      case, name = key.split("__")
      cases.setdefault(case, {})[name] = f[key]
  assert cases
  for data in cases.values():
    data |= dict(zip(SCALARS, data["scalars"], strict=True))
  return cases


def relative(got, want):
  return np.max(np.abs(np.float64(got) - want)) / max(np.max(np.abs(want)), 1e-300)


def build(options: Options):
  """`(mu, logvar, eps, a, b, scalars) -> value, parts, gradients by mu, logvar, a and b`."""

  def total(mean, logvar, a, b, eps, scalars):
    mean_v, logvar_v = gaussian.moment_match(mean, logvar)
    x = Samples(mean_v, logvar_v, gaussian.deviations(logvar_v, eps))
    o = dataclasses.replace(options, **scalars)
    rows, parts = objective(mean, logvar, x, a, b, o)
    return jnp.mean(rows), parts | x._asdict()

  def call(mean, logvar, eps, a, b, scalars):
    grad = jax.value_and_grad(total, (0, 1, 2, 3), has_aux=True)
    (value, parts), grads = grad(mean, logvar, a, b, eps, scalars)
    return value, parts, dict(zip(("g_mu", "g_logvar", "g_a", "g_b"), grads, strict=True))

  return call


@jax.jit
def every_variant(inputs, scalars, taus):
  return {p: build(Options(**VARIANTS[p]))(*inputs, scalars | {"tau": tau})
          for p, tau in taus.items()}


default = jax.jit(build(Options()))


def arguments(data, dtype):
  """mu, logvar, eps, a, b; scalars of `Options`."""
  scalars = {k: jnp.asarray(data[k], dtype) for k in ("lam", "beta", "eps_dist")}
  return [jnp.asarray(data[k], dtype) for k in INPUTS], scalars


@pytest.fixture(scope="module", params=[np.float64, np.float32])
def found(request, cores):
  """What the library computes: [(name, golden data, {prefix: value, parts, gradients})], dtype."""
  dtype, rows = request.param, []
  with jax.enable_x64(dtype == np.float64):
    for name, data in cores.items():
      inputs, scalars = arguments(data, dtype)
      taus = {p: jnp.asarray(data[f"{p.removesuffix('product_')}tau"], dtype)
              for p in COMPUTED[dtype]}
      rows.append((name, data, every_variant(inputs, scalars, taus)))
  return rows, dtype


def tolerances(dtype):
  return (1e-10, 1e-8) if dtype == np.float64 else (1e-5, 3e-5)


def test_objective_and_gradients(found):
  rows, dtype = found
  tol, grad_tol = tolerances(dtype)
  for name, data, variants in rows:
    for variant, (value, parts, grads) in variants.items():
      prefix = variant.removesuffix("product_")
      for ours, theirs in VALUES.items():
        if prefix + theirs in data:
          assert relative(parts[ours], data[prefix + theirs]) < tol, (name, variant, theirs)
      np.testing.assert_array_equal(parts["mask"], data[f"{prefix}mask"], err_msg=name)
      for part, key in (("soft", "soft"), ("stochastic", "stoc")):
        mean = np.sum(np.float64(parts[part]) * np.asarray(parts["weights"]))
        assert relative(mean, data[prefix + key]) < tol, (name, variant, key)
      assert relative(np.mean(np.float64(parts["kl"])), data[f"{prefix}kl"]) < tol, (name, variant)
      assert value.dtype == dtype
      assert relative(value, data[f"{prefix}total"]) < tol, (name, variant)
      for key, grad in grads.items():
        assert relative(grad, data[prefix + key]) < grad_tol, (name, variant, key)


def test_moments_samples_and_terms_of_a_video(found):
  rows, dtype = found
  tol, _ = tolerances(dtype)
  for name, data, variants in rows:
    parts = {k: np.asarray(v, np.float64) for k, v in variants[""][1].items()}
    got = {"mu_v": parts["mean"], "var_v": np.exp(parts["logvar"]), "u": parts["u"],
           "z": parts["mean"][:, None] + parts["deviation"], "kl_video": parts["kl"],
           "p": np.exp(parts["log_p"])}
    if "alt1_" in variants:
      got |= {"kl_clip": variants["alt1_"][1]["kl"], "u_arith": variants["alt1_"][1]["u"],
              "dist_sum": variants["alt1_"][1]["distance"],
              "dist_iso": variants["alt2_"][1]["distance"]}
    for key, value in got.items():
      assert relative(value, data[key]) < tol, (name, key)
    np.testing.assert_allclose(data["within"] + data["between"], data["var_v"], rtol=1e-12)


def test_distances_of_distributions_and_their_samples_in_expectation(cores):
  """Samples are lam apart beside what their distributions are; of one video lam (1 - 1/K)."""
  for name, data in cores.items():
    lam, k = float(data["lam"]), data["eps"].shape[1]
    side = data["mu_v"], np.log(data["var_v"])
    with jax.enable_x64(True):
      summed, mean = closed_forms(side, lam)
    assert relative(summed, data["bhatt_closed_form_sum"]) < 1e-10, name
    want = np.where(np.eye(len(mean), dtype=bool), lam * (1 - 1 / k), np.asarray(mean) + lam)
    assert relative(want, data["dist_expected"]) < 1e-10, name


@jax.jit
def closed_forms(side, lam):
  return (gaussian_pairs.closed_form(side, side),
          gaussian_pairs.closed_form(side, side, lam=lam, reading="mean"))


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-9), (np.float32, 2e-5)])
def test_where_the_literal_formulas_overflow(extremes, dtype, tol):
  """Everything is finite and right, gradients too."""
  small = re.compile("log_p|g_a|g_b")
  for name, data in extremes.items():
    with jax.enable_x64(dtype == np.float64):
      inputs, scalars = arguments(data, dtype)
      value, parts, grads = default(*inputs, scalars | {"tau": jnp.asarray(data["tau"], dtype)})
    parts = {k: np.float64(v) for k, v in parts.items()}
    got = {VALUES[k]: parts[k] for k in VALUES} | grads
    got |= {"mu_v": parts["mean"], "logvar_v": parts["logvar"], "total": value, "u": parts["u"],
            "kl_video": parts["kl"], "z": parts["mean"][:, None] + parts["deviation"],
            "soft": np.mean(parts["soft"]), "stoc": np.mean(parts["stochastic"]),
            "kl": np.mean(parts["kl"])}
    for key, number in got.items():
      want, number = data[key], np.float64(number)
      assert np.isfinite(number).all(), (name, key)
      if np.max(np.abs(want)) < 1e-12 and small.fullmatch(key):
        np.testing.assert_allclose(number, want, atol=1e-6, err_msg=f"{name} {key}")
      else:
        assert relative(number, want) < tol, (name, key, relative(number, want))
    np.testing.assert_array_equal(parts["mask"], data["mask"], err_msg=name)
