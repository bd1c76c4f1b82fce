"""Published annotations of the retrieval benchmarks: who matches whom, no videos.

Each reader takes the folder that holds the JSON files `fivr.json.gz`, `evve.json.gz`,
`cc_web_video.json.gz`, `vcdb.json.gz` and the text file `fivr_200k_ids.txt.gz`, compressed or not
(`vcdb.json`), and raises `DataError`, naming file and key, where something is missing or of another
form. docs/data/annotations.md describes the files and how to make them from the official ones.
"""

import dataclasses
import gzip
import json
import pathlib
import types
import zlib
from collections.abc import Mapping
from typing import Any

from data_pipelines.errors import DataError


@dataclasses.dataclass(frozen=True)
class Fivr:
  """FIVR-200K and its subset FIVR-5K.

  Attributes:
    queries_200k, queries_5k: 100 query ids, and the 50 of the subset.
    database_200k, database_5k: 225 960 and 5 000 ids. Every query is in the first; one of the 50
      is in the second. Those of the subset are empty where the file lacks them.
    annotation: query -> label (ND, DS, CS, IS, DA) -> ids: the labels that published systems
      are evaluated with. Its DA lists are incomplete. Empty where the file lacks it.
    annotation_official_latest: the same from the last update of the data set, with whole DA lists.
      A reported number says which of the two it uses. Empty where the file lacks it.
    easy_duplicates: ids that the 'hard' variant leaves out.
  """

  queries_200k: tuple[str, ...]
  queries_5k: tuple[str, ...]
  database_200k: tuple[str, ...]
  database_5k: tuple[str, ...]
  annotation: dict[str, dict[str, list[str]]]
  annotation_official_latest: dict[str, dict[str, list[str]]]
  easy_duplicates: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Evve:
  """EVVE: 620 queries, 2 373 database videos, 13 events; no query is in the database.

  Attributes:
    queries, database: ids.
    event_of: query -> event.
    positives: event -> ids of the database videos that show it.
  """

  queries: tuple[str, ...]
  database: tuple[str, ...]
  event_of: dict[str, str]
  positives: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class CCWebVideo:
  """CC_WEB_VIDEO: 24 queries with their own labels each, 13 115 database videos.

  A labelled video that has no name in the published list isn't in the database; it is called
  `#` and its number, so that it still counts as a video that should have been found.

  Attributes:
    queries: ids, all in the database; query k belongs to query set k.
    database: ids.
    labels: query -> id -> letter: E, S, V, M, L are positive, all others negative.
    excluded: query -> ids that its 'cleaned' variant leaves out.
  """

  queries: tuple[str, ...]
  database: tuple[str, ...]
  labels: dict[str, dict[str, str]]
  excluded: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Vcdb:
  """VCDB: copies among 528 core videos, and background videos that are unrelated to everything.

  Attributes:
    core: hashed names.
    pairs: 5 612 unordered pairs of ids that share a copied segment, in stored orientation.
    overlap: for each pair two published ratios of shared content; not bounded by 1. Or ().
    background: ids in the published order, four of them twice.
    distractors: `background` without the entries that training leaves out; in order.
  """

  core: tuple[str, ...]
  pairs: tuple[tuple[str, str], ...]
  overlap: tuple[tuple[float, float], ...]
  background: tuple[str, ...]
  distractors: tuple[str, ...]

  @property
  def partners(self) -> dict[str, tuple[str, ...]]:
    """Core id -> ids of the core videos it shares a segment with."""
    found = {name: [] for name in self.core}
    for a, b in self.pairs:
      found[a].append(b)
      found[b].append(a)
    return {name: tuple(ids) for name, ids in found.items()}

  @property
  def groups(self) -> dict[str, int]:
    """Core id -> number of its connected group: ids that pairs link, directly or over others.

    Groups are numbered in the order of `core`.
    """
    partners, number, count = self.partners, {}, 0
    for name in self.core:
      if name in number:
        continue
      waiting = [name]
      while waiting:
        member = waiting.pop()
        if member not in number:
          number[member] = count
          waiting += partners[member]
      count += 1
    return number


def folder(root: str | pathlib.Path, annotations: str | pathlib.Path = "") -> pathlib.Path:
  """`annotations`, or the folder of this name in a data set's own, where it is empty."""
  return pathlib.Path(annotations or pathlib.Path(root) / "annotations").expanduser().absolute()


def read_fivr(folder: str | pathlib.Path) -> Fivr:
  """Reads `fivr.json.gz` and `fivr_200k_ids.txt.gz`."""
  ids_path = pathlib.Path(folder) / "fivr_200k_ids.txt.gz"
  database = tuple(_text(ids_path).split())
  if not database:
    raise DataError(f"{ids_path}: no ids in it; it should hold one video id per line")
  labels = ("annotation", "annotation_official_latest")
  optional = ("queries_5k", "database_5k", "easy_duplicates")
  path, raw = _read(folder, "fivr.json.gz", {"queries_200k": list},
                    dict.fromkeys(optional, list) | dict.fromkeys(labels, dict))
  if not set(labels) & set(raw):
    raise DataError(f"{path}: has neither {' nor '.join(labels)}; it needs one of them")
  for key in labels:
    for query in raw["queries_200k"] if key in raw else ():
      if query not in raw[key]:
        raise DataError(f"{path}: {key!r} has no entry for query {query!r}")
  return Fivr(
    queries_200k=tuple(raw["queries_200k"]), queries_5k=tuple(raw.get("queries_5k", ())),
    database_200k=database, database_5k=tuple(raw.get("database_5k", ())),
    annotation=raw.get("annotation", {}),
    annotation_official_latest=raw.get("annotation_official_latest", {}),
    easy_duplicates=frozenset(raw.get("easy_duplicates", ())))


