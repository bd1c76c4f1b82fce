"""The data set that a group of a config names."""

import jax

from data_pipelines import source
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset
from experiments import origin
from vssl_jax import parallel
from vssl_jax.types import ConfigError

NOT_OPTIONS = ("name", "root", "split", "train", "test", "cache_dir", "max_bad_fraction",
               "memory")


def load(config, key: str, like, split: str = "") -> Dataset:
  """The data set of a group of a config: `name`, `root`, `split`, and the reader's own options.

  The first process reads it, and may make it; the others find it made.

  Args:
    config: the group.
    key: its name, for messages.
    like: the group whose name, root and options hold where this one's name is "".
    split: instead of the group's.
  """
  if jax.process_index() > 0:
    parallel.barrier(key)
  found = _load(config, key, like, split or config.split)
  if jax.process_index() == 0:
    parallel.barrier(key)
  return found


def _load(config, key: str, like, split: str) -> Dataset:
  base = config if config.name else like
  options = {k: v for c in (base, config) for k, v in c.items() if k not in NOT_OPTIONS}
  root = base.get("root") or ""
  if base.name == "procedural":  # it is drawn, into the cache
    root = str(origin.cache_folder(base.get("cache_dir", "")))
  try:
    return source.load(base.name, root, split, **options)
  except (DataError, ValueError) as e:
    raise ConfigError(f"{key}: {e}") from e
