"""CycleContrast's losses, heads, queues and schedules against the authors' own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden import rules
from vssl_jax import optim
from vssl_jax.convert import cycle_contrast as convert
from vssl_jax.losses import cycle as losses
from vssl_jax.models.contrast import Head
from vssl_jax.ops import bank as banks
from vssl_jax.ops import ema
from vssl_jax.ops.normalise import l2


@pytest.fixture(scope="module")
def folder(golden_dir):
  mine = golden_dir / "cycle_contrast"
  if not mine.is_dir():
    pytest.skip(f"no {mine}")
  return mine


def cases(folder, pattern):
  """(name, arrays) of every file `pattern`."""
  found = [(p.stem, dict(np.load(p, allow_pickle=False))) for p in sorted(folder.glob(pattern))]
  assert found, f"no {pattern} in {folder}"
  return found


def error(ours, golden):
  """Relative L2 distance."""
  ours, golden = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
  assert ours.shape == golden.shape
  return np.linalg.norm(ours - golden) / np.linalg.norm(golden)


def bank(columns, pointer=0):
  """A queue as it is stored, [D, K] columns, as a bank."""
  keys = jnp.asarray(columns.T)
  return banks.Bank(keys, jnp.full((len(keys),), -1, jnp.int32), jnp.int32(pointer),
                    jnp.int32(0))


def positives(case, candidates, keys, drawn):
  """[B, 1, D]: the candidate that was drawn, or the key."""
  if candidates not in case:
    return l2(case[keys])[:, None]
  at = case[drawn].astype(np.int32)
  return jnp.take_along_axis(l2(case[candidates]), at[:, None, None], axis=1)


def terms(case):
  """(q, qc) raw -> {our value by the file's name}; which of the variants, the keys say."""
  tau, shared = float(case["T"]), "qc" not in case
  with_cycle = "cycle_logits" in case
  names = ("k", "cand", "queue") if shared else ("kc", "candc", "queue_cycle")
  support = int(case.get("support", -1))
  width = case["alpha"].shape[1] if with_cycle else 0
  with_self = with_cycle and width > (support if support > 0 else case[names[2]].shape[1])
  chosen = case["perm_U"][:support].astype(np.int32) if support > 0 else None

  def run(q, qc):
    value, scores = losses.intra(l2(q), positives(case, "cand", "k", "pos_intra"),
                                 case["queue"].T, tau=tau)
    found = {"loss_intra": jnp.mean(value), "loss_total": jnp.mean(value), "intra_logits":
             jnp.concatenate([scores.positive, scores.negative], axis=1) / tau}
    if with_cycle:
      key = l2(case[names[0]]) if with_self else None
      value, scores, n = losses.cycle(
        l2(qc), positives(case, names[1], names[0], "pos_cycle"), case[names[2]].T, None, chosen,
        tau=tau, neighbour_tau=float(case["soft_T"]), key=key)
      found["loss_cycle"] = jnp.mean(value)
      found["loss_total"] += float(case["lam"]) * jnp.mean(value)
      alpha = jnp.concatenate([n.own[:, None], n.weights], axis=1) if with_self else n.weights
      rows = case[names[2]].T if chosen is None else case[names[2]].T[chosen]
      rest = slice(None) if chosen is None else case["perm_U"][support:].astype(np.int32)
      found |= {"nn_unit": n.vector, "alpha": alpha,
                "nn_raw": n.weights @ rows + n.own[:, None] * l2(qc),
                "cycle_logits": jnp.concatenate(
                  [scores.positive, scores.negative[:, rest]], axis=1) / tau}
    return found

  return run


def gradients(case, run, q, qc):
  """By the file's names; where one head serves both losses, g_*_q is of both."""
  def of(name, joint):
    return jax.grad(lambda q, qc: run(q, q if joint else qc)[name], argnums=(0, 1))(q, qc)

  shared, found = "qc" not in case, {}
  for name in ("intra", "cycle", "total"):
    keys = [k for k in (f"g_{name}_q", f"g_{name}_qc") if k in case]
    if keys:
      grads = dict(zip((f"g_{name}_q", f"g_{name}_qc"), of(f"loss_{name}", shared), strict=True))
      found |= {k: grads[k] for k in keys}
  return found


def test_losses(folder):
  with jax.enable_x64(True):
    for name, case in cases(folder, "loss_*.npz"):
      check_losses(name, case, 2e-6)


def check_losses(name, case, tolerance):
  case = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in case.items()}
  run, q = terms(case), jnp.asarray(case["q"])
  qc = jnp.asarray(case.get("qc", case["q"]))
  ours = jax.jit(lambda q, qc, run=run, case=case: run(q, qc) | gradients(case, run, q, qc))(
    q, qc)
  wanted = [k for k in case if k in ours or k.startswith("g_")]
  assert {"loss_intra", "intra_logits", "g_intra_q"} <= set(wanted), name
  for key in wanted:
    assert error(ours[key], case[key]) < tolerance, (name, key)
  for queue, keys in (("queue", "k"), ("queue_cycle", "kc")):
    if f"{queue}_after" in case:
      after = banks.push(bank(case[queue]), l2(case[keys]))
      assert error(after.keys.T, case[f"{queue}_after"]) < tolerance, (name, queue)
      assert int(after.pointer) == int(case[f"{queue}_ptr_after"][0]), (name, queue)


