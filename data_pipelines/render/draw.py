"""Draws a planned benchmark into a folder, on all cores.

Each process is `python -m data_pipelines.render.draw FOLDER SETTINGS PART PARTS`: it plans the same
benchmark again and draws what is missing of every PARTS-th group of videos. Such a process
imports neither the caller's main module nor JAX, needs no guard in the caller's script, and stops
by itself when the caller is gone.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

from data_pipelines.encode import encode_bytes, write_atomic
from data_pipelines.errors import DataError
from data_pipelines.render.families import Settings, plan
from data_pipelines.render.truth import truth_bytes
from data_pipelines.render.video import VideoPlan, render_video


def video_path(folder: pathlib.Path, id_: str) -> pathlib.Path:
  """The file of a video."""
  return folder / f"{id_}.mp4"


def truth_path(path: str | os.PathLike) -> pathlib.Path:
  """The file of a video's ground truth; edited copies have none."""
  return pathlib.Path(path).with_suffix(".npz")


def draw(
  folder: pathlib.Path, settings: Settings, processes: int | None = None, progress: bool = True
) -> None:
  """Draws all videos of `plan(settings)` whose files are not in the folder.

  Args:
    folder: exists.
    settings: of the benchmark.
    processes: how many; None for one per core, 1 for this process.
    progress: show a progress bar.

  Raises:
    DataError: a file can't be written, or a process was killed.
  """
  _sweep(folder)
  groups = _missing(folder, settings)
  parts = min(processes or _n_cores(), len(groups))
  total = sum(map(len, groups))
  steps = _draw_apart(folder, settings, parts) if parts > 1 else _draw_here(folder, groups)
  with tqdm(total=total, desc="drawing videos", unit="video", disable=not progress,
            mininterval=0.5) as bar:  # fmt: skip
    for n in steps:
      bar.update(n)


def _sweep(folder):
  """Removes half-written files that a killed run left, but not those of a run beside this one."""
  for path in folder.glob(".*.tmp"):
    if time.time() - path.stat().st_mtime > 3600:
      path.unlink(missing_ok=True)


def _missing(folder, settings, part=0, parts=1) -> list[list[VideoPlan]]:
  """Videos that are not there yet, of every parts-th group from number part on.

  The choice of groups comes before the look into the folder, which other processes are filling.
  """
  # Largest first, so that the processes end together.
  groups = sorted(plan(settings).groups, key=len, reverse=True)[part::parts]
  groups = [[p for p in group if not _done(folder, p)] for group in groups]
  return [group for group in groups if group]


def _done(folder, video):
  path = video_path(folder, video.id)
  return path.is_file() and (video.edit_seed is not None or truth_path(path).is_file())


def _n_cores():
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _draw_here(folder, groups) -> Iterator[int]:
  for group in groups:
    rendered = {}
    for video in group:
      _draw_video(folder, video, rendered)
      yield 1


def _draw_video(folder, video, rendered):
  frames, truth = render_video(video, rendered)
  path = video_path(folder, video.id)
  if truth is not None:
    write_atomic(truth_path(path), truth_bytes(truth))
  write_atomic(path, encode_bytes(frames, video.shots[0].source.fps, video.crf))


def _draw_apart(folder, settings, parts) -> Iterator[int]:
  """Starts the processes and yields 1 for every video that one of them has finished."""
  root = str(pathlib.Path(__file__).resolve().parents[2])
  paths = [root, os.environ.get("PYTHONPATH", "")]
  env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
  command = [sys.executable, "-m", "data_pipelines.render.draw", str(folder)]
  command.append(json.dumps(dataclasses.asdict(settings)))
  read, write = os.pipe()
  workers = []
  try:
    with os.fdopen(read) as lines:
      try:
        for part in range(parts):
          args = [*command, str(part), str(parts)]
          # In a session of its own it doesn't see Ctrl-C, but is killed below.
          workers.append(subprocess.Popen(args, env=env, stdout=write, start_new_session=True))
      finally:
        os.close(write)
      for line in lines:  # ends when the last process does
        if line != ".\n":
          raise DataError(json.loads(line))
        yield 1
    if any(worker.wait() for worker in workers):
      raise DataError(f"a process that draws videos into {folder} was stopped; start again")
  finally:
    for worker in workers:
      worker.kill()
      worker.wait()


def main(folder: str, settings: str, part: str, parts: str) -> None:
  """What each process does: prints a dot for every video, or what went wrong as JSON."""
  path = pathlib.Path(folder)
  groups = _missing(path, Settings.from_json(settings), int(part), int(parts))
  try:
    try:
      for _ in _draw_here(path, groups):
        os.write(1, b".\n")  # one system call, so that lines of several processes don't mix
    except DataError as error:
      os.write(1, json.dumps(str(error)).encode() + b"\n")
      sys.exit(1)
  except BrokenPipeError:  # the caller is gone, or another process's error was enough for it
    os._exit(1)


if __name__ == "__main__":
  main(*sys.argv[1:])
