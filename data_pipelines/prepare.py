"""Writes a data set as shards, which training reads: small videos, checked, with an index.

  python -m data_pipelines.prepare --dataset=folder --input=VIDEOS --output=SHARDS
  python -m data_pipelines.prepare --dataset=ucf101 --input=UCF101 --output=SHARDS --short_side=128
  python -m data_pipelines.prepare --verify --output=SHARDS

Videos are scaled down to a short side of 256 pixels and stored as H.264 with a key frame every 32
frames at most; those that are small enough are copied as they are. Interrupted, even killed, the
same command goes on where it was, and the same input gives the same bytes. Videos that can't be
used are left out, listed at the end and in `rejected.csv`.

With --runner the same work is done by a cluster, as a Beam pipeline; other flags are handed on to
it: --runner=DataflowRunner --project=... --region=... --temp_location=gs://...

Exit status: 0 prepared, or nothing to do; 1 --verify has found damage; 2 wrong input; 130
interrupted.
"""

import argparse
import ast
import contextlib
import logging
import signal
import sys
import time
from typing import Any

import tqdm

from data_pipelines import isolate, storage
from data_pipelines.errors import DataError
from data_pipelines.transcode import ENCODE, Settings

LINE_EVERY = 60.0  # seconds between two lines where there is no terminal for a progress bar


def main(argv: list[str] | None = None) -> int:
  """Runs the program; returns its exit status."""
  parser = _parser()
  args, rest = parser.parse_known_args(argv)
  if rest and not args.runner:
    parser.error(f"unknown: {' '.join(rest)} (only with --runner are flags handed on)")
  missing = [f"--{name}" for name in ("dataset", "input", "output")
             if not getattr(args, name) and not (args.verify and name != "output")]
  if missing:
    parser.error(f"needs {', '.join(missing)}")
  logging.basicConfig(format="%(levelname)s: %(message)s")
  try:
    return _verify(args.output) if args.verify else _prepare(args, rest)
  except (DataError, RuntimeError) as e:
    print(f"error: {e}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("interrupted; the same command goes on from here", file=sys.stderr)
    return 130


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      prog="python -m data_pipelines.prepare", allow_abbrev=False,
      description="Writes a data set as shards, which training reads.",
      epilog="With --runner, other flags are handed on to Beam.")
  parser.add_argument("--dataset", metavar="NAME", help="which; folder for any folder of videos")
  parser.add_argument("--input", metavar="DIR", help="its folder, as it was downloaded")
  parser.add_argument("--output", metavar="DIR", help="folder for the shards, or gs://, s3://, ...")
  parser.add_argument("--split", action="append", default=[], metavar="NAME",
                      help="only this split (may be repeated; default: the whole data set)")
  parser.add_argument("--allow_missing", action="store_true",
                      help="go on where files of the data set are missing")
  parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                      help="of this data set's reader (may be repeated)")
  parser.add_argument("--short_side", type=int, default=256, metavar="PIXELS",
                      help="scale larger videos and pictures down to it (default: 256; 0: keep)")
  parser.add_argument("--encode", choices=ENCODE, default="needed",
                      help="videos to re-encode; needed: those too large, cut out, or turned")
  parser.add_argument("--crf", type=int, default=20,
                      help="quality, 0 (lossless) to 51 (worst; default: 20)")
  parser.add_argument("--shard_mb", type=float, default=256.0, metavar="MB",
                      help="input for one shard, about (default: 256); shards of scaled videos "
                      "are smaller")
  parser.add_argument("--shards", type=int, metavar="N", help="instead, N shards a split")
  parser.add_argument("--workers", type=int, default=isolate.default_workers(), metavar="N",
                      help="decoding processes (default: as many as there are cores)")
  parser.add_argument("--time_limit", type=float, default=3600.0, metavar="SECONDS",
                      help="for one video (default: 3600)")
  parser.add_argument("--max_bad_fraction", type=float, default=0.05, metavar="SHARE",
                      help="stop where more of the videos can't be used (default: 0.05)")
  parser.add_argument("--overwrite", action="store_true",
                      help="replace another data set, or bring this one up to date")
  parser.add_argument("--retry_rejected", action="store_true",
                      help="try those again that could not be used")
  parser.add_argument("--runner", default="", metavar="NAME",
                      help="a Beam runner: DirectRunner, DataflowRunner, FlinkRunner, ...")
  parser.add_argument("--verify", action="store_true",
                      help="compare the shards in --output with their checksums, write nothing")
  return parser


