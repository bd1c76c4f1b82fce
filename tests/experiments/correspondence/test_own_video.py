"""Masks and points of a user's own video: what is found, what is written, what goes wrong."""

import csv
import json
import pathlib
import weakref
from fractions import Fraction

import numpy as np
import pytest

from data_pipelines import decode
from data_pipelines.encode import decode_bytes
from data_pipelines.errors import DataError
from data_pipelines.pictures import read_labels
from experiments.correspondence import own_video
from experiments.correspondence.marked import Points
from tests.data_pipelines import clips
from tests.data_pipelines.test_pictures import encoded
from tests.experiments.correspondence import scenes
from vssl_jax.evaluators import dense, masks
from vssl_jax.evaluators.propagation import PROTOCOLS, protocol
from vssl_jax.types import ConfigError

# Few references: the frames are small, and so are the programs.
NEAR = protocol("crw", recent=(1, 2), radius=4)
FLOOR = dense.lab_blocks(8, reach=1)
LENGTH = 6


def rows(path):
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


def propagate(*args, **kwargs):
  return own_video.propagate(FLOOR, NEAR, *map(str, args), progress=False, **kwargs)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
  """A folder with a video, its first label map, and two points on the object."""
  folder = tmp_path_factory.mktemp("material")
  frames, labels = scenes.scene(LENGTH)
  scenes.write_video(folder / "a.mp4", frames)
  (folder / "first.png").write_bytes(masks.encode(labels[0]))
  (folder / "first.csv").write_text("name,x,y\nnose,25.5,30\n\"tail, left\",37,40.25\n")
  return folder


@pytest.fixture(scope="module")
def carried(material):
  return propagate(material / "a.mp4", material / "first.png", material / "masks")


@pytest.fixture(scope="module")
def pointed(material):
  return propagate(material / "a.mp4", material / "first.csv", material / "points")


def test_masks_follow_the_objects_and_keep_their_numbers(carried):
  _, truth = scenes.scene(LENGTH)
  found = [read_labels(p) for p in sorted(carried.labels.iterdir())]
  assert len(found) == LENGTH and carried.frames == LENGTH and carried.size == scenes.SIZE
  np.testing.assert_array_equal(found[0], truth[0])
  for t in range(1, LENGTH):
    assert set(np.unique(found[t])) == {0, *scenes.IDS}
    for k in scenes.IDS:
      assert scenes.overlap(found[t] == k, truth[t] == k) > 0.8
  assert not carried.lost


def test_the_overlay_is_the_video_with_coloured_objects(carried, material):
  frames, truth = scenes.scene(LENGTH)
  shown = decode_bytes(carried.overlay.read_bytes())
  assert shown.shape == frames.shape
  with own_video.media.open_media(own_video._record(str(carried.overlay))) as reader:
    assert reader.fps == 12.5
  colour = masks.palette()[5].astype(int)
  inside = np.stack([shown[t][truth[t] == 5].mean(0) - frames[t][truth[t] == 5].mean(0)
                     for t in range(LENGTH)])
  towards = (colour - np.stack([frames[t][truth[t] == 5].mean(0) for t in range(LENGTH)]))
  assert (inside * towards).sum(1).min() > 0.3 * (towards ** 2).sum(1).max()


def test_the_page_and_the_text_say_how_it_was_made(carried, material):
  page = json.loads((carried.folder / "propagation.json").read_text())
  assert page["finished"] and page["frames"] == LENGTH and page["protocol"]["top_k"] == 10
  assert page["first"] == str(material / "first.png")
  text = carried.text()
  assert f"{LENGTH} frames of 112x64" in text and str(carried.overlay) in text
  assert carried.frames_per_second == LENGTH / carried.seconds
  assert sorted(p.name for p in carried.folder.iterdir()) == ["masks", "overlay.mp4",
                                                              "propagation.json"]


def test_points_follow_within_a_cell(pointed):
  table = rows(pointed.labels)
  assert list(table[0]) == ["frame", "time", "name", "x", "y", "found"]
  assert [(int(r["frame"]), r["name"]) for r in table] == [
      (t, name) for t in range(LENGTH) for name in ("nose", "tail, left")]
  places = np.array([(float(r["x"]), float(r["y"])) for r in table]).reshape(LENGTH, 2, 2)
  truth = np.array([(25.5, 30), (37, 40.25)]) + scenes.STEP * np.arange(LENGTH)[:, None, None] * (
      1, 0)
  assert np.abs(places - truth).max() < 8
  assert np.abs(places - truth).mean() < 3  # what doesn't move within its cell stays there
  np.testing.assert_allclose([float(r["time"]) for r in table[::2]], np.arange(LENGTH) / 12.5,
                             atol=1e-4)
  assert all(r["found"] == "1" for r in table) and not pointed.lost
  assert len(decode_bytes(pointed.overlay.read_bytes())) == LENGTH


