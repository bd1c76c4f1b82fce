"""What a model gives for views: order and labels; shared between splits; resumed."""

import dataclasses
import shutil

import numpy as np
import pytest

from data_pipelines.records import Record
from experiments.recognition import data
from experiments.recognition.described import Change, Described
from tests.experiments.recognition import videos
from vssl_jax import log
from vssl_jax.types import ConfigError


@pytest.fixture(scope="module")
def some(tmp_path_factory):
  return videos.dataset(tmp_path_factory.mktemp("videos"), [1, -1, 0, 1])


def made(some, kind="clips", **changes):
  return data.Views(some, videos.views(kind, **changes), videos.training(kind), "evals.x.views")


class Embed:
  """Mean colours, and how many views were given at a time."""

  def __init__(self, stop_after=99):
    self.calls, self._stop_after = [], stop_after

  def __call__(self, inputs):
    (x,) = inputs.values()
    if len(self.calls) == self._stop_after:
      raise KeyboardInterrupt
    self.calls.append(len(x))
    mean = x.reshape(len(x), -1, 3).mean(1).astype(np.float32)
    return {"video": mean, "logvar": -mean[:, :2], "clip_mean": mean[:, None]}


@pytest.fixture(params=["memory", "disk"])
def scratch(request, tmp_path):
  return tmp_path if request.param == "disk" else None


@pytest.mark.parametrize("kind", ["frames", "clips"])
def test_rows_are_views_in_order_with_ids_and_labels(some, scratch, kind):
  embed = Embed()
  rows, out = Described(embed, "video", 2, scratch=scratch).of(made(some, kind))
  assert embed.calls == [4, 2]
  assert rows.videos.tolist() == ["v0", "v0", "v2", "v2", "v3", "v3"]
  assert rows.labels.tolist() == [1, 1, 0, 0, 1, 1]
  views = np.concatenate([x for _, _, x in made(some, kind)])
  np.testing.assert_allclose(rows.features, views.reshape(6, -1, 3).mean(1), rtol=1e-6)
  assert list(out) == ["logvar"]  # what no evaluation asks for isn't kept
  np.testing.assert_array_equal(out["logvar"], -rows.features[:, :2])


def test_splits_share_what_they_have_in_common(some, scratch):
  embed = Embed()
  all_of_them = Described(embed, "video", 8, scratch=scratch)
  first = dataclasses.replace(some, split="train1", records=some.records[:3])
  second = dataclasses.replace(some, split="train2", records=[
      dataclasses.replace(r, label=r.label + 2) for r in some.records[::-1] if r.label >= 0])
  one, _ = all_of_them.of(made(first))
  two, _ = all_of_them.of(made(second))
  assert embed.calls == [4, 2]
  assert two.videos.tolist() == ["v3", "v3", "v2", "v2", "v0", "v0"]
  assert two.labels.tolist() == [3, 3, 2, 2, 3, 3]
  np.testing.assert_array_equal(two.features[4:], one.features[:2])
  all_of_them.of(made(second, clips=3))  # other views are others
  assert embed.calls == [4, 2, 9]
  assert sorted(x.shape for x in all_of_them.features().values()) == 3 * [(2, 3)] + 3 * [(3, 3)]


def test_views_are_changed_before_they_are_embedded(some, scratch):
  seen, embed = [], Embed()

  def number(id_, views):
    seen.append(id_)
    return np.full_like(views, int(id_[1]))

  described = Described(embed, "video", 8, scratch=scratch)
  change = Change(("number", 1.0), number)
  (plain, _), (rows, _) = described.changed(made(some), [change])
  assert seen == ["v0", "v2", "v3"] and embed.calls == [6, 6]
  np.testing.assert_array_equal(rows.features, np.repeat([0, 2, 3], 2)[:, None] * np.ones(3))
  np.testing.assert_array_equal(plain.features, described.of(made(some))[0].features)
  assert embed.calls == [6, 6]
  described.changed(made(some), [change], needs="logvar")
  assert embed.calls == [6, 6] + [6] * (scratch is None)  # in memory what is changed isn't kept
  assert len(described.changed(made(some), [change], needs="logits")) == 1
  assert len(embed.calls) == 2 + (scratch is None)


def test_nothing_is_changed_in_a_brief_evaluation(some, scratch):
  embed = Embed()
  described = Described(embed, "video", 8, scratch=scratch, brief=True)
  assert len(described.changed(made(some), [Change(("k",), lambda id_, x: 0 * x)])) == 1
  assert embed.calls == [6]


