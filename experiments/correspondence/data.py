"""The data sets of a correspondence run: what it learns from, and what it is evaluated on."""

import dataclasses
import functools

import jax
import numpy as np

from data_pipelines import clips, sample, source
from data_pipelines.augment import recipes
from data_pipelines.augment.steps import Resize
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset
from experiments import origin
from vssl_jax import parallel
from vssl_jax.ops import colour, colour_clusters
from vssl_jax.types import ConfigError

NOT_OPTIONS = ("name", "root", "split", "cache_dir", "max_bad_fraction")


def load(config, key: str, like) -> Dataset:
  """The data set of a group of a config: `name`, `root`, `split`, and the reader's own options.

  The first process reads it, and may make it; the others find it made.

  Args:
    config: the group.
    key: its name, for messages.
    like: the group whose name, root and options hold where this one's name is "".
  """
  if jax.process_index() > 0:
    parallel.barrier(key)
  found = _load(config, key, like)
  if jax.process_index() == 0:
    parallel.barrier(key)
  return found


def _load(config, key: str, like) -> Dataset:
  base = config if config.name else like
  options = {k: v for c in (base, config) for k, v in c.items() if k not in NOT_OPTIONS}
  root = base.get("root") or ""
  if base.name == "procedural":  # it is drawn, into the cache
    root = str(origin.cache_folder(base.get("cache_dir", "")))
  try:
    return source.load(base.name, root, config.split, **options)
  except (DataError, ValueError) as e:
    raise ConfigError(f"{key}: {e}") from e


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
