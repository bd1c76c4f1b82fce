"""Adam and SGD against NumPy, schedules against tables worked by hand."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vssl_jax import optim
from vssl_jax.types import ConfigError

STEPS = 6


def start():
  rng = np.random.default_rng(0)
  return {"w": rng.standard_normal((3, 2)).astype(np.float32), "b": np.float32([0.5, -2.0])}


def gradients():
  rng = np.random.default_rng(1)
  return [jax.tree.map(lambda p: rng.standard_normal(p.shape).astype(np.float32), start())
          for _ in range(STEPS)]


def run(**args):
  """Parameters after every step."""
  tx = optim.make(steps=STEPS, **args)
  params, state, seen = start(), tx.init(start()), []
  update = jax.jit(tx.update)
  for grads in gradients():
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
    seen.append(params)
  return seen


def numpy_adam(rates, *, weight_decay=0.0, coupled=True, b1=0.9, b2=0.999, eps=1e-8, clip=0.0):
  """PyTorch's Adam, or AdamW, in float64, one parameter at a time."""
  params = jax.tree.map(np.float64, start())
  m = {k: np.zeros_like(v) for k, v in params.items()}
  v = {k: np.zeros_like(v) for k, v in params.items()}
  seen = []
  for t, (grads, rate) in enumerate(zip(gradients(), rates, strict=True), 1):
    norm = np.sqrt(sum(np.sum(np.float64(g) ** 2) for g in grads.values()))
    scale = clip / norm if clip and norm > clip else 1.0
    for k in params:
      g = scale * np.float64(grads[k]) + (weight_decay * params[k] if coupled else 0.0)
      m[k] = b1 * m[k] + (1 - b1) * g
      v[k] = b2 * v[k] + (1 - b2) * g * g
      change = (m[k] / (1 - b1**t)) / (np.sqrt(v[k] / (1 - b2**t)) + eps)
      params[k] = params[k] - rate * (change + (0.0 if coupled else weight_decay * params[k]))
    seen.append(dict(params))
  return seen


CASES = {
    "plain": dict(weight_decay=0.0),
    "coupled": dict(weight_decay=0.3),
    "decoupled": dict(weight_decay=0.3, coupled=False),
    "clipped": dict(weight_decay=0.3, clip=1.5),
    "other moments": dict(weight_decay=0.0, b1=0.5, b2=0.9, eps=0.1),
}


@pytest.mark.parametrize("case", CASES)
def test_adam(case):
  cosine = [0.02 / 2 * (1 + np.cos(np.pi * t / STEPS)) for t in range(STEPS)]
  for schedule, rates in (("constant", [0.02] * STEPS), ("cosine", cosine)):
    got = run(learning_rate=0.02, schedule=schedule, **CASES[case])
    for g, w in zip(got, numpy_adam(rates, **CASES[case]), strict=True):
      for k in g:
        np.testing.assert_allclose(g[k], w[k], rtol=1e-5, atol=1e-6)


def numpy_sgd(rate, *, weight_decay, momentum, coupled=True):
  """buf = momentum buf + grad, as PyTorch has it; cycle_contrast spec 5."""
  params = jax.tree.map(np.float64, start())
  buffer, seen = {k: np.zeros_like(v) for k, v in params.items()}, []
  for grads in gradients():
    for k in params:
      g = np.float64(grads[k]) + (weight_decay * params[k] if coupled else 0.0)
      buffer[k] = momentum * buffer[k] + g
      params[k] = params[k] - rate * (
        buffer[k] + (0.0 if coupled else weight_decay * params[k]))
    seen.append(dict(params))
  return seen


@pytest.mark.parametrize("args", [dict(weight_decay=0.3, momentum=0.9), dict(weight_decay=0.0,
    momentum=0.0), dict(weight_decay=0.3, momentum=0.5, coupled=False)], ids=str)
def test_sgd(args):
  got = run(learning_rate=0.02, schedule="constant", optimiser="sgd", **args)
  for g, w in zip(got, numpy_sgd(0.02, **args), strict=True):
    for k in g:
      np.testing.assert_allclose(g[k], w[k], rtol=1e-5, atol=1e-6)


def test_coupled_and_decoupled_decay_differ():
  args = dict(learning_rate=0.02, schedule="constant", weight_decay=0.3)
  coupled, decoupled = run(**args)[-1], run(coupled=False, **args)[-1]
  none = run(**(args | dict(weight_decay=0.0)))[-1]
  for a, b in ((coupled, decoupled), (coupled, none), (decoupled, none)):
    assert np.abs(a["w"] - b["w"]).max() > 1e-3


