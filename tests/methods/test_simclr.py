"""SimCLR on clips: the loss from its own projections, learning, embeddings, refusals."""

import functools

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from tests.reference import losses as reference
from vssl_jax.methods import simclr, video_clips
from vssl_jax.models.norm import BatchNorm
from vssl_jax.types import ConfigError

B, N, T, H, W = 4, 3, 2, 4, 4
KEY = jax.random.key(0)


class Backbone(nn.Module):
  """One layer, a norm that remembers, and pooled features."""

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.relu(BatchNorm()(nn.Conv(8, (1, 3, 3), dtype=x.dtype)(x), train=train))
    return {"pooled": x.mean(axis=(1, 2, 3))}


METHOD = simclr.make(backbone=Backbone(), dim=5, temperature=0.2)


def make_batch():
  rng = np.random.default_rng(0)
  frames = rng.uniform(30, 220, (B, 1, 1, 1, 1, 3)) + rng.normal(0, 30, (B, N, T, H, W, 3))
  return {"frames": np.clip(frames, 0, 255).astype(np.uint8),
          "record": np.int32([5, 2, 5, 8])}


@functools.cache
def start():
  return jax.jit(METHOD.init)(KEY, make_batch())


def test_loss_is_that_of_the_projections_of_the_whole_batch():
  params, aux = start()
  batch = make_batch()
  loss, (moved, metrics) = METHOD.loss(params, aux, batch, KEY)
  x = (batch["frames"].reshape(-1, T, H, W, 3) / np.float32(255) - 0.45) / 0.225
  net = simclr.Projected(Backbone(), simclr.Head(5), np.float32)
  out, _ = net.apply({"params": params, **aux}, x, train=True, mutable=["batch_stats"])
  owner = np.repeat(batch["record"], N)
  want = reference.nt_xent(out["projection"], owner, tau=0.2).mean()
  np.testing.assert_allclose(loss, want, rtol=1e-5)
  assert float(metrics["loss"]) == float(loss)
  unit = reference.unit(np.float64(out["projection"]))
  cosine, same = unit @ unit.T, owner[:, None] == owner
  off = ~np.eye(B * N, dtype=bool)
  np.testing.assert_allclose(metrics["positive"], cosine[same & off].mean(), rtol=1e-4)
  np.testing.assert_allclose(metrics["negative"], cosine[~same].mean(), rtol=1e-4)
  nearest = np.where(off, cosine, -2).argmax(1)
  np.testing.assert_allclose(metrics["top1"], (owner[nearest] == owner).mean(), rtol=1e-6)
  before, after = (jax.tree.leaves(s["batch_stats"]) for s in (aux, moved))
  assert any(np.any(a != b) for a, b in zip(before, after, strict=True))


def test_some_steps_tell_videos_apart():
  params, aux = start()
  tx = optax.adam(1e-2)
  opt = tx.init(params)

  @jax.jit
  def step(params, aux, opt):
    (_, (aux, metrics)), grad = jax.value_and_grad(METHOD.loss, has_aux=True)(
        params, aux, make_batch(), KEY)
    updates, opt = tx.update(grad, opt, params)
    return optax.apply_updates(params, updates), aux, opt, metrics

  history = []
  for _ in range(30):
    params, aux, opt, metrics = step(params, aux, opt)
    history.append({k: float(v) for k, v in metrics.items()})
  assert history[-1]["loss"] < history[0]["loss"] - 0.3
  assert history[-1]["top1"] == 1
  apart = [row["positive"] - row["negative"] for row in history]
  assert apart[-1] > apart[0] + 0.2


def test_embedding():
  params, aux = start()
  frames = make_batch()["frames"]
  out = METHOD.embed(params, aux, {"frames": frames})
  assert {k: v.shape for k, v in out.items()} == {"video": (B, 8), "projection": (B, 5),
                                                   "clip_features": (B, N, 8)}
  np.testing.assert_allclose(out["video"], np.mean(out["clip_features"], axis=1), rtol=1e-5)
  one = METHOD.embed(params, aux, {"frames": frames[:, 1]})
  np.testing.assert_allclose(one["video"], out["clip_features"][:, 1], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(one["projection"], axis=1), 1, rtol=1e-5)
  each = [METHOD.embed(params, aux, {"frames": frames[:, n]})["projection"] for n in range(N)]
  np.testing.assert_allclose(out["projection"], np.mean(each, axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("args, message", [
    (dict(temperature=0), "method.args.temperature=0"), (dict(width=0), "method.args.width=0"),
    (dict(dim=0), "method.args.dim=0"), (dict(dtype="half"), "float32, bfloat16"),
    (dict(backbone="r3d"), "method.args.backbone=.*r3d_18")])
def test_refusals_of_settings(args, message):
  with pytest.raises(ConfigError, match=message):
    simclr.make(**args)


def test_first_variables_of_a_named_backbone_are_those_of_the_module():
  method = simclr.make(backbone="r3d_18", width=2, dim=3)
  clips = jax.ShapeDtypeStruct((1, 2, 4, 16, 16, 3), np.float32)
  params, aux = jax.eval_shape(method.init, KEY, {"frames": clips})
  net = simclr.Projected(video_clips.make_backbone("r3d_18", 2, "float32"), simclr.Head(3),
                         np.float32)
  want = jax.eval_shape(net.init, KEY, jax.ShapeDtypeStruct(clips.shape[1:], np.float32))
  assert {"params": params, **aux} == want


def test_refusals_of_batches():
  params, aux = start()
  frames = make_batch()["frames"]
  with pytest.raises(ValueError, match="two clips or more"):
    METHOD.loss(params, aux, {"frames": frames[:, :1]}, KEY)
  with pytest.raises(ValueError, match=r"expected \[B, N, T, H, W, 3\]"):
    METHOD.loss(params, aux, {"frames": frames[:, 0]}, KEY)
