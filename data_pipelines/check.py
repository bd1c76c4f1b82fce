"""Finds bad videos before training does.

  python -m data_pipelines.check FOLDER [--full] [--output=report.csv]
  python -m data_pipelines.check FOLDER --dataset=kinetics400 --split=train

Each video is opened, its frames are counted, and the first, middle and last one are decoded; with
--full all are. Decoders hang and crash on damaged files, so they work in processes of their own,
with limits of time and memory. Standard output gets a table, path and reason, of the videos that
can't be read, and with "warning:" of those that can be and aren't as they should be; --output a csv
or Parquet file of the facts about all.

Exit status: 0 all can be read, 1 some can't, 2 wrong input, 130 interrupted.
"""

import argparse
import collections
import contextlib
import csv
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import tqdm
from pyarrow import parquet

from data_pipelines import inspection, isolate, source
from data_pipelines.datasets import folder
from data_pipelines.errors import DataError
from data_pipelines.records import Record

TIME_LIMIT, TIME_LIMIT_FULL = 60.0, 600.0  # seconds for one video


def main(argv: list[str] | None = None) -> int:
  """Runs the program; returns its exit status."""
  args = _parser().parse_args(argv)
  try:
    with _writable(args.output) as part:
      return _run(args, *_records(args), part)
  except (DataError, RuntimeError) as e:
    print(f"error: {e}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("interrupted before anything was checked", file=sys.stderr)
    return 130


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      prog="python -m data_pipelines.check", allow_abbrev=False,
      description="Finds bad videos before training does: exit status 1 where there are any.")
  parser.add_argument("folder", help="videos, whatever lies below it; or one video; with --dataset "
                      "the data set's folder, as it was downloaded or prepared")
  parser.add_argument("--full", action="store_true",
                      help="decode all frames, not the first, middle and last one alone")
  parser.add_argument("--output", metavar="FILE", help="facts about all, a .csv or .parquet file")
  parser.add_argument("--dataset", metavar="NAME", help="check what this data set lists")
  parser.add_argument("--split", default="", help="of the data set")
  parser.add_argument("--limit", type=_positive(int), metavar="N", help="the first N videos only")
  parser.add_argument("--workers", type=_positive(int), default=isolate.default_workers(),
                      metavar="N", help="processes (default: as many as there are cores)")
  parser.add_argument("--time_limit", type=_positive(float), metavar="SECONDS",
                      help=f"for one video (default: {TIME_LIMIT:g}, with --full "
                      f"{TIME_LIMIT_FULL:g})")
  parser.add_argument("--memory_limit", type=_positive(float), default=4.0, metavar="GIB",
                      help="for one process (default: 4)")
  return parser


def _positive(kind: type) -> Callable[[str], float]:
  def parse(text: str) -> float:
    value = kind(text)
    if not 0 < value < float("inf"):
      raise ValueError
    return value
  parse.__name__ = {int: "whole number above 0", float: "number above 0"}[kind]  # for argparse
  return parse


def _records(args: argparse.Namespace) -> tuple[list[Record], list[str]]:
  """What to check, each file once, and the ids of what is listed and not there."""
  root, missing = pathlib.Path(args.folder).expanduser(), ()
  if args.dataset:
    found = source.load(args.dataset, str(root), args.split, allow_missing=True)
    records, missing = found.records, found.missing
  elif args.split:
    raise DataError("--split needs --dataset")
  elif root.is_dir():
    paths = folder.list_videos(root, key="FOLDER")
    records = [Record(folder.video_id(p, root), str(p)) for p in paths]
  elif os.path.lexists(root):
    records = [Record(root.name, str(root))]
  else:
    raise DataError(f"{root}: there is no such folder")
  if not len(records) and not missing:
    raise DataError(f"{root}: no videos here (names that end in {', '.join(folder.SUFFIXES)})")
  unique = {}
  for record in records:
    unique.setdefault((record.video, record.frames, record.start, record.end), record)
  return list(unique.values())[:args.limit], list(missing)


