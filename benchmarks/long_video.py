"""Samples a two-hour video at one frame a second: memory, time, and whether the frames are right.

  python -m benchmarks.long_video [--hours=2] [--fps=1] [--video=FILE]

Renders the video first (H.264 with B-frames, a key frame every ten seconds), about a minute; FILE
is kept and used again, without it a temporary one serves. Exit status 1 where a frame is wrong or
memory exceeds 500 MB.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction

import av
import numpy as np

from data_pipelines import sample
from data_pipelines.decode import open_video

RATE = 25
HEIGHT, WIDTH, BITS = 90, 160, 20  # the frame's number in columns of black and white, 8 wide
MAX_MB = 500


def render(path: str | pathlib.Path, seconds: int) -> None:
  """Writes `seconds` of video, 25 frames a second, 160 x 90; each frame shows its number."""
  noise = np.random.default_rng(0).integers(0, 40, (HEIGHT, 2 * WIDTH), np.uint8)
  planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)  # yuv420p: grey
  options = {"preset": "ultrafast", "g": str(10 * RATE), "bf": "3", "crf": "30", "threads": "1"}
  with av.open(str(path), "w", format="mp4") as file:
    stream = file.add_stream("libx264", rate=RATE, options=options)
    stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
    for i in range(seconds * RATE):
      bits = i >> np.arange(BITS) & 1
      shift = i % WIDTH
      planes[:HEIGHT] = (noise[:, shift:shift + WIDTH] + 16
                         + np.repeat(180 * bits, WIDTH // BITS).astype(np.uint8))
      frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
      frame.pts, frame.time_base = i, Fraction(1, RATE)
      file.mux(stream.encode(frame))
    file.mux(stream.encode())


def number(image: np.ndarray) -> int:
  """The number that a rendered frame shows, from its RGB uint8 [H, W, 3]."""
  level = image.mean((0, 2)).reshape(BITS, -1).mean(1)
  return int((level > 120) @ (1 << np.arange(BITS)))


def measure(path: str, fps: float) -> dict[str, float]:
  """Samples one video; for a process of its own, since the memory is all that it ever had.

  Returns:
    "frames": returned; "wrong": of them; "first_mb", "peak_mb": memory before and after;
    "open_s", "sample_s": seconds; "hours": of video.
  """
  first = peak_mb()
  began = time.perf_counter()
  with open_video(path) as video:
    opened = time.perf_counter()
    indices = sample.per_second(video.times, fps)
    wrong = sum(number(image) != i
                for i, image in zip(indices.tolist(), video.stream(indices), strict=True))
    hours = video.n_frames / RATE / 3600
  return {"frames": len(indices), "wrong": wrong, "first_mb": first, "peak_mb": peak_mb(),
          "open_s": opened - began, "sample_s": time.perf_counter() - opened, "hours": hours}


def measure_apart(path: str | pathlib.Path, fps: float) -> dict[str, float]:
  """`measure` in a new process."""
  command = [sys.executable, "-m", "benchmarks.long_video", f"--fps={fps}", f"--video={path}",
             "--measure"]
  root = pathlib.Path(__file__).resolve().parents[1]
  return json.loads(subprocess.run(command, check=True, capture_output=True, cwd=root).stdout)


def peak_mb() -> float:
  """The largest resident memory so far, in MB (2**20 bytes)."""
  status = pathlib.Path("/proc/self/status")
  if status.exists():  # Linux counts into ru_maxrss what the parent had
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--hours", type=float, default=2.0, help="length of the video to render")
  parser.add_argument("--fps", type=float, default=1.0, help="frames to take per second")
  parser.add_argument("--video", help="rendered here where there is none yet")
  parser.add_argument("--measure", action="store_true", help="only sample --video, print JSON")
  args = parser.parse_args()
  if args.measure:
    print(json.dumps(measure(args.video, args.fps)))
    return
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(args.video or f"{folder}/long.mp4").absolute()
    if not path.exists():
      began = time.perf_counter()
      render(path, round(args.hours * 3600))
      print(f"rendered in {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{path.stat().st_size / 2**20:.0f} MB on disk", flush=True)
    found = measure_apart(path, args.fps)
  seconds = found["open_s"] + found["sample_s"]
  print(f"{found['hours']:.2f} hours at {args.fps:g} fps: {found['frames']} frames, "
        f"{found['wrong']} wrong\n"
        f"peak memory {found['peak_mb']:.0f} MB, {found['first_mb']:.0f} MB of it after imports\n"
        f"{seconds / found['hours']:.1f} s per hour of video ({found['open_s']:.1f} s in all to "
        f"open, {found['sample_s']:.1f} s to sample)")
  sys.exit(found["wrong"] > 0 or found["peak_mb"] > MAX_MB)


if __name__ == "__main__":
  main()
