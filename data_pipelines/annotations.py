"""Annotation lists of retrieval data sets, made from the files that their authors publish.

  python -m data_pipelines.annotations --dataset=fivr --input=FIVR-200K --output=FOLDER

writes `FOLDER/fivr.json.gz` (and `fivr_200k_ids.txt.gz`) in the form that docs/data/annotations.md
describes, and reads it back. Only text and JSON are read; published pickles are not, since loading
one runs what it says.
"""

import argparse
import gzip
import itertools
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable

from data_pipelines.datasets import annotations as lists
from data_pipelines.datasets import folder, layout
from data_pipelines.encode import write_atomic
from data_pipelines.errors import DataError

LETTERS = frozenset("ESVMLXx")
NOT_THERE = "-1"  # CC_WEB_VIDEO's mark of a video that was never downloaded


def fivr(source: pathlib.Path) -> dict:
  """From `annotation.json` and `youtube_ids.txt`, in the folder or in `dataset` below it.

  Queries are those of `annotation.json`, in its order. The lists of FIVR-5K are published by
  evaluation code only: add `queries_5k` and `database_5k` by hand.
  """
  place = source / "dataset" if (source / "dataset").is_dir() else source
  path = place / "annotation.json"
  try:
    labels = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise DataError(f"{path}: no such file; give the folder of FIVR-200K that has it") from None
  except (OSError, ValueError) as e:
    raise DataError(f"{path}: not readable JSON ({e})") from e
  if not isinstance(labels, dict) or not all(isinstance(entry, dict) for entry in labels.values()):
    raise DataError(f"{path}: should be query -> label -> list of ids")
  return {"queries_200k": list(labels), "annotation_official_latest": labels,
          "ids": layout.read_lines(place / "youtube_ids.txt", "one video id a line")}


def vcdb(source: pathlib.Path) -> dict:
  """From `annotation/*.txt` and the names of the background videos.

  A line of an annotation file names two core videos and their common segments:
  `A.flv,B.mp4,00:00:03,00:00:41,00:00:00,00:00:38`. A pair is listed once, first name first, in
  the order of files and lines. Background is every video below a folder named `background_dataset`,
  by name; without such a folder there is none.
  """
  pairs, core = {}, {}
  for path in _files(source, "annotation", r".*\.txt"):
    for number, line in enumerate(layout.read_lines(path, "copied segments, one a line"), 1):
      fields = line.split(",")
      if len(fields) != 6 or not all(fields):
        raise DataError(f"{path}: line {number} is {line[:60]!r}, should be "
                        "VIDEO,VIDEO,START,END,START,END")
      a, b = (_stem(field.strip()) for field in fields[:2])
      core |= {a: 0, b: 0}
      if a != b and (b, a) not in pairs:
        pairs[a, b] = 0
  position = {name: i for i, name in enumerate(sorted(core))}
  place = source / "background_dataset"
  background = folder.list_videos(place, key="--input") if place.is_dir() else []
  return {"core": list(position), "pairs": [[position[a], position[b]] for a, b in pairs],
          "background": sorted({path.stem for path in background})}


def evve(source: pathlib.Path) -> dict:
  """From `annots/*.dat`: a file an event, a video a line: `6QU0IG6ugCw -1 database`."""
  events, queries, database = {}, [], {}
  for path in _files(source, "annots", r".*\.dat"):
    own, positives = [], []
    for number, line in enumerate(layout.read_lines(path, "videos of an event, one a line"), 1):
      fields = line.split()
      if len(fields) != 3 or fields[1] not in ("-1", "0", "1"):
        raise DataError(f"{path}: line {number} is {line[:60]!r}, should be ID, 1 or -1, and "
                        "query or database")
      video_id, sign, role = fields
      if role == "query":
        own.append(video_id)
        continue
      database[video_id] = 0
      if sign == "1":
        positives.append(video_id)
    queries += own
    events[path.stem] = {"queries": sorted(own), "positives": sorted(positives)}
  return {"queries": queries, "database": list(database), "events": events}


