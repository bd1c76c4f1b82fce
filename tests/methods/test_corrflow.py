"""CorrFlow as a method: the objective against a float64 twin, ablations, devices, resuming."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.augment import recipes
from tests.reference import colour as reference
from tests.reference.window_attention import attend
from vssl_jax import optim, parallel, train
from vssl_jax.checkpoint import Checkpoints, same
from vssl_jax.methods import corrflow
from vssl_jax.models import corrflow as models
from vssl_jax.ops import colour as colours
from vssl_jax.ops import resample
from vssl_jax.types import ConfigError

B, T, H, W = 4, 3, 12, 16
SMALL = dict(width=4, dim=6, blocks=1, radius=1)
FIXED = dict(drop=0.0, scheduled_sampling=(1.0, 1.0))
KEY = jax.random.key(11)


@pytest.fixture(scope="module", autouse=True)
def few_layers():
  """Two blocks instead of eight: what is tested here is what is done with the features."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(models, "STAGES", ((1, 1), (2, 2)))
    yield


def make_batch(seed=0):
  """Smooth moving colours: clean frames, and others for the encoder, as uint8."""
  rng = np.random.default_rng(seed)
  y, x, t = np.meshgrid(np.arange(H), np.arange(W), np.arange(T), indexing="ij")
  waves = rng.uniform(0.2, 0.5, (2, B, 3, 3)), rng.uniform(0, 6, (2, B, 3))
  phase = np.einsum("vbcd,dyxt->vbtyxc", waves[0], np.stack([y, x, 2 * t]))
  frames = 127.5 + 120 * np.sin(phase + waves[1][:, :, None, None, None])
  return {"frames": frames.astype(np.uint8).swapaxes(0, 1)[:, None]}


@functools.cache
def start():
  """First variables, which no argument but the sizes changes; features are doubled."""
  params, aux = jax.jit(corrflow.make(**SMALL).init)(KEY, make_batch())
  return params | {"head": jax.tree.map(lambda x: 2 * x, params["head"])}, aux


@functools.cache
def build(**args):
  method = corrflow.make(**SMALL | args)
  return method, *start(), jax.jit(method.loss)


def features(params, aux, x):
  """Frame after frame: [B, T, h, w, D], and each frame's move of the running statistics."""
  net = models.Encoder(SMALL["width"], SMALL["dim"], blocks=SMALL["blocks"])
  out, moves = [], []
  for t in range(T):
    y, moved = net.apply({"params": params, "batch_stats": aux["batch_stats"]}, x[:, t],
                         train=True, mutable=["batch_stats"])
    out.append(np.float64(y["features"]))
    moves.append(jax.tree.map(lambda a, b: a - b, moved["batch_stats"], aux["batch_stats"]))
  return np.stack(out, axis=1), moves


def copied(f, r, t, values, radius=1):
  return attend(f[:, t], f[:, r, None], np.asarray(values)[:, None], [radius])


def mean(loss, *arrays):
  return np.mean([loss(*row) for row in zip(*map(np.asarray, arrays), strict=True)])


def twin(f, ids, truth, rule="area", align="cell", radius=1):
  """[pair, pair, cycle, cycle] of spec 7, one copy after the other."""
  values = resample.labels_to_cells(ids, 16, rule=rule, align=align)

  def up(x):
    return resample.to_pixels(jnp.float32(x), (H, W), align=align)

  def feed(x):
    return x if align == "cell" else resample.to_cells(up(x), align=align)

  first = copied(f, 0, 1, values[:, 0], radius)
  second = copied(f, 1, 2, values[:, 1] if truth else feed(first), radius)
  ends = [(first, 1), (second, 2)]
  for path in ([1, 0], [1, 2, 1, 0]):
    x, r = values[:, 0], 0
    for i, t in enumerate(path):
      x, r = copied(f, r, t, x if i == 0 else feed(x), radius), t
    ends.append((x, 0))
  return [mean(reference.cross_entropy, up(x), ids[:, t]) for x, t in ends]


@pytest.mark.parametrize("args, truth", [
    (dict(), True), (dict(scheduled_sampling=(0.0, 0.0), restricted=False), False),
    (dict(rule="id_average", align="half_pixel", parity_statistics=True,
          scheduled_sampling=(0.0, 0.0)), False)], ids=str)
