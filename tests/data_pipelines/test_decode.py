"""Reading videos: the same exact frames by any road, times, choice of stream, limits."""

import io
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import pytest

from data_pipelines import container, decode
from data_pipelines.decode import open_video
from data_pipelines.errors import VideoError
from tests.data_pipelines import clips
from tests.data_pipelines.clips import decode_all, encode, numbered, numbers, zeroed

N = 40
# name -> (how to encode it, may the reader seek in it)
FORMS = {
    "h264": (dict(options={"g": "12", "bf": "3"}), True),
    "h264 mkv": (dict(container="matroska", options={"g": "12"}), True),
    "one key frame": (dict(container="mov"), True),
    "open gop": (dict(options={"x264-params": "open-gop=1:keyint=10:bframes=3"}), True),
    # Its "key" frames need the ones before them: seeking has to notice.
    "intra refresh": (dict(container="matroska", options={
        "x264-params": "intra-refresh=1:keyint=10:bframes=0"}), None),
    "fragmented": (dict(options={"g": "10"}, mux={"movflags": "frag_keyframe+empty_moov"}), True),
    "hevc": (dict(codec="libx265", options={
        "x265-params": "log-level=none:keyint=10:open-gop=1"}), True),
    "mpeg4": (dict(codec="mpeg4", options={"bf": "2", "g": "9"}), True),
    "mpeg2": (dict(container="matroska", codec="mpeg2video", options={"bf": "2", "g": "9"}), True),
    "vp8": (dict(container="webm", codec="libvpx", options={
        "auto-alt-ref": "1", "lag-in-frames": "16", "g": "20"}), False),
    "vp9": (dict(container="webm", codec="libvpx-vp9", options={"g": "15"}), True),
    "vp9 alpha": (dict(container="webm", codec="libvpx-vp9", pix_fmt="yuva420p"), True),
    "png alpha": (dict(container="mov", codec="png", pix_fmt="rgba"), True),
    "10 bit": (dict(pix_fmt="yuv420p10le"), True),
    "full range": (dict(container="mov", codec="mjpeg", pix_fmt="yuvj420p"), True),
    "with sound": (dict(sound=True, options={"g": "12"}), True),
    "avi without pts": (dict(container="avi", codec="mpeg4", options={"bf": "2"}), False),
    "avi h264": (dict(container="avi"), False),
    "mpegts": (dict(container="mpegts"), False),
    "flv": (dict(container="flv"), False),
}


@pytest.fixture(scope="module")
def form() -> dict[str, bytes]:
  return {name: encode(numbered(N), **how) for name, (how, _) in FORMS.items()}


@pytest.mark.parametrize("name", FORMS)
def test_every_road_gives_the_frames_of_a_full_decode(form, name):
  data, may_seek = form[name], FORMS[name][1]
  reference = [image for _, image in decode_all(data)]
  indices = np.random.default_rng(1).integers(0, N, 30)
  with open_video(data) as video:
    assert video.n_frames == N == len(reference)
    np.testing.assert_allclose(video.times, np.arange(N) / 25, atol=1.1e-3)
    assert video.times[0] == 0
    assert video.fps == pytest.approx(25)
    got = video.frames(indices)
    assert numbers(got) == indices.tolist()
    assert all(np.array_equal(image, reference[i]) for image, i in zip(got, indices, strict=True))
    for i in (N - 1, 0, 13):  # a seek each, backwards too
      assert np.array_equal(video.frames([i])[0], reference[i])
    assert all(np.array_equal(a, b) for a, b in zip(video.scan(), reference, strict=True))
    assert np.array_equal(video.frames([5])[0], reference[5])  # after a scan
    assert may_seek is None or video.seekable == may_seek


@pytest.mark.parametrize("name", ["h264", "open gop", "intra refresh", "hevc", "mpeg2",
                                  "fragmented"])
def test_each_frame_alone(form, name):
  reference = [image for _, image in decode_all(form[name])]
  seekable = []
  for i in range(N):
    with open_video(form[name]) as video:
      assert np.array_equal(video.frames([i])[0], reference[i]), i
      seekable.append(video.seekable)
  assert all(seekable) == (name != "intra refresh")


def test_path_text_and_bytes_are_the_same(tmp_path, form):
  odd = tmp_path / "100%03d #a: ü.mp4"
  odd.write_bytes(form["h264"])
  results = []
  for source in (odd, str(odd), form["h264"], bytearray(form["h264"])):
    with open_video(source) as video:
      results.append(video.frames([3, 30]))
      assert str(odd) == video.name or "memory" in video.name
  assert all(np.array_equal(results[0], other) for other in results[1:])


