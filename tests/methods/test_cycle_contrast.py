"""CycleContrast as a method: the objective against a float64 twin, devices, resuming."""

import dataclasses
import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data_pipelines import augment, sample
from data_pipelines.clips import Reader
from data_pipelines.records import Record
from tests.reference import cycle as reference
from vssl_jax import optim, parallel, train
from vssl_jax.checkpoint import Checkpoints, same
from vssl_jax.methods import cycle_contrast
from vssl_jax.models import resnet, siamfc
from vssl_jax.models.contrast import Encoder
from vssl_jax.types import ConfigError

B, SIDE, G = 8, 16, 2
SMALL = dict(backbone="resnet18", width=4, dim=6, intra_queue=16, cycle_queue=24, neighbours=7,
             temperature=0.2, neighbour_temperature=0.3, momentum=0.9, cycle=0.5, groups=G)
KEY = jax.random.key(11)


@pytest.fixture(scope="module", autouse=True)
def few_layers():
  """One block instead of eight: what is tested here is what is done with the features."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(resnet.BACKBONES, "resnet18", ((1,), False))
    yield


def make_batch(seed=0, candidates=2):
  """Views of a video are alike; videos 0, 1, .. are of class 0, 1, 0, 1, .., some unknown."""
  rng = np.random.default_rng(seed)
  video = rng.integers(0, 256, (B, 1, 1, SIDE, SIDE, 3))
  noise = rng.integers(0, 256, (B, 2 + candidates, 1, SIDE, SIDE, 3))
  label = np.arange(B) % 2
  label[-2:] = -1
  return {"frames": (0.6 * video + 0.4 * noise).astype(np.uint8), "label": label.astype(np.int32),
          "record": np.arange(B, dtype=np.int32)}


@functools.cache
def build(**args):
  """(method, params, aux, loss); the queues hold the batch's own videos, as in a second epoch."""
  method = cycle_contrast.make(**SMALL | args)
  candidates = 0 if args.get("positives") == "same_frame" else 2
  params, aux = method.init(KEY, make_batch(candidates=candidates))
  aux = cycle_contrast.settled(aux)
  # Else all keys would be alike, and the key encoder equal to the query's.
  aux["key_params"] = jax.tree.map(lambda x: x * 1.1 + 0.02, params)
  rng = np.random.default_rng(0)
  newest = rng.integers(-1, B + 3, B).astype(np.int32)  # these entered both queues in one step
  for name, queue in aux["queues"].items():
    record = rng.integers(-1, B + 3, len(queue.groups)).astype(np.int32)
    record[-B:] = newest
    aux["queues"][name] = dataclasses.replace(queue, groups=jnp.asarray(record))
  return method, params, aux, jax.jit(step_of(method))


def step_of(method):
  """The loss, from queues that hold all keys to queues that hold all keys."""
  def step(params, aux, batch, key):
    value, (aux, metrics) = method.loss(
      params, cycle_contrast.unsettled(aux, len(batch["record"])), batch, key)
    return value, (cycle_contrast.settled(aux), metrics)
  return step


def encode(args, params, stats, crops):
  """Unit vectors by head, and running statistics, of one batch of the norms."""
  heads = ("intra",) if args["shared"] or not args["cycle"] else ("intra", "cycle")
  net = Encoder("resnet18", args["width"], heads, args["dim"], args["head"] == "mlp")
  x = (np.float64(crops) / 255 - cycle_contrast.MEAN) / cycle_contrast.STD
  out, moved = _apply(net, params, stats, np.float32(x))
  return {n: [reference.unit(v) for v in out[n]] for n in heads}, moved["batch_stats"]


@functools.partial(jax.jit, static_argnums=0)
def _apply(net, params, stats, x):
  return net.apply({"params": params, "batch_stats": stats}, x, train=True,
                   mutable=["batch_stats"])


