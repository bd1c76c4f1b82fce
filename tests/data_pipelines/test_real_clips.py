"""Real videos: `clips/` of the data folder, whatever it holds, against its manifest and PyAV.

VSSL_SLOW=1 compares every frame of every clip, and more ways of asking (ten minutes).
"""

import hashlib
import itertools
import json
import os
import pathlib
from fractions import Fraction

import av
import numpy as np
import pytest

from data_pipelines import sample
from data_pipelines.decode import open_video
from data_pipelines.errors import VideoError

SMALL = 300_000  # bytes; larger files are left to the slow test
LARGE = pytest.param(True, marks=pytest.mark.slow)
EVERY_FRAME = os.environ.get("VSSL_SLOW") == "1"


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
  """What PyAV alone gives from the start, packet by packet; digests of the frames asked for only.

  Attributes:
    errors: packets that could not be decoded.
    seconds: of each decoded frame from the first, or None where the file has no times in order.
    digests: place among the decoded frames -> `digest` of its RGB as shown.
  """

  def __init__(self, path: pathlib.Path, places: set[int]):
    self.errors, self.digests, pts = 0, {}, []
    with av.open(str(path)) as file:
      streams = file.streams.video
      stream = next((s for s in streams if s.disposition & av.stream.Disposition.default),
                    streams[0])
      stream.thread_type = "NONE"
      for packet in self._packets(file, stream):
        try:
          frames = packet.decode()
        except av.FFmpegError:
          self.errors += 1
          continue
        for frame in frames:
          if len(pts) in places:
            image = frame.to_ndarray(format="rgb24")
            self.digests[len(pts)] = digest(np.rot90(image, round(frame.rotation / 90)))
          pts.append(frame.pts)
      base: Fraction = stream.time_base
    self.n = len(pts)
    ordered = None not in pts and all(a < b for a, b in itertools.pairwise(pts))
    self.seconds = [float((p - pts[0]) * base) for p in pts] if ordered else None

  def _packets(self, file, stream):
    try:
      yield from file.demux(stream)
    except av.FFmpegError:  # cut off
      self.errors += 1

  def place_of(self, number: int, time: float) -> int:
    """Which decoded frame is on screen when the reader's frame `number` is."""
    if self.seconds is None:
      return number
    return int(np.searchsorted(self.seconds, time + 1e-6, side="right")) - 1


def digest(image: np.ndarray) -> bytes:
  return hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()


def calls(times: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
  """Frame numbers to ask for, one array a call."""
  n = len(times)
  some = rng.integers(n, size=4)
  ways = [
      np.concatenate([some, [0, n - 1], some[:2]]),  # in any order, two of them twice
      some[:2].max(keepdims=True), some[:2].min(keepdims=True),  # backwards, one by one
      sample.clip(times, 16, 2, rng=rng),
      sample.per_second(times)[:6],
  ]
  if EVERY_FRAME:
    ways += [
        rng.permutation(n),
        *(np.array([i]) for i in rng.integers(n, size=10)),
        *(np.array([i]) for i in range(n - 1, max(-1, n - 9), -1)),  # backwards
        np.arange(n)[::-1][:40],
        *sample.clips(times, 4, 16, 2, mode="random", rng=rng),
        sample.clip(times, 32, fps=16, rng=rng),
        sample.per_second(times),
        sample.per_second(times, 60.0),
    ]
  return ways


def differences(path: pathlib.Path) -> list[int]:
  """Numbers of the frames that differ from those of a full decode."""
  got = []
  with open_video(path) as video:
    times = video.times
    asked = calls(times, np.random.default_rng(len(path.name)))
    for numbers in asked:
      for k in range(0, len(numbers), 32):  # large frames by the hundred fill the memory
        part = numbers[k:k + 32]
        got += zip(part.tolist(), map(digest, video.frames(part)), strict=True)
  with open_video(path) as video:  # anew: the first may have learnt not to seek
    in_order = np.sort(asked[0])
    got += zip(in_order.tolist(), map(digest, video.stream(in_order)), strict=True)
  full = FullDecode(path, {i for i, _ in got})
  shown = {i: full.place_of(i, times[i]) for i, _ in got}
  if not set(shown.values()) <= full.digests.keys():  # damaged: some frames have moved up
    full = FullDecode(path, set(shown.values()))
  return [i for i, image in got if image != full.digests[shown[i]]]


@pytest.mark.parametrize("large", [False, LARGE])
def test_frames_got_by_seeking_equal_a_full_decode(clips, large):
  """Every file that opens: in any order, backwards, repeated, clips, one frame a second."""
  wrong = {}
  for path, entry in clips:
    if (path.stat().st_size > SMALL) != large:
      continue
    try:
      different = differences(path)
    except VideoError:
      assert not entry.get("frames_decoded_ffmpeg"), f"{path.name} can be decoded"
      continue
    if different:
      wrong[path.name] = different
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


def test_unreadable_files_are_refused_with_a_reason(clips, capfd):
  """None of the files without frames opens; what is wrong is told in a few words, and only so."""
  reasons = {}
  for path, entry in clips:
    if entry.get("frames_decoded_ffmpeg"):
      continue
    try:
      with open_video(path) as video:
        assert video.frames([0, video.n_frames - 1], 32).any(), path.name
        assert entry.get("frames_decoded_ffmpeg") is None, f"{path.name} has no frames"
    except VideoError as e:
      assert e.name == str(path)
      assert 0 < len(e.reason) < 100
      reasons[path.name] = e.reason
  for name, word in {"empty_result.webm": "empty", "crunching_audio_only.mp3": "no video stream",
                     "truncated_no_moov.mp4": "no moov", "random_bytes.mp4": "not a video"}.items():
    assert word in reasons.get(name, word)
  assert capfd.readouterr() == ("", "")
