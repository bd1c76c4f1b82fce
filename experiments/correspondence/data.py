"""What a correspondence run learns from: clips of frames, and classes of their colours."""

import dataclasses
import functools

import numpy as np

from data_pipelines import clips, sample
from data_pipelines.augment import recipes
from data_pipelines.augment.steps import Resize
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset
from vssl_jax.ops import colour, colour_clusters
from vssl_jax.types import ConfigError


def centroids(dataset: Dataset, config, size: int, seed: int) -> np.ndarray:
  """Colour classes of a data set: float32 [K, 2], (a, b) of each, by k-means.

  Args:
    config: the group `colours` of a config.
    size: pixels a side of the frames that are looked at, one of each of `config.videos` videos.

  Raises:
    DataError: nothing can be read.
  """
  read = clips.Reader(functools.partial(sample.clip, n_frames=1), Resize(size, size),
                      short_side=size)
  rng, records = np.random.default_rng([seed, 80]), dataset.records
  chosen = rng.choice(len(records), min(config.videos, len(records)), replace=False)
  part = dataclasses.replace(dataset, records=[records[i] for i in np.sort(chosen).tolist()])
  found = [x["found"]["frames"] for x in clips.in_order(part, read, seed=seed) if x["ok"]]
  if not found:
    raise DataError(f"{dataset.name} {dataset.split}: none of {len(chosen)} videos can be read, so "
                    "colours.clusters can't be fitted")
  ab = (np.asarray(colour.lab(colour.to_unit(x)))[..., 1:] for x in found)
  try:
    return colour_clusters.fit(colour_clusters.sample(ab, config.samples, seed), config.clusters,
                               seed)
  except ValueError as e:
    raise ConfigError(f"colours.clusters={config.clusters}: {e}") from e


def reader(config) -> clips.Reader:
  """Clips of T frames, clean and as the encoder sees them, from the group `clips` of a config."""
  if config.frames < 2 or config.gap < 1 or config.fps < 0:
    raise ConfigError(f"clips.frames={config.frames} should be at least 2, clips.gap={config.gap} "
                      f"at least 1, and clips.fps={config.fps} at least 0")
  if config.size < 16 or not 0 <= config.jitter_p <= 1:
    raise ConfigError(f"clips.size={config.size} should be at least 16, and clips.jitter_p="
                      f"{config.jitter_p} from 0 to 1")
  if len(config.jitter) != 4:
    raise ConfigError(f"clips.jitter={config.jitter} should be four numbers: brightness, contrast, "
                      "saturation, hue")
  choose = functools.partial(sample.clip, n_frames=config.frames, stride=config.gap,
                             fps=config.fps or None, short="hold")
  transform = recipes.corrflow(config.size, config.jitter_p, jitter=tuple(config.jitter))
  return clips.Reader(choose, transform, short_side=config.size)