def twin(args, params, aux, batch, draws):
  """Terms and total, what the keys are, and the running statistics, one crop after the other."""
  crops, n = batch["frames"][:, :, 0], B // args["groups"]
  queries = [encode(args, params, aux["batch_stats"], crops[g * n:(g + 1) * n, 0])
             for g in range(args["groups"])]
  names = []  # (query, view) group by group, keys before candidates
  for g in range(args["groups"]):
    rows = range(g * n, (g + 1) * n)
    names += [(i, 1) for i in rows] + [(i, v) for i in rows for v in range(2, crops.shape[1])]
  order = [names[k] for k in draws.order] if args["shuffle"] else names
  m = args["momentum"]
  key_params = jax.tree.map(lambda a, b: m * a + (1 - m) * b, aux["key_params"], params)
  size, found, stats = len(order) // args["groups"], {}, []
  for g in range(args["groups"]):
    part = order[g * size:(g + 1) * size]
    out, moved = encode(args, key_params, aux["key_batch_stats"],
                        np.stack([crops[i, v] for i, v in part]))
    stats.append(moved)
    for head, rows in out.items():
      found |= {(head, *at): v for at, v in zip(part, rows, strict=True)}
  heads = list(queries[0][0])
  query = {h: [v for q, _ in queries for v in q[h]] for h in heads}
  key = {h: [found[h, i, 1] for i in range(B)] for h in heads}
  candidate = {h: [[found[h, i, v] for v in range(2, crops.shape[1])] for i in range(B)]
               for h in heads}
  queues = {n: np.float64(q.keys) for n, q in aux["queues"].items()}
  records = {n: np.asarray(q.groups) for n, q in aux["queues"].items()}
  terms = reference.step(
    query, key, candidate, queues, batch["record"], records, draws, tau=args["temperature"],
    neighbour_tau=args["neighbour_temperature"], weight=args["cycle"],
    positives=args["positives"], mask_same_video=args["mask_same_video"], groups=args["groups"],
    with_self=args["with_self"])
  return terms, key, key_params, (queries[0][1], stats[0])


DEFAULTS = dict(shared=False, head="mlp", positives="random_frame", mask_same_video=True,
                shuffle=True, with_self=False)


@pytest.mark.parametrize("args", [
    dict(), dict(positives="same_frame", cycle=0, head="linear"),
    dict(positives="all_frames", shared=True, shuffle=False),
    dict(with_self=True, neighbours=0, mask_same_video=False, groups=1)], ids=str)
def test_a_step_is_the_twins(args):
  _, params, aux, loss = build(**args)
  whole = SMALL | DEFAULTS | args
  batch = make_batch(1, candidates=0 if whole["positives"] == "same_frame" else 2)
  views = batch["frames"].shape[:2]
  source = "intra" if whole["shared"] else "cycle"
  rows = whole[f"{source}_queue"] if whole["cycle"] else 0
  draws = cycle_contrast._draw(KEY, views, whole["groups"], rows, whole["neighbours"])
  draws = jax.tree.map(np.asarray, draws)
  terms, key, key_params, stats = twin(whole, params, aux, batch, draws)
  value, (after, metrics) = loss(params, aux, batch, KEY)
  np.testing.assert_allclose([metrics["intra"], metrics.get("cycle", 0.0), value], terms, rtol=1e-4)
  chex.assert_trees_all_close(after["key_params"], key_params, rtol=1e-5, atol=1e-6)
  chex.assert_trees_all_close((after["batch_stats"], after["key_batch_stats"]), stats, rtol=1e-4,
                              atol=1e-5)
  for name, queue in after["queues"].items():
    np.testing.assert_allclose(queue.keys[:B], key[name], atol=1e-5)
    np.testing.assert_array_equal(queue.keys[B:], aux["queues"][name].keys[B:])
    np.testing.assert_array_equal(queue.groups[:B], batch["record"])
    assert (int(queue.pointer), int(queue.filled)) == (B, B)
  if whole["cycle"]:
    np.testing.assert_array_equal(after["labels"][:B], batch["label"])
    assert (after["labels"][B:] == -1).all()


