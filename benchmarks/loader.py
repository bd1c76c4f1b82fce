"""How fast clips are read for training: raw files against prepared shards.

  python -m benchmarks.loader [--input=FOLDER] [--batches=20] [--repeats=3]

Without --input, 24 videos are rendered (10 s, 25 frames/s, 456 x 342, one key frame). Each is read
as 2 clips of 8 frames, 4 apart, with the augmentations of contrastive learning at 112 x 112, by 1
and 2 threads, all in one run. "decoding alone" leaves augmentation and batching out. What limits
both is the decoder; shards are smaller pictures with a key frame every 32 frames.
"""

import argparse
import functools
import itertools
import pathlib
import statistics
import tempfile
import time

import numpy as np

from data_pipelines import augment, clips, prepare, sample, source
from data_pipelines.encode import write_mp4
from data_pipelines.render import SceneSpec, render_scene

BATCH, N_CLIPS, N_FRAMES, STRIDE = 4, 2, 8, 4


def render(folder: pathlib.Path, count: int = 24) -> None:
  """Videos like those of action data sets."""
  for k in range(count):
    spec = SceneSpec(seed=k, appearance=k % 4, motion=k % 4, height=342, width=456, n_frames=250,
                     fps=25)
    write_mp4(folder / f"{k:02d}.mp4", render_scene(spec)[0], 25)


def frames_per_second(data, transform, *, threads: int, batches: int) -> float:
  """Frames that reach a batch each second, after a first batch."""
  choose = functools.partial(sample.clips, n_clips=N_CLIPS, n_frames=N_FRAMES, stride=STRIDE,
                             mode="random")
  read = clips.Reader(choose, transform, short_side=128)
  found = clips.batches(clips.training(data, read, seed=0), batch=BATCH, threads=threads, buffer=8)
  next(found)
  start = time.perf_counter()
  for _ in itertools.islice(found, batches):
    pass
  seconds = time.perf_counter() - start
  found.close()
  return batches * BATCH * N_CLIPS * N_FRAMES / seconds


def nothing(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A crop without any arithmetic."""
  del rng
  return frames[:, :112, :112]


def main() -> None:
  """Prints a line for each source, transform and number of threads."""
  parser = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--input", help="a folder of videos")
  parser.add_argument("--batches", type=int, default=20)
  parser.add_argument("--repeats", type=int, default=3)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as place:
    raw = pathlib.Path(args.input or place, "" if args.input else "raw")
    if not args.input:
      raw.mkdir()
      render(raw)
    shards = str(pathlib.Path(place) / "shards")
    prepare.main(["--dataset=folder", f"--input={raw}", f"--output={shards}", "--workers=2",
                  "--short_side=256", "--max_bad_fraction=1"])
    sources = {"raw files": source.load("folder", str(raw), "all"),
               "shards": source.load("folder", shards, "all")}
    transforms = {"decoding alone": nothing, "augmented": augment.contrastive_video(size=112)}
    cases = list(itertools.product(sources, transforms, (1, 2)))
    found = {case: [] for case in cases}
    for _ in range(args.repeats):
      for name, what, threads in cases:  # in turns, so that other load hits all alike
        found[name, what, threads].append(frames_per_second(
            sources[name], transforms[what], threads=threads, batches=args.batches))
    for (name, what, threads), rates in found.items():
      print(f"{name:10} {what:15} {threads} thread(s): {statistics.median(rates):7.0f} frames/s "
            f"({min(rates):.0f} to {max(rates):.0f})")


if __name__ == "__main__":
  main()
