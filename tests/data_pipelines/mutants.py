"""Damaged copies of videos: what disks, networks and bad software do to files, at random.

  python -m tests.data_pipelines.mutants FOLDER [--count=1000] [--seed=0] [--workers=2]

makes mutants of the videos in FOLDER, reads each in every way there is, and prints what happened.
"""

import argparse
import collections
import pathlib
import re
import tempfile
from collections.abc import Sequence

import numpy as np

from data_pipelines import inspection, isolate
from data_pipelines.datasets import folder
from data_pipelines.decode import open_video
from data_pipelines.errors import VideoError
from data_pipelines.records import Record
from tests.data_pipelines import clips

TIME_LIMIT = 60.0  # seconds a mutant
# Boxes of mp4 and mov, chunks of avi, elements of matroska, by the bytes that name them.
NAMES = re.compile(
    rb"ftyp|moov|trak|mdia|minf|stbl|stsd|avc1|avcC|hvc1|hvcC|hev1|mp4v|esds|stts|ctts|stss|stsc|"
    rb"stsz|stco|co64|elst|edts|tkhd|mdhd|mvhd|mdat|hdlr|free|udta|RIFF|LIST|hdrl|strl|strh|strf|"
    rb"movi|idx1|00dc|\x1aE\xdf\xa3|\x18S\x80g|\x15I\xa9f|\x16T\xaek|\x1fC\xb6u|\x1cS\xbbk|\xa3")