def test_draws_are_fair_and_follow_the_key():
  draw = jax.jit(lambda key: cycle_contrast._draw(key, (B, 4), G, 24, 7))
  draws = [draw(jax.random.key(i)) for i in range(40)]
  for d in draws:
    assert sorted(d.order.tolist()) == list(range(3 * B))
    assert d.neighbours.shape == (G, 7) and all(len(set(r)) == 7 for r in d.neighbours.tolist())
    assert d.neighbours[0].tolist() != d.neighbours[1].tolist()
  counts = np.bincount(np.concatenate([d.neighbours.ravel() for d in draws]), minlength=24)
  assert (counts > 5).all() and counts.max() < 50  # of 23 on average
  picks = np.stack([(d.intra, d.cycle) for d in draws])
  assert abs(picks.mean() - 0.5) < 0.1 and set(np.unique(picks)) == {0, 1}
  assert 0.3 < np.mean(picks[:, 0] == picks[:, 1]) < 0.7  # independent of each other
  chex.assert_trees_all_equal(draw(jax.random.key(0)), draws[0])
  given = {"neighbours": np.asarray(draws[1].neighbours), "intra": np.asarray(draws[1].intra),
           "cycle": np.asarray(draws[1].cycle), "order": np.asarray(draws[1].order)}
  _, params, aux, loss = build()
  want, _ = loss(params, aux, make_batch(1), jax.random.key(1))
  other, _ = loss(params, aux, make_batch(1), jax.random.key(0))
  got, _ = loss(params, aux, make_batch(1) | {"draws": given}, jax.random.key(0))
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert abs(other - want) > 1e-4


def test_watched_numbers():
  """Of the queue before the step: nothing is known in the first, everything in the fourth."""
  _, params, _, loss = build()
  aux, seen = cycle_contrast.settled(cycle_contrast.make(**SMALL).init(KEY, make_batch())[1]), []
  for t in range(4):
    batch = make_batch(2)
    batch["record"] += 0 if t in (0, 3) else B * t
    batch["label"] = np.full(B, 5, np.int32)
    _, (aux, metrics) = loss(params, aux, batch, jax.random.key(t))
    seen.append({k: float(v) for k, v in metrics.items()})
  assert [s["queue_filled"] for s in seen] == [0, 0.5, 1, 1]
  assert seen[0]["labelled"] == 0 and seen[3]["labelled"] == seen[3]["purity"] == 1
  assert [s["own_video"] for s in seen] == [0, 0, 0, 1]
  # Ages of 0, 1 and 2 steps, and of each row within its step.
  assert 0 < seen[3]["neighbour_age"] < 3 and seen[0]["neighbour_age"] == 0
  assert all(1 <= s["neighbours"] <= 7.001 for s in seen)
  assert all(0 <= s[k] <= 1 for s in seen for k in ("intra_top1", "cycle_return", "purity"))
  other = make_batch(2) | {"label": np.full(B, 4, np.int32)}
  _, (_, metrics) = loss(params, aux, other, KEY)
  assert metrics["purity"] == 0 and metrics["labelled"] == 1
  unlabelled = {k: v for k, v in other.items() if k != "label"}
  _, (after, metrics) = loss(params, aux, unlabelled, KEY)
  assert "purity" not in metrics and (after["labels"] == -1).sum() == B


def test_gradients_are_finite_and_reach_everything_also_of_blank_frames():
  method, params, aux, _ = build()
  grad = jax.jit(jax.grad(step_of(method), has_aux=True))
  found, _ = grad(params, aux, make_batch(), KEY)
  assert all(np.isfinite(g).all() and g.any() for g in jax.tree.leaves(found))
  blank = make_batch() | {"frames": np.zeros_like(make_batch()["frames"])}
  found, _ = grad(params, aux, blank, KEY)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(found))


