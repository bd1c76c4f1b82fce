"""Exported functions: the same numbers as the live model, in a process that has only JAX."""

import functools
import hashlib
import json
import subprocess
import sys
import textwrap

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax import export, parallel
from vssl_jax.methods import tca
from vssl_jax.types import ConfigError

DIM = 8
INPUTS = {"x": export.Input(("b", "t", DIM), "float32", "descriptors"),
          "length": export.Input(("b",), "int32", "true number of frames")}
OUTPUTS = {"video": "unit vector of a video", "frames": "unit vectors of its frames",
           "length": "how many are valid", "attention": "received by each frame"}


def batch(b, t, seed=0):
  rng = np.random.default_rng(seed)
  return {"x": rng.standard_normal((b, t, DIM)).astype(np.float32),
          "length": rng.integers(1, t + 2, b).astype(np.int32)}


@functools.cache
def embed():
  settings = dict(layers=2, heads=2, feed_forward=16)
  method = tca.make(aggregators=dict(transformer=settings), bank_size=4)
  params, aux = jax.jit(method.init)(jax.random.key(0), {"anchor": batch(1, 2)})
  return jax.jit(functools.partial(method.embed, params, aux))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  path = tmp_path_factory.mktemp("export") / "embed.jaxexport"
  export.save(path, embed(), INPUTS, outputs=OUTPUTS, normalisation="whitened", about="step 3")
  return path


SIZES = [(1, 1), (1, 7), (3, 4), (5, 16)]


def test_an_exported_model_equals_the_live_one_for_any_batch_and_length(exported):
  fn = export.load(exported)
  for b, t in SIZES:
    got, want = fn(batch(b, t, b)), embed()(batch(b, t, b))
    assert got.keys() == want.keys() == OUTPUTS.keys()
    for name in want:
      assert got[name].shape == want[name].shape
      np.testing.assert_allclose(got[name], want[name], atol=1e-6)


@pytest.mark.parametrize("name, settings", [
    ("netvlad", dict(clusters=3, output=6)), ("nextvlad", dict(clusters=3, output=6)),
    ("lstm", dict(hidden=6)), ("gru", dict(hidden=6))])
def test_every_aggregator_can_be_exported_for_any_batch_and_length(name, settings, tmp_path):
  args = settings | {"reduction": 2} if "output" in settings else settings
  method = tca.make(aggregator=name, aggregators={name: args}, bank_size=4)
  params, aux = jax.jit(method.init)(jax.random.key(0), {"anchor": batch(1, 2)})
  aux["batch_stats"] = jax.tree.map(lambda x: x + 0.5, aux["batch_stats"])
  path, live = tmp_path / "embed.jaxexport", jax.jit(functools.partial(method.embed, params, aux))
  export.save(path, live, INPUTS, outputs=OUTPUTS, normalisation="whitened", about="step 3")
  fn = export.load(path)
  for b, t in SIZES[::2]:
    got, want = fn(batch(b, t, b)), live(batch(b, t, b))
    assert got.keys() == want.keys() == {"video", "frames", "length"}
    for key in want:
      assert got[key].shape == want[key].shape
      np.testing.assert_allclose(got[key], want[key], atol=1e-6)


def test_an_exported_model_runs_over_all_devices(exported):
  rows = batch(11, 5)
  mesh = parallel.mesh(jax.devices()[:4])
  got = parallel.host_fn(export.load(exported), mesh, batch=8)(rows)
  for name, want in embed()(rows).items():
    np.testing.assert_allclose(got[name], want, atol=1e-6)


def test_it_needs_only_jax(exported, tmp_path):
  code = """
    import pathlib, sys
    import jax, jax.export
    import numpy as np
    data = pathlib.Path(sys.argv[1]).read_bytes()
    fn = jax.jit(jax.export.deserialize(data).call)
    with np.load("inputs.npz") as f:
      np.savez("outputs.npz", **fn({"x": f["x"], "length": f["length"]}))
    assert not {"vssl_jax", "flax", "optax"} & set(sys.modules)
  """
  np.savez(tmp_path / "inputs.npz", **batch(3, 4))
  subprocess.run([sys.executable, "-I", "-c", textwrap.dedent(code), str(exported)], check=True,
                 cwd=tmp_path)
  with np.load(tmp_path / "outputs.npz") as f:
    for name, want in embed()(batch(3, 4)).items():
      np.testing.assert_allclose(f[name], want, atol=1e-6)