EXTREMES = (0, 1, 2, 7, 8, 255, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def mutant(sources: Sequence[bytes], number: int, seed: int = 0) -> tuple[int, str, bytes]:
  """(which source, kind of damage, file): a function of its arguments and nothing else."""
  rng = np.random.default_rng([seed, number])
  which = int(rng.integers(len(sources)))
  kind = list(KINDS)[number % len(KINDS)]
  data, other = sources[which], sources[int(rng.integers(len(sources)))]
  return which, kind, KINDS[kind](data, other, rng)


def _flip(data, other, rng):
  """Single bits, few to many, anywhere."""
  out = np.frombuffer(data, np.uint8).copy()
  count = int(2 ** rng.uniform(0, 10))
  np.bitwise_xor.at(out, rng.integers(len(out), size=count), 1 << rng.integers(8, size=count))
  return out.tobytes()


def _flip_names(data, other, rng):
  """Single bits in the 64 bytes after boxes' names: sizes, counts, codec settings."""
  out = bytearray(data)
  for start in rng.choice(_names(data), 3):
    at = int(start) + int(rng.integers(64))
    out[at % len(out)] ^= 1 << int(rng.integers(8))
  return bytes(out)


def _cut(data, other, rng):
  return data[:int(rng.integers(1, len(data)))]


def _zero(data, other, rng):
  start, stop = _block(data, rng)
  return data[:start] + bytes(stop - start) + data[stop:]


def _noise(data, other, rng):
  start, stop = _block(data, rng)
  return data[:start] + rng.bytes(stop - start) + data[stop:]


def _splice(data, other, rng):
  """The beginning of one file on the rest of another, often of another format."""
  at = int(rng.choice([64, 512, 4096, int(rng.integers(1, len(data)))]))
  return data[:at] + other[at:]


def _remove(data, other, rng):
  start, stop = _block(data, rng)
  return data[:start] + data[stop:]


def _repeat(data, other, rng):
  start, stop = _block(data, rng)
  return data[:stop] + data[start:]


def _move(data, other, rng):
  start, stop = _block(data, rng)
  rest = data[:start] + data[stop:]
  at = int(rng.integers(len(rest) + 1))
  return rest[:at] + data[start:stop] + rest[at:]


def _resize(data, other, rng):
  """Wrong sizes of boxes and elements: the number before (mp4) or after (others) the name."""
  out = bytearray(data)
  for start in rng.choice(_names(data), int(rng.integers(1, 4))):
    at = max(0, int(start) - 4 if rng.random() < 0.7 else int(start) + 4)
    old = int.from_bytes(out[at:at + 4], "big")
    size = [int(rng.choice(EXTREMES)), (old + int(rng.integers(-64, 64))) % 2**32,
            int(rng.integers(2**32))][int(rng.integers(3))]
    out[at:at + 4] = size.to_bytes(4, "big")
  return bytes(out)


def _extremes(data, other, rng):
  """Absurd numbers in tables and headers: times, counts, places, picture sizes."""
  out = bytearray(data)
  for start in rng.choice(_names(data), int(rng.integers(1, 6))):
    at = int(start) + 4 * int(rng.integers(1, 24))
    width = int(rng.choice([2, 4]))
    out[at:at + width] = (int(rng.choice(EXTREMES)) % 2 ** (8 * width)).to_bytes(width, "big")
  return bytes(out)


KINDS = {"bits flipped": _flip, "bits flipped in headers": _flip_names, "cut off": _cut,
         "block zeroed": _zero, "block of noise": _noise, "header of another file": _splice,
         "block removed": _remove, "block repeated": _repeat, "block moved": _move,
         "wrong box sizes": _resize, "absurd numbers": _extremes}


def _names(data: bytes) -> list[int]:
  """Where the names of boxes are; somewhere at all in a file without."""
  return [m.start() for m in NAMES.finditer(data[:2**16] + data[-2**16:])] or [0]


def _block(data: bytes, rng) -> tuple[int, int]:
  """(start, stop), of one byte to half of the file, mostly small."""
  length = max(1, int(len(data) ** rng.uniform(0, 1) / 2))
  start = int(rng.integers(len(data) - length + 1))
  return start, start + length


def read(task: tuple[Sequence[str], int, int]) -> dict:
  """Reads mutant `number` of the files `paths` as check does, then by frame numbers, and in order.

  Args:
    task: (paths, number, seed).

  Returns:
    {"source", "kind", "bytes", "reason": "" or VideoError's, "warning", "n_frames",
    "disagree": how many frames got by number differ from those of a decode in order}.
  """
  paths, number, seed = task
  which, kind, data = mutant([pathlib.Path(p).read_bytes() for p in paths], number, seed)
  known = {"source": paths[which], "kind": kind, "bytes": len(data), "disagree": 0}
  with tempfile.NamedTemporaryFile(suffix=pathlib.Path(paths[which]).suffix) as file:
    file.write(data)
    file.flush()
    facts = inspection.inspect(Record(str(number), file.name), full=True)
    if facts["ok"]:
      got = by_number(file.name, np.random.default_rng([seed, number, 1]))
      try:
        known["disagree"] = disagreements(data, got)
      except VideoError as e:  # a file's name is a hint what its bytes mean
        facts["reason"] = f"in memory: {e.reason}"
  return known | {k: facts.get(k) for k in ("reason", "warning", "n_frames", "height", "width")}


def by_number(path: str, rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
  """(number, frame) of some frames, in any order, some twice."""
  with open_video(path) as video:
    order = rng.integers(0, video.n_frames, 8)
    got = [*zip(order.tolist(), video.frames(order, 32), strict=True)]
    return got + [(i, video.frames([i], 32)[0]) for i in order[:3].tolist()]


def disagreements(data: bytes, got: Sequence[tuple[int, np.ndarray]]) -> int:
  """How many frames got by number differ from those of a decode in order.

  Some do: decoders don't notice all damage, and leave what their memory held in places that they
  can't fill.
  """
  numbers = {i for i, _ in got}
  with open_video(data) as video:
    in_order = {i: image for i, image in enumerate(video.scan(32)) if i in numbers}
  return sum(not np.array_equal(image, in_order.get(i)) for i, image in got)


def rendered(place: pathlib.Path) -> list[pathlib.Path]:
  """Small videos of many kinds, written to a folder."""
  kinds = {"a.mp4": dict(options={"g": "8", "bf": "2"}), "b.webm": dict(codec="libvpx-vp9"),
           "c.avi": dict(codec="mpeg4"), "d.mpegts": dict(codec="mpeg2video"),
           "e.mov": dict(codec="mjpeg", pix_fmt="yuvj420p"), "f.flv": dict(codec="flv"),
           "g.matroska": dict(options={"g": "8"}, sound=True), "h.webm": dict(codec="libvpx"),
           "i.mp4": dict(codec="libx265", mux={"movflags": "frag_keyframe+empty_moov"}),
           "j.asf": dict(codec="wmv2"), "k.mp4": dict(mux={"movflags": "faststart"})}
  for name, how in kinds.items():
    (place / name).write_bytes(clips.encode(clips.numbered(24), name.partition(".")[2], **how))
  return [place / name for name in kinds]


def run(paths: Sequence[str], numbers: Sequence[int], *, seed: int = 0, workers: int = 2,
        time_limit: float = TIME_LIMIT) -> list[tuple[int, isolate.Outcome]]:
  """(number, what became of it), sorted."""
  tasks = [(tuple(map(str, paths)), n, seed) for n in numbers]
  outcomes = isolate.run(read, tasks, workers=workers, time_limit=time_limit)
  return sorted((numbers[i], outcome) for i, outcome in outcomes)


def table(outcomes: Sequence[tuple[int, isolate.Outcome]]) -> str:
  """What happened, in words and numbers."""
  ends = collections.Counter()
  for _, outcome in outcomes:
    found = outcome.value or {"reason": f"NOT HANDLED: {outcome.reason}", "warning": ""}
    ends[found["reason"] or ("read, with warnings" if found["warning"] else "read")] += 1
  lines = [f"{count:6}  {end}" for end, count in ends.most_common()]
  slow = max(outcomes, key=lambda o: o[1].seconds)
  large = max(outcomes, key=lambda o: o[1].memory)
  differ = [n for n, o in outcomes if o.value and o.value["disagree"]]
  return "\n".join([
      *lines, f"slowest: {slow[1].seconds:.1f} s (mutant {slow[0]})",
      f"largest: {large[1].memory / 2**20:.0f} MiB (mutant {large[0]})",
      f"frames by number differ from those in order: {len(differ)} mutants {differ[:20]}"])


def main() -> None:
  parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.split("\n")[0])
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--count", type=int, default=1000)
  parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--workers", type=int, default=2)
  parser.add_argument("--max_bytes", type=int, default=300_000, help="of the videos to start from")
  args = parser.parse_args()
  paths = [p for p in folder.list_videos(args.folder) if 0 < p.stat().st_size <= args.max_bytes]
  numbers = range(args.first, args.first + args.count)
  outcomes = run(paths, numbers, seed=args.seed, workers=args.workers)
  for number, outcome in outcomes:
    if outcome.value is None or outcome.value["disagree"]:
      print(number, outcome)
  print(f"{args.count} mutants of {len(paths)} videos\n{table(outcomes)}")


if __name__ == "__main__":
  main()