def test_embeddings_are_the_query_encoders():
  method, params, aux, _ = build()
  frames = make_batch()["frames"][:3, 0, 0]
  embed = jax.jit(method.embed)
  got = embed(params, aux, {"frames": frames})
  assert got["features"].shape == (3, 4)
  x = jnp.float32(frames) / 255
  chex.assert_trees_all_close(embed(params, aux, {"frames": x}), got, atol=1e-5)
  net = Encoder("resnet18", 4, ("intra", "cycle"), 6)
  normal = (x - jnp.float32(cycle_contrast.MEAN)) / jnp.float32(cycle_contrast.STD)
  want = jax.jit(net.apply)({"params": params, "batch_stats": aux["batch_stats"]}, normal)
  np.testing.assert_allclose(got["features"], want["pooled"], atol=1e-5)
  np.testing.assert_allclose(got["projection"], [reference.unit(v) for v in want["intra"]],
                             atol=1e-5)


def test_dense_features_are_the_same_trunks_with_stride_8(monkeypatch):
  monkeypatch.setitem(resnet.BACKBONES, "resnet18", ((1, 1, 1, 1), False))
  method, rng = cycle_contrast.make(**SMALL), np.random.default_rng(0)
  params, aux = jax.jit(method.init)(KEY, make_batch())
  # Statistics as at the start would hide that others aren't used.
  stats = jax.tree.map(lambda x: x + jnp.float32(rng.uniform(-0.2, 0.2, x.shape)),
                       aux["batch_stats"])
  images = rng.integers(0, 256, (2, 40, 27, 3), np.uint8)
  given = params, aux | {"batch_stats": stats}, {"frames": images}
  got = jax.jit(method.dense)(*given)["features"]
  assert got.shape == (2, 5, 4, 32) and got.any()
  x = (jnp.float32(images) / 255 - jnp.float32(cycle_contrast.MEAN)) / jnp.float32(
    cycle_contrast.STD)
  variables = {"params": params["trunk"], "batch_stats": stats["trunk"]}
  want = jax.jit(siamfc.trunk("resnet18", width=4).apply)(variables, x)["stage4"]
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  ordinary = jax.eval_shape(resnet.make("resnet18", width=4).apply, variables, x)
  assert ordinary["stage4"].shape == (2, 2, 1, 32)  # takes the same parameters
  half = cycle_contrast.make(**SMALL, dtype="bfloat16").dense
  assert jax.eval_shape(half, *given)["features"].dtype == jnp.float32


def test_it_takes_what_the_reader_gives(tmp_path):
  rng, paths = np.random.default_rng(0), []
  for t in range(4):
    paths.append(str(tmp_path / f"{t}.png"))
    Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(paths[-1])
  read = Reader(functools.partial(sample.query_and_candidates, n=2), augment.moco(SIDE))
  rows = [read(Record(f"{i}", frames=tuple(paths)), np.random.default_rng(i))
          | {"record": np.int32(i)} for i in range(B)]
  batch = {k: np.stack([r[k] for r in rows]) for k in rows[0]}
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    k: (v.shape, v.dtype) for k, v in make_batch().items()}
  _, params, aux, loss = build()
  assert np.isfinite(loss(params, aux, batch, KEY)[0])


def training(method, batch, devices):
  """The state before the first step, `(state, n) -> (state, metrics of each)`, and its FLOPs."""
  tx = optim.make(steps=60, learning_rate=0.03, schedule="constant", optimiser="sgd")
  mesh = parallel.mesh(jax.devices()[:devices])
  placed, start = parallel.place(batch, mesh), train.init_state(method, tx, batch, 0, mesh)
  step = train.make_step(method, tx, mesh).lower(start, placed).compile()

  def run(state, n):
    seen = []
    for _ in range(n):
      state, metrics = step(state, placed)
      seen.append({k: float(v) for k, v in metrics.items()})
    return state, seen

  return start, run, step.cost_analysis()["flops"]


