"""Features of a user's videos: of a frame a second, or of clip after clip; see `feature_folder`."""

from collections.abc import Callable, Sequence

import numpy as np

from data_pipelines import media, sample
from data_pipelines.augment import recipes
from data_pipelines.records import Record
from experiments import cli, feature_folder
from experiments.recognition.data import INPUTS

FPS = 1.0  # frames a second of video, for a model of pictures


def extract(embed: Callable, videos: Sequence[Record], output: str, config, *, key: str,
            origin: dict, progress: bool = True) -> feature_folder.Extracted:
  """Writes the features of whole videos, [T, D] each; the page has the second each row begins at.

  Args:
    embed: from `{"image"}` or `{"clip"}` to a dict of arrays.
    config: of the run; `views` says what clips are, and the pixels a side of the middle of frames.
    key: of the embedding, which are the features.
    origin: what made the features; goes into the page.
  """
  views, block = config.views, config.embed.batch
  takes, side = INPUTS[views.name], views.size
  crop = recipes.centre_view(side, short_side=side)

  def describe(video: Record):
    with media.open_media(video) as reader:
      rows = moments(reader.times, views)
      yield len(rows), {"fps": reader.fps, "n_frames": reader.n_frames,
                        "seconds": [round(float(reader.times[row[0]]), 3) for row in rows]}
      for start in range(0, len(rows), block):
        part = rows[start:start + block]
        numbers, at = np.unique(part, return_inverse=True)
        frames = crop(reader.frames(numbers, side))[at.reshape(part.shape)]
        yield from embed({takes: frames[:, 0] if takes == "image" else frames})[key]

  what = f"frame, {FPS:g} a second" if takes == "image" else f"clip of {views.frames} frames"
  about = (f"features [T, D] in one .npy a video: a row for each {what}; seconds says where it "
           "begins")
  settings = {**origin, "size": side, "output": key, "views": views.name,
              "config": cli.digest(config)}
  return feature_folder.write(describe, videos, output, dtype="float32", settings=settings,
                              about=about, progress=progress)


def moments(times: np.ndarray, views) -> np.ndarray:
  """Numbers of the frames that each row is of, int64 [rows, frames]."""
  if INPUTS[views.name] == "image":
    return sample.per_second(times, FPS)[:, None]
  stepped = sample.per_second(times, views.fps) if views.fps else np.arange(len(times))
  span = views.frames * views.stride
  count = max(1, len(stepped) // span)
  fits = -(-len(stepped) // views.stride)  # frames of a clip, at least
  within = np.arange(views.frames) % fits if views.short == "loop" else np.arange(views.frames)
  places = np.arange(count)[:, None] * span + within * views.stride
  return stepped[np.minimum(places, len(stepped) - 1)]
