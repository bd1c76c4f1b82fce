"""CorrFlow's encoder, colours, losses and one whole training step against the authors' own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.golden import rules
from vssl_jax import optim
from vssl_jax.convert import corrflow as convert
from vssl_jax.losses import colour as losses
from vssl_jax.methods import corrflow
from vssl_jax.models.corrflow import Encoder
from vssl_jax.ops import colour as colours
from vssl_jax.ops import resample


@pytest.fixture(scope="module")
def folder(golden_dir):
  mine = golden_dir / "corrflow"
  if not mine.is_dir():
    pytest.skip(f"no {mine}")
  return mine


@pytest.fixture(scope="module")
def imported(folder):
  return convert.convert(rules.corrflow_params(folder, rules.corrflow_seed(folder)))


def cases(folder, pattern, *keys):
  """Arrays of every file `pattern` that holds all keys."""
  found = [dict(np.load(p, allow_pickle=False)) for p in sorted(folder.glob(pattern))]
  found = [f for f in found if all(k in f for k in keys)]
  assert found, f"no {pattern} with {keys} in {folder}"
  return found


def last(x):
  """[..., C, H, W] -> [..., H, W, C]."""
  return np.moveaxis(x, -3, -1)


def close(got, want, atol, name=""):
  np.testing.assert_allclose(got, want, rtol=0, atol=atol, err_msg=name)


def net_of(imported):
  return Encoder(**imported.settings)


def test_names_and_numbers_of_parameters(folder, imported):
  names = rules.json.loads((folder / "names.json").read_text())
  state = convert.to_torch(imported.params, imported.batch_stats)
  assert {n: list(v.shape) for n, v in state.items()} == names
  given = rules.corrflow_params(folder, rules.corrflow_seed(folder))
  assert all(np.array_equal(state[n], given[n]) for n in names)
  trained = sum(np.prod(s) for n, s in names.items() if "running" not in n and "num_b" not in n)
  assert sum(p.size for p in jax.tree.leaves(imported.params)) == trained


def test_features(folder, imported):
  net, tight = net_of(imported), 2e-5
  variables = {"params": imported.params, "batch_stats": imported.batch_stats}
  apply = jax.jit(net.apply)
  for case in cases(folder, "features_*.npz", "rgb", "feat"):
    got = apply(variables, last(case["rgb"]))
    close(got["features"], last(case["feat"]), tight)
    for name in set(case) - {"rgb", "feat"}:
      close(got[name.replace("layer", "stage")], last(case[name]), 1e-4, name)


def test_training_mode(folder, imported):
  net, stats = net_of(imported), imported.batch_stats
  step = jax.jit(functools.partial(net.apply, train=True, mutable=["batch_stats"]))
  for case in cases(folder, "features_train_bn*.npz"):
    count, stats = sum(k.startswith("rgb") for k in case), imported.batch_stats
    for i in range(1, count + 1):
      out, moved = step({"params": imported.params, "batch_stats": stats}, last(case[f"rgb{i}"]))
      stats = moved["batch_stats"]
      close(out["features"], last(case[f"feat{i}"]), 1e-4)
      compare(case, f"after{i}/", convert.to_torch({}, stats), 1e-5)


def compare(case, prefix, state, atol):
  names = [k for k in case if k.startswith(prefix)]
  assert names
  for name in names:
    close(state[name.removeprefix(prefix)], case[name], atol, name)


def test_loss(folder):
  for case in cases(folder, "loss*.npz"):
    size = case["target"].shape[1:]

    target = case["target"].astype(np.int32)

    def f(p, size=size, target=target):
      up = resample.to_pixels(p, size, align="half_pixel")
      return losses.cross_entropy(up, target).mean(), up

    (value, up), grad = jax.jit(jax.value_and_grad(f, has_aux=True))(last(case["prob_small"]))
    close(up, last(case["prob_up"]), 1e-6)
    np.testing.assert_allclose(value, case["loss"], rtol=1e-5)
    want = last(case["grad_prob_small"])
    close(grad, want, 1e-4 * np.abs(want).max())


def test_regression(folder):
  for case in cases(folder, "mast_colorizer*.npz", "train_loss"):
    size = case["train_target"].shape[2:]
    p = resample.to_pixels(last(case["train_out"]), size, align="half_pixel")
    got = losses.regression(p, last(case["train_target"]))
    np.testing.assert_allclose(got.mean(), case["train_loss"], rtol=1e-5)


def test_quantisation(folder):
  for case in cases(folder, "quantise*.npz"):
    centroids, (h, w) = case["centroids_ab"], case["index"].shape
    if centroids.shape == colours.CENTROIDS.shape:
      np.testing.assert_array_equal(colours.CENTROIDS, centroids)
    lab = np.asarray(colours.lab(colours.to_unit(jnp.asarray(case["rgb_u8"]))))
    close(lab, case["lab"], 0.5)
    got = np.asarray(colours.classes(lab[..., 1:], centroids))
    assert (got == case["index"]).mean() >= 0.995
    assert case["margin"][got != case["index"]].max(initial=0) < 0.6
    # From OpenCV's own Lab there is nothing to be unsure about but ties.
    own = np.asarray(colours.classes(case["lab"][..., 1:], centroids))
    assert (case["margin"][own != case["index"]] < 1e-4).all()
    ab = case["lab"][..., 1:].reshape(h * w, 2)
    distance = np.sort(np.linalg.norm(ab[:, None] - centroids, axis=-1), axis=1)
    close(distance[:, 1] - distance[:, 0], case["margin"].ravel(), 1e-3)


def test_colour_dropout(folder):
  for case in cases(folder, "colour_dropout*.npz"):
    found = 0
    for name in [k for k in case if k.startswith("drop_")]:
      kept = [c for c in range(3) if str(c) not in name.removeprefix("drop_")]
      row, = np.flatnonzero((colours.KEPT == np.isin(range(3), kept)).all(1))
      close(case["rgb"] * colours.factors()[row][:, None, None], case[name], 1e-6, name)
      found += 1
    assert found


def test_schedules(folder):
  for case in cases(folder, "schedule*.npz"):
    rate = optim.learning_rate_at("halving", 2e-4, 0, batch=int(case["batch_size"]))
    close([rate(s) for s in case["optimizer_step"]], case["lr"], 1e-11)
    got = corrflow.p_ground_truth(case["training_fraction"], 0.9, 0.6)
    close(got, case["p_ground_truth"], 1e-7)


def objective(case, imported, wide):
  """Both kinds of one step: kind -> (metrics, gradients, statistics, parameters).

  The chance that the second pair starts from the truth is 1 at step 0 and 0 at step 1.
  """
  method = corrflow.make(**imported.settings, rule="id_average", align="half_pixel", drop=0.0,
                         parity_statistics=True, scheduled_sampling=(1.0, 0.0), total_steps=1)
  frames = np.stack([last(case[f"rgb{t}"]) for t in range(3)], axis=1)
  ids = np.stack([case[f"q{t}"][:, 0] for t in range(3)], axis=1).astype(np.int32)
  kind = np.float64 if wide else np.float32
  params, stats, frames = jax.tree.map(
    lambda x: jnp.asarray(x, kind), (imported.params, imported.batch_stats, frames))
  batch = {"frames": jnp.stack([frames, frames], axis=1)[:, None], "classes": ids[:, None]}
  tx = optim.make(steps=1, learning_rate=2e-4, schedule="halving", weight_decay=0.0)

  @jax.jit  # everything is an argument: constants would be folded, which takes minutes
  def run(params, stats, batch, step):
    aux = {"batch_stats": stats, "step": step, "centroids": jnp.asarray(colours.CENTROIDS)}
    (_, (aux, metrics)), grads = jax.value_and_grad(method.loss, has_aux=True)(
      params, aux, batch, jax.random.key(0))
    updates, _ = tx.update(grads, tx.init(params), params)
    return metrics, grads, aux["batch_stats"], optax.apply_updates(params, updates)

  return {name: run(params, stats, batch, jnp.int32(step))
          for step, name in enumerate(("truth", "pred"))}


def relative(got, want):
  return np.linalg.norm(got - want) / np.linalg.norm(want)


def check_objective(folder, imported, wide, norms, whole):
  for case in cases(folder, "objective*.npz"):
    for kind, (metrics, grads, stats, params) in objective(case, imported, wide).items():
      terms = [metrics[n] for n in ("short_1", "short_2", "cycle_1", "cycle_2")]
      rtol = 1e-6 if wide else 2e-5
      np.testing.assert_allclose(terms, case[f"{kind}/terms"], rtol=rtol)
      for name, key in (("l_sim", "short"), ("l_long", "cycle"), ("loss", "loss")):
        np.testing.assert_allclose(metrics[key], case[f"{kind}/{name}"], rtol=rtol)
      grads = convert.to_torch(grads)
      got = [np.linalg.norm(np.float64(grads[n])) for n in case["grad_norm_names"].tolist()]
      np.testing.assert_allclose(got, case[f"{kind}/grad_norms"], rtol=norms)
      for name in [k for k in case if k.startswith(f"{kind}/grad/")]:
        assert relative(grads[name.removeprefix(f"{kind}/grad/")], case[name]) < whole, name
      if kind == "truth":  # the statistics and the step of Adam are stored once
        passes = int(case["truth/num_batches_tracked"])
        assert len(corrflow.chains.passes(3, True)) == passes
        compare(case, "truth/bn_after/", convert.to_torch({}, stats), 2e-6)
        # Where a gradient is near 0 its sign, and so Adam's first step, is rounding in float32.
        params = convert.to_torch(params)
        compare(case, "truth/adam1/", params, 2e-7 if wide else 4.1e-4)
        # That would pass without any step, so most numbers have to be the same much more nearly.
        for name in [k for k in case if k.startswith("truth/adam1/")]:
          off = np.abs(params[name.removeprefix("truth/adam1/")] - case[name])
          assert np.median(off) < 2e-6, name


def test_objective_in_float32(folder, imported):
  """Whole gradients are ill-conditioned: a ReLU that flips moves those below it by about 1 %."""
  check_objective(folder, imported, wide=False, norms=1e-2, whole=2e-2)


@pytest.mark.slow
def test_objective_in_float64(folder, imported):
  with jax.enable_x64(True):
    check_objective(folder, imported, wide=True, norms=1e-5, whole=1e-5)
