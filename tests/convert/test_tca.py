"""The authors' names to variables and back; anything but an exact fit is refused by name."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from tests.convert import checkpoints
from vssl_jax.convert import tca as convert
from vssl_jax.convert.torch_file import TorchFileError
from vssl_jax.models import aggregators

DIM = 8
SETTINGS = {
    "transformer": dict(layers=2, feed_forward=12),
    "netvlad": dict(clusters=3, output=7, reduction=3),
    "nextvlad": dict(clusters=3, expansion=3, groups=4, output=6, reduction=2),
    "lstm": dict(layers=3, hidden=5), "gru": dict(layers=1, hidden=5)}
every = pytest.mark.parametrize("name", SETTINGS)


def made(name):
  """A module's variables, all leaves different."""
  module = aggregators.make(name, SETTINGS[name])
  variables = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 2, DIM), np.float32),
                             np.int32([2]))
  rng = np.random.default_rng(0)
  tree = jax.tree.map(lambda v: rng.uniform(0.5, 1, v.shape).astype(np.float32), variables)
  return tree["params"], tree.get("batch_stats", {})


def state_of(name):
  return convert.to_torch(*made(name))


@every
def test_round_trip(name):
  params, stats = made(name)
  state = convert.to_torch(params, stats)
  found = convert.convert(state)
  assert found.kind == name
  assert found.settings == SETTINGS[name]
  for got, want in ((found.params, params), (found.batch_stats, stats)):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, got, want)
  again = convert.to_torch(found.params, found.batch_stats)
  assert again.keys() == state.keys()
  for key in state:
    np.testing.assert_array_equal(again[key], state[key], strict=True)
  jax.tree.map(np.testing.assert_array_equal, convert.from_torch(state), params)


def test_names_and_layouts_are_the_authors():
  params, stats = made("nextvlad")
  state = convert.to_torch(params, stats)
  assert state["conv1.weight"].shape == (24, 8, 1)
  assert state["conv1.weight"][5, 2, 0] == params["conv1"]["kernel"][2, 5]
  assert state["fc1.weight"].shape == (6, 18)
  assert state["fc1.weight"][4, 17] == params["head"]["fc1"]["kernel"][17, 4]
  np.testing.assert_array_equal(state["centroids"], params["centroids"])
  np.testing.assert_array_equal(state["bn4.running_var"], stats["head"]["bn4"]["var"])
  assert state["bn4.num_batches_tracked"].dtype == np.int64
  assert "conv3.bias" not in state
  params, _ = made("lstm")
  state = convert.to_torch(params)
  assert state["LSTM.weight_hh_l2"].shape == (20, 5)
  assert state["LSTM.weight_ih_l0"][11, 6] == params["layers_0"]["input_kernel"][6, 11]
  np.testing.assert_array_equal(state["LSTM.bias_hh_l1"], params["layers_1"]["hidden_bias"])
  params, _ = made("transformer")
  state = convert.to_torch(params)
  name = "transformer_encoder.layers.1.self_attn.in_proj_weight"
  assert state[name].shape == (24, 8)
  assert state[name][20, 3] == params["layers_1"]["self_attn"]["in_proj"]["kernel"][3, 20]


@every
@pytest.mark.parametrize("prefix", ["module.", "encoder_q.", "module.encoder_q.", "model."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_load(name, prefix, suffix, tmp_path):
  state = {prefix + k: v for k, v in state_of(name).items()}
  if "encoder_q" in prefix:
    other = prefix.replace("_q", "_k")
    state |= {k.replace(prefix, other): np.zeros_like(v) for k, v in state.items()}
    state[prefix.replace("encoder_q.", "queue")] = np.zeros((DIM, 4), np.float32)
  path = tmp_path / f"model{suffix}"
  if suffix == ".pth":
    checkpoints.write(path, state, epoch=40)
  else:
    safetensors.numpy.save_file(state, path)
  found = convert.load(path)
  assert (found.kind, found.settings) == (name, SETTINGS[name])
  params, stats = made(name)
  jax.tree.map(np.testing.assert_array_equal, found.params, params)
  jax.tree.map(np.testing.assert_array_equal, found.batch_stats, stats)


def test_half_and_double_precision_become_float32():
  for kind in (np.float16, np.float64):
    found = convert.convert({k: v.astype(kind) for k, v in state_of("gru").items()})
    leaves = jax.tree.leaves((found.params, found.batch_stats))
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}


@every
def test_every_name_is_needed_and_no_other(name):
  state = state_of(name)
  for key in state:
    if not key.endswith("num_batches_tracked"):
      with pytest.raises(ValueError, match="not a TCA"):
        convert.convert({k: v for k, v in state.items() if k != key})
  with pytest.raises(ValueError, match=rf"not a TCA {name}: missing \[\], unexpected \['extra'\]"):
    convert.convert(state | {"extra": np.zeros(3)})
  counters = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
  assert convert.convert(counters).kind == name


@every
def test_every_shape_counts(name):
  state = state_of(name)
  for i, (key, value) in enumerate(state.items()):
    if not key.endswith("num_batches_tracked"):
      wrong = (np.repeat(value, 2, axis=0), value[..., None, None], value[:0], np.float32(1))[i % 4]
      with pytest.raises(ValueError, match=r"not a TCA|has the shape of|does not divide"):
        convert.convert(state | {key: wrong})


def test_other_files(tmp_path):
  state = state_of("gru")
  with pytest.raises(ValueError, match=r"bn1\.bias holds 1 non-finite"):
    convert.convert(state | {"bn1.bias": np.where(np.arange(DIM) == 3, np.nan, 1)})
  with pytest.raises(ValueError, match="not a TCA encoder: no name contains"):
    convert.convert({"conv1.weight": np.zeros(3)})
  two = {f"{p}.{k}": v for p in ("a", "b") for k, v in state.items()}
  with pytest.raises(ValueError, match=r"several encoders in one file, prefixes \['a\.', 'b\.'\]"):
    convert.convert(two)
  path = checkpoints.write(tmp_path / "x.pth", {"w": np.zeros(3, np.float32)})
  with pytest.raises(ValueError, match=r"x\.pth: not a TCA encoder"):
    convert.load(path)
  path.write_bytes(b"PK\x03\x04")
  with pytest.raises(TorchFileError, match=r"x\.pth: truncated or damaged"):
    convert.load(path)
