"""Video ResNets' names to variables and back; anything but an exact fit is refused by name."""

import functools

import jax
import numpy as np
import pytest
import safetensors.numpy

from vssl_jax.convert import resnet3d as convert
from vssl_jax.models import resnet3d


@functools.cache
def made(backbone, width=4):
  """A network's variables, all leaves different."""
  net = resnet3d.make(backbone, width=width)
  shapes = jax.eval_shape(net.init, jax.random.key(0), resnet3d.CLIP)
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda v: rng.uniform(0.5, 1, v.shape).astype(np.float32), shapes)


def same(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(
    jax.tree.map(np.array_equal, a, b))


@pytest.mark.parametrize(("backbone", "count"), [
  ("r3d_18", 120), ("r2plus1d_18", 222), ("slow_r50", 318)])
def test_round_trip(backbone, count):
  state = convert.to_torch(made(backbone))
  assert len(state) == count and convert.identify(state) == (backbone, 4)
  assert same(convert.from_torch(state), made(backbone))
  classifier = "head.projection" if backbone == "slow_r50" else "fc"
  more = state | {f"{classifier}.weight": np.ones((2, 2)), f"{classifier}.bias": np.ones(2)}
  bare = {n: v for n, v in more.items() if "num_batches" not in n}
  assert same(convert.from_torch(bare), made(backbone))


def test_names_and_layouts():
  variables = made("r2plus1d_18")
  state, block = convert.to_torch(variables), variables["params"]["layer2_0"]
  kernel = block["conv1_0_0"]["kernel"]  # [t, h, w, in, out]
  assert state["layer2.0.conv1.0.0.weight"].shape == (14, 4, 1, 3, 3)
  assert state["layer2.0.conv1.0.0.weight"][5, 2, 0, 1, 2] == kernel[0, 1, 2, 2, 5]
  np.testing.assert_array_equal(state["layer2.0.conv1.1.weight"], block["conv1_1"]["scale"])
  assert state["layer2.0.downsample.0.weight"].shape == (8, 4, 1, 1, 1)
  slow = convert.to_torch(made("slow_r50"))
  assert slow["s4.pathway0_res1.branch2.a.weight"].shape == (16, 64, 3, 1, 1)
  assert {"s1.pathway0_stem.bn.running_var", "s2.pathway0_res0.branch1_bn.bias",
          "s5.pathway0_res2.branch2.c_bn.num_batches_tracked"} <= slow.keys()


def without(state, *names):
  return {n: v for n, v in state.items() if n not in names}


@pytest.mark.parametrize(("backbone", "change", "reason"), [
  ("r3d_18", lambda s: without(s, "layer3.1.conv2.1.bias", "stem.1.running_var"),
   r"not a r3d_18: missing layer3\.1\.conv2\.1\.bias, stem\.1\.running_var; unexpected nothing"),
  ("slow_r50", lambda s: {**s, "fc.weight": 0}, r"missing nothing; unexpected fc\.weight"),
  ("slow_r50", lambda s: {**s, "s4.pathway0_res0.branch2.a.weight": np.ones((16, 32, 1, 1, 1))},
   r"s4\.pathway0_res0\.branch2\.a\.weight has shape \[16, 32, 1, 1, 1\]"),
  ("r2plus1d_18", lambda s: {**s, "stem.4.weight": np.array([1, np.nan, np.inf, 1])},
   r"stem\.4\.weight holds 2 non-finite"),
  ("r3d_18", lambda s: {f"cnn.{n}": v for n, v in s.items()}, r"stem\.0\.weight among cnn\.layer"),
  ("r3d_18", lambda s: {**s, "stem.0.weight": np.ones((4, 3, 7, 7))}, "not a 3-D convolution"),
  ("r3d_18", lambda s: {}, "among nothing"),
])
def test_anything_else_is_refused_by_name(backbone, change, reason):
  with pytest.raises(ValueError, match=reason):
    convert.from_torch(change(convert.to_torch(made(backbone))))


def test_load_unwraps_and_names_the_file(tmp_path):
  state = convert.to_torch(made("slow_r50"))
  path = tmp_path / "moco.safetensors"
  wrapped = {f"module.backbone.{n}": v for n, v in state.items()}
  wrapped |= {f"module.backbone_hist.{n}": np.zeros_like(v) for n, v in state.items()}
  safetensors.numpy.save_file(wrapped | {"module.queue": np.ones(3)}, path)
  assert same(convert.load(path, backbone="slow_r50", width=4), made("slow_r50"))
  for settings, words in (({"prefixes": ()}, "not a video ResNet"),
                          ({"backbone": "r3d_18"}, "slow_r50 of width 4, not of a r3d_18"),
                          ({"width": 64}, "change backbone or width")):
    with pytest.raises(ValueError, match=rf"moco\.safetensors: .*{words}"):
      convert.load(path, **settings)
