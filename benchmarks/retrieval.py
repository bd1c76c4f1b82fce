"""Chamfer retrieval: ours against PyTorch and against a bare matrix product, on the same arrays.

  python -m benchmarks.retrieval [--repeats=5] [--dtype=bfloat16]   PyTorch is optional
  python -m benchmarks.retrieval --size=225960 --folder=DIR         a search of FIVR-200K's size

The floor is a bare product of all true frames of the queries with all true frames of the database,
no padding, no maximum: the fastest of NumPy's, PyTorch's and JAX's. All rows take turns; a row's
time is the median over the repeats, and GFLOP/s count the floor's operations. "kernel" is
`block_chamfer` on arrays that are in place; "search" is `exhaustive` on an index in memory, which
cuts it into blocks and takes the scores back as well. PyTorch takes arrays in place, too.

With --size an index of that many videos is laid out as a file with holes, which reads as zeros and
takes no disk, and searched whole; the search is the same for any content. It prints the time, and
the most memory that was held, less what the memory map showed of the file.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.evaluators import search
from vssl_jax.evaluators.embedded import Batch
from vssl_jax.evaluators.index import Index
from vssl_jax.ops import chamfer

try:
  import torch
except ImportError:
  torch = None

DIM = 1024
PAIRS = 64  # videos that the loop over pairs is timed on; its time is scaled up to all
# name: (frames of the queries, frames of the videos)
CASES = {
  "4 x 100 frames, 256 x 100": ((100, 100, 4), (100, 100, 256)),
  "100 x 100 frames, 64 x 100": ((100, 100, 100), (100, 100, 64)),
  "16 x 5-40 frames, 1024 x 5-40": ((5, 40, 16), (5, 40, 1024)),
  "100 x 5-40 frames, 1024 x 5-40": ((5, 40, 100), (5, 40, 1024)),
}
LARGE = {
  "100 x 100 frames, 2048 x 100": ((100, 100, 100), (100, 100, 2048)),
  "100 x 5-40 frames, 16384 x 5-40": ((5, 40, 100), (5, 40, 16384)),
}


def make(low: int, high: int, count: int, seed: int) -> list[np.ndarray]:
  """Random videos [T, DIM] of unit vectors."""
  rng = np.random.default_rng(seed)
  found = [rng.standard_normal((int(n), DIM), np.float32) for n in
           rng.integers(low, high + 1, count)]
  return [x / np.linalg.norm(x, axis=1, keepdims=True) for x in found]


def indexed(videos: list[np.ndarray]) -> Index:
  index = Index(memory=1e3)
  index.add(Batch((str(i),), x.mean(axis=0)[None], x[None], np.array([len(x)], np.int32))
            for i, x in enumerate(videos))
  index.rows("frames")
  return index


def ours(queries, database, dtype) -> dict:
  """name -> a function that computes all scores [Q, N] by Chamfer."""
  q, db = indexed(queries), indexed(database)
  packed = chamfer.pack(queries, dtype=dtype)
  parts = [(jnp.asarray(b.frames, packed.rows.dtype), jnp.asarray(b.length), b.at)
           for b in (search.block(db, *part) for part in search.groups(db, np.arange(len(db))))]

  def kernel(symmetric=False):
    out = [chamfer.block_chamfer(packed, x, n, symmetric=symmetric) for x, n, _ in parts]
    return [(np.asarray(forward), at) for (forward, _), (_, _, at) in zip(out, parts, strict=True)]

  def whole(names=("chamfer",)):
    scores = search.Scores(names, (len(db), len(q)))
    search.exhaustive(q, db, scores, dtype=dtype)
    return scores.tables["chamfer"].T

  def check():
    want = whole()
    for forward, at in kernel():
      np.testing.assert_allclose(forward[:, :len(at)], want[:, at], atol=1e-5)
    return want

  return {"kernel": kernel, "kernel, symmetric": lambda: kernel(True), "search": whole,
          "check": check}


def floors(queries, database, dtype) -> dict:
  a, b = np.concatenate(queries), np.concatenate(database)
  kind = chamfer.DTYPES[dtype]
  x, y = jnp.asarray(a, kind), jnp.asarray(b, kind)
  exact = {"precision": "highest", "preferred_element_type": jnp.float32}
  product = jax.jit(lambda x, y: jnp.matmul(x, y.T, **exact))
  found = {"bare product, JAX": lambda: product(x, y).block_until_ready()}
  if jax.default_backend() == "cpu" and dtype == "float32":
    found["bare product, NumPy"] = lambda: a @ b.T
  if torch:
    place = _torch_device()
    u, v = (torch.from_numpy(z).to(place, getattr(torch, dtype)) for z in (a, b))
    found["bare product, PyTorch"] = _synchronised(lambda: u @ v.T)
  return found


def _torch_device() -> str:
  return "cuda" if torch.cuda.is_available() and jax.default_backend() != "cpu" else "cpu"


def _synchronised(fn):
  def call():
    out = fn()
    if _torch_device() == "cuda":
      torch.cuda.synchronize()
    return out
  return call


def theirs(queries, database, dtype) -> dict:
  """What people write in PyTorch: a loop over pairs, and a padded batch."""
  if not torch:
    return {}
  place, kind = _torch_device(), getattr(torch, dtype)
  q, db = ([torch.from_numpy(x).to(place, kind) for x in videos] for videos in (queries, database))
  length = torch.tensor([len(x) for x in db], device=place)
  padded = torch.nn.utils.rnn.pad_sequence(db, batch_first=True)
  valid = torch.arange(padded.shape[1], device=place) < length[:, None]

  def pairs():
    return torch.stack([torch.stack([(x @ y.T).max(dim=1).values.mean() for y in db[:PAIRS]])
                        for x in q])

  def batched(size=256):
    rows = []
    for x in q:
      parts = [torch.einsum("td,nsd->tns", x, padded[i:i + size])
               .masked_fill(~valid[i:i + size], -torch.inf).amax(dim=2).mean(dim=0)
               for i in range(0, len(db), size)]
      rows.append(torch.cat(parts))
    return torch.stack(rows)

  return {"PyTorch, batched": _synchronised(batched),
          "PyTorch, a pair at a time": _synchronised(pairs)}


def compare(name: str, case, dtype: str, repeats: int) -> None:
  queries, database = (make(*part, seed) for seed, part in enumerate(case))
  rows = floors(queries, database, dtype) | ours(queries, database, dtype)
  rows |= theirs(queries, database, dtype)
  want = rows.pop("check")()
  for key in ("PyTorch, a pair at a time", "PyTorch, batched"):
    if key in rows:
      got = rows[key]().float().cpu()
      np.testing.assert_allclose(got, want[:, :got.shape[1]],
                                 atol=1e-4 if dtype == "float32" else 0.02)
  seconds = {key: [] for key in rows}
  for _ in range(repeats + 1):
    for key, fn in rows.items():
      start = time.perf_counter()
      fn()
      seconds[key].append(time.perf_counter() - start)
  median = {key: statistics.median(s[1:]) for key, s in seconds.items()}
  if "PyTorch, a pair at a time" in median:
    median["PyTorch, a pair at a time"] *= len(database) / min(PAIRS, len(database))
  floor = min(s for key, s in median.items() if key.startswith("bare"))
  work = 2 * DIM * sum(map(len, queries)) * sum(map(len, database))
  print(f"\n{name}, {DIM} dimensions, {dtype}\n\n| | ms | GFLOP/s | times the floor |\n|---|---|---"
        "|---|")
  for key, s in median.items():
    print(f"| {key} | {1e3 * s:.2f} | {work / s / 1e9:,.0f} | {s / floor:.2f} |", flush=True)


def sparse_index(folder: pathlib.Path, count: int, frames: int) -> Index:
  """An index of `count` videos of about `frames` frames, all zeros."""
  rng = np.random.default_rng(0)
  length = rng.integers(frames // 2, frames * 3 // 2 + 1, count)
  for name, rows in (("frames", int(length.sum())), ("video", count)):
    with (folder / f"{name}.f32").open("wb") as f:
      f.truncate(4 * DIM * rows)
  (folder / "header.json").write_text(json.dumps({"meta": {}, "dims": {"video": DIM,
                                                                       "frames": DIM}}))
  with (folder / "index.jsonl").open("w") as f:
    f.writelines(json.dumps({"id": str(i), "length": int(n)}) + "\n" for i, n in enumerate(length))
  return Index(folder)


def _memory() -> float:
  """GiB that this process holds of its own, without pages of mapped files."""
  with open("/proc/self/status") as f:
    found = dict(line.split(":", 1) for line in f)
  return int(found["RssAnon"].split()[0]) / 2**20


def large(folder: str, count: int, frames: int, dtype: str, limit: float) -> None:
  """Searches an index of `count` videos, or as much of it as `limit` seconds allow."""
  with tempfile.TemporaryDirectory(dir=folder or None) as place:
    path = pathlib.Path(place)
    (path / "index").mkdir()
    database = sparse_index(path / "index", count, frames)
    queries = indexed(make(frames, frames, 100, 1))
    scores = search.Scores(("chamfer", "symmetric_chamfer"), (count, 100), path / "scores", {})
    start, most, finish = time.perf_counter(), 0.0, scores.finish_block

    class Enough(Exception):
      pass

    def block_done():
      nonlocal most
      finish()
      most = max(most, _memory())
      if time.perf_counter() - start > limit:
        raise Enough

    scores.finish_block = block_done
    total = -1
    try:
      search.exhaustive(queries, database, scores, dtype=dtype, progress=True)
    except Enough:
      total = len(search.groups(database, np.arange(count)))
    seconds = time.perf_counter() - start
    share = 1.0 if total < 0 else scores.done / total
    work = 2 * DIM * frames * 100 * int(database.length.sum()) * share
    gib = 4 * DIM * int(database.length.sum()) / 2**30
    print(f"100 queries of {frames} frames against {count:,} videos, {gib:.0f} GiB of frames, "
          f"{dtype}: {share:.1%} in {seconds:.0f} s, {work / seconds / 1e12:.2f} TFLOP/s, "
          f"{share * gib / seconds:.2f} GiB/s; at most {most:.2f} GiB held ("
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} with mapped pages)")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--dtype", choices=sorted(chamfer.DTYPES), default="float32")
  parser.add_argument("--case", default="", help="only cases whose name contains this")
  parser.add_argument("--large", action="store_true", help="larger cases, for accelerators")
  parser.add_argument("--size", type=int, default=0, help="videos of a search at size")
  parser.add_argument("--frames", type=int, default=100, help="frames a video, with --size")
  parser.add_argument("--limit", type=float, default=1e9, help="seconds, with --size")
  parser.add_argument("--folder", default="", help="where the index lies, with --size")
  args = parser.parse_args()
  print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, JAX {jax.__version__}, PyTorch "
        f"{torch.__version__ if torch else 'not installed'}")
  if args.size:
    large(args.folder, args.size, args.frames, args.dtype, args.limit)
    return
  cases = CASES | (LARGE if args.large else {})
  run = functools.partial(compare, dtype=args.dtype, repeats=args.repeats)
  for name, case in cases.items():
    if args.case in name:
      run(name, case)


if __name__ == "__main__":
  main()