def test_frames_of_nothing_and_wrong_arguments(form):
  with open_video(form["h264"]) as video:
    assert video.frames([]).shape == (0, 48, 64, 3)
    for bad in ([N], [-1], [0, 99]):
      with pytest.raises(IndexError, match=r"frames 0\.\.39"):
        video.frames(bad)
    with pytest.raises(ValueError, match="interpolation"):
      video.frames([0], interpolation="area")
    with pytest.raises(ValueError, match="short_side"):
      video.frames([0], 0)
    with pytest.raises(ValueError, match="crop 49x49"):
      video.frames([0], crop=49)


# Times.


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_variable_frame_rate(container):
  pts = [0, 40, 50, 300, 301, 1000, 1040, 3000]
  how = dict(codec="libx264", options={"g": "4"}, time_base=Fraction(1, 1000), pts=pts)
  if container == "avi":  # an AVI file has no times; its frames follow at one rate
    how, pts = dict(codec="mpeg4"), np.arange(8) * 40
  with open_video(encode(numbered(8), container, **how)) as video:
    np.testing.assert_allclose(video.times, np.array(pts) / 1000, atol=1e-9)
    assert numbers(video.frames([7, 3, 0])) == [7, 3, 0]


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_start_above_zero(container):
  with open_video(encode(numbered(20), container, pts=range(100, 120))) as video:
    np.testing.assert_allclose(video.times, np.arange(20) / 25, atol=1.1e-3)
    assert numbers(video.frames([19, 0])) == [19, 0]


@pytest.mark.parametrize("hidden", [5, 14])
def test_edit_list_hides_frames_that_others_need(hidden):
  """Frames before time zero are in the file, and decoded, but not shown."""
  data = encode(numbered(N), pts=range(-hidden, N - hidden), options={"g": "12", "bf": "2"})
  with av.open(io.BytesIO(data)) as file:
    assert file.streams.video[0].frames == N  # what the header says
  with open_video(data) as video:
    assert video.n_frames == N - hidden
    assert video.times[0] == 0
    assert numbers(video.frames(range(N - hidden))) == list(range(hidden, N))
    assert numbers(video.frames([20, 0])) == [20 + hidden, hidden]
    assert video.seekable


def test_one_frame():
  with open_video(encode(numbered(1, first=77))) as video:
    assert (video.n_frames, video.times.tolist()) == (1, [0.0])
    assert numbers(video.frames([0, 0])) == [77, 77]


def two_streams(first_is_default: bool) -> bytes:
  buffer = io.BytesIO()
  with av.open(buffer, "w", format="matroska") as file:
    streams = [file.add_stream("libx264", rate=25, options={"threads": "1"}) for _ in range(2)]
    for stream, width, on in zip(streams, (64, 96), (first_is_default, not first_is_default),
                                 strict=True):
      stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
      stream.disposition = av.stream.Disposition.default if on else av.stream.Disposition(0)
    for stream, frames in zip(streams, (numbered(4), numbered(6, 48, 96, 100)), strict=True):
      for image in frames:
        file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
      file.mux(stream.encode())
  return buffer.getvalue()


def test_of_two_video_streams_the_default_is_read():
  with open_video(two_streams(True)) as video:
    assert numbers(video.frames(range(video.n_frames))) == [0, 1, 2, 3]
  with open_video(two_streams(False)) as video:
    assert video.width == 96
    assert numbers(video.frames(range(video.n_frames))) == [100, 101, 102, 103, 104, 105]


def test_cover_picture_is_no_video():
  buffer = io.BytesIO()
  with av.open(buffer, "w", format="mp3") as file:
    sound = clips.add_sound(file)
    cover = file.add_stream("png", rate=1)
    cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
    cover.disposition = av.stream.Disposition.attached_pic
    file.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")))
    file.mux(cover.encode())
    clips.play_sound(file, sound)
  with av.open(io.BytesIO(buffer.getvalue())) as file:
    assert len(file.streams.video) == 1
  with pytest.raises(VideoError, match="no video stream"), open_video(buffer.getvalue()):
    pass


