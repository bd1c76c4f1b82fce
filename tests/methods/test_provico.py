"""ProViCo as a method: the printed objective, its options, devices, resuming, embeddings."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.augment import recipes
from tests.reference import gaussian as reference
from vssl_jax import optim, parallel, train
from vssl_jax.checkpoint import Checkpoints, same
from vssl_jax.methods import provico
from vssl_jax.methods import provico_objective as objectives
from vssl_jax.models.norm import BatchNorm
from vssl_jax.models.probabilistic import Head, Probabilistic
from vssl_jax.ops import gaussian
from vssl_jax.ops.gaussian_pairs import Samples
from vssl_jax.types import ConfigError

B, N, T, H, W, D, K = 4, 2, 2, 4, 4, 6, 3
KEY = jax.random.key(3)


class Backbone(nn.Module):
  """What a video network does, in one layer: a norm that remembers, and pooled features."""

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.Conv(8, (1, 3, 3), dtype=x.dtype)(x)
    x = nn.relu(BatchNorm()(x, train=train))
    return {"pooled": x.mean(axis=(1, 2, 3)), "map": x}


SMALL = dict(backbone=Backbone(), dim=D, samples=K)


def make_batch(seed=0):
  """Clips of one colour a video, with noise."""
  rng = np.random.default_rng(seed)
  colours = rng.uniform(30, 220, (B, 1, 1, 1, 1, 3))
  frames = colours + rng.normal(0, 25, (B, N, T, H, W, 3))
  return {"frames": np.clip(frames, 0, 255).astype(np.uint8),
          "record": np.arange(B, dtype=np.int32), "label": np.int32([0, 1, 0, -1])}


@functools.cache
def start():
  """First variables, which no option changes; noise that is worth its name."""
  params, aux = jax.jit(provico.make(**SMALL).init)(KEY, make_batch())
  params["net"]["head"]["logvar"]["kernel"] *= 40
  return params, aux


def loss(batch=None, key=KEY, aux=None, **args):
  """Loss, next aux and metrics. Without jit: the operations are the same for all options.

  Where nothing else is said, half of the pairs are mined.
  """
  params, first = start()
  method = provico.make(**SMALL | dict(tau=middle()) | args)
  value, (aux, metrics) = method.loss(params, first if aux is None else aux,
                                      make_batch() if batch is None else batch, key)
  return float(value), aux, {k: float(v) for k, v in metrics.items()}


@functools.cache
def distributions():
  """Mean and variance of the clips, [B, N, D] float64, as the module gives them in training."""
  params, aux = start()
  x = make_batch()["frames"].reshape(-1, T, H, W, 3)
  x = (x / np.float32(255) - 0.45) / 0.225
  net = Probabilistic(Backbone(), Head(D))
  out, _ = net.apply({"params": params["net"], "batch_stats": aux["batch_stats"]}, x, train=True,
                     mutable=["batch_stats"])
  return tuple(np.float64(out[k]).reshape(B, N, D) for k in ("mean", "logvar"))


def videos():
  """[(mean [D], variance [D])] of the videos, and their samples [B, K, D]."""
  mean, logvar = distributions()
  matched = [reference.moments(m, np.exp(l)) for m, l in zip(mean, logvar, strict=True)]
  eps = jax.random.normal(jax.random.split(KEY)[0], (B, K, D))
  return matched, [m + np.sqrt(v) * e for (m, v), e in zip(matched, np.float64(eps), strict=True)]


@functools.cache
def distances():
  """The printed one between all videos, [B, B]."""
  matched, z = videos()
  pairs = [(x, v) for x, (_, v) in zip(z, matched, strict=True)]
  return reference.matrix(functools.partial(reference.sampled, lam=0.25, reading="mean"), pairs,
                          pairs)


def halfway(distance):
  """Between the third and the fourth of the six pairs."""
  return np.sort(distance[np.triu_indices(B, 1)])[2:4].mean()


def middle():
  return float(halfway(distances()) / 0.25 - 1)


def twin(distance, *, balanced=False, stochastic=True):
  """The printed objective from the samples that are drawn, with literal sums."""
  matched, z = videos()
  mask = reference.positives(distance, halfway(distance), np.eye(B, dtype=bool), 0)
  assert mask.sum() == B + 6
  p = [[reference.match(z[i], z[j], 10.0, 10.0, eps_dist=1e-6, same=i == j, self_samples=True)
        for j in range(B)] for i in range(B)]
  scale = [np.exp(np.mean(np.log(v))) for _, v in matched]
  losses = [[reference.soft(p[i][j], mask[i, j]) for j in range(B)] for i in range(B)]
  if stochastic:
    losses = [[reference.stochastic(losses[i][j], scale[i], scale[j]) for j in range(B)]
              for i in range(B)]
  kl = np.mean([reference.kl(*video) for video in matched])
  pairs = reference.pair_mean(losses, mask, balanced=balanced, self_pairs=True)
  return pairs + 1e-4 * kl, kl, np.mean(np.log(scale))


def test_loss_and_metrics_are_those_of_the_printed_objective():
  value, aux, metrics = loss()
  want, kl, u = twin(distances())
  np.testing.assert_allclose(value, want, rtol=2e-4)
  for key, number in {"loss": want, "kl": kl, "uncertainty": u, "scale": 10, "offset": 10,
                      "positives": 6 / B}.items():
    np.testing.assert_allclose(metrics[key], number, rtol=2e-4, err_msg=key)
  assert int(aux["step"]) == 1
  # Running statistics are over all clips.
  x = make_batch()["frames"].reshape(-1, T, H, W, 3)
  first = start()[1]["batch_stats"]["backbone"]["BatchNorm_0"]
  conv = nn.Conv(8, (1, 3, 3)).apply(
      {"params": start()[0]["net"]["backbone"]["Conv_0"]}, (x / np.float32(255) - 0.45) / 0.225)
  np.testing.assert_allclose(aux["batch_stats"]["backbone"]["BatchNorm_0"]["mean"],
                             0.9 * first["mean"] + 0.1 * conv.mean(axis=(0, 1, 2, 3)), atol=1e-5)


def test_variances_may_be_left_out_of_the_loss():
  want = twin(distances(), stochastic=False)[0]
  np.testing.assert_allclose(loss(stochastic=False)[0], want, rtol=2e-4)
  assert abs(want - twin(distances())[0]) > 0.1


def test_balanced_pairs_and_mining_by_the_closed_form():
  matched, _ = videos()
  closed = reference.matrix(functools.partial(reference.closed_form, reading="mean"), matched,
                            matched)
  value, _, metrics = loss(mining="closed_form", tau=float(halfway(closed) / 0.25),
                           pairs="balanced")
  np.testing.assert_allclose(value, twin(closed, balanced=True)[0], rtol=2e-4)
  assert metrics["positives"] == 6 / B


@pytest.mark.parametrize("args", [
    dict(self_samples=False), dict(self_pairs=False), dict(uncertainty="arithmetic"),
    dict(uncertainty="total"), dict(kl="clip", beta=0.1), dict(sampling="mixture"),
    dict(form="softplus"), dict(samples=2), dict(clamp=(-3.0, -2.0)), dict(eps_dist=0.1),
    dict(tau=-1.0), dict(tau=1e3), dict(neighbours=1), dict(mining="mixture"),
    dict(lam=1e-3), dict(mean_of_log=True), dict(log_term=False)], ids=str)
def test_every_option_is_heard(args):
  """The first of them, by what the others alone give."""
  a, b = loss(**dict([*args.items()][1:]))[0], loss(**args)[0]
  assert np.isfinite(b)
  assert abs(a - b) > 1e-4 * abs(a)


def test_tau_means_the_same_where_dimensions_are_summed():
  """Threshold and distance are both D times as large."""
  assert loss(reading="sum")[0] == loss()[0]


def test_distances_from_a_product_and_halves_of_one_video():
  np.testing.assert_allclose(loss(exact=False)[0], loss()[0], rtol=1e-4)
  frames = make_batch()["frames"]
  batch = {"frames": frames.reshape(B // 2, 2 * N, *frames.shape[2:])}
  value, _, metrics = loss(batch, halves=True, tau=-1.0)
  assert metrics["positives"] == 0  # by construction, not mined
  # Two halves of a video are as good as two rows of one record.
  rows = {"frames": frames, "record": np.repeat(range(B // 2), 2)}
  np.testing.assert_allclose(value, loss(rows, tau=-1.0)[0], rtol=1e-5)
  alone = loss(tau=-1.0)[0]
  assert abs(alone / value - 1) > 1e-3
  np.testing.assert_allclose(loss({"frames": frames}, tau=-1.0)[0], alone)


def test_mining_begins_when_it_is_told_to():
  aux = start()[1]
  none, all_of_them = loss(tau=-1.0)[0], loss(tau=1e3)[0]
  for step, want in ((0, none), (1, none), (2, all_of_them)):
    value, after, _ = loss(tau=1e3, mine_after=2, aux=aux | {"step": jnp.int32(step)})
    assert value == want
    assert int(after["step"]) == step + 1


@pytest.mark.parametrize("scale", provico.SCALES)
def test_a_match_probability_that_begins_at_an_end_of_its_range_still_learns(scale):
  """Its scale moves inwards where that helps: of positives alone it falls, of others it rises."""
  method = provico.make(**SMALL | dict(match_scale=scale, tau=1e3 if scale > 1 else -1.0))
  params, aux = method.init(KEY, make_batch())
  slope = jax.grad(lambda p: method.loss(p, aux, make_batch(), KEY)[0])(params)["match"]["a"]
  assert slope > 0 if scale > 1 else slope < 0


def test_order_of_videos_clips_and_samples_is_nothing():
  rng = np.random.default_rng(4)
  n, k, dim = 3, 5, 6
  mean, logvar = rng.normal(size=(B, n, dim)), rng.uniform(-2, 1, (B, n, dim))
  eps = rng.normal(size=(B, k, dim))
  options = objectives.Options(balanced=True, mining="mixture", neighbours=1)

  def total(videos, clips, samples):
    m, l = (x[videos][:, clips].astype(np.float32) for x in (mean, logvar))
    matched = gaussian.moment_match(m, l)
    x = Samples(*matched, gaussian.deviations(
        matched[1], eps[videos][:, samples].astype(np.float32)))
    value, parts = objectives.objective(m, l, x, jnp.float32(3), jnp.float32(2), options)
    return float(jnp.mean(value)), int(parts["mask"].sum())

  want = total(np.arange(B), np.arange(n), np.arange(k))
  for order in ((rng.permutation(B), np.arange(n), np.arange(k)),
                (np.arange(B), np.array([2, 0, 1]), np.arange(k)),
                (np.arange(B), np.arange(n), rng.permutation(k))):
    got = total(*order)
    np.testing.assert_allclose(got[0], want[0], rtol=2e-5)
    assert got[1] == want[1]


def test_labels_are_counted_and_teach_nothing():
  batch = make_batch()
  value, _, metrics = loss(batch, tau=1e3)
  np.testing.assert_allclose(metrics["positive_precision"], 1 / 3, rtol=1e-6)  # of 3 labelled
  for label in (np.int32([1, 1, 1, 1]), None):
    other = batch | {"label": label}
    if label is None:
      del other["label"]
    again, _, metrics = loss(other, tau=1e3)
    assert again == value
    assert ("positive_precision" in metrics) == (label is not None)


def test_samples_depend_on_the_key_only():
  assert loss()[0] == loss()[0]
  assert abs(loss()[0] - loss(key=jax.random.key(4))[0]) > 1e-4


def test_half_precision_of_the_backbone_stays_near():
  wide, half = loss(), loss(dtype="bfloat16")
  assert wide[0] != half[0]
  np.testing.assert_allclose(half[2]["uncertainty"], wide[2]["uncertainty"], atol=0.1)
  np.testing.assert_allclose(half[0], wide[0], rtol=0.1)


def test_embeddings():
  method, (params, aux) = provico.make(**SMALL), start()
  frames = make_batch()["frames"]
  out = method.embed(params, aux, {"frames": frames})
  assert {k: v.shape for k, v in out.items()} == {
    "video": (B, 8), "mean": (B, D), "logvar": (B, D), "uncertainty": (B,),
    "clip_features": (B, N, 8), "clip_mean": (B, N, D), "clip_logvar": (B, N, D)}
  np.testing.assert_allclose(out["video"], np.mean(out["clip_features"], axis=1), rtol=1e-5)
  chex.assert_trees_all_close((out["mean"], out["logvar"]),
                              gaussian.moment_match(out["clip_mean"], out["clip_logvar"]))
  # In evaluation a clip is by itself: alone it has the same distribution.
  one = method.embed(params, aux, {"frames": frames[1:2, 1]})
  for key, value in (("video", "clip_features"), ("mean", "clip_mean"),
                     ("logvar", "clip_logvar")):
    np.testing.assert_allclose(one[key][0], out[value][1, 1], rtol=1e-4, atol=1e-5)
  floating = method.embed(params, aux, {"frames": frames / np.float32(255)})
  chex.assert_trees_all_close(floating, out, rtol=1e-4, atol=1e-5)


def test_a_backbone_by_its_name():
  """Its width and precision are heard, and its features are what is embedded."""
  method = provico.make(backbone="r3d_18", width=4, dim=D, dtype="bfloat16")
  batch = {"frames": np.zeros((1, N, 2, 8, 8, 3), np.uint8)}
  params, aux = jax.eval_shape(method.init, KEY, batch)
  backbone = params["net"]["backbone"]
  assert max(p.shape[-1] for p in jax.tree.leaves(backbone)) == 32  # 8 times the width
  out = jax.eval_shape(method.embed, params, aux, batch)
  assert out["clip_features"].shape == (1, N, 32) and out["video"].dtype == jnp.float32
  assert "bf16" in str(jax.make_jaxpr(method.embed)(params, aux, batch))
  with pytest.raises(ConfigError, match=r"args\.backbone=unknown backbone 'r3d_19'; choose"):
    provico.make(backbone="r3d_19")


def test_it_takes_what_the_transform_gives():
  rng = np.random.default_rng(0)
  clips = rng.integers(0, 256, (B, N, T, 20, 24, 3), np.uint8)
  transform = recipes.contrastive_video(size=8)
  frames = np.stack([[transform(c, rng) for c in video] for video in clips])
  assert frames.shape == (B, N, T, 8, 8, 3)
  method = provico.make(**SMALL)
  params, aux = start()
  value, _ = jax.eval_shape(method.loss, params, aux, {"frames": frames}, KEY)
  assert value.shape == ()


def training(method, batch, devices):
  """The state before the first step, and `(state, n) -> (state, metrics of each step)`."""
  tx = optim.make(steps=60, learning_rate=1e-2, schedule="constant", weight_decay=0, clip=1.0)
  mesh = parallel.mesh(jax.devices()[:devices])
  step, placed = train.make_step(method, tx, mesh), parallel.place(batch, mesh)

  def run(state, n):
    seen = []
    for _ in range(n):
      state, metrics = step(state, placed)
      seen.append({k: float(v) for k, v in metrics.items()})
    return state, seen

  return train.init_state(method, tx, batch, 0, mesh), run


def test_clips_are_learnt_by_heart_on_four_devices_traced_once_and_resumed(tmp_path):
  """The first steps are those of a single device."""
  chex.clear_trace_counter()
  method = provico.make(**SMALL | provico.PRESETS["robust"] | dict(neighbours=1, tau=0.1))
  batch = make_batch(6)
  state, run = training(method._replace(loss=chex.assert_max_traces(method.loss, 1)), batch, 4)
  half, seen = run(state, 60)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(60, half, {"next_step": 60})
    checkpoints.wait()
    restored, _ = checkpoints.restore(half, {"next_step": 0})
  state, later = run(half, 60)
  again, _ = run(restored, 60)
  assert same(again, state)
  assert int(again.aux["step"]) == 120
  last = later[-1]
  assert last["soft_negative"] < 0.25 * seen[0]["soft_negative"]
  assert last["soft_positive"] < 0.3
  assert last["loss"] < seen[0]["loss"] - 1
  state, run = training(method, batch, 1)
  _, alone = run(state, 2)
  for key in alone[0]:
    np.testing.assert_allclose([s[key] for s in seen[:2]], [s[key] for s in alone], rtol=1e-4,
                               atol=1e-5, err_msg=key)


def test_presets_are_arguments_and_differ_by_their_guards():
  for args in provico.PRESETS.values():
    method = provico.make(**SMALL | args)
    value, _ = method.loss(*method.init(KEY, make_batch()), make_batch(), KEY)
    assert np.isfinite(value)
  paper, robust = provico.PRESETS["paper"], provico.PRESETS["robust"]
  assert {k for k in robust if robust[k] != paper.get(k)} == {
      "mining", "neighbours", "pairs", "hidden", "clamp", "halves", "uncertainty"}


@pytest.mark.parametrize("args, reason", [
    (dict(mining="nearest"), r"mining='nearest' is unknown; choose one of sampled, closed_form"),
    (dict(reading="max"), r"reading='max' is unknown"), (dict(kl="frame"), "kl='frame' is unknown"),
    (dict(uncertainty="entropy"), "uncertainty='entropy' is unknown; choose one of geometric, ar"),
    (dict(samples=0), "samples=0 must be at least 1"), (dict(tau=-2.0), r"tau=-2\.0 must be at"),
    (dict(noise=0.0), r"noise=0\.0 must be above 0"),
    (dict(match_scale=60.0), r"match_scale=60\.0 must be at most 50"),
    (dict(clamp=(1.0,)), r"clamp=\(1\.0,\) must be two numbers"),
    (dict(clamp=(1.0, -1.0)), r"clamp=\(1\.0, -1\.0\) must be two numbers")], ids=str)
def test_wrong_settings_are_named(args, reason):
  with pytest.raises(ConfigError, match=rf"method\.args\.{reason}"):
    provico.make(**SMALL | args)


def test_wrong_frames_are_named():
  frames = make_batch()["frames"]
  method = provico.make(**SMALL | dict(halves=True))
  with pytest.raises(ValueError, match=r"frames \(4, 2, 4, 4, 3\): expected \[B, N, T, H, W, 3\]"):
    jax.eval_shape(method.init, KEY, {"frames": frames[:, :, 0]})
  with pytest.raises(ValueError, match="needs an even number of clips a video, not 1"):
    jax.eval_shape(method.init, KEY, {"frames": frames[:, :1]})