def test_the_page_says_how_to_call_it(exported):
  page = json.loads(exported.with_suffix(".json").read_text())
  assert page["inputs"] == {
      "x": {"shape": ["b", "t", DIM], "dtype": "float32", "meaning": "descriptors"},
      "length": {"shape": ["b"], "dtype": "int32", "meaning": "true number of frames"}}
  shapes = {"video": ["b", DIM], "frames": ["b", "t", DIM], "length": ["b"],
            "attention": ["b", "t"]}
  dtypes = {"video": "float32", "frames": "float32", "length": "int32", "attention": "float32"}
  assert page["outputs"] == {
      name: {"shape": shapes[name], "dtype": dtypes[name], "meaning": OUTPUTS[name]}
      for name in OUTPUTS}
  assert (page["about"], page["normalisation"]) == ("step 3", "whitened")
  assert page["platforms"] == ["cpu", "cuda", "tpu"]
  assert page["jax"] == jax.__version__
  data = exported.read_bytes()
  assert page["sha256"] == hashlib.sha256(data).hexdigest()
  inside = jax.export.deserialize(bytearray(data))
  assert list(inside.platforms) == page["platforms"]
  assert inside.calling_convention_version == page["calling_convention_version"]
  assert sorted(p.name for p in exported.parent.iterdir()) == ["embed.jaxexport", "embed.json"]


@pytest.fixture
def copy(exported, tmp_path):
  path = tmp_path / "embed.jaxexport"
  path.write_bytes(exported.read_bytes())
  path.with_suffix(".json").write_bytes(exported.with_suffix(".json").read_bytes())
  return path


@pytest.mark.parametrize("damage", ["shorter", "longer", "a bit"])
def test_a_damaged_file_is_refused(copy, damage):
  data = bytearray(copy.read_bytes())
  if damage == "shorter":
    data = data[:-1]
  elif damage == "longer":
    data += b"\0"
  else:
    data[len(data) // 2] ^= 1
  copy.write_bytes(data)
  with pytest.raises(ConfigError, match=r"embed\.jaxexport is damaged.*embed\.json"):
    export.load(copy)


@pytest.mark.parametrize("text", [b"", b'{"inputs": {', b"\xff\xfe", b"{}"])
def test_a_damaged_page_is_refused(copy, text):
  copy.with_suffix(".json").write_bytes(text)
  with pytest.raises(ConfigError, match="damaged"):
    export.load(copy)


@pytest.mark.parametrize("suffix", [".jaxexport", ".json"])
def test_a_missing_file_is_named_with_the_way_to_make_it(copy, suffix):
  copy.with_suffix(suffix).unlink()
  with pytest.raises(ConfigError, match=rf"embed\{suffix}: no such file; .*--mode=export"):
    export.load(copy)


def test_platforms(tmp_path, monkeypatch):
  def save(name, *platforms):
    export.save(tmp_path / name, lambda inputs: {"y": inputs["x"].sum(-1)},
                {"x": export.Input(("b", 3), "float32", "numbers")}, outputs={"y": "their sum"},
                normalisation="none", about="a test", platforms=platforms)
    return tmp_path / name

  both = export.load(save("both.jaxexport", "cpu", "tpu"))
  np.testing.assert_allclose(both({"x": jnp.arange(6.0).reshape(2, 3)})["y"], [3, 12])
  foreign = save("foreign.jaxexport", "tpu", "cuda")
  with pytest.raises(ConfigError, match=r"foreign\.jaxexport was exported for tpu, cuda, not cpu"):
    export.load(foreign)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # what JAX calls cuda
  export.load(foreign)
  with pytest.raises(ConfigError, match="for cpu, tpu, not cuda"):
    export.load(tmp_path / "both.jaxexport")