def test_it_learns_on_four_devices_and_resumed(tmp_path):
  """One program serves all steps. On one device it gives the same, and has all of the work."""
  method, batch = cycle_contrast.make(**SMALL | dict(groups=4)), make_batch(6)
  rng = np.random.default_rng(6)
  coarse = rng.integers(0, 256, (B, 1, 1, 4, 4, 3)).repeat(SIDE // 4, 3).repeat(SIDE // 4, 4)
  batch["frames"] = (0.8 * coarse + 0.2 * batch["frames"]).astype(np.uint8)
  state, run, flops = training(method, batch, 4)
  half, seen = run(state, 30)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(30, half, {"next_step": 30})
    checkpoints.wait()
    restored, _ = checkpoints.restore(half, {"next_step": 0})
  state, later = run(half, 30)
  again, _ = run(restored, 30)
  assert same(again, state)
  # From the sixth step on no random rows are left in the queues, which are easily told apart. The
  # way back finds a neighbour's own video: all videos are in the queue three times.
  for key, change in (("loss", -0.8), ("intra", -0.8), ("intra_top1", 0.2)):
    first, last = (np.mean([s[key] for s in part]) for part in (seen[5:10], later[-5:]))
    assert (last - first) / change > 1, (key, first, last)
  state, run, alone = training(method, batch, 1)
  assert flops < 0.4 * alone  # also of the shuffled keys, which have no place of their own
  _, steps = run(state, 3)
  for key in steps[0]:
    np.testing.assert_allclose([s[key] for s in seen[:3]], [s[key] for s in steps], rtol=2e-3,
                               atol=1e-5, err_msg=key)


@pytest.mark.parametrize("args, reason", [
    (dict(backbone="resnet51"), r"backbone='resnet51' is unknown; choose one of resnet18"),
    (dict(positives="other"), r"positives='other' is unknown; choose one of random_frame"),
    (dict(head="conv"), r"head='conv' is unknown"), (dict(dim=0), "dim=0 must be at least 1"),
    (dict(cycle=-0.1), r"cycle=-0\.1 must be at least 0"),
    (dict(temperature=0), "temperature=0 must be above 0"),
    (dict(neighbour_temperature=-1), "neighbour_temperature=-1 must be above 0"),
    (dict(momentum=1.0), r"momentum=1\.0 must be at least 0 and less than 1"),
    (dict(neighbours=24), r"neighbours=24 leaves no negatives of method\.args\.cycle_queue=24"),
    (dict(neighbours=16, shared=True), r"neighbours=16 leaves .*intra_queue=16")], ids=str)
def test_wrong_settings_are_named(args, reason):
  with pytest.raises(ConfigError, match=rf"method\.args\.{reason}"):
    cycle_contrast.make(**SMALL | args)


def test_wrong_batches_are_named():
  batch = make_batch()
  frames = batch["frames"]
  for args, change, error, reason in (
      (dict(intra_queue=20), {}, ConfigError, "intra_queue=20 is no multiple of the batch of 8"),
      (dict(groups=3), {}, ConfigError, r"method\.args\.groups=3 don't divide a batch of 8"),
      (dict(positives="same_frame"), {}, ValueError, "with N of 2, for"),
      (dict(), {"frames": frames[:, :2]}, ValueError, r"N of 2 \+ F, with F of at least 1"),
      (dict(), {"frames": frames[:, :, 0]}, ValueError, r"frames \(8, 4, 16, 16, 3\): expected"),
      (dict(), {"record": None}, ValueError, "no 'record'")):
    method = cycle_contrast.make(**SMALL | args)
    given = {k: v for k, v in (batch | change).items() if v is not None}
    with pytest.raises(error, match=reason):
      method.init(KEY, given)


def test_a_training_step_copies_no_queue():
  method, mesh = cycle_contrast.make(**SMALL), parallel.mesh(jax.devices()[:1])
  tx, batch = optim.make(steps=3), make_batch()
  state = train.init_state(method, tx, batch, 0, mesh)
  text = train.make_step(method, tx, mesh).lower(state, batch).compile().as_text()
  shapes = "|".join(f"{SMALL[f'{n}_queue']},{SMALL['dim']}" for n in ("intra", "cycle"))
  assert re.search(rf"f32\[(?:{shapes})\]", text)
  assert not re.findall(rf"= f32\[(?:{shapes})\]\S* copy(?:-start)?\(", text)
