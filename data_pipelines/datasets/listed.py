"""Data sets that are lists of video ids: whoever has the videos has files named by these ids.

People keep them flat or in sub-folders, in whatever container the download gave, so a file belongs
to an id by its name alone: `ID.mp4`, `any/where/ID.webm`, or `some title [ID].mkv`, as yt-dlp names
files by default.
"""

import dataclasses
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping

from data_pipelines import shards
from data_pipelines.datasets import completeness, layout, walk
from data_pipelines.datasets.folder import SUFFIXES
from data_pipelines.records import Dataset, Record

_SUFFIXES = frozenset(SUFFIXES)
_SHOWN = 3  # ids in a message


@dataclasses.dataclass(frozen=True)
class Found:
  """Files of listed videos.

  Attributes:
    paths: id -> absolute path, the first by name where there are several.
    duplicates: id -> all its paths, sorted, of ids with several files.
  """

  paths: dict[str, str]
  duplicates: dict[str, list[str]]


def find(folder: str | os.PathLike, ids: Collection[str]) -> Found:
  """The files below `folder` that are named by one of `ids`; one walk, nothing is opened.

  Links to folders are followed, each folder once; hidden names, dangling links and names that
  don't end like a video are passed over.

  Raises:
    DataError: a folder can't be read.
  """
  wanted, paths, duplicates = frozenset(ids), {}, {}
  for place, names in walk.folders(folder):
    for name in names:
      stem, suffix = os.path.splitext(name)
      if suffix.lower() not in _SUFFIXES:
        continue
      if stem not in wanted and stem.endswith("]"):
        stem = stem[stem.rfind("[") + 1:-1]
      if stem in wanted:
        path = os.path.join(folder, place, name)
        if paths.setdefault(stem, path) != path:
          duplicates.setdefault(stem, [paths[stem]]).append(path)
  duplicates = {i: sorted(own) for i, own in sorted(duplicates.items())}
  return Found(paths | {i: own[0] for i, own in duplicates.items()}, duplicates)


def dataset(name: str, split: str, root: str | os.PathLike, ids: Iterable[str], *,
            expected: Mapping[str, int], right: str, allow_missing: bool,
            record: Callable[[str, str], Record] = Record) -> Dataset:
  """The listed videos that are on disk, as one split of a data set.

  Args:
    name, split: of the data set.
    root: the folder to look in.
    ids: the list, in its order, which becomes that of the records; an id may be repeated.
    expected: published counts of the split, see `completeness.check`.
    right: what the folder should look like, for the error.
    allow_missing: go on, with a warning, where listed videos are missing.
    record: (id, path) -> record.

  Raises:
    DataError: no such folder, none of the videos is in it, or some are missing.
  """
  folder, ids = layout.root_folder(name, root), list(dict.fromkeys(ids))
  found = find(folder, ids)
  if not found.paths:
    raise walk.nothing_found(f"{name} {split}", folder, f"file named by one of its {len(ids):,} "
                             "ids", right)
  missing = sorted(i for i in ids if i not in found.paths)
  completeness.check(name, split, {"videos": len(found.paths)}, expected, missing, allow_missing)
  notes = [f"{len(found.paths):,} of {len(ids):,} videos are on disk."] if missing else []
  if found.duplicates:
    notes.append(_duplicates(found.duplicates))
    logging.getLogger(__name__).warning("%s %s: %s", name, split, notes[-1])
  records = [record(i, found.paths[i]) for i in ids if i in found.paths]
  return Dataset(name, split, records, missing=tuple(missing), note=" ".join(notes))


def _duplicates(duplicates: Mapping[str, list[str]]) -> str:
  shown = "; ".join(" and ".join(own) for own in list(duplicates.values())[:_SHOWN])
  return (f"Several files for {len(duplicates):,} of the ids, the first by name is used: {shown}"
          f"{'; ...' if len(duplicates) > _SHOWN else '.'}")


def load(read: Callable[..., Dataset], root: str, split: str, **options) -> Dataset:
  """A split from shards, where `root` was prepared, else by `read(root, split, **options)`."""
  return shards.read(root, split) if shards.is_prepared(root) else read(root, split, **options)


def queries_note(queries: Collection[str], known: Collection[str]) -> str:
  """How many of the `known` queries are there, where some are not; else ""."""
  if len(queries) == len(known):
    return ""
  return f"{len(queries):,} of {len(known):,} queries are there; the mean is over these."