def test_a_video_is_decoded_once_for_all_changes(some, scratch, monkeypatch):
  views, decoded = made(some), []
  read = views._read
  monkeypatch.setattr(views, "_read", lambda *args: (decoded.append(1), read(*args))[1])
  monkeypatch.setattr(views, "_keep", False)
  changes = [Change(("k", k), lambda id_, x, k=k: x // (k + 1)) for k in range(3)]
  parts = Described(Embed(), "video", 2, scratch=scratch).changed(views, changes)
  assert len(decoded) == 3 and len(parts) == 4
  assert parts[3][0].features.mean() < parts[2][0].features.mean() < parts[0][0].features.mean()


def test_an_interrupted_evaluation_goes_on(some, tmp_path):
  about = {"model": "step 5"}
  with pytest.raises(KeyboardInterrupt):
    Described(Embed(stop_after=2), "video", 1, scratch=tmp_path, about=about).of(made(some))
  embed = Embed()
  rows, out = Described(embed, "video", 1, scratch=tmp_path, about=about).of(made(some))
  assert embed.calls == [2]  # of the third video
  want, other = Described(Embed(), "video", 3).of(made(some))
  np.testing.assert_array_equal(rows.features, want.features)
  np.testing.assert_array_equal(out["logvar"], other["logvar"])
  again = Embed()
  Described(again, "video", 1, scratch=tmp_path, about=about).of(made(some))
  assert not again.calls
  Described(again, "video", 1, scratch=tmp_path, about={"model": "step 6"}).of(made(some))
  assert again.calls == [2, 2, 2]


def test_a_file_that_changed_is_described_anew(some, tmp_path):
  copies = [dataclasses.replace(r, video=str(shutil.copy(r.video, tmp_path / f"{r.id}.mp4")))
            for r in some.records if r.label >= 0]
  (tmp_path / "v2.mp4").write_bytes(b"no video")
  found, scratch = dataclasses.replace(some, records=copies), tmp_path / "scratch"
  for _ in range(2):
    rows, _ = Described(Embed(), "video", 9, scratch=scratch).of(views := made(found))
    assert rows.videos.tolist() == ["v0", "v0", "v3", "v3"]
    assert set(views.bad.reasons) == {"v2"}  # told each time
  shutil.copy(some.records[2].video, tmp_path / "v2.mp4")
  shutil.copy(some.records[0].video, tmp_path / "v3.mp4")
  embed = Embed()
  rows, _ = Described(embed, "video", 9, scratch=scratch).of(made(found))
  assert embed.calls == [4] and rows.videos.tolist() == ["v0", "v0", "v2", "v2", "v3", "v3"]
  np.testing.assert_array_equal(rows.features[4:], rows.features[:2])


def test_what_is_missing_is_told(some, tmp_path):
  with pytest.raises(ConfigError, match="the model gives clip_mean, logvar, video, but no 'featu"):
    Described(Embed(), "features", 2).of(made(some))
  (tmp_path / "bad.mp4").write_bytes(b"no video")
  none = dataclasses.replace(some, records=[Record("bad", str(tmp_path / "bad.mp4"), label=2)])
  for scratch in (None, tmp_path / "scratch"):
    with pytest.raises(ConfigError, match="no video of some test can be read"):
      Described(Embed(), "video", 2, scratch=scratch).of(made(none))


def test_what_is_not_finite_is_told(some, scratch):
  def embed(inputs):
    out = Embed()(inputs)
    return out | {"logvar": out["logvar"] / np.float32([0, 1])}

  with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="for v0 isn't finite"):
    Described(embed, "video", 2, scratch=scratch).of(made(some))


def test_an_id_that_occurs_twice_is_refused(some):
  twice = dataclasses.replace(some, records=[some.records[0]] * 2)
  with pytest.raises(ConfigError, match=r"evals\.x\.views: the id 'v0' occurs twice in some test"):
    made(twice)


def test_long_work_shows_progress(some, monkeypatch, capsys):
  monkeypatch.setattr(log, "PATIENCE", 1e9)
  Described(Embed(), "video", 1).of(made(some))
  assert capsys.readouterr().err == ""
  monkeypatch.setattr(log, "PATIENCE", 0.0)
  Described(Embed(), "video", 1).of(made(some))
  told = capsys.readouterr().err
  assert "some test: " in told and "0/3" in told
