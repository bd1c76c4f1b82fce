"""What stored features depend on, and what a run's folder and its values depend on."""

import os

import numpy as np
import pytest

from data_pipelines.records import Record, RetrievalData
from data_pipelines.store import Store, StoreWriter
from experiments import cli, origin, tca
from experiments.retrieval import features
from vssl_jax.ops import whitening
from vssl_jax.types import ConfigError


def config(**values):
  c = tca.get_config()
  for name, value in values.items():
    group, _, key = name.partition("__")
    c[group][key] = value
  return c


def test_settings_that_leave_raw_features_alone_leave_their_folder_alone():
  same = [config(features__whiten=7), config(features__threads=5), config(data__seed=3),
          config(features__whitening="w.npz")]
  other = [config(features__crop=96), config(features__width=8), config(features__fps=2.0)]
  first = features.settings_digest(config().features)
  assert all(features.settings_digest(c.features) == first for c in same)
  digests = {features.settings_digest(c.features) for c in other}
  assert first not in digests
  assert len(digests) == len(other)


def test_weights_count_by_content_not_by_name_or_time(tmp_path):
  a, b = tmp_path / "a", tmp_path / "b"
  a.write_bytes(b"one")
  b.write_bytes(b"one")
  os.utime(b, (0, 0))
  digest = {p: features.settings_digest(config(features__weights=str(p)).features) for p in (a, b)}
  before = digest[a]
  a.write_bytes(b"two")
  assert origin.file_digest(str(b)) == origin.file_digest(str(b))
  assert features.settings_digest(config(features__weights=str(a)).features) != before


def test_a_video_that_could_be_read_in_the_end_is_no_longer_rejected(tmp_path):
  with StoreWriter(tmp_path, 2, {}, (1, 2)) as writer:
    writer.reject("a", "permission denied")
  assert Store(tmp_path).rejected == {"a": "permission denied"}
  with StoreWriter(tmp_path, 2, {}, (0, 2)) as writer:  # an earlier shard
    writer.append("a", np.ones((1, 2), np.float32))
  store = Store(tmp_path)
  assert list(store) == ["a"]
  assert store.rejected == {}
  view = store.view({"name": "a", "absent": "b"})
  assert list(view) == ["name"]
  np.testing.assert_array_equal(view["name"], np.ones((1, 2)))


class Descriptions:
  """In place of a backbone: descriptors drawn by the video's name."""

  dim, regions = 5, 1

  def sequences(self, videos):
    return ({"id": v.id, "ok": True, "frames": v.id} for v in videos)

  def __call__(self, frames):
    rng = np.random.default_rng(list(frames.encode()))
    return rng.standard_normal((3, self.dim)).astype(np.float32)


def prepare(cache, train, known=None, path=""):
  videos = {i: Record(i, str(cache / i)) for i in ("a", "b", "c", "q", "d")}
  data = RetrievalData(name="x", videos=videos, pairs=[train] if train else [], background=[],
                       groups={}, queries=["q"], database=["d"], annotation={"q": {"ND": ["d"]}})
  c = config(data__cache_dir=str(cache), features__whiten=3, features__whitening=str(path))
  return features.prepare(c, data, Descriptions(), known)


def test_a_whitening_is_fitted_given_or_that_of_the_run(tmp_path):
  store, fitted = prepare(tmp_path, ("a", "b"))
  assert set(store) == {"a", "b", "q", "d"}
  whitening.save(fitted, tmp_path / "w.npz")
  _, other = prepare(tmp_path, ("b", "c"))
  for train, known, path in ((("b", "c"), None, tmp_path / "w.npz"), ((), fitted, ""),
                             ((), None, tmp_path / "w.npz"), (("b", "c"), fitted, "")):
    # In one cache, after features that were whitened otherwise.
    found, used = prepare(tmp_path, train, known, path)
    np.testing.assert_array_equal(used.components, fitted.components)
    assert not np.array_equal(used.components, other.components)
    np.testing.assert_array_equal(found["q"], store["q"])
    want = whitening.apply(fitted, Descriptions()("q"))
    np.testing.assert_allclose(found["q"], want, atol=1e-5)


def test_a_whitening_must_be_there_and_fit(tmp_path):
  with pytest.raises(ConfigError, match=r"features\.whitening is empty, and there are no training"):
    prepare(tmp_path, ())
  _, fitted = prepare(tmp_path, ("a", "b"))
  whitening.save(fitted, tmp_path / "w.npz")
  for dim, whiten in ((5, 4), (6, 3)):
    c = config(features__whitening=str(tmp_path / "w.npz"), features__whiten=whiten).features
    with pytest.raises(ConfigError, match=f"takes 5 dimensions to 3, and descriptors here have "
                                          f"{dim}, of which features.whiten={whiten}"):
      features.given_whitening(c, dim, True)


def test_a_run_notices_other_weights_and_other_videos(tmp_path):
  begun = {"features.weights": "x", "data": "y"}
  origin.check(tmp_path, begun)  # a new run
  (tmp_path / "origin.json").write_text('{"features.weights": "x", "data": "z"}')
  origin.check(tmp_path, {"features.weights": "x"})
  with pytest.raises(ConfigError, match="files behind data have changed"):
    origin.check(tmp_path, begun)


def test_threads_and_cache_make_no_other_run(tmp_path, monkeypatch):
  monkeypatch.setattr("sys.argv", ["run", "--config=experiments/tca.py"])
  first, same = config(), config(train__threads=9, data__cache_dir="/elsewhere")
  assert cli._default_workdir(first) == cli._default_workdir(same)
  assert cli._default_workdir(first) != cli._default_workdir(config(train__steps=7))
  cli.record(first, tmp_path)
  cli.claim(same, tmp_path, first=False)
  with pytest.raises(ConfigError, match=r"train\.steps \(500 there, 7 now\)"):
    cli.claim(config(train__steps=7), tmp_path, first=False)