def test_objective_and_statistics_are_those_of_the_twin(args, truth):
  args = FIXED | args
  _, params, aux, loss = build(**args)
  batch = make_batch(1)
  value, (after, metrics) = loss(params, aux, batch, KEY)
  clean, seen = batch["frames"][:, 0].swapaxes(0, 1)
  f, moves = features(params, aux, np.float32(seen / 255))
  ids = np.asarray(colours.classes(colours.lab(np.float32(clean / 255))[..., 1:]))
  radius = None if args.get("restricted") is False else 1
  want = twin(f, ids, truth, args.get("rule", "area"), args.get("align", "cell"), radius)
  got = [metrics[n] for n in ("short_1", "short_2", "cycle_1", "cycle_2")]
  np.testing.assert_allclose(got, want, rtol=2e-4)
  np.testing.assert_allclose(value, want[0] + want[1] + 0.1 * (want[2] + want[3]), rtol=2e-4)
  assert int(after["step"]) == 1 and metrics["p_ground_truth"] == float(truth)
  order = [0, 1, 1, 2, 0, 1, 1, 0, 0, 1, 1, 2, 2, 1, 1, 0] if "rule" in args else [0, 1, 2]
  stats = aux["batch_stats"]
  for t in order:  # 0.9 old + 0.1 new, where new = start + 10 move
    stats = jax.tree.map(lambda s, a, m: 0.9 * s + 0.1 * (a + 10 * m), stats, aux["batch_stats"],
                         moves[t])
  chex.assert_trees_all_close(after["batch_stats"], stats, rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_and_reach_everything_also_of_blank_frames():
  method, params, aux, _ = build()
  grad = jax.jit(jax.grad(method.loss, has_aux=True))
  found, _ = grad(params, aux, make_batch(), KEY)
  assert all(np.isfinite(g).all() and g.any() for g in jax.tree.leaves(found))
  blank = {"frames": np.zeros_like(make_batch()["frames"])}
  found, _ = grad(params, aux, blank, KEY)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(found))


def test_known_classes_are_used_and_clips_of_a_video_are_clips():
  _, params, aux, loss = build(**FIXED)
  batch = make_batch(2)
  clean = batch["frames"][:, :, 0]
  ids = np.array(colours.classes(colours.lab(np.float32(clean / 255))[..., 1:]))
  value, _ = loss(params, aux, batch, KEY)
  again, _ = loss(params, aux, batch | {"classes": ids}, KEY)
  np.testing.assert_allclose(again, value, rtol=1e-6)
  renamed, _ = loss(params, aux, batch | {"classes": (ids + 1) % 16}, KEY)
  np.testing.assert_allclose(renamed, value, rtol=1e-5)
  ids[:, :, 1] = 3
  other, _ = loss(params, aux, batch | {"classes": ids}, KEY)
  assert abs(other - value) > 1e-2
  pairs = {"frames": batch["frames"].reshape(2, 2, *batch["frames"].shape[2:])}
  np.testing.assert_allclose(loss(params, aux, pairs, KEY)[0], value, rtol=1e-5)


def test_channels_are_dropped_from_what_the_encoder_sees():
  """Once a batch or for each clip, by the key; without a bottleneck clean frames are seen."""
  batch = make_batch(3)
  x = batch["frames"] / np.float32(255)
  key, _ = jax.random.split(KEY)
  _, params, aux, plain = build(**FIXED)
  for per_clip in (False, True):
    _, _, _, loss = build(**FIXED | dict(drop=1.0, drop_per_clip=per_clip))
    factors = colours.channel_factors(key, 1.0, (B if per_clip else 1,))
    assert (np.asarray(factors) == 0).any()
    seen = x[:, 0, 1] * np.asarray(factors)[:, None, None, None]
    want, _ = plain(params, aux, {"frames": np.stack([x[:, 0, 0], seen], axis=1)[:, None]}, KEY)
    np.testing.assert_allclose(loss(params, aux, batch, KEY)[0], want, rtol=1e-5)
  _, _, _, loss = build(bottleneck=False, scheduled_sampling=(1.0, 1.0))
  want, _ = plain(params, aux, {"frames": np.stack([x[:, 0, 0]] * 2, axis=1)[:, None]}, KEY)
  np.testing.assert_allclose(loss(params, aux, batch, KEY)[0], want, rtol=1e-5)


def test_chance_of_the_truth_falls_with_the_steps_and_cycles_can_be_left_out():
  _, params, aux, loss = build(drop=0.0, cycle=0.0, scheduled_sampling=(0.8, 0.2), total_steps=4)
  seen, values = [], set()
  for step in range(6):
    value, (after, metrics) = loss(params, aux | {"step": jnp.int32(step)}, make_batch(),
                                   jax.random.fold_in(KEY, step))
    seen.append(float(metrics["p_ground_truth"]))
    values.add(round(float(value), 4))
    assert int(after["step"]) == step + 1
  np.testing.assert_allclose(seen, [0.8, 0.65, 0.5, 0.35, 0.2, 0.2], atol=1e-6)
  assert len(values) == 2  # the second pair starts from the truth, or not
  assert metrics["cycle"] == 0 and "cycle_1" not in metrics


