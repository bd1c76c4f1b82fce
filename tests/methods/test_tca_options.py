"""TCA beyond its paper: the terms of S2VS, frame level, frame weights."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.methods.test_tca import KEY, B, D, M, T, make, make_batch
from tests.reference import losses as reference
from tests.reference import retrieval as chamfers
from vssl_jax import optim, parallel, train
from vssl_jax.methods import tca
from vssl_jax.types import ConfigError

NCE = dict(loss="info_nce", tau=0.2)
ALL = NCE | dict(level="both", self_similarity=0.7, hard_negative=0.4, frame_weights=True)
GROUPS = dict(anchor=[0, 1, -1, 1], negative=[[0, 5, 2], [-1, 6, 7], [1, 8, -1], [9, 3, 4]])


@functools.cache
def build(**args):
  method = make(**args)
  params, aux = jax.jit(method.init)(KEY, make_batch(0))
  params = jax.tree.map(lambda p: p + 0.1 * jnp.sin(jnp.arange(p.size)).reshape(p.shape), params)
  return method, params, aux, jax.jit(jax.value_and_grad(method.loss, has_aux=True))


def flat(side):
  return {"x": side["x"].reshape(-1, T, D), "length": side["length"].reshape(-1)}


def frames(method, params, side):
  out = jax.jit(lambda p, v: method.embed(p, {}, v))(params, flat(side))
  return [f[:n] for f, n in zip(np.float64(out["frames"]), out["length"], strict=True)]


@functools.cache
def frame_case():
  """A loss at the level of frames, and its similarities one pair at a time."""
  method, params, aux, step = build(level="frame", bank_size=0, hard_negative=0.5, **NCE)
  batch = make_batch(1, **GROUPS)
  (value, (_, metrics)), grad = step(params, aux, batch, KEY)
  anchor, positive, negative = (frames(method, params, batch[k])
                                for k in ("anchor", "positive", "negative"))
  s = np.array([[chamfers.symmetric_chamfer(a, c) for c in positive + negative] for a in anchor])
  group_a = np.array(GROUPS["anchor"])
  groups = np.concatenate([group_a, np.reshape(GROUPS["negative"], -1)])
  mask = (groups != group_a[:, None]) | (group_a[:, None] < 0)
  mask[range(B), range(B)] = False
  return value, metrics, grad, s, mask


def test_frame_level_compares_by_chamfer_with_all_other_videos_of_the_batch():
  value, metrics, grad, s, mask = frame_case()
  assert not mask[1, 3] and not mask[3, 1] and mask[0, 1] and mask.sum() < B * (B * M + B - 1)
  s_p = np.diagonal(s)
  nce = functools.partial(reference.info_nce, tau=0.2)
  hard = [reference.hardest_negative(list(row[keep]), eps=1e-3)
          for row, keep in zip(s, mask, strict=True)]
  want = reference.rows(nce, s_p, s, mask).mean() + 0.5 * np.mean(hard)
  np.testing.assert_allclose(value, want, rtol=1e-5)
  np.testing.assert_allclose(metrics["positive"], s_p.mean(), atol=1e-5)
  np.testing.assert_allclose(metrics["hardest"], np.where(mask, s, -1).max(1).mean(), atol=1e-5)
  assert optax.tree.norm(grad) > 0.01


def test_both_levels_add_up_and_video_level_keeps_its_bank():
  batch = make_batch(2)
  for side in batch.values():
    side["length"][:] = T
  values = {}
  for level, bank in (("video", 17), ("frame", 0), ("both", 17)):
    _, params, aux, step = build(level=level, bank_size=bank, hard_negative=0.5, **NCE)
    (values[level], (aux, metrics)), _ = step(params, aux, batch, KEY)
  np.testing.assert_allclose(values["both"], values["video"] + values["frame"], rtol=1e-5)
  assert {"top1", "frame_top1"} <= metrics.keys() and int(aux["bank"].filled) == B * M


def test_self_similarity_is_that_of_two_encodings_and_has_a_gradient():
  """Of one pair, so that the mean similarities in the metrics are its own."""
  batch = jax.tree.map(lambda a: a[:1], make_batch(3))
  batch["anchor"]["length"][:] = T
  args = dict(level="both", bank_size=17, hard_negative=0.5) | NCE
  (*_, plain), (_, params, aux, step) = (
      build(**args), build(self_similarity=0.7, self_keep=0.5, **args))
  (without, _), grad = plain(params, aux, batch, KEY)
  (value, (_, metrics)), with_term = step(params, aux, batch, KEY)
  selves = [float(metrics[k]) for k in ("self", "frame_self")]
  assert all(0 < s < 0.99999 for s in selves)
  want = sum(0.7 * reference.absolute(s, eps=1e-3) for s in selves)
  np.testing.assert_allclose(value - without, want, rtol=1e-3)
  assert optax.tree.norm(jax.tree.map(jnp.subtract, grad, with_term)) > 1e-3


def test_a_steps_key_fixes_all_its_random_choices():
  _, params, aux, step = build(**ALL)
  batch = make_batch(5)
  first, again = (step(params, aux, batch, KEY) for _ in range(2))
  chex.assert_trees_all_equal(first, again)
  other, _ = step(params, aux, batch, jax.random.key(8))
  assert abs(other[0] - first[0][0]) > 1e-3
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(first) if x.dtype == jnp.float32)
  for name, grad in first[1]["weights"]["hidden"].items():
    assert np.abs(grad).max() > 1e-4, name


def test_the_retrieval_loss_teaches_weights_on_one_device_as_on_four_traced_once_each():
  """A frame that all videos show says nothing about any; the others show what a pair shares."""
  chex.clear_trace_counter()
  method = make(**ALL)
  method = method._replace(loss=chex.assert_max_traces(method.loss, 2))  # one a mesh
  batch, junk = make_batch(6), np.arange(T) % 2 == 1
  for name, side in batch.items():
    if name == "positive":
      side["x"] += 3 * batch["anchor"]["x"][:, :1]
    side["x"][..., junk, :] = np.eye(D)[0]
    side["x"] /= np.linalg.norm(side["x"], axis=-1, keepdims=True)
    side["length"][:] = T
  tx, seen = optim.make(steps=80, learning_rate=3e-3, weight_decay=0), {1: [], 4: []}
  for devices, steps in ((1, 3), (4, 80)):
    mesh = parallel.mesh(jax.devices()[:devices])
    state = train.init_state(method, tx, batch, 0, mesh)
    step, placed = train.make_step(method, tx, mesh), parallel.place(batch, mesh)
    for _ in range(steps):
      state, metrics = step(state, placed)
      seen[devices].append({k: float(v) for k, v in metrics.items()})
  for one, four in zip(seen[1], seen[4], strict=False):
    chex.assert_trees_all_close(one, four, rtol=1e-3, atol=1e-5)
  out = method.embed(state.params, {}, {k: batch["anchor"][k] for k in ("x", "length")})
  assert out.keys() == {"video", "frames", "length", "attention", "weights"}
  weights = np.asarray(out["weights"])
  assert weights[:, junk].max() < 0.4  # from 0.5
  assert weights[:, ~junk].mean() > 2 * weights[:, junk].mean()


@pytest.mark.parametrize("args, text", [
    (dict(level="clip"), "level='clip' is unknown; choose one of video, frame, both"),
    (dict(level="both", loss="released_circle"), "use another loss, or level='video'"),
    (dict(level="frame"), "set bank_size=0, or level='both'"),
    (dict(self_similarity=-1.0), "self_similarity=-1.0 must be at least 0"),
    (dict(hard_negative=-0.1), "hard_negative=-0.1 must be at least 0"),
    (dict(self_keep=0.0), "self_keep=0.0 must be above 0 and at most 1"),
    (dict(self_similarity=1.0, self_keep=1.0, aggregators=dict(transformer=dict(dropout=0.0))),
     "set self_keep below 1"),
    (dict(frame_weights=True, aggregator="netvlad"), "'netvlad' keeps none"),
])
def test_options_that_make_no_sense_are_named(args, text):
  with pytest.raises(ConfigError, match=re.escape(text)):
    tca.make(**args)
