"""How fast video files become arrays: this project's readers against others, on the same frames.

  python -m benchmarks.decode FOLDER --repetitions=5

FOLDER holds video files. For a fair answer let nothing else run. Readers that aren't installed
are left out; `pip install opencv-python-headless decord torchcodec torch` brings all.

Two kinds of work, a file opened for each: "clip" is 16 frames, every second one from a random
place on; "1 fps" is one frame for each second of the whole video. All frames are wanted as RGB
in full size. Every reader decodes with one thread; with 2 threads, two files are read at once.

1. Each reader's frames are compared with a full decode from the start by plain PyAV: "exact" is
   equal bit by bit, "colour" the right frames in slightly other colours (a mean difference below
   2 of 255), "wrong" other frames or colours, "refused" an error.
2. Speed, where that is fair: the files that every reader in the table reads right (exact or
   colour; readers that fail on more than a fifth of all files don't count here). Each repetition
   runs all readers, in a new order; the figures are medians over the repetitions, with the lowest
   and the highest; ratios are to the fastest reader that isn't ours. Where other programs can't be
   stopped, frames per second of CPU time tell more. "decode only" is the bound: the packets that
   the frames need, found beforehand, demuxed and decoded without turning any frame into an array.
3. Ours per file, by CPU time of one thread, over all files that PyAV reads whole, against the
   fastest reader that is exact on that file.
"""

import argparse
import collections
import contextlib
import importlib.util
import pathlib
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np

from data_pipelines import packets, sample, torchcodec_reader
from data_pipelines.decode import MAX_FRAMES, open_video
from data_pipelines.errors import DataError

OURS = ("ours", "ours, torchcodec")
BOUND = "decode only"
WORK = ("clip", "1 fps")
CLIP, STRIDE = 16, 2
SAME = 2.0  # grey levels, mean over a frame
MAY_FAIL = 0.2  # of the files
VERDICTS = ("exact", "colour", "wrong", "refused")


class Task:
  """What is read of one file: the frames' numbers for each kind of work and each repetition."""

  def __init__(self, path: pathlib.Path, repetitions: int):
    self.path = path
    with open_video(path) as video:
      n, times, seekable = video.n_frames, video.times, video.seekable
    with av.open(str(path)) as file:  # for the bound
      self.index = packets.read_index(file, _stream(file), path.name,
                                       MAX_FRAMES) if seekable else None
    rng = random.Random(path.name)
    starts = [rng.randrange(max(1, n - (CLIP - 1) * STRIDE)) for _ in range(repetitions)]
    self.indices = {"clip": [[min(n - 1, start + STRIDE * k) for k in range(CLIP)]
                             for start in starts],
                    "1 fps": [sample.per_second(times).tolist()] * repetitions}
    self.n_frames = n

  def reference(self) -> dict[int, np.ndarray] | None:
    """Number -> RGB as shown, by plain PyAV from the start; None if the file is damaged."""
    wanted = {i for kind in WORK for indices in self.indices[kind] for i in indices}
    images, n = {}, 0
    with av.open(str(self.path)) as file:
      stream = _stream(file)
      try:
        for frame in file.decode(stream):
          if n in wanted:
            image = frame.to_ndarray(format="rgb24")
            images[n] = np.rot90(image, round(frame.rotation / 90))
          n += 1
      except av.FFmpegError:
        return None
    return images if n == self.n_frames else None


def _stream(file: av.container.InputContainer) -> av.VideoStream:
  streams = file.streams.video
  stream = next((s for s in streams if s.disposition & av.stream.Disposition.default), streams[0])
  stream.thread_type = "NONE"
  return stream


# Readers: (task, indices) -> uint8 [N, H, W, 3].


def ours(task: Task, indices: list[int]) -> np.ndarray:
  with open_video(task.path) as video:
    return video.frames(indices)


def ours_torchcodec(task: Task, indices: list[int]) -> np.ndarray:
  with torchcodec_reader.open_video(task.path) as video:
    return video.frames(indices)


def pyav_scan(task: Task, indices: list[int]) -> np.ndarray:
  images, last = {}, max(indices)
  with av.open(str(task.path)) as file:
    for i, frame in enumerate(file.decode(_stream(file))):
      if i in indices:
        image = frame.to_ndarray(format="rgb24")
        images[i] = np.rot90(image, round(frame.rotation / 90))
      if i == last:
        break
  return np.stack([images[i] for i in indices])