def test_title_that_is_not_text():
  data = encode(numbered(2), metadata={"title": "ABCDEFGH"})
  assert b"ABCDEFGH" in data
  with open_video(data.replace(b"ABCDEFGH", b"\xff\xfe\xfa\xf0\xc3\x28\xa0\xa1")) as video:
    assert numbers(video.frames([1])) == [1]


WHOLE = encode(numbered(10))


def test_limits():
  for kwargs, reason in (({"max_frames": 9}, "more than 9 frames"),
                         ({"max_pixels": 64 * 48 - 1}, "64x48 pixels are too large")):
    for data in (WHOLE, encode(numbered(10), "avi", "mpeg4")):
      with pytest.raises(VideoError, match=reason), open_video(data, **kwargs):
        pass
  with open_video(encode(numbered(1, 2, 640))) as video:
    with pytest.raises(VideoError, match="too large"):
      video.frames([0], 2000)  # 2000 x 640000
    assert video.frames([0], 4).shape == (1, 4, 1280, 3)


def test_files_are_closed(tmp_path, form):
  path = tmp_path / "a.mkv"
  path.write_bytes(form["h264 mkv"])
  bad = tmp_path / "b.mp4"
  bad.write_bytes(zeroed(WHOLE, range(10)))
  folder = pathlib.Path("/proc/self/fd")
  if not folder.is_dir():
    pytest.skip("no /proc here to count open files in")

  def n_open():
    return len(list(folder.iterdir()))

  before = n_open()
  for _ in range(3):
    with open_video(path) as video:
      video.frames([30, 2])
      next(video.scan())
    with pytest.raises(VideoError), open_video(bad):
      pass
    with pytest.raises(RuntimeError), open_video(path) as video:
      raise RuntimeError
  assert n_open() == before
  video.close()
  for read in (lambda: video.frames([0]), lambda: next(video.scan())):
    with pytest.raises(ValueError, match="is closed"):
      read()


def test_many_threads_and_early_closes(form):
  def work(k: int) -> bool:
    data = form[list(FORMS)[k % len(FORMS)]]
    with open_video(data) as video:
      if k % 3 == 0:
        return numbers(next(video.scan())[None]) == [0]
      return numbers(video.frames([k % N, 7])) == [k % N, 7]

  with ThreadPoolExecutor(4) as pool:
    assert all(pool.map(work, range(100)))


def test_memory_does_not_grow_with_the_video(tmp_path):
  """One frame asked for of 200 that share a key frame; holding them all would take 276 MB."""
  path = tmp_path / "long.mp4"
  path.write_bytes(encode(np.broadcast_to(numbered(1, 720, 1280), (200, 720, 1280, 3)),
                          options={"g": "200", "preset": "ultrafast", "crf": "40"}))
  script = ("import resource, sys; from data_pipelines.decode import open_video\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "with open_video(sys.argv[1]) as video:\n"
            "  video.frames([0]); before = peak()\n"
            "  video.frames([199, 100]); print(peak() - before)\n")
  result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True,
                          check=True, cwd=pathlib.Path(__file__).parents[2])
  unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
  assert int(result.stdout) * unit < 80e6


def test_calls_that_go_on_where_the_last_one_ended(form):
  """Any order of calls gives the frames that were asked for, wherever the decoder stands."""
  for name in ("h264", "one key frame", "open gop", "mpeg4", "avi without pts"):
    reference = [image for _, image in decode_all(form[name])]
    with open_video(form[name]) as video:
      for asked in ([3, 5], [6], [7, 30], [8, 9], [10, 31], [31], [32, 39], [39], [2], [4, 4, 38]):
        got = video.frames(asked)
        assert all(np.array_equal(image, reference[i])
                   for image, i in zip(got, asked, strict=True)), (name, asked)


def test_a_short_file_without_an_index_is_decoded_once(tmp_path, form, monkeypatch):
  for name, limit, again in (("avi without pts", decode.KEEP_BYTES, 0), ("avi h264", 30000, 1),
                             ("mpegts", decode.KEEP_BYTES, 0)):
    monkeypatch.setattr(decode, "KEEP_BYTES", limit)
    opened = []
    monkeypatch.setattr(decode, "open_container", lambda *args, log=opened: log.append(args)
                        or container.open_container(*args))
    reference = [image for _, image in decode_all(form[name])]
    with open_video(form[name]) as video:
      before = len(opened)
      assert all(np.array_equal(image, reference[i])
                 for image, i in zip(video.frames([30, 2]), (30, 2), strict=True))
      assert len(opened) - before == again