def _run(args: argparse.Namespace, records: list[Record], missing: list[str],
         part: pathlib.Path | None) -> int:
  start = time.monotonic()
  known, stopped = _inspected(args, records)
  absent = [inspection.names(i, i) | {"ok": False, "warning": "",
                                      "reason": "listed in the data set, not on disk"}
            for i in missing]
  if part:
    _write(known + absent, args.output, part)
  _print_table(known + absent)
  if stopped:
    print(f"{str(stopped) or 'interrupted'}: {len(known)} of {len(records)} videos were checked",
          file=sys.stderr)
  _print_summary(known, absent, time.monotonic() - start, args.output)
  if stopped:
    return 130 if isinstance(stopped, KeyboardInterrupt) else 2
  return int(not all(row["ok"] for row in known + absent))


def _inspected(args: argparse.Namespace,
               records: list[Record]) -> tuple[list[dict], BaseException | None]:
  """Rows in the order of `records`, as many as there are till something ends the work; and what."""
  rows, stopped = [None] * len(records), None
  limit = args.time_limit or (TIME_LIMIT_FULL if args.full else TIME_LIMIT)
  checked = inspection.inspect_all(
      records, full=args.full, workers=args.workers, time_limit=limit,
      memory_limit=int(args.memory_limit * 2**30))
  with tqdm.tqdm(total=len(records), unit=" videos", disable=None) as bar:
    try:
      with contextlib.closing(checked):
        for i, row in checked:
          rows[i] = row
          bar.update()
    except (KeyboardInterrupt, RuntimeError) as e:  # what is known by now is worth having
      stopped = e
  return [row for row in rows if row], stopped


@contextlib.contextmanager
def _writable(output: str | None) -> Iterator[pathlib.Path | None]:
  """A file beside `output` to write to first: hours of work should not end with a wrong path."""
  if not output:
    yield None
    return
  if not output.lower().endswith((".csv", ".parquet")):
    raise DataError(f"--output={output}: give a name that ends in .csv or .parquet")
  part = pathlib.Path(output).expanduser()
  part = part.with_name(part.name + ".part")
  try:
    part.touch()
  except OSError as e:
    raise DataError(f"--output={output}: can't write here ({e.strerror})") from e
  try:
    yield part
  finally:
    part.unlink(missing_ok=True)


def _write(rows: Iterable[dict], output: str, part: pathlib.Path) -> None:
  try:
    if output.lower().endswith(".csv"):
      with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, inspection.SCHEMA.names)
        writer.writeheader()
        writer.writerows(rows)
    else:
      parquet.write_table(pa.Table.from_pylist(list(rows), inspection.SCHEMA), part)
    os.replace(part, pathlib.Path(output).expanduser())
  except OSError as e:
    raise DataError(f"--output={output}: can't write here ({e.strerror})") from e


def _print_table(rows: Iterable[dict]) -> None:
  """A line for each that is bad or odd: path, why."""
  lines = [("".join(c if c.isprintable() else repr(c)[1:-1] for c in row["path"]),
            row["reason"] or f"warning: {row['warning']}")
           for row in rows if not row["ok"] or row["warning"]]
  width = min(60, max((len(path) for path, _ in lines), default=0))
  try:
    for path, why in lines:
      print(f"{path:{width}}  {why}")
    sys.stdout.flush()
  except BrokenPipeError:  # `| head` has seen enough; nor should Python try again when it ends
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_summary(rows: list[dict], absent: list[dict], seconds: float,
                   output: str | None) -> None:
  bad = collections.Counter(row["reason"] for row in [*rows, *absent] if not row["ok"])
  odd = sum(bool(row["warning"]) for row in rows)
  good = sum(row["ok"] for row in rows)
  lines = [f"{len(rows)} videos checked in {seconds:.1f} s: {good} can be read"
           + (f" ({odd} of them with warnings)" if odd else "")
           + (f", {bad.total()} can't:" if bad else "")]
  lines += [f"{count:7}  {reason}" for reason, count in bad.most_common(12)]
  if len(bad) > 12:
    lines.append(f"         and {len(bad) - 12} other reasons")
  if output:
    lines.append(f"facts about each: {output}")
  print(*lines, sep="\n", file=sys.stderr)


if __name__ == "__main__":
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
  sys.exit(main())
