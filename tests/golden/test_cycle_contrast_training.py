"""Whole training steps of CycleContrast, on one device and on two, against the authors' own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.golden import rules
from vssl_jax import optim
from vssl_jax.convert import cycle_contrast as convert
from vssl_jax.methods import cycle_contrast
from vssl_jax.ops import bank as banks

CORNERS = {"im_q": 0, "im_k": 1, "cand": 2}


@pytest.fixture(scope="module")
def folder(golden_dir):
  mine = golden_dir / "cycle_contrast"
  if not mine.is_dir():
    pytest.skip(f"no {mine}")
  return mine


def load(folder, kind):
  """[(arrays, seed, weights)] of every file `kind`*.npz; the longest name of names.json fits."""
  known, found = rules.load_cases(folder), []
  for path in sorted(folder.glob(f"{kind}*.npz")):
    entry = known[max((n for n in known if path.stem.startswith(n)), key=len)]
    found.append((dict(np.load(path, allow_pickle=False)), entry["seed"], rules.make_params(entry)))
  assert found, f"no {kind} in {folder}"
  return found


def images(seed: int, t: int, count: int, side: int):
  """The README's made images [N, 3, 3, side, side]: query, key and candidate, normalised."""
  def drawn(k, shape):
    return rules.draw((seed, 10_000_000 + k), shape).astype(np.float32)

  def image(k, shape):
    coarse = drawn(1000 + t + k, (*shape[:-2], side // 8, side // 8))
    blocks = np.kron(coarse, np.ones((8, 8), np.float32))
    return (blocks + np.float32(0.3) * drawn(5000 + t + k, shape)).astype(np.float32)

  q = image(0, (count, 3, side, side))
  others = [image(k, shape).reshape(q.shape) for k, shape in
            ((1, q.shape), (2, (count, 1, 3, side, side)))]
  return np.stack([q, *(np.float32(0.8) * q + np.float32(0.6) * x for x in others)], axis=1)


def frames(crops):
  """As a batch has them: [N, 3, 1, H, W, 3] in units of levels."""
  x = np.moveaxis(crops, 2, -1).astype(np.float64)
  x = x * cycle_contrast.STD + cycle_contrast.MEAN
  return jnp.asarray(x[:, :, None])


def side(corner, seed: int, t: int, count: int) -> int:
  """Of the images, which no array tells: the one with which the stored corner comes out."""
  h, w = corner.shape[-2:]
  for n in range(16, 257, 8):
    if np.abs(images(seed, t, count, n)[:, 0, :, :h, :w] - corner).max() < 1e-6:
      return n
  raise AssertionError("no size of the made images gives the stored corner")


def support(data) -> int:
  """How many rows are neighbours: those that aren't negatives."""
  return data["perm_U"].shape[1] - (data["cycle_logits"].shape[2] - 1)


def start(state, *, copied):
  """params, aux: both encoders and queues of a state dict."""
  def wide(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)

  query, key = (convert.convert(state, side=s) for s in ("query", "key"))

  def bank(name):
    keys = wide(state[name].T)
    return banks.Bank(keys, jnp.full((len(keys),), -1, jnp.int32), jnp.int32(0), jnp.int32(0))

  queues = {"intra": bank("queue"), "cycle": bank("queue_cycle")}
  aux = {"batch_stats": wide(query.batch_stats), "key_batch_stats": wide(key.batch_stats),
         "key_params": wide(query.params if copied else key.params), "queues": queues,
         "labels": jnp.full((len(queues["cycle"].keys),), -1, jnp.int32)}
  return wide(query.params), aux, query.settings


def make(settings, aux, neighbours, **args):
  rows = {f"{n}_queue": len(q.keys) for n, q in aux["queues"].items()}
  return cycle_contrast.make(**settings, **rows, **args, neighbours=neighbours,
                             mask_same_video=False)


def error(ours, golden):
  ours, golden = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
  assert ours.shape == golden.shape
  return np.linalg.norm(ours - golden) / np.linalg.norm(golden)


@pytest.fixture
def logits(monkeypatch):
  """Scores of every step, [intra, cycle, intra, ..], as they are computed."""
  seen, returned = [], cycle_contrast.losses.returned

  def watched(scores):
    jax.debug.callback(lambda *x: seen.append([np.asarray(v) for v in x]), *scores, ordered=True)
    return returned(scores)

  monkeypatch.setattr(cycle_contrast.losses, "returned", watched)
  return seen


def rows(scores, columns=slice(None), tau=0.07):
  positive, negative, _ = scores
  return np.concatenate([positive, negative[:, columns]], axis=1) / tau


def torch_names(params, aux):
  """Everything that a state dict of the authors would hold but the queues."""
  return convert.to_torch(params, aux["batch_stats"]) | convert.to_torch(
    aux["key_params"], aux["key_batch_stats"], side="key")


def run_steps(case, logits):
  """Yields (step, golden arrays, ours by the same keys)."""
  data, seed, state = case
  logits.clear()
  count, chosen = data["intra_logits"].shape[1], support(data)
  hw = side(data["im_q_step0_corner"], seed, 0, count)
  params, aux, settings = start(state, copied=True)
  method = make(settings, aux, chosen, groups=1, shuffle=False)
  # The rate changes every step here.
  tx = optim.make(steps=200, learning_rate=float(data["lr"][0]), optimiser="sgd", momentum=0.9,
                  weight_decay=1e-4)
  opt_state = tx.init(params)

  @jax.jit
  def update(params, aux, opt_state, batch):
    aux = cycle_contrast.unsettled(aux, count)
    (_, (aux, metrics)), grads = jax.value_and_grad(method.loss, has_aux=True)(
      params, aux, batch, jax.random.key(0))
    aux = cycle_contrast.settled(aux)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), aux, opt_state, metrics

  rate = optim.learning_rate_at("cosine", float(data["lr"][0]), 200)
  np.testing.assert_allclose([rate(t) for t in range(len(data["lr"]))], data["lr"], rtol=1e-6)
  for t in range(len(data["loss_total"])):
    crops = images(seed, 10 * t, count, hw)
    check_corners(data, crops, t)
    perm = data["perm_U"][t].astype(np.int32)
    batch = {"frames": frames(crops), "record": jnp.arange(count, dtype=jnp.int32),
             "draws": {"neighbours": perm[None, :chosen]}}
    params, aux, opt_state, metrics = update(params, aux, opt_state, batch)
    jax.effects_barrier()
    ours = {"loss_intra": metrics["intra"], "loss_cycle": metrics["cycle"],
            "loss_total": metrics["loss"], "intra_logits": rows(logits[2 * t]),
            "cycle_logits": rows(logits[2 * t + 1], perm[chosen:])}
    for queue, head in (("queue", "intra"), ("queue_cycle", "cycle")):
      ours[queue] = aux["queues"][head].keys.T
    ours |= {"ptr": aux["queues"]["intra"].pointer[None],
             "ptr_cycle": aux["queues"]["cycle"].pointer[None]}
    yield t, data, ours | {f"after.{k}": v for k, v in torch_names(params, aux).items()}


def check_corners(data, crops, t):
  for prefix, k in CORNERS.items():
    corner = data.get(f"{prefix}_step{t}_corner")
    if corner is not None:
      h, w = corner.shape[-2:]
      np.testing.assert_allclose(crops[:, k, :, :h, :w], corner.reshape(-1, 3, h, w), atol=1e-6)


def check_steps(case, logits):
  checked = set()
  for t, data, ours in run_steps(case, logits):
    for key, value in ours.items():
      if key not in data:
        continue
      kept = data.get(f"{key}#steps")
      place = t if kept is None else (list(kept).index(t) if t in kept else None)
      if place is not None:
        if key.startswith("ptr"):
          np.testing.assert_array_equal(value, data[key][place], err_msg=key)
        else:
          tolerance = 1e-4 if key.startswith(("loss", "intra", "cycle")) else 1e-5
          assert error(value, data[key][place]) < tolerance, (t, key)
        checked.add(key)
  assert checked == {k for k in data if "#" not in k and "corner" not in k} - {"lr", "perm_U"}


@pytest.mark.slow
def test_whole_steps(folder, logits):
  with jax.enable_x64(True):
    for case in load(folder, "e2e_steps"):
      check_steps(case, logits)


def test_two_devices_with_shuffled_keys(folder, logits):
  """Each device has a group of the norms, and draws neighbours of its own."""
  with jax.enable_x64(True):
    for case in load(folder, "shuffle_bn"):
      check_devices(case, logits)


def check_devices(case, logits):
  data, seed, state = case
  logits.clear()
  ranks, count = data["intra_logits"].shape[:2]
  chosen, hw = support(data), side(data["im_q_corner"][0], seed, 0, count)
  crops = np.stack([images(seed, 10 * r, count, hw) for r in range(ranks)])
  h, w = data["im_q_corner"].shape[-2:]
  np.testing.assert_allclose(crops[:, :, 0, :, :h, :w], data["im_q_corner"], atol=1e-6)
  params, aux, settings = start(state, copied=False)
  loss = jax.jit(make(settings, aux, chosen, groups=ranks).loss)
  labels = data["queue_labels_after"].reshape(ranks, -1)[0, :ranks * count].astype(np.int32)
  order, perm = (data[k].astype(np.int32) for k in ("idx_shuffle", "perm_U"))
  for r in range(ranks):  # the first group's statistics are kept, so each device's turn comes
    move = r * 2 * count
    batch = {"frames": frames(np.roll(crops, -r, axis=0).reshape(-1, *crops.shape[2:])),
             "record": jnp.asarray(np.roll(labels, -r * count)),
             "draws": {"order": (np.roll(order[r], -move) - move) % order.shape[1],
                       "neighbours": np.roll(perm, -r, axis=0)[:, :chosen]}}
    before = cycle_contrast.unsettled(aux, len(labels))
    _, (after, metrics) = loss(params, before, batch, jax.random.key(0))
    after = cycle_contrast.settled(after)
    compare_statistics(data, after, r)
    if not r:
      jax.effects_barrier()
      compare_devices(data, after, metrics, logits, perm[:, chosen:])


def compare_statistics(data, after, rank):
  ours, checked = torch_names(after["key_params"], after), 0
  for key in [k for k in data if k.startswith("after.")]:
    assert error(ours[key.removeprefix("after.")], data[key][rank]) < 1e-5, (key, rank)
    checked += 1
  assert checked


def compare_devices(data, after, metrics, logits, rest):
  for name, scores in zip(("intra", "cycle"), logits, strict=True):
    np.testing.assert_allclose(metrics[name], np.mean(data[f"loss_{name}"]), rtol=1e-5)
    ranks = [[x.reshape(len(rest), -1, x.shape[1])[r] for x in scores] for r in range(len(rest))]
    for r, own in enumerate(ranks):
      columns = rest[r] if name == "cycle" else slice(None)
      assert error(rows(own, columns), data[f"{name}_logits"][r]) < 1e-5, (name, r)
  for r in range(len(rest)):
    for key, head in (("queue_after", "intra"), ("queue_cycle_after", "cycle")):
      assert error(after["queues"][head].keys.T, data[key][r]) < 1e-5, key
    labels = data["queue_labels_after"][r].ravel()
    groups = np.asarray(after["queues"]["intra"].groups)
    np.testing.assert_array_equal(np.where(groups < 0, 0, groups), labels)