def cc_web_video(source: pathlib.Path) -> dict:
  """From `Video_List.txt`, `Seed.txt` and `GT/GT_1.rst` to `GT/GT_24.rst`.

  `excluded`, of the 'cleaned' numbers, is no part of the official files and comes out empty.
  """
  listing, seeds = source / "Video_List.txt", source / "Seed.txt"
  names = {_number(row[0], listing): _stem(row[3])
           for row in _rows(listing, 4, "VideoID, QueryID, Source, VideoName, URL")}
  seed_of = {_number(row[0], seeds): _number(row[1], seeds)
             for row in _rows(seeds, 2, "QueryID and VideoID")}
  for query, video in seed_of.items():
    if video not in names:
      raise DataError(f"{seeds}: query {query} is video {video}, which Video_List.txt doesn't have")
  paths = {int(re.search(r"\d+", path.name)[0]): path
           for path in _files(source, "GT", r"GT_?\d+\.rst")}
  labels = []
  for query in sorted(seed_of):
    if query not in paths:
      raise DataError(f"{source / 'GT'}: no GT_{query}.rst, for query {query} of {len(seed_of)}")
    marks = {_number(index, paths[query]): mark
             for index, mark, *_ in _rows(paths[query], 2, "VideoID and label")}
    unknown = set(marks.values()) - LETTERS - {NOT_THERE}
    if unknown:
      raise DataError(f"{paths[query]}: label {min(unknown)!r} is none of "
                      f"{', '.join(sorted(LETTERS))}, {NOT_THERE}")
    labels.append({str(i): mark for i, mark in marks.items() if mark != NOT_THERE})
    for i in marks:
      if marks[i] == NOT_THERE:
        names.pop(i, None)
  last = max(itertools.chain(names, *((int(i) for i in entry) for entry in labels)))
  return {"names": [names.get(i) for i in range(last + 1)],
          "queries": [names[seed_of[query]] for query in sorted(seed_of)], "labels": labels,
          "excluded": [[] for _ in seed_of]}


CONVERTERS: dict[str, Callable[[pathlib.Path], dict]] = {
  "fivr": fivr, "vcdb": vcdb, "evve": evve, "cc_web_video": cc_web_video}
READERS = {"fivr": lists.read_fivr, "vcdb": lists.read_vcdb, "evve": lists.read_evve,
           "cc_web_video": lists.read_cc_web_video}


def convert(dataset: str, source: str | os.PathLike, output: str | os.PathLike) -> list[str]:
  """Writes the lists of a data set, from its official files in `source`, and reads them back.

  Returns:
    The paths written. The same files give the same bytes.

  Raises:
    DataError: a file is missing or of another form; names it and the line.
  """
  raw = CONVERTERS[dataset](layout.root_folder(dataset, os.fspath(source)))
  output = pathlib.Path(output)
  texts = {f"{dataset}.json.gz": json.dumps({k: v for k, v in raw.items() if k != "ids"})}
  if "ids" in raw:
    texts["fivr_200k_ids.txt.gz"] = "\n".join(raw["ids"]) + "\n"
  try:
    output.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    raise DataError(f"--output: can't make the folder {output} ({e.strerror})") from e
  for name, text in texts.items():
    write_atomic(output / name, gzip.compress(text.encode(), mtime=0))
  READERS[dataset](output)
  return [str(output / name) for name in texts]


def main(argv: list[str] | None = None) -> int:
  """The command line; see the module."""
  parser = argparse.ArgumentParser(prog="python -m data_pipelines.annotations",
                                   description=__doc__.split("\n")[0])
  parser.add_argument("--dataset", required=True, choices=sorted(CONVERTERS))
  parser.add_argument("--input", required=True, help="the folder with the official files")
  parser.add_argument("--output", required=True, help="the folder to write into")
  args = parser.parse_args(argv)
  try:
    written = convert(args.dataset, args.input, args.output)
  except DataError as e:
    print(f"error: {e}", file=sys.stderr)
    return 2
  print("\n".join(written))
  return 0


def _files(source: pathlib.Path, name: str, pattern: str) -> list[pathlib.Path]:
  """Files whose names match, sorted, in the folder `name` below `source`, or in `source`."""
  place = source / name if (source / name).is_dir() else source
  found = sorted(p for p in place.iterdir() if re.fullmatch(pattern, p.name))
  if not found:
    raise DataError(f"{place}: no files like {pattern} in it; give the folder that holds {name}/")
  return found


def _rows(path: pathlib.Path, columns: int, what: str) -> list[list[str]]:
  """Fields of the lines of a file, between tabs or, where there are none, spaces."""
  try:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
  except OSError as e:
    raise DataError(f"{path}: can't read it ({e.strerror}); its lines should have {what}") from e
  rows = [line.split("\t" if "\t" in line else None) for line in lines if line.strip()]
  for row in rows:
    if len(row) < columns:
      raise DataError(f"{path}: the line {' '.join(row)[:60]!r} should have {what}")
  return [[field.strip() for field in row] for row in rows]


def _number(text: str, path: pathlib.Path) -> int:
  digits = text.strip("*")  # the published list of queries marks some
  if not digits.isdecimal():
    raise DataError(f"{path}: {text!r} should be a number")
  return int(digits)


def _stem(name: str) -> str:
  return os.path.splitext(name.strip())[0]


if __name__ == "__main__":
  sys.exit(main())
