"""Real videos: `clips/` of the data folder, whatever it holds, against its manifest and PyAV."""

import itertools
import json
import pathlib
from fractions import Fraction

import av
import numpy as np
import pytest

from data_pipelines.decode import open_video
from data_pipelines.errors import VideoError

SMALL = 300_000  # bytes; larger files are left to the slow test
LARGE = pytest.param(True, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def clips(data_dir) -> list[tuple[pathlib.Path, dict]]:
  """(path, manifest entry) of each clip that is there."""
  folder = data_dir / "clips"
  manifest = folder / "manifest.json"
  if not manifest.is_file():
    pytest.skip(f"no real clips: {manifest} is missing")
  found = [(folder / e["file"], e) for e in json.loads(manifest.read_text())
           if (folder / e["file"]).is_file()]
  assert found, f"{manifest} names no file that is there"
  return found


def readable(clips, large: bool = False) -> list[tuple[pathlib.Path, dict]]:
  return [(path, entry) for path, entry in clips if entry.get("frames_decoded_ffmpeg")
          and (path.stat().st_size > SMALL) == large]


class FullDecode:
  """What PyAV alone gives from the start, packet by packet; RGB of the frames asked for only.

  Attributes:
    errors: packets that could not be decoded.
    seconds: of each decoded frame from the first, or None where the file has no times in order.
    images: place among the decoded frames -> RGB.
  """

  def __init__(self, path: pathlib.Path, places: set[int]):
    self.errors, self.images, pts = 0, {}, []
    with av.open(str(path)) as file:
      streams = file.streams.video
      stream = next((s for s in streams if s.disposition & av.stream.Disposition.default),
                    streams[0])
      stream.thread_type = "NONE"
      for packet in file.demux(stream):
        try:
          frames = packet.decode()
        except av.FFmpegError:
          self.errors += 1
          continue
        for frame in frames:
          if len(pts) in places:
            image = frame.to_ndarray(format="rgb24")
            self.images[len(pts)] = np.rot90(image, round(frame.rotation / 90))
          pts.append(frame.pts)
      base: Fraction = stream.time_base
    self.n = len(pts)
    ordered = None not in pts and all(a < b for a, b in itertools.pairwise(pts))
    self.seconds = [float((p - pts[0]) * base) for p in pts] if ordered else None

  def place_of(self, number: int, time: float) -> int:
    """Which decoded frame is on screen when the reader's frame `number` is."""
    if self.seconds is None:
      return number
    return int(np.searchsorted(self.seconds, time + 1e-6, side="right")) - 1


@pytest.mark.parametrize("large", [False, LARGE])
def test_frames_got_by_seeking_equal_a_full_decode(clips, large):
  wrong = []
  for path, _ in readable(clips, large):
    with open_video(path) as video:
      rng = np.random.default_rng(len(path.name))
      order = [0, video.n_frames - 1, *rng.integers(0, video.n_frames, 6).tolist()]
      full = FullDecode(path, set(order))
      shown = {i: full.place_of(i, video.times[i]) for i in order}
      if not set(shown.values()) <= set(order):  # damaged: some frames have moved up
        full = FullDecode(path, set(shown.values()))
      got = list(zip(order, video.frames(order), strict=True))
      got += [(i, video.frames([i])[0]) for i in order[2:4]]
      wrong += [f"{path.name} frame {i}" for i, image in got
                if not np.array_equal(image, full.images[shown[i]])]
  assert not wrong


@pytest.mark.parametrize("large", [False, LARGE])
def test_numbers_of_frames(clips, large):
  """As many frames as ffmpeg decodes.

  Exceptions: files with packets that don't decode. Their frames keep their places and show the
  frame before, so the count is that of the packets, at most the header's.
  """
  wrong = []
  for path, entry in readable(clips, large):
    decoded = entry["frames_decoded_ffmpeg"]
    with open_video(path) as video:
      n = video.n_frames
    if n != decoded:
      excused = (FullDecode(path, set()).errors > 0
                 and decoded < n <= int(entry["frames_header"] or n))
      if not excused:
        wrong.append(f"{path.name}: {n} frames, ffmpeg {decoded}")
  assert not wrong


@pytest.mark.parametrize("large", [False, LARGE])
def test_size_rotation_rate_and_times(clips, large):
  """The manifest's; times only where the container stores them and no packet is damaged."""
  wrong = []
  for path, entry in readable(clips, large):
    with open_video(path) as video:
      turned = entry["rotation_display_matrix"] % 180 == 90
      size = (entry["width"], entry["height"])[::1 if turned else -1]
      gaps = np.diff(video.times)
      checks = {
          "size": (video.height, video.width) == size,
          "rotation": (video.rotation - entry["rotation_display_matrix"]) % 360 == 0,
          "rate": abs(video.fps - entry["fps_avg"]) < 0.01,
          "starts at zero": video.times[0] == 0,
          "increasing": bool((gaps > 0).all()),
      }
      has_times = "avi" not in entry["container"] and (
          video.n_frames == entry["frames_decoded_ffmpeg"])
      if has_times and gaps.size:
        checks["gaps"] = np.allclose((gaps.min(), gaps.max()), entry["pts_dt_min_max"], atol=1.1e-3)
    wrong += [f"{path.name}: {name}" for name, right in checks.items() if not right]
  assert not wrong


def test_bad_files_are_refused_or_read_but_never_crash(clips, capfd):
  for path, entry in clips:
    if entry.get("frames_decoded_ffmpeg") or path.stat().st_size > SMALL:
      continue
    try:
      with open_video(path) as video:
        frames = video.frames([0, video.n_frames - 1], 32)
        assert frames.any(), path.name
        assert entry.get("frames_decoded_ffmpeg") is None, path.name
    except VideoError as e:
      assert e.name == str(path)
      assert 0 < len(e.reason) < 100
  assert capfd.readouterr() == ("", "")