def opencv(task: Task, indices: list[int]) -> np.ndarray:
  import cv2
  file = cv2.VideoCapture(str(task.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
  images, position = [], 0
  for i in indices:
    if i == position - 1 and images:  # the last frame again, in a video shorter than a clip
      images.append(images[-1])
      continue
    if not position <= i < position + 2 * STRIDE:
      file.set(cv2.CAP_PROP_POS_FRAMES, i)
      position = i
    while position < i:
      file.grab()
      position += 1
    ok, image = file.read()
    position += 1
    if not ok:
      raise ValueError("no frame")
    images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
  file.release()
  return np.stack(images)


def decord(task: Task, indices: list[int]) -> np.ndarray:
  import decord
  return decord.VideoReader(str(task.path), num_threads=1).get_batch(indices).asnumpy()


def torchcodec(task: Task, indices: list[int]) -> np.ndarray:
  from torchcodec.decoders import VideoDecoder
  decoder = VideoDecoder(str(task.path), dimension_order="NHWC", num_ffmpeg_threads=1)
  return decoder.get_frames_at(indices).data.numpy()


def decode_only(task: Task, indices: list[int]) -> None:
  """The bound: no index is built, nothing is converted."""
  with av.open(str(task.path)) as file:
    stream = _stream(file)
    if task.index is None:
      for i, _ in enumerate(file.decode(stream)):
        if i == max(indices):
          return
      return
    wanted = sorted(set(indices))
    run, pts = None, task.index.shown_pts[wanted].tolist()
    for p, key in zip(pts, task.index.keys_before(wanted), strict=True):
      if run is None or task.index.key_place[key] > run.place:
        run = packets.Run(file, stream, task.index, key, set(pts))
      next(f for f in run.frames if f.pts >= p)


NEEDS = {"ours": "av", "ours, torchcodec": "torchcodec", "PyAV scan": "av", "OpenCV": "cv2",
         "decord": "decord", "torchcodec": "torchcodec"}
READ = {"ours": ours, "ours, torchcodec": ours_torchcodec, "PyAV scan": pyav_scan,
        "OpenCV": opencv, "decord": decord, "torchcodec": torchcodec}


def installed() -> dict[str, Callable]:
  """The readers that can run here, kept from starting threads of their own."""
  found = {name: read for name, read in READ.items() if importlib.util.find_spec(NEEDS[name])}
  with contextlib.suppress(ImportError):
    import torch
    torch.set_num_threads(1)
  with contextlib.suppress(ImportError):
    import cv2
    cv2.setNumThreads(1)
  return found


# Exactness.


def verdict(read: Callable, task: Task, reference: dict[int, np.ndarray]) -> tuple[str, float]:
  """One of VERDICTS for a reader on a file, and the largest mean difference of a frame."""
  worst, equal = 0.0, True
  for indices in (i for kind in WORK for i in task.indices[kind]):
    try:
      got = read(task, indices)
    except Exception:  # each library has its own kind
      return "refused", 0.0
    for i, image in zip(indices, got, strict=True):
      if image.shape != reference[i].shape:
        return "wrong", 255.0
      if not np.array_equal(image, reference[i]):
        equal = False
        worst = max(worst, float(np.abs(image.astype(np.int16) - reference[i]).mean()))
  return ("exact" if equal else "colour" if worst < SAME else "wrong"), worst


def check(readers: dict[str, Callable], tasks: list[Task]) -> dict[str, dict[Task, str]]:
  """Reader -> file -> verdict; prints the counts and what went wrong."""
  verdicts = collections.defaultdict(dict)
  notes = collections.defaultdict(list)
  for task in list(tasks):
    reference = task.reference()
    if reference is None:
      print(f"left out, damaged: {task.path.name}")
      tasks.remove(task)
      continue
    for name, read in readers.items():
      verdicts[name][task], worst = verdict(read, task, reference)
      if verdicts[name][task] != "exact":
        notes[name].append(f"{task.path.name} {verdicts[name][task]}"
                           + f" ({worst:.1f})" * (0 < worst < 255))
  print(f"\nExactness on {len(tasks)} files\n{'':18}" + "".join(f"{v:>9}" for v in VERDICTS))
  for name in readers:
    counts = collections.Counter(verdicts[name].values())
    print(f"{name:18}" + "".join(f"{counts[v]:9d}" for v in VERDICTS))
  for name, lines in notes.items():
    print(f"\n{name}: {', '.join(lines)}")
  return verdicts


# Speed.


def seconds_per_file(read: Callable, tasks: list[Task], kind: str, repetition: int,
                     threads: int) -> tuple[float, float, list[float]]:
  """Seconds for all the files by the clock and of CPU time; CPU time of each, for 1 thread only."""
  def one(task: Task) -> float:
    start = time.process_time()
    with contextlib.suppress(Exception):  # a refusal; it isn't compared on this file
      read(task, task.indices[kind][repetition])
    return time.process_time() - start

  start, cpu = time.perf_counter(), time.process_time()
  with ThreadPoolExecutor(threads) as pool:
    each = list(pool.map(one, tasks))
  return time.perf_counter() - start, time.process_time() - cpu, each


def common_table(readers, tasks: list[Task], verdicts, repetitions: int) -> None:
  """Frames and clips a second on the files that all (but the hopeless) read right."""
  right = {name: {t for t in tasks if verdicts[name][t] in VERDICTS[:2]} for name in readers}
  compared = [n for n in readers if len(right[n]) >= (1 - MAY_FAIL) * len(tasks)]
  common = [t for t in tasks if all(t in right[n] for n in compared)]
  entries = [*compared, BOUND]
  print(f"\nSpeed on the {len(common)} files that all of these read right; median (lowest, "
        f"highest) of {repetitions}")
  for kind in WORK:
    for threads in (1, 2):
      taken = {name: [] for name in entries}
      for repetition in range(repetitions):
        for name in random.Random(repetition).sample(entries, len(entries)):
          taken[name].append(seconds_per_file(readers.get(name, decode_only), common, kind,
                                              repetition, threads)[:2])
      print(f"\n{kind}, {threads} thread{'s' * (threads > 1)}")
      print_speeds(taken, len(common), sum(len(t.indices[kind][0]) for t in common))


def print_speeds(taken: dict[str, list[tuple[float, float]]], n_files: int, n_frames: int) -> None:
  """One line a reader; `taken` are seconds by the clock and of CPU time, for each repetition."""
  middle = {name: np.median(seconds, axis=0) for name, seconds in taken.items()}
  fastest = np.min([middle[name] for name in taken if name not in (*OURS, BOUND)], axis=0)
  print(f"{'':20}{'frames/s':>10}{'':14}{'files/s':>9}{'ratio':>7}{'frames/CPU s':>15}{'ratio':>7}")
  for name, seconds in taken.items():
    low, high = (n_frames / pick(s for s, _ in seconds) for pick in (max, min))
    clock, cpu = middle[name]
    ratio, cpu_ratio = fastest / middle[name]
    print(f"  {name:18}{n_frames / clock:10.0f} {f'({low:.0f}, {high:.0f})':13}"
          f"{n_files / clock:9.1f}{ratio:7.2f}{n_frames / cpu:15.0f}{cpu_ratio:7.2f}")


def per_file_table(readers, tasks: list[Task], verdicts, repetitions: int) -> None:
  """How ours does on each file against the fastest reader that is exact on it; 1 thread."""
  for kind in WORK:
    each = {name: np.median([seconds_per_file(read, tasks, kind, r, 1)[2]
                             for r in range(repetitions)], axis=0)
            for name, read in readers.items()}
    rows = []
    for k, task in enumerate(tasks):
      others = {n: each[n][k] for n in readers if n not in OURS and verdicts[n][task] == "exact"}
      best = min(others, key=others.get)  # "PyAV scan" at least, else the file were left out
      rows.append((others[best] / each["ours"][k], task.path.name, best, others[best],
                   each["ours"][k]))
    ratios = sorted(r[0] for r in rows)
    print(f"\n{kind}: ours against the fastest exact reader of each of {len(rows)} files: "
          f"median {statistics.median(ratios):.2f}, lowest {ratios[0]:.2f}, "
          f"all together {sum(r[3] for r in rows) / sum(r[4] for r in rows):.2f}; below 0.9:")
    for ratio, name, best, other, own in sorted(rows):
      if ratio < 0.9:
        print(f"  {ratio:.2f} {name}: {1e3 * own:.1f} ms, {best} {1e3 * other:.1f} ms")


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--repetitions", type=int, default=5)
  args = parser.parse_args(arguments)
  tasks = []
  for path in sorted(p for p in args.folder.iterdir() if p.is_file()):
    with contextlib.suppress(DataError):  # no video
      tasks.append(Task(path, args.repetitions))
  readers = installed()
  print(f"PyAV {av.__version__}; {len(tasks)} videos in {args.folder}; "
        f"not installed: {', '.join(sorted(set(READ) - set(readers))) or 'none'}")
  verdicts = check(readers, tasks)
  common_table(readers, tasks, verdicts, args.repetitions)
  per_file_table(readers, tasks, verdicts, args.repetitions)


if __name__ == "__main__":
  main()