def _prepare(args: argparse.Namespace, rest: list[str]) -> int:
  from data_pipelines import preparation  # TFDS and all readers, which --help need not wait for

  options = dict(_option(text) for text in args.option)
  job = preparation.Job(
      args.dataset, args.input, args.output, splits=tuple(args.split),
      options=options | ({"allow_missing": True} if args.allow_missing else {}),
      settings=Settings(args.short_side, args.encode, args.crf), shard_mb=args.shard_mb,
      n_shards=args.shards, workers=args.workers, time_limit=args.time_limit,
      max_bad_fraction=args.max_bad_fraction, overwrite=args.overwrite,
      retry_rejected=args.retry_rejected, runner=args.runner, runner_flags=tuple(rest))
  began = time.monotonic()
  with contextlib.closing(_Bar()) as bar:
    progress = preparation.Progress(bar.show)
    anew = preparation.prepare(job, progress, alone=True)
  _print_summary(job.output, progress, anew, time.monotonic() - began)
  return 0


def _option(text: str) -> tuple[str, Any]:
  key, equals, value = text.partition("=")
  if not (key.isidentifier() and equals):
    raise DataError(f"--option={text}: should be KEY=VALUE")
  try:
    return key, ast.literal_eval(value[:1].upper() + value[1:]
                                 if value in ("true", "false", "none") else value)
  except (ValueError, SyntaxError):
    return key, value  # text needs no quotes


class _Bar:
  """Shows a `Progress`: as a bar on a terminal, else by a line now and then."""

  def __init__(self):
    self._told, self._bar = time.monotonic(), None

  def show(self, progress) -> None:
    if self._bar is None:
      self._bar = tqdm.tqdm(total=progress.total, initial=progress.kept, unit=" records",
                            disable=None)
    self._bar.set_postfix(bad=len(progress.rejected), refresh=False)
    self._bar.update(progress.done - self._bar.n)
    if self._bar.disable and time.monotonic() - self._told > LINE_EVERY:
      self._told = time.monotonic()
      print(f"{progress.done:,} of {progress.total:,} records, {len(progress.rejected):,} can't be "
            "used", file=sys.stderr, flush=True)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()


def _print_summary(output: str, progress, anew: bool, seconds: float) -> None:
  from data_pipelines import catalogue, shards

  about = shards.manifest(output)
  files = about["shards"]
  n_bytes, n_frames = (sum(split[key] for split in about["splits"].values())
                       for key in ("bytes", "frames"))
  missing = sum(split["missing"] for split in about["splits"].values())
  if progress.rejected:
    print(f"{len(progress.rejected):,} can't be used:")
    print(catalogue.listing(progress.rejected))
  done = progress.done - progress.kept
  print(f"{'prepared' if anew else 'was prepared already with these settings'}: "
        f"{storage.normal(output)}")
  print(f"  {sum(file['examples'] for file in files):,} records with {n_frames:,} frames in "
        f"{len(files):,} shards; {len(progress.rejected):,} can't be used"
        + (f", {missing:,} listed ones are not on disk" if missing else "")
        + (" (see rejected.csv)" if progress.rejected or missing else ""))
  print(f"  {progress.bytes_in / 1e6:,.1f} MB in, {n_bytes / 1e6:,.1f} MB out, "
        f"{seconds:,.1f} s"
        + (f" for {done:,} records, {done / seconds:,.1f} a second" if done else "")
        + (f"; {progress.kept:,} were done before" if anew and progress.kept else ""))


def _verify(output: str) -> int:
  from data_pipelines import shards

  files = shards.manifest(output)["shards"]
  with tqdm.tqdm(total=len(files), unit=" shards", disable=None) as bar:
    wrong = shards.verify(output, lambda _: bar.update())
  for file, reason in wrong.items():
    print(f"{file}  {reason}")
  print(f"{len(files):,} shards checked, {len(wrong):,} are not as they were written"
        + ("; delete these files and run the preparation again" if wrong else ""))
  return int(bool(wrong))


if __name__ == "__main__":
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
  sys.exit(main())
