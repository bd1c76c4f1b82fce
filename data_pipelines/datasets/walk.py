"""What lies below a folder: videos, pictures and lists, a million files and more."""

import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from data_pipelines.errors import DataError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
ARCHIVES = (".zip", ".rar", ".tar", ".tgz", ".gz", ".7z")


def folders(root: str | os.PathLike) -> Iterator[tuple[str, list[str]]]:
  """Every folder below `root`, itself included: its path relative to `root`, and its files' names.

  Paths have / on every system; `root` itself is "". Names that begin with a dot are skipped, links
  are followed, each folder once, links to nothing passed over. Nothing but folders is opened, so a
  million files take seconds.

  Raises:
    DataError: a folder can't be read.
  """
  seen, waiting = set(), [""]
  while waiting:
    place = waiting.pop()
    full = os.path.join(root, place)
    try:
      status = os.stat(full)
      if (status.st_dev, status.st_ino) in seen:
        continue  # reached by a link before, perhaps in a circle
      seen.add((status.st_dev, status.st_ino))
      with os.scandir(full) as scan:
        entries = [e for e in scan if not e.name.startswith(".") and _leads_somewhere(e)]
    except OSError as e:
      raise DataError(f"can't read the folder {full} ({e.strerror}); mend its permissions or move "
                      "it away") from e
    below = {e.name for e in entries if _is_folder(e)}
    yield place, [e.name for e in entries if e.name not in below]
    waiting += [f"{place}/{name}" if place else name for name in sorted(below, reverse=True)]


def files(root: str | os.PathLike, suffixes: Sequence[str]) -> list[str]:
  """Files below `root` whose names end in one of `suffixes` (in lower case), relative, sorted."""
  wanted = tuple(suffixes)
  return sorted(f"{place}/{name}" if place else name for place, names in folders(root)
                for name in names if name.lower().endswith(wanted))


def nothing_found(dataset: str, root: str | os.PathLike, what: str, right: str) -> DataError:
  """The error for a root that holds nothing of the kind that was looked for.

  Args:
    what: that was looked for.
    right: what a right layout looks like.
  """
  names = sorted(p.name for p in pathlib.Path(root).iterdir() if not p.name.startswith("."))
  packed = [name for name in names if name.lower().endswith(ARCHIVES)]
  hint = f"unpack {', '.join(packed[:3])} first, or " if packed else ""
  return DataError(f"{dataset}: no {what} in {root}, which holds "
                   f"{', '.join(names[:6]) or 'nothing'}; {hint}give the folder that holds {right}")


def stem(path: str) -> str:
  """The file's name without folders and without its last suffix."""
  return os.path.splitext(path.rpartition("/")[2])[0]


def printable(name: str) -> str:
  """The name in UTF-8, whatever bytes it has on disk."""
  return os.fsencode(name).decode("utf-8", "backslashreplace")


def natural(name: str) -> tuple[list, str]:
  """A key for sorting that takes the digits in names as numbers: 2.jpg comes before 10.jpg."""
  # Even places hold text and odd ones digits, so places of two names are always comparable.
  parts = re.split(r"([0-9]+)", name)
  return [int(part) if k % 2 else part for k, part in enumerate(parts)], name


def _leads_somewhere(entry: os.DirEntry) -> bool:
  return not entry.is_symlink() or os.path.exists(entry.path)


def _is_folder(entry: os.DirEntry) -> bool:
  # DirEntry.is_dir raises where a link points at itself.
  return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
