"""A folder of videos, whatever lies in it: `read` gives them as they are.

`make` turns a folder without labels into a retrieval set by editing the videos themselves. A video
and its edited copies are positives of each other, other videos are negatives. A share of the videos
is held out; their edited copies are the queries, to be found among all originals.
"""

import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence

from data_pipelines import edits, shards
from data_pipelines.datasets import held_out, layout
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record, RetrievalData

SPLITS = held_out.SPLITS
PREPARED = ("all",)

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts",
            ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv")
MIN_VIDEOS = 3  # two to learn to tell apart, one to test on

NOTE = ("Labels come from editing: a query is an edited copy of a held-out video, and the video it "
        "was made from is the only right answer. The numbers say how well copies edited in these "
        "ways are found in this folder; copies that the folder itself holds count as wrong.")


def read(root: str, split: str = "all", *, allow_missing: bool = False,
         by_class: bool | str = False, extensions: Sequence[str] = SUFFIXES, holdout: float = 0.2,
         holdout_seed: int = 0) -> Dataset:
  """Reads a folder of videos, whatever lies below it; only names are read, nothing is decoded.

  Ids are paths relative to `root`, sorted.

  Args:
    root: the folder. Links to folders are followed, each folder once; hidden names are skipped.
    split: "all"; "heldout" is a share of the videos by a hash of their ids, "train" the others.
    allow_missing: changes nothing; nothing is known of what should be there.
    by_class: the first folder below `root` is the class, numbered in the alphabet's order; with
      "optional" a video that lies in none has no label.
    extensions: what the names of videos end in, in lower case.
    holdout, holdout_seed: the share held out, and of which.

  Raises:
    DataError: `root` is missing, not a folder, unreadable or has no videos, there is no such split
      or nothing in it, or with `by_class` a video lies in no folder.
  """
  layout.check_split("folder", split, SPLITS)
  folder = layout.root_folder("folder", root)
  paths = list_videos(folder, extensions, "folder")
  if not paths:
    raise DataError(f"folder: no videos in {folder} or its subfolders; looked for names ending in "
                    f"{', '.join(extensions)}")
  ids = [video_id(path, folder) for path in paths]
  above = [id_.split("/")[0] if by_class and "/" in id_ else "" for id_ in ids]
  if by_class not in (True, False, "optional"):
    raise DataError(f"folder: by_class={by_class!r} should be True, False or 'optional'")
  if by_class is True and "" in above:
    raise DataError(f"folder: by_class needs videos in folders named by their classes, but "
                    f"{ids[above.index('')]} in {folder} lies in none")
  kept = held_out.part(ids, split, holdout, holdout_seed, "folder")
  classes = tuple(sorted({*above} - {""}))
  number = {name: k for k, name in enumerate(classes)}
  records = [Record(id_, str(path), label=number.get(name, -1), text=name)
             for id_, path, name in sorted(zip(ids, paths, above, strict=True)) if id_ in kept]
  return Dataset("folder", split, records, classes)


def make(*, root: str, n_edits: int = 4, holdout: float = 0.2, n_eval_edits: int = 3,
         queries: str = "", extensions: Sequence[str] = SUFFIXES, seed: int = 0,
         max_videos: int | None = None, strength: str = "") -> RetrievalData:
  """Reads a folder of videos, whatever lies below it; only names are read, nothing is decoded.

  Ids are paths relative to `root`; edited copies have `#edit1`, ... (training) or `#query1`, ...
  (evaluation) appended. Training pairs: (original, edit) and (edit, edit) of each training video;
  its originals are the background. Evaluation: edited copies of the held-out videos are the
  queries; all originals are the database, those seen in training as distractors. Who is held out
  depends on `seed` and the video's own id, so adding a file leaves the others where they are
  (unless the share would leave no video on one side).

  Args:
    root: the folder, or one of shards that were prepared. Links to folders are followed, each
      folder once; hidden names are skipped.
    n_edits: edited copies of each training video, at least 1.
    holdout: share of the videos held out for evaluation, between 0 and 1; at least one video is.
    n_eval_edits: queries made from each held-out video, at least 1.
    queries: "", or the user's own query videos: a folder, one video, or a text file with one path
      a line (relative to the text file; empty lines and lines that start with # are skipped).
      They become queries with ids `query:...` that have no entry in `annotation`: they are ranked
      but not scored.
    extensions: what the names of videos end in, in lower case.
    seed: of the edits and of the choice of held-out videos.
    max_videos: use so many of the videos only, chosen by `seed`; 0 or None for all.
    strength: of the training copies' edits, a key of `edits.STRENGTHS`: "", or "strong", in the
      manner of S2VS. Queries are edited in the usual way.

  Raises:
    DataError: a setting is out of range, `root` is missing, not a folder, unreadable or has fewer
      than three videos, `queries` is missing or names none. Whether a file is a video shows when it
      is decoded.
  """
  _check_settings(n_edits, holdout, n_eval_edits, max_videos)
  if strength not in edits.STRENGTHS:
    raise DataError(f"data.strength={strength!r} is unknown; choose one of "
                    f"{', '.join(map(repr, edits.STRENGTHS))}")
  folder = _folder(root, "data.root")
  path_of = _videos(folder, extensions)
  ids = _subset(list(path_of), max_videos, seed)
  if len(ids) < MIN_VIDEOS:
    raise DataError(f"data.root: {folder} has {len(path_of)} video(s), of which {len(ids)} may be "
                    f"used; at least {MIN_VIDEOS} are needed (two to train on and one to evaluate "
                    "on). Add videos, or raise data.max_videos if it is set")
  held = held_out.choose(ids, holdout, seed)
  train = [i for i in ids if i not in held]
  copies = {i: _copies(i, path_of[i], "query", n_eval_edits, seed) if i in held else
               _copies(i, path_of[i], "edit", n_edits, seed, strength) for i in ids}
  own = _own_queries(queries, extensions) if queries else []
  originals = [Record(i, path_of[i]) for i in ids]
  videos = [*originals, *(v for i in ids for v in copies[i]), *own]
  return RetrievalData(
      name=f"folder {folder.name}",
      videos={v.id: v for v in videos},
      pairs=[pair for i in train
             for pair in itertools.combinations([i, *(v.id for v in copies[i])], 2)],
      background=train,
      groups={name: number for number, i in enumerate(ids)
              for name in (i, *(v.id for v in copies[i]))},
      queries=[v.id for i in ids if i in held for v in copies[i]] + [v.id for v in own],
      database=ids,
      annotation={v.id: {"ND": [i]} for i in ids if i in held for v in copies[i]},
      note=NOTE)


