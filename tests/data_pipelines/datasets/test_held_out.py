"""Parts of folders without lists: who is held out, and that readers agree."""

import pytest

from data_pipelines.datasets import folder, held_out, homography
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import homography as layout


def test_parts_complete_each_other_and_adding_moves_nobody():
  ids = [f"v{i}" for i in range(60)]
  train, held = (held_out.part(ids, s, 0.25, 3, "x") for s in ("train", "heldout"))
  assert train | held == set(ids) == held_out.part(ids, "all", 0.25, 3, "x") and not train & held
  assert 5 < len(held) < 25
  more = held_out.part([*ids, "another"], "heldout", 0.25, 3, "x")
  assert more - {"another"} == held
  assert held_out.part(ids, "heldout", 0.25, 4, "x") != held
  assert held_out.part(ids, "train", 0.0, 3, "x") == set(ids)


@pytest.mark.parametrize("ids, split, share, words", [
    (["a", "b", "c"], "heldout", 0.0, "of 3 video\\(s\\) none are held out"),
    (["a", "b"], "heldout", 0.5, "of 2 video\\(s\\) none are held out"),
    (["a", "b", "c"], "train", 1.0, "holdout is a share from 0 to 1 .* got 1.0"),
    (["a", "b", "c"], "all", -0.1, "got -0.1")])
def test_impossible_parts(ids, split, share, words):
  with pytest.raises(DataError, match=words):
    held_out.part(ids, split, share, 0, "x")


def test_moved_pictures_are_held_out_as_their_videos_are(tmp_path):
  layout.write(tmp_path)
  options = dict(frames=2, size=32, holdout=0.4, holdout_seed=1)
  moved = {s: {r.id for r in homography.read(str(tmp_path), s, **options).records}
           for s in ("all", "train", "heldout")}
  assert moved["train"] | moved["heldout"] == moved["all"] and moved["heldout"]
  assert not moved["train"] & moved["heldout"]
  videos = {s: {r.id for r in folder.read(str(tmp_path), s, holdout=0.5, holdout_seed=2).records}
            for s in ("all", "train")}
  assert videos["train"] <= videos["all"]