def test_a_lost_point_has_no_place(tmp_path):
  """The cell of one point looks like no other, and is gone in the second frame."""
  frames = np.zeros((3, *scenes.SIZE, 3), np.uint8)
  frames[0, 48:56, 96:104] = 255
  (tmp_path / "p.csv").write_text("x,y\n4,4\n99.5,51.5\n")
  def embed(inputs):
    cells = inputs["image"][:, ::8, ::8, 0] > 128
    return {"features": np.stack([cells, ~cells], -1).astype(np.float32)}
  written = own_video.propagate(embed, NEAR, scenes.write_pictures(tmp_path / "v", frames),
                                str(tmp_path / "p.csv"), str(tmp_path / "o"), progress=False)
  table = rows(written.labels)
  assert [r["found"] for r in table] == ["1", "1", "1", "0", "1", "0"]
  assert [(r["x"], r["y"]) for r in table[1::2]] == [("99.50", "51.50"), ("", ""), ("", "")]
  assert written.lost == {"1": 2} and "  1: in 2 of 3 frames" in written.text()


@pytest.mark.parametrize("align", ["cell", "half_pixel"])
@pytest.mark.parametrize("small", [(64, 112), (48, 84), (9, 13)])
def test_pixels_and_cells_are_each_others_inverse(tmp_path, align, small):
  (tmp_path / "p.csv").write_text("x,y\n0,0\n111.4,-0.5\n50,63\n")
  points = Points(str(tmp_path / "p.csv"), scenes.SIZE, small, protocol("crw", align=align), "v")
  np.testing.assert_allclose(points._pixels(points._cells(points._start)), points._start, atol=1e-9)
  # The first cell's centre: its own pixel, or the middle of its pixels.
  scale = np.array(scenes.SIZE[::-1]) / small[::-1]
  centre = 0 if align == "cell" else 3.5
  np.testing.assert_allclose(points._pixels(np.zeros(2)), (centre + 0.5) * scale - 0.5)


