"""Dense features of a user's videos, as arrays on disk; see `feature_folder`.

Row t is frame t * every of the video, [h, w, D]. Cell y, x of it lies at pixel stride * y,
stride * x where `align` is "cell", and (stride - 1) / 2 further on where it is "half_pixel". The
page has the size of each video's frames, and frames a second.
"""

from collections.abc import Sequence

import numpy as np

from data_pipelines import media
from data_pipelines.records import Record
from experiments import feature_folder
from vssl_jax.evaluators.dense import Embed, features_of
from vssl_jax.ops.resample import ALIGNMENTS
from vssl_jax.types import ConfigError


def extract(embed: Embed, videos: Sequence[Record], output: str, *, stride: int,
            align: str = "cell", dtype: str = "float16", every: int = 1,
            origin: dict | None = None, progress: bool = True) -> feature_folder.Extracted:
  """Writes the features of whole videos; a later call goes on where one was interrupted.

  Args:
    embed: as of `dense.features_of`.
    videos, output, dtype, progress: as of `feature_folder.write`.
    stride, align: of the cells, see the module.
    every: take each so many-th frame, from the first on.
    origin: what made the features, for example the run and the step; goes into the page.

  Raises:
    ConfigError: as of `feature_folder.write`.
  """
  if align not in ALIGNMENTS or every < 1:
    raise ConfigError(f"{align=}, {every=}: should be one of {', '.join(ALIGNMENTS)}; at least 1")

  def describe(video: Record):
    with media.open_media(video) as reader:
      indices = np.arange(0, reader.n_frames, every)
      yield len(indices), {"height": reader.height, "width": reader.width, "fps": reader.fps,
                           "n_frames": reader.n_frames}
      for t, row in enumerate(features_of(reader.stream(indices), embed, stride)):
        if t == 0:
          _check_cells(row, reader.height, reader.width, stride)
        yield row

  about = ("features [T, h, w, D] in one .npy a video: row t is frame t * every, cell (y, x) lies "
           "at pixel stride * (y, x)" + (" + (stride - 1) / 2" if align != "cell" else "")
           + "; h w are the frame's size over the stride, rounded up")
  settings = {**(origin or {}), "stride": stride, "align": align, "every": every}
  return feature_folder.write(describe, videos, output, dtype=dtype, settings=settings,
                              about=about, progress=progress)


def _check_cells(row: np.ndarray, height: int, width: int, stride: int) -> None:
  cells = -(-height // stride), -(-width // stride)
  if row.shape[:2] != cells:
    raise ConfigError(f"features have {row.shape[0]} x {row.shape[1]} cells; frames of {height} x "
                      f"{width} pixels at stride {stride} have {cells[0]} x {cells[1]}: the stride "
                      "isn't the encoder's")