@pytest.mark.parametrize("args", [dict(), dict(coupled=False), dict(optimiser="sgd")], ids=str)
def test_norms_and_biases_may_be_left_without_decay(args):
  """The matrix as with decay, the vector as without, whatever the rule."""
  args = dict(learning_rate=0.02, schedule="constant", **args)
  got = run(weight_decay=0.3, decay_norms=False, **args)[-1]
  every, none = run(weight_decay=0.3, **args)[-1], run(weight_decay=0.0, **args)[-1]
  np.testing.assert_array_equal(got["w"], every["w"])
  np.testing.assert_array_equal(got["b"], none["b"])
  assert np.abs(every["b"] - none["b"]).max() > 1e-3
  assert np.abs(every["w"] - none["w"]).max() > 1e-3


def test_scalars_count_as_biases():
  tx = optim.make(steps=1, weight_decay=0.5, learning_rate=1.0, decay_norms=False,
                  schedule="constant", optimiser="sgd")
  params = {"a": jnp.float32(2.0), "kernel": jnp.full((1, 2), 2.0)}
  updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
  assert float(updates["a"]) == 0
  np.testing.assert_allclose(updates["kernel"], [[-1.0, -1.0]])


def test_defaults_are_the_papers():
  """tca spec 9."""
  parameters = inspect.signature(optim.make).parameters.values()
  defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
  assert defaults == dict(learning_rate=1e-5, schedule="cosine", steps_per_update=1, warmup=0,
                          warmup_from=0.0, halve_after=(400_000, 600_000, 800_000, 1_000_000),
                          batch=1,
                          milestones=(), factor=0.1, final=0.0, weight_decay=1e-4, coupled=True,
                          decay_norms=True, optimiser="adam", b1=0.9, b2=0.999, eps=1e-8,
                          momentum=0.9, clip=0.0, head_first=0)


def table(*args, count, **kwargs):
  rate = jax.jit(optim.learning_rate_at(*args, **kwargs))
  return [float(rate(jnp.int32(step))) for step in range(count)]


def test_cosine_once_an_epoch():
  """Four epochs of three steps; cos(pi/4 e) is 1, 0.7071, 0, -0.7071."""
  got = table("cosine", 2.0, 12, steps_per_update=3, count=14)
  by_epoch = [2.0, 1.70710678, 1.0, 0.29289322]
  np.testing.assert_allclose(got[:12], np.repeat(by_epoch, 3), rtol=1e-6)
  np.testing.assert_allclose(got[12:], 0, atol=1e-7)