def test_what_does_not_move_stays_to_the_hundredth(tmp_path):
  frame, _ = scenes.scene(1)
  at = np.array([(0, 0), (111.4, 63.2), (3, 30.5), (61.7, 33.3)])
  (tmp_path / "p.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in at))
  points = Points(str(tmp_path / "p.csv"), scenes.SIZE, scenes.SIZE, NEAR, "v")
  features = FLOOR({"image": frame})["features"][0]
  exact = protocol("crw", recent=(1, 2), radius=4, top_k=1)  # each cell copies itself
  points.protocol = exact
  for places in points.carried([features] * 2):
    np.testing.assert_allclose(places, at, atol=0.01)


def test_points_are_soft_labels_whatever_the_protocol(tmp_path):
  (tmp_path / "p.csv").write_text("x,y\n1,1\n")
  points = Points(str(tmp_path / "p.csv"), (64, 112), (64, 112), PROTOCOLS["corrflow"], "v")
  assert points.protocol.feedback == "soft" and "soft" in points.notes[0]


def test_smaller_frames_give_masks_of_the_full_size(material, tmp_path):
  seen = set()
  def embed(inputs):
    seen.add(inputs["image"].shape)
    return FLOOR(inputs)
  written = own_video.propagate(embed, NEAR, str(material / "a.mp4"), str(material / "first.png"),
                                str(tmp_path / "o"), max_side=84, progress=False)
  _, truth = scenes.scene(LENGTH)
  assert seen == {(1, 48, 88, 3)}  # 84 columns, and 4 more up to whole cells
  for t in range(LENGTH):
    found = read_labels(written.labels / f"{t:05d}.png")
    assert scenes.overlap(found > 0, truth[t] > 0) > (0.6 if t else 0.999)
  assert decode_bytes(written.overlay.read_bytes()).shape[1:3] == scenes.SIZE


@pytest.mark.parametrize("size, most, small", [
    ((480, 854), 0, (480, 854)), ((480, 854), 854, (480, 854)), ((1080, 1920), 500, (281, 500)),
    ((854, 480), 427, (427, 240)), ((3, 4000), 40, (1, 1333))])
def test_the_size_of_smaller_frames(size, most, small):
  got = own_video._small_size(size, most)
  assert got == small or max(got) <= most


def test_one_picture_of_odd_size_is_enough(tmp_path):
  frames, labels = scenes.scene(1, (63, 111))
  (tmp_path / "m.png").write_bytes(masks.encode(labels[0]))
  written = propagate(scenes.write_pictures(tmp_path / "v", frames), tmp_path / "m.png",
                      tmp_path / "o")
  assert written.frames == 1 and [p.name for p in written.labels.iterdir()] == ["00000.png"]
  np.testing.assert_array_equal(read_labels(written.labels / "00000.png"), labels[0])
  assert decode_bytes(written.overlay.read_bytes()).shape == (1, 64, 112, 3)


def test_times_of_a_variable_rate_are_kept(tmp_path, material):
  times = [0, 3, 4, 11]
  video = tmp_path / "v.mkv"
  video.write_bytes(clips.encode(scenes.scene(4)[0], "matroska", "ffv1", "bgr0", pts=times,
                                 time_base=Fraction(1, 10)))
  written = propagate(video, material / "first.csv", tmp_path / "o")
  np.testing.assert_allclose([float(r["time"]) for r in rows(written.labels)[::2]],
                             np.array(times) / 10, atol=1e-3)
  assert len(decode_bytes(written.overlay.read_bytes())) == 4


class Frame(np.ndarray):
  """An array that can be in a WeakSet, which needs a hash."""

  __hash__ = object.__hash__


def test_memory_does_not_grow_with_the_length(tmp_path, material, monkeypatch):
  alive, counts, stream = weakref.WeakSet(), [], decode.VideoReader.stream
  def watched(self, indices):
    for frame in stream(self, indices):
      shown = frame.view(Frame)
      alive.add(shown)
      yield shown
  def embed(inputs):
    counts.append(len(alive))
    return FLOOR(inputs)
  monkeypatch.setattr(decode.VideoReader, "stream", watched)
  video = scenes.write_video(tmp_path / "long.mp4", np.concatenate([scenes.scene(8)[0]] * 2))
  own_video.propagate(embed, NEAR, video, str(material / "first.png"), str(tmp_path / "o"),
                      progress=False)
  assert len(counts) == 16 and 1 <= max(counts) <= 3


# What goes wrong.


@pytest.mark.parametrize("text, message", [
    ("", "is empty; line 1 should be x,y"),
    ("\n\n", "is empty"),
    ("x,y\n", "holds no point below its header x,y"),
    ("x;y\n1;2\n", "line 1 should be x,y or name,x,y, is 'x;y'"),
    ("x,z\n1,2\n", "line 1 should be"),
    ("x,y\n1,2\n3\n", "line 3: has 1 values, the header 2"),
    ("x,y\n1,2\n\n3,four\n", "line 4: y='four' is no number"),
    ("x,y\n1,\n", "line 2: y='' is no number"),
    ("name,x,y\na,nan,2\n", "line 2: x=nan is not finite"),
    ("x,y\n1,inf\n", "line 2: y=inf is not finite"),
    ("x,y\n1,2\n112,3\n", "line 3: x=112 is outside the picture.*112x64"),
    ("x,y\n1,-0.6\n", "line 2: y=-0.6 is outside"),
    ("name,x,y\na,1,2\na,3,4\n", "line 3: the name 'a' is taken"),
    ("name,x,y\n ,1,2\n", "line 2: the name '' is empty"),
])
def test_bad_points(material, tmp_path, text, message):
  (tmp_path / "p.csv").write_text(text)
  with pytest.raises(ConfigError, match=rf"--first=.*p\.csv.*{message}"):
    propagate(material / "a.mp4", tmp_path / "p.csv", tmp_path / "o")
  assert not (tmp_path / "o").exists()


def test_tables_of_spreadsheets_are_read(tmp_path):
  (tmp_path / "p.csv").write_bytes("\ufeffY, Name ,X\r\n3, Maß ,1\r\n,,\r\n".encode())
  points = Points(str(tmp_path / "p.csv"), (64, 112), (64, 112), NEAR, "v")
  assert points.names == ["Maß"] and points._start.tolist() == [[1, 3]]
  (tmp_path / "p.csv").write_bytes(b"x,y\n\xff\xfe,1\n")
  with pytest.raises(ConfigError, match="no text"):
    Points(str(tmp_path / "p.csv"), (64, 112), (64, 112), NEAR, "v")


def test_a_label_map_of_another_size(material, tmp_path):
  for size, remedy in [((32, 56), "or resize the label map"), ((32, 32), "own size")]:
    labels = np.zeros(size, np.uint8)
    labels[4:20, 4:20] = 1
    (tmp_path / "m.png").write_bytes(masks.encode(labels))
    with pytest.raises(ConfigError, match=rf"{size[1]}x{size[0]}.*112x64.*{remedy}") as e:
      propagate(material / "a.mp4", tmp_path / "m.png", tmp_path / "o")
    assert ("nearest" in str(e.value)) == (size == (32, 56))


def test_an_object_that_vanishes_in_smaller_frames(material, tmp_path):
  labels = scenes.scene(1)[1][0]
  labels[1, 1] = 9
  (tmp_path / "m.png").write_bytes(masks.encode(labels))
  with pytest.raises(ConfigError, match=r"object 9 vanishes.*raise --max_side"):
    propagate(material / "a.mp4", tmp_path / "m.png", tmp_path / "o", max_side=28)


def test_inputs_that_are_not_there(material, tmp_path):
  first, video, out = material / "first.png", material / "a.mp4", tmp_path / "o"
  (tmp_path / "empty").mkdir()
  (tmp_path / "a.txt").write_text("text")
  for args, message in [
      ((tmp_path / "no.mp4", first, out), r"--input=.*no\.mp4: no such file"),
      ((tmp_path / "empty", first, out), "no numbered pictures"),
      ((tmp_path / "a.txt", first, out), r"a\.txt: "),
      ((video, tmp_path / "no.png", out), r"--first=.*no\.png: no such file"),
      ((video, tmp_path / "a.txt", out), r"should be a label map that ends in \.png"),
      ((video, first, ""), "--output=FOLDER is needed"),
      ((video, first, tmp_path / "a.txt"), r"--output=.*a\.txt"),
      ((video, first, material), "holds an input")]:
    with pytest.raises((ConfigError, DataError), match=message):
      propagate(*args)
  with pytest.raises(ConfigError, match="--max_side=4 should be"):
    propagate(video, first, out, max_side=4)
  assert not out.exists()


def test_an_encoder_of_another_stride_is_told(material, tmp_path):
  with pytest.raises(ConfigError, match=r"a\.mp4: frame 0: features have 4 x 7.*stride"):
    own_video.propagate(dense.lab_blocks(16), NEAR, str(material / "a.mp4"),
                        str(material / "first.png"), str(tmp_path / "o"), progress=False)


def test_results_are_replaced_and_nothing_else_is(material, tmp_path):
  frames, labels = scenes.scene(2)
  out, short = tmp_path / "o", scenes.write_video(tmp_path / "short.mp4", frames)
  propagate(short, material / "first.csv", out)
  (out / "masks").mkdir()
  (out / "masks" / "00007.png").write_bytes(masks.encode(labels[0]))  # of a longer video
  propagate(short, material / "first.png", out)
  assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*")) == [
      "masks", "masks/00000.png", "masks/00001.png", "overlay.mp4", "propagation.json"]
  before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
  for name in ("thesis.txt", "masks/notes.png"):
    (out / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"holds {name}, which is no result"):
      propagate(short, material / "first.png", out)
    (out / name).unlink()
  with pytest.raises(ConfigError, match="holds an input"):
    propagate(short, out / "masks" / "00000.png", out)
  assert before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
  (out / "propagation.json").unlink()
  with pytest.raises(ConfigError, match="holds masks, which is no result"):
    propagate(short, material / "first.png", out)
  assert (out / "masks" / "00001.png").exists()