def _videos(folder: pathlib.Path, extensions: Sequence[str]) -> dict[str, str]:
  """Id -> path, or address in shards."""
  if shards.is_prepared(folder):
    parts = [shards.read(folder, split).records for split in shards.manifest(folder)["splits"]]
    return {record.id: record.video for part in parts for record in part}
  paths = list_videos(folder, extensions)
  if not paths:
    raise DataError(f"data.root: no videos in {folder} or its subfolders; looked for names ending "
                    f"in {', '.join(extensions)}")
  return {video_id(p, folder): str(p) for p in paths}


def list_videos(folder: pathlib.Path, extensions: Iterable[str] = SUFFIXES,
                key: str = "data.root") -> list[pathlib.Path]:
  """All files below `folder` whose names end like videos, sorted by path.

  Raises:
    DataError: a folder can't be read; names `key`.
  """
  suffixes = tuple(s.lower() for s in extensions)
  seen, found = set(), []

  def walk(place: pathlib.Path) -> None:
    try:
      status = place.stat()
      with os.scandir(place) as scan:
        entries = sorted(scan, key=lambda e: e.name)
    except OSError as e:
      raise DataError(f"{key}: can't read the folder {place} ({e.strerror}); mend its "
                      "permissions or move it away") from e
    if (status.st_dev, status.st_ino) in seen:
      return  # reached by a link before, perhaps in a circle
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
      if entry.name.startswith("."):
        continue
      if os.path.isdir(entry.path):  # DirEntry.is_dir raises where a link points at itself
        walk(place / entry.name)
      elif entry.name.lower().endswith(suffixes):
        found.append(place / entry.name)

  walk(folder)
  return sorted(found, key=lambda p: p.relative_to(folder).parts)


def video_id(path: pathlib.Path, folder: pathlib.Path) -> str:
  """The path relative to `folder`, with / on every system, printable whatever bytes it has."""
  relative = path.relative_to(folder).as_posix()
  return os.fsencode(relative).decode("utf-8", "backslashreplace")


def _check_settings(n_edits: int, holdout: float, n_eval_edits: int,
                    max_videos: int | None) -> None:
  for key, value in (("n_edits", n_edits), ("n_eval_edits", n_eval_edits)):
    if value < 1:
      raise DataError(f"data.{key} must be at least 1, got {value}")
  if not 0 < holdout < 1:
    raise DataError(f"data.holdout is a share between 0 and 1 (0.2: every fifth video), "
                    f"got {holdout}")
  if max_videos is not None and max_videos < 0:
    raise DataError(f"data.max_videos must not be negative (0 for all), got {max_videos}")


def _folder(name: str, key: str) -> pathlib.Path:
  if not name:
    raise DataError(f"{key} is not set; give the folder that holds your videos, for example "
                    f"--config.{key}=/path/to/videos")
  folder = pathlib.Path(os.path.expanduser(name)).absolute()
  if not os.path.exists(folder):
    raise DataError(f"{key}: there is no folder {folder}; check the path")
  if not os.path.isdir(folder):
    raise DataError(f"{key}: {folder} is a file; give the folder that holds the videos")
  return folder


def _subset(ids: list[str], max_videos: int | None, seed: int) -> list[str]:
  if not max_videos or len(ids) <= max_videos:
    return ids
  chosen = set(sorted(ids, key=lambda i: held_out.share(seed, "subset", i))[:max_videos])
  return [i for i in ids if i in chosen]


def _copies(original: str, path: str, kind: str, count: int, seed: int,
            strength: str = "") -> list[Record]:
  return [Record(f"{original}#{kind}{k}", path, edit_strength=strength,
                 edit_seed=int(held_out.share(seed, kind, k, original) * 2**31))
          for k in range(1, count + 1)]


def _own_queries(queries: str, extensions: Sequence[str]) -> list[Record]:
  source = pathlib.Path(os.path.expanduser(queries)).absolute()
  if os.path.isdir(source):
    found = {video_id(p, source): p for p in list_videos(source, extensions, "data.queries")}
  elif source.name.lower().endswith(tuple(extensions)):
    found = {source.name: source}
  else:
    try:
      lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as e:
      raise DataError(f"data.queries: can't read {source} ({e}); give a folder, a video, or a text "
                      "file with one path a line") from e
    found = {line: source.parent / os.path.expanduser(line) for line in lines
             if line and not line.startswith("#")}
  missing = [str(p) for p in found.values() if not os.path.exists(p)]
  if missing:
    raise DataError(f"data.queries: {len(missing)} of {len(found)} videos not found, "
                    f"first: {', '.join(missing[:3])}")
  if not found:
    raise DataError(f"data.queries: {source} names no videos")
  return [Record(f"query:{name}", str(path)) for name, path in found.items()]
