"""A classifier: the loss from its own features, learning, what stays when frozen, embeddings."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from tests.reference import classification as reference
from vssl_jax import optim
from vssl_jax.methods import classifier
from vssl_jax.models import resnet
from vssl_jax.models.norm import BatchNorm
from vssl_jax.types import ConfigError

B, N, T, H, W, C = 6, 2, 2, 4, 4, 3
KEY = jax.random.key(0)


class Backbone(nn.Module):
  """One layer, a norm that remembers, and pooled features."""

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.relu(BatchNorm()(nn.Conv(8, (1, 3, 3), dtype=x.dtype)(x), train=train))
    return {"pooled": x.mean(axis=(1, 2, 3))}


def make(**args):
  return classifier.make(backbone=Backbone(), classes=C, **args)


@functools.cache
def batch():
  rng = np.random.default_rng(0)
  label = np.int32([0, 1, 2, 0, -1, 2])
  colour = rng.uniform(60, 190, (C + 1, 3))[label].reshape(B, 1, 1, 1, 1, 3)
  frames = colour + rng.normal(0, 20, (B, N, T, H, W, 3))
  return {"frames": np.clip(frames, 0, 255).astype(np.uint8), "label": label}


def trained(method, steps: int, **options):
  """(params, aux, metrics) before and after each step, by an optimiser with weight decay."""
  params, aux = jax.jit(method.init)(KEY, batch())
  tx = optim.make(steps=steps, learning_rate=0.03, schedule="constant",
                  **{"optimiser": "sgd", "weight_decay": 0.1, **options})
  opt, states = tx.init(params), [(params, aux, {})]

  @jax.jit
  def step(params, aux, opt, key):
    (_, (aux, metrics)), grad = jax.value_and_grad(method.loss, has_aux=True)(
        params, aux, batch(), key)
    updates, opt = tx.update(grad, opt, params)
    return jax.tree.map(lambda p, u: p + u, params, updates), aux, opt, metrics

  for i in range(steps):
    params, aux, opt, metrics = step(params, aux, opt, jax.random.fold_in(KEY, i))
    states.append((params, aux, {k: float(v) for k, v in metrics.items()}))
  return states


def changed(before, after) -> list[bool]:
  """Of each array, whether a bit of it differs."""
  return [np.asarray(a).tobytes() != np.asarray(b).tobytes()
          for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]


def test_loss_is_that_of_the_labelled_rows_of_the_whole_batch():
  method = make()
  params, aux = jax.jit(method.init)(KEY, batch())
  loss_fn = jax.jit(method.loss)
  loss, (moved, metrics) = loss_fn(params, aux, batch(), KEY)
  x = (batch()["frames"].reshape(-1, T, H, W, 3) / np.float32(255) - 0.45) / 0.225
  out, _ = jax.jit(lambda params, stats: Backbone().apply(
      {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]))(
          params["trunk"], aux["batch_stats"]["trunk"])
  scores = np.float64(out["pooled"]) @ params["fc"]["kernel"] + params["fc"]["bias"]
  label = np.repeat(batch()["label"], N)
  want = sum(reference.cross_entropy(scores, label)) / (label >= 0).sum()
  np.testing.assert_allclose(loss, want, rtol=1e-5)
  assert float(metrics["loss"]) == float(loss)
  np.testing.assert_allclose(metrics["labelled"], 5 / 6, rtol=1e-6)
  right = (scores.argmax(1) == label)[label >= 0].mean()
  np.testing.assert_allclose(metrics["top1"], right, rtol=1e-6)
  assert any(changed(aux["batch_stats"], moved["batch_stats"]))
  other = batch() | {"frames": batch()["frames"].copy()}
  other["frames"][4] = other["frames"][4][::-1, ::-1]  # no label: only the norms' batch has it
  frozen = {"fc": params["fc"]}, aux | {"frozen": {"trunk": params["trunk"]}}
  loss_frozen = jax.jit(make(frozen=True).loss)
  assert loss_frozen(*frozen, other, KEY)[0] == loss_frozen(*frozen, batch(), KEY)[0]
  none = batch() | {"label": np.full(B, -1, np.int32)}
  assert loss_fn(params, aux, none, KEY)[0] == 0


def test_steps_lower_the_loss_and_change_everything():
  states = trained(make(), 40)
  metrics = [m for *_, m in states[1:]]
  assert metrics[0]["loss"] == pytest.approx(np.log(C), abs=0.05)
  assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]
  assert metrics[-1]["top1"] == 1
  assert all(changed(states[0][0], states[1][0]))


@pytest.mark.parametrize("eval_norms", [True, False])
def test_only_the_last_layer_of_a_frozen_one_changes(eval_norms):
  states = trained(make(frozen=True, eval_norms=eval_norms, dropout=0.25), 30, weight_decay=0.01)
  (params, aux, _), (later, moved, metrics) = states[0], states[-1]
  assert jax.tree.structure(params) == jax.tree.structure({"fc": {"kernel": 0, "bias": 0}})
  assert changed(params, later) == [True, True]
  assert len(jax.tree.leaves(aux["frozen"])) == 4
  assert not any(changed(aux["frozen"], moved["frozen"]))
  assert any(changed(aux["batch_stats"], moved["batch_stats"])) == (not eval_norms)
  assert metrics["loss"] < states[1][2]["loss"] - 0.05


def test_the_last_layer_alone_at_first():
  states = trained(make(head_first=2), 3, weight_decay=0.0, optimiser="adam")
  for (params, aux, _), (later, moved, _), moves in zip(states, states[1:], (False, False, True),
                                                        strict=False):
    assert any(changed(params["trunk"], later["trunk"])) == moves
    assert all(changed(params["fc"], later["fc"]))
    assert any(changed(aux["batch_stats"], moved["batch_stats"]))


def test_dropout_leaves_the_mean_and_is_drawn_anew():
  x = np.ones((400, 50), np.float32)
  one, two = (np.asarray(classifier._drop(jax.random.key(k), x, 0.9)) for k in (0, 1))
  np.testing.assert_allclose(np.unique(one), [0, 10], rtol=1e-5)
  assert abs(one.mean() - 1) < 0.1
  assert np.any(one != two)
  method = make(dropout=0.5)
  start = jax.jit(method.init)(KEY, batch())
  loss_fn = jax.jit(method.loss)
  losses = {float(loss_fn(*start, batch(), jax.random.key(k))[0]) for k in (0, 0, 1)}
  assert len(losses) == 2


def test_embedding_of_clips():
  method = make(dropout=0.5)
  params, aux = jax.jit(method.init)(KEY, batch())
  clips = batch()["frames"][:, 0]
  out = jax.jit(method.embed)(params, aux, {"frames": clips})
  assert {k: v.shape for k, v in out.items()} == {"logits": (B, C), "video": (B, 8)}
  want = np.float64(out["video"]) @ params["fc"]["kernel"] + params["fc"]["bias"]
  np.testing.assert_allclose(out["logits"], want, rtol=1e-4, atol=1e-6)
  with pytest.raises(ValueError, match=r"expected \[B, T, H, W, 3\]$"):
    method.embed(params, aux, {"frames": clips[:, 0]})


def test_features_of_a_clip_are_the_mean_of_its_frames():
  method = classifier.make(backbone="resnet18", width=2, classes=C)
  rng = np.random.default_rng(1)
  clips = rng.integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
  params, aux = jax.jit(method.init)(KEY, {"frames": clips[:, None]})
  net = resnet.make("resnet18", width=2)
  assert jax.tree.map(np.shape, {"params": params["trunk"]}) == jax.tree.map(
      np.shape, {"params": jax.eval_shape(net.init, KEY, np.zeros((1, 32, 32, 3)))["params"]})
  out = jax.jit(method.embed)(params, aux, {"frames": clips})
  mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
  x = (clips.reshape(-1, 32, 32, 3) / np.float32(255) - mean) / deviation
  frames = jax.jit(net.apply)(
      {"params": params["trunk"], "batch_stats": aux["batch_stats"]["trunk"]}, x)["pooled"]
  np.testing.assert_allclose(out["video"], frames.reshape(2, 3, 16).mean(1), rtol=1e-4, atol=1e-5)
  shapes = jax.eval_shape(method.embed, params, aux, {"frames": clips[:, 0]})
  assert {k: v.shape for k, v in shapes.items()} == {"logits": (2, C), "features": (2, 16)}


@pytest.mark.parametrize("args, message", [
    (dict(classes=0), "method.args.classes=0"), (dict(width=0), "method.args.width=0"),
    (dict(dropout=1.0), "method.args.dropout=1.0"), (dict(groups=0), "method.args.groups=0"),
    (dict(dtype="half"), "float32, bfloat16"),
    (dict(frozen=True, head_first=3), "method.args.head_first is for"),
    (dict(backbone="r3d"), "method.args.backbone='r3d' is unknown.*resnet50.*r3d_18")])
def test_refusals(args, message):
  with pytest.raises(ConfigError, match=message):
    classifier.make(**{"classes": C, **args})