def test_the_papers_recipe():
  """40 epochs of 87 steps: lr_e = lr/2 (1 + cos(pi e / 40))."""
  got = table("cosine", 1e-5, 3480, steps_per_update=87, count=200)
  want = [1e-5 / 2 * (1 + np.cos(np.pi * (t // 87) / 40)) for t in range(200)]
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert got[86] == got[0] > got[87] == got[173] > got[174]


def test_cosine_every_step_ends_at_zero_and_stays_there():
  got = table("cosine", 2.0, 4, count=7)
  np.testing.assert_allclose(got, [2.0, 1.70710678, 1.0, 0.29289322, 0, 0, 0], atol=1e-6)


def test_halving_counts_examples():
  """Two a step: the third step has seen 4 before it, not more than 4; the fourth 6."""
  got = table("halving", 1.0, 9, count=8, halve_after=(4, 9), batch=2)
  assert got == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]
  assert table("halving", 1.0, 9, count=4, halve_after=(1,)) == [1, 1, 0.5, 0.5]
  assert table("halving", 1.0, 9, count=3, halve_after=()) == [1] * 3
  rate = jax.jit(optim.learning_rate_at("halving", 1.0, 9, batch=4096))
  assert float(rate(jnp.int32(2**31 - 1))) == 1 / 16


def test_milestones_and_equal_ratios():
  """From the third step on a tenth, from the fifth on a hundredth; in epochs of two at 2 and 4."""
  got = table("milestones", 1.0, 9, milestones=(3, 5), count=7)
  np.testing.assert_allclose(got, [1, 1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)
  got = table("milestones", 1.0, 9, milestones=(3,), factor=0.5, steps_per_update=2, count=6)
  assert got == [1, 1, 1, 1, 0.5, 0.5]
  assert table("milestones", 1.0, 9, count=3) == [1] * 3
  got = table("exponential", 1.0, 4, final=0.0001, steps_per_update=2, count=7)
  np.testing.assert_allclose(got, [1, 1, 1e-2, 1e-2, 1e-4, 1e-4, 1e-6], rtol=1e-5)


def test_constant_and_warmup():
  assert table("constant", 0.5, 3, count=5) == [0.5] * 5
  got = table("constant", 1.0, 9, warmup=3, count=6)
  np.testing.assert_allclose(got, [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-6)


def test_warmup_on_a_straight_line():
  """From a rate given to the cosine's own at the warm-up's end, 2.0 (1 + cos(pi/4)) / 2 there."""
  got = table("cosine", 2.0, 16, warmup=4, warmup_from=0.1, count=18)
  end = 1 + np.cos(np.pi / 4)
  np.testing.assert_allclose(got[:5], [0.1 + (end - 0.1) * t / 4 for t in range(5)], rtol=1e-6)
  assert got[4:] == table("cosine", 2.0, 16, count=18)[4:]
  got = table("cosine", 2.0, 12, steps_per_update=3, warmup=4, warmup_from=4.0, count=6)
  end = 1 + np.cos(np.pi / 4)  # of the epoch that the fifth step is in
  np.testing.assert_allclose(got, [*(4 + (end - 4) * t / 4 for t in range(4)), end, end], rtol=1e-6)
  got = table("constant", 1.0, 9, warmup=2, warmup_from=0.5, count=4)
  np.testing.assert_allclose(got, [0.5, 0.75, 1, 1])


def test_pyslowfasts_recipe():
  """provico spec 10: 200 epochs at 0.1, the first 35 of them from 0.001; here of 3 steps each."""
  got = table("cosine", 0.1, 600, warmup=105, warmup_from=0.001, count=600)
  epochs = np.arange(600) / 3
  want = 0.05 * (1 + np.cos(np.pi * epochs / 200))
  end = 0.05 * (1 + np.cos(np.pi * 35 / 200))
  want = np.where(epochs < 35, 0.001 + epochs * (end - 0.001) / 35, want)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-8)


def test_warmup_reaches_the_updates():
  got = run(learning_rate=1.0, schedule="constant", optimiser="sgd", momentum=0.0,
            weight_decay=0.0, warmup=4, warmup_from=0.2)
  params = jax.tree.map(np.float64, start())
  for g, grads, rate in zip(got, gradients(), [0.2, 0.4, 0.6, 0.8, 1, 1], strict=True):
    params = jax.tree.map(lambda p, d, r=rate: p - r * d, params, grads)
    np.testing.assert_allclose(g["w"], params["w"], rtol=1e-5, atol=1e-6)


def test_wrong_settings_are_named():
  with pytest.raises(ConfigError, match=r"optim\.schedule='cosin'.*cosine, constant, halving, mil"):
    optim.make(steps=3, schedule="cosin")
  with pytest.raises(ConfigError, match=r"optim\.batch=0 must be at least 1"):
    optim.make(steps=3, schedule="halving", batch=0)
  with pytest.raises(ConfigError, match=r"optim\.optimiser='lamb' is unknown; choose .*adam, sgd"):
    optim.make(steps=3, optimiser="lamb")
  with pytest.raises(ConfigError, match=r"optim\.final=0\.0 .* must be above 0 with"):
    optim.make(steps=3, schedule="exponential")
  with pytest.raises(ConfigError, match=r"optim\.steps_per_update=0"):
    optim.make(steps=3, steps_per_update=0)
  with pytest.raises(ConfigError, match=r"optim\.warmup_from=0\.1 is where .* set optim\.warmup"):
    optim.make(steps=3, warmup_from=0.1)
  for name in ("learning_rate", "warmup", "warmup_from", "weight_decay", "clip", "momentum"):
    with pytest.raises(ConfigError, match=rf"optim\.{name}=-1 must be at least 0"):
      optim.make(steps=3, **{name: -1})


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_the_rest_begins_as_if_it_were_the_first_step(optimiser):
  """Of Adam the first update has the size of the rate, whatever came before."""
  args = dict(steps=9, learning_rate=0.1, schedule="constant", weight_decay=0.01,
              optimiser=optimiser)
  params = {"fc": jnp.ones(2), "trunk": {"w": jnp.full(2, 3.0)}}
  grads = {"fc": jnp.ones(2), "trunk": {"w": jnp.full(2, 2.0)}}
  tx, plain = optim.make(**args, head_first=4), optim.make(**args)
  state, first = tx.init(params), plain.update(grads, plain.init(params), params)[0]
  for step in range(5):
    held = jax.tree.map(lambda g, s=step: g if s == 4 else jnp.zeros_like(g), grads["trunk"])
    updates, state = jax.jit(tx.update)(grads | {"trunk": held}, state, params)
    if step == 0:
      np.testing.assert_allclose(updates["fc"], first["fc"], rtol=1e-6)
    want = first["trunk"]["w"] if step == 4 else 0
    np.testing.assert_allclose(updates["trunk"]["w"], want, rtol=1e-6)
