"""Frames described by several regions: raw and whitened features, exports, who may use them."""

import functools

import jax
import numpy as np
import pytest

from experiments import tca
from experiments.retrieval import features
from experiments.workflows import retrieval
from tests.experiments import harness
from vssl_jax import export, parallel
from vssl_jax.models import frame_features
from vssl_jax.ops import whitening
from vssl_jax.types import ConfigError

VISIL = "experiments/tca.py:visil"
TINY = {k: v for k, v in harness.TINY.items() if k not in (
    "features.pooling", "features.short_side", "features.crop")
    and not k.startswith("method.")} | {"train.steps": 4, "train.eval_every": 0}


def config(preset="visil", **values):
  c = tca.get_config(preset)
  with c.unlocked():
    c.features.update(width=4, whiten=8)
    for name, value in values.items():
      *path, key = name.split("__")
      functools.reduce(getattr, path, c)[key] = value
  return c


@functools.cache
def model():
  return retrieval.Model(config(), parallel.mesh(jax.devices()[:1]))


@functools.cache
def frames():
  return np.random.default_rng(0).integers(0, 256, (6, 136, 136, 3), np.uint8)


def test_a_raw_descriptor_is_its_regions_end_to_end():
  extractor, net = model().extractor, frame_features.make(
      backbone="resnet18", width=4, pooling="l3_imac")
  want = np.asarray(jax.jit(net.apply)(net.init(), frames()))
  assert want.shape == (6, 4, 60)
  assert (extractor.regions, extractor.dim) == (4, 240)
  np.testing.assert_allclose(extractor(frames()), want.reshape(6, 240), atol=1e-5)


def test_regions_are_whitened_each_by_itself():
  raw = {"a": np.random.default_rng(1).standard_normal((30, 24)).astype(np.float32),
         "b": np.random.default_rng(2).standard_normal((3, 24)).astype(np.float32)}

  class View(dict):
    def length(self, name):
      return len(self[name])

  c = config(features__whiten=4).features
  white = features.fit_whitening(View(raw), list(raw), c, regions=3)
  assert white.components.shape == (8, 4)
  rng = np.random.default_rng(c.seed)
  drawn = [raw[i][rng.integers(len(raw[i]), size=c.whiten_frames)] for i in raw]
  want = whitening.fit([np.concatenate(drawn).reshape(-1, 8)], 4)
  np.testing.assert_array_equal(white.components, want.components)
  got = features.whitener(white)(raw["a"])
  assert got.shape == (30, 12)
  for r in range(3):
    np.testing.assert_allclose(got[:, 4 * r:4 * r + 4],
                               whitening.apply(white, raw["a"][:, 8 * r:8 * r + 8]), atol=1e-5)


def test_the_export_takes_frames_to_the_methods_inputs(tmp_path):
  m = model()
  raw = m.extractor(frames())
  m.whitening = whitening.fit([raw.reshape(-1, 60)], 8)
  assert m.dim == 32
  state = m.init_state()
  m.export(state, tmp_path)
  x = np.asarray(export.load(tmp_path / "frames.jaxexport")({"frames": frames()})["x"])
  np.testing.assert_allclose(x, features.whitener(m.whitening)(raw), atol=1e-4)
  assert "4 whitened unit vectors a frame" in (tmp_path / "frames.json").read_text()
  inputs = {"x": x[None], "length": np.array([6], np.int32)}
  got = export.load(tmp_path / "embed.jaxexport")(inputs)
  live = m.embed(state)(inputs)
  assert got["frames"].shape == (1, 6, 32)
  for key in live:
    np.testing.assert_allclose(got[key], live[key], atol=1e-6)


@pytest.mark.parametrize("values, message", [
    (dict(method=dict(name="tca", args={})), r"by 4 regions, and method\.name='tca' knows none"),
    (dict(method__args__regions=9), r"method\.args\.regions=9, but .* by 4; make it .*regions=4"),
    (dict(method=dict(name="comparator", args={})), r"method\.args\.regions=1, but "),
    (dict(features__pooling="imac"), r"regions=4, but features\.pooling='imac' .* by 1; make"),
    (dict(features__whiten=61), r"features\.whiten=61 is more than the 60 dimensions")])
def test_a_method_for_another_number_of_regions_is_refused(values, message):
  with pytest.raises(ConfigError, match=message):
    retrieval.Model(config(**values), parallel.mesh())


def test_one_vector_a_frame_is_for_all_methods():
  for preset in ("", "comparator"):
    m = retrieval.Model(config(preset), parallel.mesh())
    assert m.extractor.regions == 1
    m.check()


@pytest.mark.slow
def test_a_run_with_regions_reaches_its_table(cache, server, tmp_path):
  result = server.run(*harness.train(tmp_path / "run", cache, VISIL, TINY))
  assert result.status == 0, result.err
  rows = harness.rows(tmp_path / "run")
  assert list(rows) == ["mean-pooled features", "untrained comparator", "trained comparator"]
  steps = [row for row in harness.metrics(tmp_path / "run") if "loss" in row]
  assert all(np.isfinite(row["loss"]) and row["excess"] >= 0 for row in steps)
  assert len(steps) == 4
