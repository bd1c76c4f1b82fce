"""CorrFlow's checkpoints to variables and back: names, layouts, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.convert import checkpoints
from vssl_jax.convert import corrflow as convert
from vssl_jax.models.corrflow import Encoder


@functools.cache
def made():
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(Encoder(width=3, dim=5).init, jax.random.key(0),
                          jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
  return jax.tree.map(lambda v: rng.standard_normal(v.shape).astype(np.float32), shapes)


def state(**more):
  return convert.to_torch(made()["params"], made()["batch_stats"], **more)


def equal(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(
      jax.tree.map(np.array_equal, a, b))


def test_round_trip_names_and_layouts():
  torch = state(batches=32)
  assert len(torch) == 116
  kernel = torch["feature_extraction.layer3.0.shortcut.0.weight"]
  assert kernel.shape == (12, 6, 1, 1)
  assert kernel[7, 2, 0, 0] == made()["params"]["layer3_0"]["downsample_conv"]["kernel"][0, 0, 2, 7]
  head = torch["post_convolution.weight"]
  assert head[4, 1, 0, 2] == made()["params"]["head"]["kernel"][0, 2, 1, 4]
  assert torch["feature_extraction.layer1.1.left.4.num_batches_tracked"] == 32
  np.testing.assert_array_equal(torch["feature_extraction.conv1.1.running_var"],
                                made()["batch_stats"]["bn1"]["var"])
  found = convert.convert(torch)
  assert (found.kind, found.settings) == ("corrflow", {"width": 3, "dim": 5})
  assert equal(found.params, made()["params"])
  assert equal(found.batch_stats, made()["batch_stats"])


def test_load_opens_the_released_form(tmp_path):
  path = checkpoints.write(tmp_path / "checkpoint.pth",
                           {f"module.{n}": v for n, v in state().items()}, epoch=3)
  found = convert.load(path)
  assert equal(found.params, made()["params"])
  assert equal(found.batch_stats, made()["batch_stats"])
  wrong = checkpoints.write(tmp_path / "other.pth", {"fc.weight": np.zeros((2, 2), np.float32)})
  with pytest.raises(ValueError, match=r"other\.pth: not a CorrFlow encoder: feature_extr.*conv1"):
    convert.load(wrong)


@pytest.mark.parametrize("prefix", ["module.module.", "model.", "_orig_mod.", "net."])
def test_any_prefix_is_dropped(prefix, tmp_path):
  names = {f"{prefix}{n}": v for n, v in state().items()}
  found = convert.load(checkpoints.write(tmp_path / "a.pth", names | {"queue": np.zeros(3)}))
  assert equal(found.params, made()["params"]) and equal(found.batch_stats, made()["batch_stats"])
  with pytest.raises(ValueError, match=r"missing \[\], unexpected \['fc\.bias'\]"):
    convert.convert(names | {f"{prefix}fc.bias": np.zeros(3)})


@pytest.mark.parametrize("prefixes", [("a.", "b."), ("", "module.")])
def test_two_encoders_are_told(prefixes):
  both = {f"{prefix}{n}": v for prefix in prefixes for n, v in state().items()}
  with pytest.raises(ValueError, match=r"several encoders .* prefixes \['{}', '{}'\]: keep".format(
      *prefixes)):
    convert.convert(both)


NAME = "feature_extraction.layer2.1.left.3.weight"


@pytest.mark.parametrize("change, reason", [
    (lambda s: {n: v for n, v in s.items() if n != NAME},
     rf"missing \['{NAME}'\], unexpected \[\]"),
    (lambda s: s | {"fc.bias": np.zeros(3)}, r"missing \[\], unexpected \['fc\.bias'\]"),
    (lambda s: s | {NAME: np.zeros((6, 5, 3, 3))}, rf"{NAME} has shape \[6, 5, 3, 3\], which does"),
    (lambda s: s | {NAME: np.full_like(s[NAME], np.inf)}, f"{NAME} holds 324 non-finite values"),
    (lambda s: s | {"post_convolution.weight": np.zeros(4)}, r"post_convolution\.weight should be"),
])
def test_anything_else_is_refused_by_name(change, reason):
  with pytest.raises(ValueError, match=reason):
    convert.convert(change(state()))
