"""Frame descriptors: pixels in, pooled stages out, as written in TCA specification 2."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from tests.reference import pooling as pooling_reference
from tests.reference import resnet as resnet_reference
from vssl_jax.convert import resnet as convert
from vssl_jax.models import frame_features


def frames(n=3, height=112, width=112, seed=0):
  """Blobs of colour, so that frames differ at all scales."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (n, -(-height // 16), -(-width // 16), 3))
  blocks = np.kron(coarse, np.ones((1, 16, 16, 1)))[:, :height, :width]
  return np.clip(blocks + rng.normal(0, 20, blocks.shape), 0, 255).astype(np.uint8)


SMALL = {"backbone": "resnet18", "width": 4}


def describe(features, variables, images):
  return np.asarray(jax.jit(features.apply)(variables, images))


@pytest.mark.parametrize(
  ("pooling", "twin"),
  [
    ("l3_irmac", pooling_reference.l3_irmac),
    ("imac", pooling_reference.imac),
    ("mac", lambda maps: pooling_reference.imac(maps, False)),
    ("l3_imac", pooling_reference.l3_imac),
  ],
)
def test_against_float64(pooling, twin):
  features = frame_features.make(**SMALL, pooling=pooling)
  variables = features.init()
  images = frames(2)
  normalised = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  state = convert.to_torch(variables)
  maps = resnet_reference.stages(state, normalised.transpose(0, 3, 1, 2))
  expected = [twin([m[i].transpose(1, 2, 0) for m in maps]) for i in range(2)]
  ours = describe(features, variables, images)
  assert ours.dtype == np.float32
  assert ours.shape[-1] == features.dim == 4 * 15
  np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_descriptor_length_of_the_final_model():
  assert frame_features.make().dim == 3840
  assert frame_features.make(backbone="resnet34", width=16).dim == 240


def test_frames_do_not_see_each_other():
  features = frame_features.make(**SMALL)
  variables = features.init()
  images = frames(4, 128, 100)
  together = describe(features, variables, images)
  np.testing.assert_allclose(describe(features, variables, images[2:3])[0], together[2], atol=1e-5)
  assert np.abs(together[0] - together[1]).max() > 0.01


def test_random_weights_follow_the_seed():
  a, b, c = (frame_features.make(**SMALL, seed=s).init()["params"] for s in (0, 0, 1))
  np.testing.assert_array_equal(a["conv1"]["kernel"], b["conv1"]["kernel"])
  assert np.abs(a["conv1"]["kernel"] - c["conv1"]["kernel"]).max() > 0.01
  given = frame_features.make(**SMALL).init(jax.random.key(1))["params"]
  np.testing.assert_array_equal(given["conv1"]["kernel"], c["conv1"]["kernel"])


def test_weights_from_a_file(tmp_path):
  source = frame_features.make(**SMALL, seed=5)
  variables, path = source.init(), tmp_path / "resnet18.safetensors"
  safetensors.numpy.save_file(convert.to_torch(variables), path)
  features = frame_features.make(**SMALL, weights=str(path))
  loaded = features.init(load=convert.load)
  np.testing.assert_array_equal(describe(features, loaded, frames()),
                                describe(source, variables, frames()))
  with pytest.raises(ValueError, match=r"resnet18\.safetensors.*pass load="):
    features.init()
  wider = frame_features.make(backbone="resnet18", width=8, weights=str(path))
  with pytest.raises(ValueError, match=r"resnet18 of width 4, not of a resnet18 of width 8"):
    wider.init(load=convert.load)


def test_bfloat16_stays_close():
  exact = frame_features.make(**SMALL)
  half = frame_features.make(**SMALL, dtype="bfloat16")
  variables = exact.init()
  a, b = (describe(f, variables, frames()) for f in (exact, half))
  assert b.dtype == np.float32
  assert ((a * b).sum(-1) / 4).min() > 0.999


@pytest.mark.parametrize(
  ("kwargs", "reason"),
  [
    ({"backbone": "vit"}, "unknown backbone 'vit'; choose from resnet18"),
    ({"pooling": "gem"}, "unknown pooling 'gem'; choose from l3_irmac, l3_imac, imac, mac"),
    ({"dtype": "float8"}, "unknown dtype 'float8'; choose from float32, bfloat16"),
  ],
)
def test_unknown_names_are_refused(kwargs, reason):
  with pytest.raises(ValueError, match=reason):
    frame_features.make(**kwargs)


def test_frames_of_another_form_are_refused():
  features = frame_features.make(**SMALL)
  variables = jax.eval_shape(features.init)
  for wrong in (frames()[0], frames()[..., :1], frames().astype(np.float32)):
    with pytest.raises(ValueError, match=r"\[N, H, W, 3\] uint8, got"):
      jax.eval_shape(features.apply, variables, wrong)
  with pytest.raises(ValueError, match="97 pixels"):
    jax.eval_shape(features.apply, variables, frames(1, 96, 200))
