"""A data set by its name: its folder as it was downloaded, or shards that were prepared from it."""

import difflib
import importlib
import pathlib
import pkgutil
from types import ModuleType

from data_pipelines import datasets, shards
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset


def names() -> list[str]:
  """All data sets that can be read."""
  found = [m.name for m in pkgutil.iter_modules(datasets.__path__)]
  return [n for n in found if hasattr(importlib.import_module(f"{datasets.__name__}.{n}"), "read")]


def module(name: str) -> ModuleType:
  """The reader of a data set, `data_pipelines/datasets/NAME.py`: `SPLITS`, `PREPARED`, `read`.

  Raises:
    DataError: there is none; names the nearest.
  """
  if name.isidentifier() and name in names():
    return importlib.import_module(f"{datasets.__name__}.{name}")
  close = difflib.get_close_matches(name, names(), n=1)
  hint = f"; did you mean {close[0]!r}?" if close else ""
  raise DataError(f"there is no data set {name!r}{hint} (all: {', '.join(names())})")


def load(name: str, root: str, split: str, **options) -> Dataset:
  """One split of a data set, from the folder that people have, or from prepared shards.

  Args:
    name: of the data set; see `names`.
    root: a folder in the data set's own layout, or one that `data_pipelines.prepare` wrote.
    split: one of the data set's `SPLITS`.
    options: the reader's own, for example `allow_missing`; not for prepared shards, for which they
      were settled when they were written.

  Raises:
    DataError: unknown name, split or option, wrong or incomplete folder.
  """
  if shards.is_prepared(root):
    return shards.read(root, split)
  reader = module(name)
  if not root:
    raise DataError(f"{name}: no folder given; see docs/data/{name}.md for what it should hold")
  try:
    return reader.read(str(pathlib.Path(root).expanduser()), split, **options)
  except TypeError as e:  # an option that this reader doesn't know
    raise DataError(f"{name}: {e}") from e
