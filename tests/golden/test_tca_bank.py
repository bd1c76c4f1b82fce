"""Whole training steps with the memory bank, against the released wrapper under PyTorch's Adam."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.golden.rules import make_params
from tests.reference import transformer as reference
from vssl_jax import optim
from vssl_jax.convert import tca as convert
from vssl_jax.methods import tca
from vssl_jax.models.transformer import TransformerEncoder
from vssl_jax.ops.bank import Bank


def case_names(golden_dir):
  names = json.loads((golden_dir / "tca" / "names.json").read_text())
  found = {k: v for k, v in names.items() if k.startswith("bank_")}
  assert found, "names.json holds no bank case"
  return found


def settings(name: str) -> dict:
  """What a case's name says: `bank_<ce|circle_paper|circle_released>_m<momentum>`."""
  loss, digits = re.fullmatch(r"bank_(.+)_m(\d+)", name).groups()
  kind = {"ce": "info_nce", "circle_paper": "circle", "circle_released": "released_circle"}[loss]
  momentum = int(digits) / 10 ** (len(digits) - 1)
  return {"loss": kind, "momentum": momentum, "tau": 0.07 if loss == "ce" else 1.0}


def side(data, key, step):
  x = jnp.asarray(np.moveaxis(data[key][step], -1, -2))
  stored = data[f"len_{key}"][step]
  assert (stored == np.round(stored)).all(), f"len_{key} holds lengths that are no whole numbers"
  length = jnp.asarray(stored, jnp.int32)
  padding = np.arange(x.shape[-2]) >= stored[..., None]
  assert not x[padding].any(), f"{key} is not zero after its lengths"
  return {"x": x, "length": length, "group": jnp.full(length.shape, -1, jnp.int32)}


def first_queue(seed: int, like: np.ndarray) -> np.ndarray:
  """[K, D] rows from the README's rule, which makes columns."""
  rng = np.random.Generator(np.random.Philox(key=[seed, 10000]))
  queue = rng.standard_normal(like.shape).astype(np.float32)
  return (queue / np.linalg.norm(queue, axis=0, keepdims=True)).T


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, key_params, queue, batch, tau):
  def z(p, b):
    return model.apply({"params": p}, b["x"], b["length"])["video"]

  a, p = z(params, batch["anchor"]), z(key_params, batch["positive"])
  return jnp.concatenate([jnp.sum(a * p, 1, keepdims=True), a @ queue.T], axis=1) / tau


def matching_heads(data, params, queue, tau) -> int:
  """The head count with which the twin fits the first logits best: the files state none."""
  first = [{k: np.asarray(v)[:2] for k, v in side(data, key, 0).items()} for key in "ap"]
  wide, errors = jax.tree.map(np.float64, params), {}
  for heads in (h for h in (1, 2, 4, 8, 16) if data["a"].shape[2] % h == 0):
    a, p = (reference.encode(wide, b["x"], b["length"], heads)[0] for b in first)
    logits = np.concatenate([np.sum(a * p, 1, keepdims=True), a @ np.asarray(queue).T], 1) / tau
    errors[heads] = np.abs(logits - data["logits"][0][:2]).max()
  return min(errors, key=errors.get)


def norms(tree) -> np.ndarray:
  state = convert.to_torch(tree)
  return np.array([np.linalg.norm(state[k]) for k in sorted(state)])


def pytest_generate_tests(metafunc):
  if "case" in metafunc.fixturenames:
    from tests.conftest import golden_root
    file = golden_root() / "tca" / "names.json"
    found = [k for k in json.loads(file.read_text()) if k.startswith("bank_")]
    metafunc.parametrize("case", found)


@pytest.fixture
def loaded(golden_dir, case):
  with np.load(golden_dir / "tca" / f"{case}.npz", allow_pickle=False) as f:
    data = {k: f[k] for k in f.files}
  return data, case_names(golden_dir)[case]


def test_bank_steps(loaded, case):
  data, spec = loaded
  args = settings(case)
  params = jax.tree.map(jnp.asarray, convert.from_torch(make_params(spec)))
  queue = jnp.asarray(first_queue(spec["seed"], data["queue"][0]))
  heads = matching_heads(data, params, queue, args["tau"])
  encoder = dict(transformer=dict(heads=heads, dropout=0.0))
  method = tca.make(aggregators=encoder, bank_size=queue.shape[0], **args)
  model = TransformerEncoder(len(params), heads)
  groups = jnp.full((queue.shape[0],), -1, jnp.int32)
  aux = {"bank": Bank(queue, groups, jnp.int32(0), jnp.int32(0))}
  if args["momentum"]:
    aux["key_params"] = params
  tx = optim.make(learning_rate=1e-3, schedule="constant", steps=len(data["loss"]),
                  weight_decay=1e-4)
  opt_state = tx.init(params)
  grad_fn = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
  for step in range(len(data["loss"])):
    batch = {"anchor": side(data, "a", step), "positive": side(data, "p", step),
             "negative": side(data, "n", step)}
    before, queue = params, aux["bank"].keys
    (loss, (aux, _)), grads = grad_fn(params, aux, batch, jax.random.key(0))
    key_params = aux.get("key_params", before)
    logits = logits_of(model, before, key_params, queue, batch, args["tau"])
    np.testing.assert_allclose(logits, data["logits"][step], atol=1e-3 / args["tau"])
    np.testing.assert_allclose(loss, data["loss"][step], atol=1e-3)
    np.testing.assert_allclose(aux["bank"].keys.T, data["queue"][step], atol=5e-5)
    assert int(aux["bank"].pointer) == int(data["ptr"][step])
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    for tree, key in ((grads, "grad_l2"), (params, "param_l2"), (key_params, "key_param_l2")):
      np.testing.assert_allclose(norms(tree), data[key][step], rtol=2e-4, atol=2e-4, err_msg=key)