def read_evve(folder: str | pathlib.Path) -> Evve:
  """Reads `evve.json.gz`."""
  path, raw = _read(folder, "evve.json.gz", {"queries": list, "database": list, "events": dict})
  event_of, positives = {}, {}
  for event, entry in raw["events"].items():
    for key in ("queries", "positives"):
      if key not in entry:
        raise DataError(f"{path}: event {event!r} has no {key!r}")
    event_of |= dict.fromkeys(entry["queries"], event)
    positives[event] = tuple(entry["positives"])
  without = [query for query in raw["queries"] if query not in event_of]
  if without:
    raise DataError(f"{path}: query {without[0]!r} belongs to no event")
  return Evve(tuple(raw["queries"]), tuple(raw["database"]), event_of, positives)


def read_cc_web_video(folder: str | pathlib.Path) -> CCWebVideo:
  """Reads `cc_web_video.json.gz`."""
  keys = ("names", "queries", "labels", "excluded")
  path, raw = _read(folder, "cc_web_video.json.gz", dict.fromkeys(keys, list))
  queries, names = raw["queries"], raw["names"]
  for key in ("labels", "excluded"):
    if len(raw[key]) != len(queries):
      raise DataError(f"{path}: {len(queries)} queries, but {len(raw[key])} entries in {key!r}")

  def name(index: str | int) -> str:
    if int(index) >= len(names):
      raise DataError(f"{path}: video number {index}, but {len(names)} entries in 'names'")
    return f"#{index}" if names[int(index)] is None else names[int(index)]

  labels = [{name(i): letter for i, letter in entry.items()} for entry in raw["labels"]]
  excluded = [tuple(name(i) for i in entry) for entry in raw["excluded"]]
  return CCWebVideo(
    queries=tuple(queries), database=tuple(i for i in names if i is not None),
    labels=dict(zip(queries, labels, strict=True)),
    excluded=dict(zip(queries, excluded, strict=True)))


def read_vcdb(folder: str | pathlib.Path) -> Vcdb:
  """Reads `vcdb.json.gz`."""
  path, raw = _read(folder, "vcdb.json.gz", dict.fromkeys(("core", "pairs", "background"), list),
                    dict.fromkeys(("overlap", "not_used_as_negative"), list))
  core, unused = raw["core"], set(raw.get("not_used_as_negative", ()))
  if "overlap" in raw and len(raw["pairs"]) != len(raw["overlap"]):
    raise DataError(f"{path}: {len(raw['pairs'])} pairs, but {len(raw['overlap'])} overlaps")
  outside = [pair for pair in raw["pairs"] if not all(0 <= i < len(core) for i in pair)]
  if outside:
    raise DataError(f"{path}: pair {outside[0]} points outside the {len(core)} core videos")
  return Vcdb(
    core=tuple(core), pairs=tuple((core[a], core[b]) for a, b in raw["pairs"]),
    overlap=tuple((a, b) for a, b in raw.get("overlap", ())), background=tuple(raw["background"]),
    distractors=tuple(name for i, name in enumerate(raw["background"]) if i not in unused))


def _text(path: pathlib.Path) -> str:
  plain = path.with_suffix("")
  try:
    if plain.is_file() and not path.is_file():
      path = plain
      return plain.read_text(encoding="utf-8")
    with gzip.open(path, "rt", encoding="utf-8") as f:
      return f.read()
  except FileNotFoundError:
    raise DataError(
      f"{path}: no such file; name the folder that holds the retrieval annotations "
      "(annotations=FOLDER); docs/data/annotations.md says how they are made") from None
  except (OSError, EOFError, UnicodeDecodeError, zlib.error) as e:
    kind = "text" if path == plain else "gzip text"
    raise DataError(f"{path}: not a readable {kind} file ({e})") from e


def _read(folder: str | pathlib.Path, name: str, keys: dict[str, type],
          optional: Mapping[str, type] = types.MappingProxyType({}),
          ) -> tuple[pathlib.Path, dict[str, Any]]:
  """The file's path and content, after checking that `keys` are there, and of the right kind."""
  path = pathlib.Path(folder) / name
  try:
    raw = json.loads(_text(path))
  except json.JSONDecodeError as e:
    raise DataError(f"{path}: not JSON ({e})") from e
  if not isinstance(raw, dict):
    raise DataError(f"{path}: should be a JSON object, is a {type(raw).__name__}")
  for key, kind in {**keys, **optional}.items():
    if key not in raw and key in optional:
      continue
    if key not in raw:
      raise DataError(f"{path}: has no key {key!r}; it has {', '.join(sorted(raw)) or 'none'}")
    if not isinstance(raw[key], kind):
      raise DataError(f"{path}: {key!r} should be a {kind.__name__}, "
                      f"is a {type(raw[key]).__name__}")
  return path, raw