def test_lab_regresses_the_hidden_channel():
  for args in (dict(rule="slice"), dict(bottleneck=False)):
    _, params, aux, loss = build(colour="lab", **args)
    batch = make_batch(4)
    clean, seen = (np.float32(v / 255) for v in batch["frames"][:, 0].swapaxes(0, 1))
    factors, channels = np.ones(3, np.float32), np.ones(2)
    if "bottleneck" not in args:
      factors = np.asarray(colours.chroma_factors(jax.random.split(KEY)[0], (1,)))[0]
      channels = factors[1:] == 0
      assert channels.sum() == 1
    x = colours.scaled_lab(clean if "bottleneck" in args else seen) * factors
    f, _ = features(params, aux, x)
    ab = np.asarray(colours.scaled_lab(clean))[..., 1:]
    values = ab[:, :, ::4, ::4] if "rule" in args else resample.to_cells(ab)
    want = []
    for t in (1, 2):
      p = resample.to_pixels(jnp.float32(copied(f, t - 1, t, values[:, t - 1])), (H, W))
      want.append(np.mean([reference.regression(a, b, channels)
                           for a, b in zip(np.asarray(p), ab[:, t], strict=True)]))
    np.testing.assert_allclose(loss(params, aux, batch, KEY)[0], np.mean(want), rtol=1e-4)


def test_embeddings_are_the_encoders_and_take_any_size():
  method, params, aux, _ = build()
  embed = jax.jit(method.embed)
  frames = np.random.default_rng(5).integers(0, 256, (2, 9, 14, 3), np.uint8)
  got = embed(params, aux, {"frames": frames})["features"]
  assert got.shape == (2, 3, 4, SMALL["dim"]) and got.dtype == jnp.float32
  np.testing.assert_allclose(embed(params, aux, {"frames": np.float32(frames / 255)})["features"],
                             got, atol=1e-6)
  net = models.Encoder(SMALL["width"], SMALL["dim"], blocks=SMALL["blocks"])
  want = net.apply({"params": params, "batch_stats": aux["batch_stats"]}, frames / np.float32(255))
  np.testing.assert_allclose(got, want["features"], atol=1e-5)


def test_it_takes_what_the_transform_gives():
  rng = np.random.default_rng(0)
  clips = rng.integers(0, 256, (B, 5, 20, 24, 3), np.uint8)
  transform = recipes.corrflow(size=12, p=1.0)
  frames = np.stack([transform(c[:T], rng) for c in clips])[:, None]
  method, params, aux, _ = build()
  value, _ = jax.eval_shape(method.loss, params, aux, {"frames": frames}, KEY)
  assert value.shape == ()


def training(method, batch, devices):
  """The state before the first step, and `(state, n) -> (state, metrics of each step)`."""
  tx = optim.make(steps=60, learning_rate=5e-3, schedule="constant", weight_decay=0)
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
  """With as many groups of the norms as devices; the first steps are those of a single device."""
  chex.clear_trace_counter()
  method = corrflow.make(**SMALL | dict(groups=4, total_steps=60, drop_per_clip=True))
  batch = make_batch(6)
  state, run = training(method._replace(loss=chex.assert_max_traces(method.loss, 1)), batch, 4)
  half, seen = run(state, 30)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(30, half, {"next_step": 30})
    checkpoints.wait()
    restored, _ = checkpoints.restore(half, {"next_step": 0})
  state, later = run(half, 30)
  again, _ = run(restored, 30)
  assert same(again, state)
  assert int(again.aux["step"]) == 60
  # The loss can't come near 0: cells of 4 x 4 pixels hold several classes.
  assert later[-1]["short_1"] < seen[0]["short_1"] - 0.25
  assert later[-1]["accuracy"] > seen[0]["accuracy"] + 0.1
  state, run = training(method, batch, 1)
  _, alone = run(state, 2)
  for key in alone[0]:
    np.testing.assert_allclose([s[key] for s in seen[:2]], [s[key] for s in alone], rtol=2e-3,
                               atol=1e-5, err_msg=key)


@pytest.mark.parametrize("args, reason", [
    (dict(colour="rgb"), r"colour='rgb' is unknown; choose one of quantised, lab"),
    (dict(rule="mean"), r"rule='mean' is unknown"), (dict(radius=0), "radius=0 must be at least 1"),
    (dict(cycle=-0.1), r"cycle=-0\.1 must be at least 0"), (dict(drop=1.5), r"drop=1\.5 must be"),
    (dict(scheduled_sampling=(0.9, 1.6)), r"scheduled_sampling=\(0\.9, 1\.6\) must be two"),
    (dict(colour="lab", rule="id_average"), r"rule='id_average' is for classes"),
    (dict(centroids=((1, 2, 3),)),
     r"centroids must be pairs \(a, b\), got \(1, 2, 3\) at 0")], ids=str)
def test_wrong_settings_are_named(args, reason):
  with pytest.raises(ConfigError, match=rf"method\.args\.{reason}"):
    corrflow.make(**args)


def test_wrong_frames_are_named():
  frames = make_batch()["frames"]
  for args, x, reason in ((dict(), frames[:, :, 0], r"frames \(4, 1, 3, 12, 16, 3\): expected"),
                          (dict(align="half_pixel"), frames[..., :15, :], "12 x 15: align="),
                          (dict(), frames[:, :, :, :1], "T of at least 2")):
    method = corrflow.make(**SMALL | args)
    with pytest.raises(ValueError, match=reason):
      jax.eval_shape(method.init, KEY, {"frames": x})