@pytest.mark.parametrize("first", ["first.png", "first.csv"])
def test_an_interruption_leaves_whole_files_only(material, tmp_path, first):
  out, calls = tmp_path / "o", iter(range(99))
  def embed(inputs):
    if next(calls) == 2:
      raise KeyboardInterrupt
    return FLOOR(inputs)
  with pytest.raises(KeyboardInterrupt):
    own_video.propagate(embed, NEAR, str(material / "a.mp4"), str(material / first), str(out),
                        progress=False)
  left = {p.relative_to(out).as_posix() for p in out.rglob("*")}
  assert left - {"masks", "masks/00000.png", "masks/00001.png"} == {"propagation.json"}
  assert not json.loads((out / "propagation.json").read_text())["finished"]
  assert all(read_labels(p).shape == scenes.SIZE for p in out.glob("masks/*"))
  assert pathlib.Path(propagate(material / "a.mp4", material / first, out).overlay).exists()


def test_pictures_of_different_sizes(material, tmp_path):
  folder = scenes.write_pictures(tmp_path / "v", scenes.scene(2)[0])
  pathlib.Path(folder, "00002.png").write_bytes(encoded(scenes.scene(1)[0][0, :48]))
  with pytest.raises(DataError, match=r"00002\.png: has 112x48 pixels.*112x64"):
    propagate(folder, material / "first.png", tmp_path / "o")
  assert not (tmp_path / "o" / "overlay.mp4").exists()
