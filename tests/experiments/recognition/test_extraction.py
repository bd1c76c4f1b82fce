"""Features of a user's videos: which moments rows are of, and going on after an interruption."""

import json

import ml_collections
import numpy as np
import pytest

from experiments import inputs
from experiments.recognition import data, extraction
from tests.experiments.recognition import videos

KINDS = {"frames": "image", "clips": "clip"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("videos")
  for k in range(2):
    videos.write(folder / f"v{k}.mkv", k)
  return folder


def config(kind, **changes):
  return ml_collections.ConfigDict(dict(views=videos.training(kind, size=16, **changes),
                                        embed=dict(batch=2)))


def run(folder, output, kind, embed=data.pixels, **changes):
  return extraction.extract(embed, inputs.find_videos(str(folder)), str(output),
                            config(kind, **changes), key="features",
                            origin={"run": "mine", "step": 3}, progress=False)


@pytest.mark.parametrize("kind, changes, numbers", [
    ("frames", {}, [[0], [4], [8]]),  # one a second, of 12 at 4 a second
    ("clips", {}, [[0, 2, 4, 6]]),  # a second clip would need 16 frames
    ("clips", dict(frames=2), [[0, 2], [4, 6], [8, 10]]),
    ("clips", dict(frames=3, stride=1, fps=2.0), [[0, 2, 4], [6, 8, 10]]),
    ("clips", dict(frames=8, stride=3), [[0, 3, 6, 9, 11, 11, 11, 11]]),  # too short: held
    ("clips", dict(frames=8, stride=3, short="loop"), [[0, 3, 6, 9, 0, 3, 6, 9]]),
    ("clips", dict(frames=4, stride=3, short="loop"), [[0, 3, 6, 9]])])
def test_rows_are_of_moments_in_order(folder, tmp_path, kind, changes, numbers):
  seen = []

  def embed(inputs):
    assert set(inputs) == {KINDS[kind]}
    seen.append(len(inputs[KINDS[kind]]))
    return data.pixels(inputs)

  done = run(folder, tmp_path / "o", kind, embed, **changes)
  assert (done.videos, done.frames) == (2, 2 * len(numbers)) and not done.bad
  assert seen == 2 * [*[2] * (len(numbers) // 2), *[1] * (len(numbers) % 2)]
  page = json.loads(done.page.read_text())
  assert (page["run"], page["step"], page["size"], page["output"]) == ("mine", 3, 16, "features")
  left = (videos.WIDTH - 16) // 2
  for k in range(2):
    entry, numbers = page["videos"][f"v{k}.mkv"], np.array(numbers)
    assert entry["seconds"] == (numbers[:, 0] / videos.FPS).tolist()
    assert (entry["fps"], entry["n_frames"]) == (videos.FPS, videos.FRAMES)
    x = videos.frames(k)[numbers][..., left:left + 16, :]
    x = x[:, 0] if kind == "frames" else x
    np.testing.assert_array_equal(np.load(tmp_path / "o" / entry["file"]),
                                  data.pixels({KINDS[kind]: x})["features"])


def test_it_goes_on_after_an_interruption(folder, tmp_path):
  calls = iter(range(99))

  def embed(inputs):
    if next(calls) == 3:  # in the second video, whose first block is written
      raise KeyboardInterrupt
    return data.pixels(inputs)

  with pytest.raises(KeyboardInterrupt):
    run(folder, tmp_path / "o", "frames", embed)
  assert [p.name for p in (tmp_path / "o").glob("*.npy")] == ["v0.mkv.npy"]
  done = run(folder, tmp_path / "o", "frames")
  assert (done.videos, done.kept, done.frames) == (2, 1, 6)
  whole = run(folder, tmp_path / "whole", "frames")
  for k in range(2):
    np.testing.assert_array_equal(*(np.load(d.page.parent / f"v{k}.mkv.npy")
                                    for d in (done, whole)))