def test_heads(folder):
  known = rules.load_cases(folder)
  for name, case in cases(folder, "heads_*.npz"):
    state = rules.make_params(known[name])
    for head, prefix in (("intra", "fc."), ("cycle", "cycle_fc.")):
      layers = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
      params = convert.head(head, layers, case["feat"].shape[1])
      net = Head(case[head].shape[1])
      raw, pull = jax.vjp(functools.partial(net.apply, {"params": params}), case["feat"])
      unit, back = jax.vjp(l2, raw)
      grad, = pull(back(jnp.asarray(case[f"cot_{head}"]))[0])
      for key, value in ((f"{head}_raw", raw), (head, unit), (f"gfeat_{head}", grad)):
        assert error(value, case[key]) < 2e-6, (name, key)


def test_momentum_and_queues(folder):
  """Key side, then keys, then logits against the queue as it was, then the keys enter it."""
  for name, case in cases(folder, "queue_momentum*.npz"):
    query = {k: jnp.asarray(case[f"q{k}0"]) for k in ("w", "b", "cw", "cb")}
    key = {k: jnp.asarray(case[f"k{k}0"]) for k in ("w", "b", "cw", "cb")}
    queue, cycle = bank(case["queue0"]), bank(case["queue_cycle0"])
    labels = jnp.zeros(queue.keys.shape[:1], jnp.int32)
    for t, (xq, xk) in enumerate(zip(case["xq"], case["xk"], strict=True)):
      key = ema.update(key, query, float(case["m"]))
      q = l2(xq @ query["w"].T + query["b"])
      keys = l2(xk @ key["w"].T + key["b"]), l2(xk @ key["cw"].T + key["cb"])
      _, scores = losses.intra(q, keys[0][:, None], queue.keys)
      logits = jnp.concatenate([scores.positive, scores.negative], axis=1) / 0.07
      sample = jnp.arange(len(xq), dtype=jnp.int32) + 10 * t
      labels = labels.at[banks.rows(queue, len(xq))].set(sample)
      queue, cycle = banks.push(queue, keys[0], sample), banks.push(cycle, keys[1])
      ours = {"keys": keys[0], "keys_cycle": keys[1], "logits": logits, "queue": queue.keys.T,
              "queue_cycle": cycle.keys.T} | {f"k{k}": v for k, v in key.items()}
      for k, value in ours.items():
        assert error(value, case[k][t]) < 1e-5, (name, t, k)
      assert int(queue.pointer) == case["ptr"][t, 0] and int(cycle.pointer) == (
        case["ptr_cycle"][t, 0])
      np.testing.assert_array_equal(labels, case["queue_labels"][t, 0])
      written = np.arange(len(labels)) < (t + 1) * len(xq)
      np.testing.assert_array_equal(np.where(written, queue.groups, 0), labels)
      query = query | {"w": query["w"] + case["dq"][t], "cw": query["cw"] + case["dqc"][t]}


def milestones(rates):
  """(epochs at which the rate falls, the factor), as the rates themselves say."""
  falls = np.flatnonzero(np.diff(rates)) + 1
  factors = rates[falls] / rates[falls - 1]
  np.testing.assert_allclose(factors, factors[0], rtol=1e-5)
  return falls.tolist(), float(factors[0])


def test_schedules(folder):
  """All are stepped once an epoch; here an epoch has three steps."""
  for _, case in cases(folder, "lr_schedules*.npz"):
    names = [k for k in case if "." not in k]
    assert {"cos", "step"} <= set(names)
    for name in names:
      want, first = np.float64(case[name]), float(case[name][0])
      epochs = len(want)
      if name == "cos":
        args = ("cosine", float(case["cos.base_lr"]), 3 * int(case["cos.epochs"]))
        rate = optim.learning_rate_at(*args, steps_per_update=3)
      elif name == "siamfc_exp":
        ratio = (want[-1] / first) ** (epochs / (epochs - 1))
        rate = optim.learning_rate_at("exponential", first, 3 * epochs, steps_per_update=3,
                                      final=first * ratio)
      else:
        at, factor = milestones(want)
        rate = optim.learning_rate_at("milestones", first, 3 * epochs, factor=round(factor, 3),
                                      milestones=[3 * e for e in at], steps_per_update=3)
      got = jax.vmap(rate)(jnp.arange(3 * epochs))
      np.testing.assert_allclose(got, np.repeat(want, 3), rtol=2e-5, atol=1e-6 * first,
                                 err_msg=name)
