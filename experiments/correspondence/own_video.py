"""Carries what a user marked in the first frame through a video: masks, or points.

  FOLDER/masks/00000.png, ...   label maps in the numbers of the first one, or
  FOLDER/points.csv             frame,time,name,x,y,found; a lost point has neither x nor y
  FOLDER/overlay.mp4            the video with what was found drawn over it
  FOLDER/propagation.json       how it was made

Frames pass one by one: memory depends on their size and on the protocol's references, not on the
length of the video.
"""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator

import numpy as np

from data_pipelines import encode, media, picture
from data_pipelines.container import UNKNOWN_FPS
from data_pipelines.datasets import numbered
from data_pipelines.records import Record
from experiments import cli, interrupt
from experiments.correspondence import results_folder
from experiments.correspondence.marked import Masks, Points
from vssl_jax import log
from vssl_jax.evaluators.dense import Embed, features_of
from vssl_jax.evaluators.propagation import Protocol
from vssl_jax.types import ConfigError


@dataclasses.dataclass(frozen=True)
class Written:
  """What `propagate` left.

  Attributes:
    folder: of the output.
    labels: the folder of masks, or the file of points.
    overlay: the video that shows them.
    frames: how many.
    size: height and width.
    seconds: that it took, compiling included.
    lost: name of an object or point -> in how many frames it wasn't found; those never lost are
      absent.
    notes: what was decided on the way.
  """

  folder: pathlib.Path
  labels: pathlib.Path
  overlay: pathlib.Path
  frames: int
  size: tuple[int, int]
  seconds: float
  lost: dict[str, int]
  notes: tuple[str, ...]

  @property
  def frames_per_second(self) -> float:
    return self.frames / self.seconds

  def text(self) -> str:
    """Lines for the terminal."""
    lost = [f"  {name}: in {count} of {self.frames} frames" for name, count in self.lost.items()]
    if len(lost) > 10:
      lost[10:] = [f"  and {len(lost) - 10} more"]
    return "\n".join([
        f"{self.frames} frames of {self.size[1]}x{self.size[0]} pixels, "
        f"{self.frames_per_second:.2f} a second",
        *self.notes, *(["Not found:", *lost] if lost else []),
        "Written:", *(f"  {path}" for path in (self.labels, self.overlay,
                                               self.folder / results_folder.PAGE))])


def propagate(embed: Embed, protocol: Protocol, video: str, first: str, output: str, *,
              max_side: int = 0, progress: bool = True) -> Written:
  """Propagates the masks or points `first` through `video`; see the module for what is written.

  Args:
    embed: as of `dense.features_of`.
    protocol: of the propagation. Points are soft labels, and fed back as such in any case.
    video: a file, or a folder of numbered pictures.
    first: of the first frame: a label map (.png, see `label_image.read`) or points (.csv with the
      header x,y or name,x,y; pixels, (0, 0) is the centre of the first).
    output: a folder that is new, empty, or of an earlier call, which is replaced.
    max_side: frames with a longer side than this are made smaller for the features and for the
      propagation; 0 for never. What is written has the video's size.
    progress: shows it and the remaining time, where it takes longer than seconds.

  Raises:
    ConfigError, DataError: something is wrong with the input; names the file, and what to do.
  """
  if max_side < 0 or 0 < max_side < protocol.stride:
    raise ConfigError(f"--max_side={max_side} should be 0, or at least the features' stride, "
                      f"{protocol.stride}")
  with media.open_media(_record(video)) as reader:
    size = reader.height, reader.width
    small = _small_size(size, max_side)
    marked = _read(first)(first, size, small, protocol, video)
    page = {"video": str(video), "first": str(first), "protocol": dataclasses.asdict(protocol),
            "max_side": max_side}
    folder = results_folder.claim(output, page, [video, first])
    start = time.perf_counter()
    with cli.writing(folder):
      lost = _run(embed, marked, reader, folder, progress)
      seconds = time.perf_counter() - start
      results_folder.write_page(folder, {**page, "finished": True, "frames": reader.n_frames,
                                         "lost": lost, "notes": marked.notes})
  return Written(folder, folder / marked.name, folder / results_folder.OVERLAY, reader.n_frames,
                 size, seconds, lost, tuple(marked.notes))


def _record(video: str) -> Record:
  path = pathlib.Path(video)
  if path.is_file():
    return Record(path.name, str(path))
  if not path.is_dir():
    raise ConfigError(f"--input={video}: no such file or folder")
  pictures = numbered.scan(path)
  if not len(pictures):
    raise ConfigError(f"--input={video}: no numbered pictures (00000.jpg, 00001.jpg, ...) in this "
                      "folder; give a video file, or a folder of one video's frames")
  return Record(path.name, frames=pictures.paths)


def _read(first: str) -> type:
  kind = {".png": Masks, ".csv": Points}.get(pathlib.Path(first).suffix.lower())
  if kind is None:
    raise ConfigError(f"--first={first}: should be a label map that ends in .png, or points in a "
                      "file that ends in .csv")
  if not pathlib.Path(first).is_file():
    raise ConfigError(f"--first={first}: no such file")
  return kind


def _small_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
  if not max_side or max(size) <= max_side:
    return size
  short = max(1, min(size) * max_side // max(size))
  return picture.scaled_size(*size, short)


def _run(embed: Embed, marked: Masks | Points, reader, folder: pathlib.Path,
         progress: bool) -> dict[str, int]:
  """Writes everything but the page; returns how often each name was lost."""
  lost = np.zeros(len(marked.names), int)
  waiting = collections.deque()  # not itertools.tee, which keeps 57 frames alive
  frames = _noted(reader.stream(np.arange(reader.n_frames)), waiting)
  small = (_resized(frame, marked.small) for frame in frames)
  found = _told(marked.carried(features_of(small, embed, marked.protocol.stride)), reader.name)
  fps = max(reader.fps or UNKNOWN_FPS, 0.001)
  with (encode.mp4_writer(folder / results_folder.OVERLAY, fps) as show,
        contextlib.closing(marked.written(folder, reader.times, found)) as results,
        log.stage(results, name="propagate", total=reader.n_frames, unit="frames",
                  show=progress) as bar):
    for result in bar:
      show(marked.drawn(waiting.popleft(), result))
      lost += ~marked.present(result)
      interrupt.INTERRUPT.check()
  return {name: int(n) for name, n in zip(marked.names, lost, strict=True) if n}


def _noted(frames: Iterator[np.ndarray], waiting: collections.deque) -> Iterator[np.ndarray]:
  """Passes frames on, and puts them down for whoever draws on them."""
  for frame in frames:
    waiting.append(frame)
    yield frame


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  return frame if frame.shape[:2] == size else picture.resize(frame[None], min(size))[0]


def _told(results: Iterator, name: str) -> Iterator:
  """What the propagation finds wrong with features as an error in the input."""
  with contextlib.closing(results):
    try:
      yield from results
    except ValueError as e:
      raise ConfigError(f"{name}: {e}") from e
