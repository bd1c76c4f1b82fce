"""Losses and their gradients against PyTorch, and against the two formulas they must not be."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.losses import retrieval
from vssl_jax.ops.normalise import l2


@pytest.fixture(scope="module")
def data(golden_dir):
  with np.load(golden_dir / "tca" / "losses.npz", allow_pickle=False) as f:
    return {k: f[k] for k in f.files}


def loss_of(name: str):
  """The loss that a key of the file names, as a function of (s_p, s_n)."""
  if name == "softmax":
    return lambda p, n: retrieval.info_nce(p, n, tau=1.0)
  if m := re.fullmatch(r"infonce_t(\d+)", name):
    tau = {"007": 0.07, "256": 1 / 256}.get(m[1], 1 / int(m[1]))
    return lambda p, n: retrieval.info_nce(p, n, tau=tau)
  if m := re.fullmatch(r"triplet_(hard|all)_g(\d)(\d)", name):
    margin, hardest = int(m[2]) + int(m[3]) / 10, m[1] == "hard"
    return lambda p, n: retrieval.triplet(p, n, margin=margin, hardest=hardest)
  if name.startswith("circle_paper"):
    m = re.search(r"_g(\d+)_m(\d)(\d+)", name)
    gamma, margin = (int(m[1]), float(f"{m[2]}.{m[3]}")) if m else (256, 0.25)
    detach = "attached" not in name
    return lambda p, n: retrieval.circle(p, n, gamma=gamma, margin=margin, detach=detach)
  raise AssertionError(f"unknown loss in the golden file: {name}")


def names(data, prefix=""):
  found = [k[len(prefix):-5] for k in data if k.startswith(prefix) and k.endswith("_loss")]
  found = [k for k in found if not k.startswith(("released", "bank_"))]
  assert found
  return found


def mean_loss(fn, w_a, w_p, w_n):
  a, p, n = l2(w_a), l2(w_p), l2(w_n)
  return jnp.mean(fn(jnp.sum(a * p, axis=1), a @ n.T))


def check(data, prefix, name, argnums):
  negatives = data["bank"] if prefix else data["w_n"]
  args = (data["w_a"], data["w_p"], negatives)

  def value(*args):
    return mean_loss(loss_of(name), *args)

  loss, grads = jax.jit(jax.value_and_grad(value, argnums=argnums))(*args)
  np.testing.assert_allclose(loss, data[f"{prefix}{name}_loss"], rtol=1e-5, err_msg=name)
  atol = 1e-4 if "circle" in name or "t256" in name else 2e-5
  for grad, part in zip(grads, "apn", strict=False):
    key = f"{prefix}{name}_grad_{part}"
    np.testing.assert_allclose(grad, data[key], atol=atol, err_msg=key)


def test_losses_and_gradients(data):
  for name in names(data):
    check(data, "", name, (0, 1, 2))


def test_losses_and_gradients_against_a_constant_bank(data):
  for name in names(data, "bank_"):
    check(data, "bank_", name, (0, 1))


def test_gradient_of_circle_with_respect_to_similarities(data):
  logits = data["logits"]

  def value(x):
    return jnp.mean(retrieval.circle(x[:, 0], x[:, 1:]))

  grad = jax.grad(value)(logits)
  np.testing.assert_allclose(grad, data["circle_paper_grad_logits"], rtol=1e-4, atol=2e-5)


def test_released_circle_and_the_papers_are_told_apart(data):
  found = [k for k in data if re.fullmatch(r"released_circle.*_loss", k)]
  assert found
  for key in found:
    m = re.search(r"_m(\d)(\d+)_g(\d+)", key)
    gamma, margin = (int(m[3]), float(f"{m[1]}.{m[2]}")) if m else (256, 0.25)

    def value(x, gamma=gamma, margin=margin):
      return jnp.mean(retrieval.released_circle(x, gamma=gamma, margin=margin))

    loss, grad = jax.value_and_grad(value)(data["logits"])
    np.testing.assert_allclose(loss, data[key], rtol=1e-5, err_msg=key)
    want = data[key.replace("_loss", "_grad_logits")]
    np.testing.assert_allclose(grad, want, rtol=1e-4, atol=2e-5, err_msg=key)
    s = data["logits"]
    paper = float(jnp.mean(retrieval.circle(s[:, 0], s[:, 1:], gamma=gamma, margin=margin)))
    assert abs(paper - float(loss)) > 1e-2 * abs(float(loss)), key


def test_info_nce_is_not_the_mistyped_formula(data):
  ours = float(jnp.mean(retrieval.info_nce(data["s_p"], data["s_n"], tau=0.07)))
  typo = float(data["seed_typo_infonce_t007_value"])
  assert abs(ours - typo) > 0.05
  # The file's number is that formula's: without tau on the positive in the denominator.
  s_p, s_n = data["s_p"].astype(float), data["s_n"].astype(float)
  below = np.log(np.exp(s_p) + np.exp(s_n / 0.07).sum(axis=1))
  np.testing.assert_allclose(np.mean(below - s_p / 0.07), typo, rtol=1e-4)


def test_cosines(data):
  a, p, n = (l2(data[k]) for k in ("w_a", "w_p", "w_n"))
  np.testing.assert_allclose(jnp.sum(a * p, axis=1), data["s_p"], atol=1e-6)
  np.testing.assert_allclose(a @ n.T, data["s_n"], atol=1e-6)
  np.testing.assert_allclose(a @ data["bank"].T, data["s_n_bank"], atol=1e-6)
  logits = np.concatenate([data["s_p"][:, None], data["s_n"]], axis=1)
  np.testing.assert_allclose(data["logits"], logits, atol=1e-6)
