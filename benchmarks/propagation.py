"""Propagating labels through a video at 480p: seconds a frame, products and memory, in one run.

  python -m benchmarks.propagation [--protocols=corrflow,mast,later,crw] [--frames=48] [--clock=cpu]

"later" is what experiments/corrflow.py and videos of your own are evaluated by: "crw" whose first
frame is searched in a window too. Features are random, made beforehand, and cost nothing here. Rows
of each protocol, each a process of its own:

- "ours": `vssl_jax.evaluators.propagation.propagate`, label maps in, label maps out.
- "dense": one step as CRW's code does it: scores of every cell with every cell of all references,
  of which a mask keeps the windows, then softmax or top-k. Left out where the scores alone need
  more than `--memory` GiB.
- "floor": bare products of as many useful operations, 2 N K (D + C) for N cells of which each
  compares K: [N, D] x [D, K] x [K, C], 1024 rows at a time; no windows, no softmax.
- "encoder": CorrFlow's of `--width` channels for one frame, once for all, with `--encoder`.

Times are the best of a frame (with mast, whose old references are searched from frame 16 on and
all of them from frame 21 on, of the last frames only), on the clock of the wall or, steadier where
other programs run, as CPU time of all threads. GFLOP: those of a frame that are useful, that our
tiles multiply (without mast's search), and of the dense form. MiB: by how much the process grew
while it ran the first half of the video, and in the second half.
"""

import argparse
import functools
import itertools
import json
import math
import resource
import subprocess
import sys
import time

import numpy as np

from vssl_jax.ops import propagation as ops
from vssl_jax.ops import window_plan, window_tiles

FORMS = ("floor", "ours", "dense")


def grid(protocol: ops.Protocol, args) -> tuple[int, int]:
  return -(-args.size[0] // protocol.stride), -(-args.size[1] // protocol.stride)


def compared(protocol: ops.Protocol, n: int) -> int:
  """Cells that a cell far from the border is compared with, of all references."""
  def window(radius):
    if radius is None:
      return n
    offsets = np.arange(-int(radius), int(radius) + 1)
    near = offsets[:, None] ** 2 + offsets ** 2 < radius ** 2
    return int(near.sum()) if protocol.shape == "disk" else offsets.size ** 2
  return sum(min(n, window(r)) for r in protocol.radii)


def multiplied(protocol: ops.Protocol, size: tuple[int, int]) -> int:
  """Pairs of cells that the tiles multiply."""
  if protocol.border == "zero":  # `ops.step` lays a margin around the map
    size = tuple(n + 2 * int(protocol.radius) for n in size)
  window = window_plan.Window(size, protocol.radii, protocol.shape, 1, protocol.top_k, "mask")
  how = window_plan.plan(window, 1, window_tiles.choose_tile(size, "cpu"), 0,
                         window_tiles.budgets("cpu"))
  keys = sum((p.references[1] - p.references[0]) * math.prod(how.patch(p)) for p in how.parts)
  return keys * math.prod(how.counts) * math.prod(how.tile)


def gigaflops(protocol: ops.Protocol, args) -> dict[str, float]:
  """By form; a top-k copy costs no products to speak of."""
  size = grid(protocol, args)
  n, channels = math.prod(size), args.dim + (args.classes if protocol.top_k is None else 0)
  pairs = {"floor": n * compared(protocol, n), "ours": multiplied(protocol, size),
           "dense": n * n * len(protocol.radii)}
  return {form: 2e-9 * channels * p for form, p in pairs.items()}


def dense_gibibytes(protocol: ops.Protocol, args) -> float:
  return 4 * len(protocol.radii) * math.prod(grid(protocol, args)) ** 2 / 2**30


def inputs(protocol: ops.Protocol, args) -> list[np.ndarray]:
  """Features of a few frames, to be used in turn."""
  rng = np.random.default_rng(0)
  shape = (8, *grid(protocol, args), args.dim)
  return list(rng.normal(size=shape).astype(np.float32) / args.dim ** 0.25)


def label_map(args) -> np.ndarray:
  """Background, and rectangles in a row."""
  labels = np.zeros(args.size, np.uint8)
  h, step = args.size[0], args.size[1] // args.classes
  for i in range(1, args.classes):
    labels[h // 4:3 * h // 4, i * step - step // 2:i * step + step // 4] = i
  return labels


def ours(protocol: ops.Protocol, args) -> dict:
  from vssl_jax.evaluators import propagation
  features = itertools.islice(itertools.cycle(inputs(protocol, args)), args.frames)
  frames, seconds = propagation.propagate(features, label_map(args), protocol), []
  start, half = peak(), 0
  for i in range(args.frames):
    seconds.append(timed(lambda: next(frames), args.clock))
    half = peak() if i < args.frames // 2 else half
  return {"seconds": min(seconds[-args.repeats:]), "bytes": [half - start, peak() - half]}


def dense(protocol: ops.Protocol, args) -> dict:
  import jax
  import jax.numpy as jnp
  size = h, w = grid(protocol, args)
  features, r = inputs(protocol, args), len(protocol.radii)
  keys = jnp.stack([features[i % len(features)] for i in range(r)])
  values = jnp.full((r, h, w, args.classes), 1 / args.classes)

  def near(radius):
    if radius is None:
      return np.ones((h, w, h, w), bool)
    dy, dx = (np.arange(n)[:, None] - np.arange(n) for n in size)
    dy, dx = dy[:, None, :, None], dx[None, :, None, :]
    return (dy ** 2 + dx ** 2 < radius ** 2 if protocol.shape == "disk"
            else (abs(dy) <= radius) & (abs(dx) <= radius))

  # None, for everywhere, doesn't sort among numbers, as keys of a tree have to.
  masks = {str(radius): jnp.asarray(near(radius)) for radius in set(protocol.radii)}

  @jax.jit
  def step(q, k, v, masks):
    s = jnp.einsum("yxd,rijd->yxrij", q, k, precision=jax.lax.Precision.HIGHEST)
    mask = jnp.stack([masks[str(radius)] for radius in protocol.radii], axis=2)
    s = jnp.where(mask, s / protocol.temperature, -1e30).reshape(h * w, -1)
    v = v.reshape(-1, args.classes)
    if protocol.top_k is None:
      return jnp.matmul(jax.nn.softmax(s, axis=-1), v, precision=jax.lax.Precision.HIGHEST)
    best, index = jax.lax.top_k(s, protocol.top_k)
    return jnp.sum(jax.nn.softmax(best, axis=-1)[..., None] * v[index], axis=1)

  return repeated(functools.partial(step, features[0], keys, values, masks), args)


def floor(protocol: ops.Protocol, args) -> dict:
  import jax
  import jax.numpy as jnp
  n = math.prod(grid(protocol, args))
  k = compared(protocol, n)
  rng = np.random.default_rng(0)
  q, into, out = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in [
    (-(-n // 1024), 1024, args.dim), (args.dim, k), (k, args.classes)])
  product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
  run = jax.jit(lambda q, into, out: jax.lax.map(lambda x: product(product(x, into), out), q))
  return repeated(functools.partial(run, q, into, out), args)


def encoder(args) -> dict:
  import jax
  import jax.numpy as jnp

  from vssl_jax.models.corrflow import Encoder, random_variables
  net = Encoder(args.width)
  x = jnp.zeros((1, *(-(-n // 8) * 8 for n in args.size), 3))
  variables = random_variables(net, jax.random.key(0))
  run = jax.jit(lambda v, x: net.apply(v, x)["features"])
  return repeated(functools.partial(run, variables, x), args)


def repeated(f, args) -> dict:
  import jax
  start = peak()
  seconds = [timed(lambda: jax.block_until_ready(f()), args.clock)
             for _ in range(1 + args.repeats)]
  return {"seconds": min(seconds[1:]), "bytes": [peak() - start]}


def timed(f, clock: str) -> float:
  now = time.process_time if clock == "cpu" else time.perf_counter
  start = now()
  f()
  return now() - start


def peak() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_a_process(name: str, form: str) -> dict:
  done = subprocess.run([sys.executable, "-m", "benchmarks.propagation", *sys.argv[1:],
                         f"--row={name},{form}"], text=True, capture_output=True)
  if done.returncode:
    sys.exit(f"{name}, {form}: {done.stderr}")
  return json.loads(done.stdout.splitlines()[-1])


def table(args) -> None:
  print("| protocol | form | s a frame | to floor | GFLOP | dense to this | MiB, first half | "
        "second half |\n|---|---|---|---|---|---|---|---|")
  for name in args.protocols:
    protocol = ops.PROTOCOLS[name]
    flops, base = gigaflops(protocol, args), None
    for form in FORMS:
      products = f"{flops[form]:.1f} | {flops['dense'] / flops[form]:.1f}"
      if form == "dense" and (need := dense_gibibytes(protocol, args)) > args.memory:
        print(f"| {name} | dense | (needs {need:.1f} GiB) | | {products} | | |", flush=True)
        continue
      row = in_a_process(name, form)
      base = base or row["seconds"]
      memory = " | ".join([f"{b / 2**20:.0f}" for b in row["bytes"]] + [""])
      print(f"| {name} | {form} | {row['seconds']:.3f} | {row['seconds'] / base:.2f} | {products} "
            f"| {memory}" + ("|" if len(row["bytes"]) == 1 else ""), flush=True)
  if args.encoder:
    row = in_a_process("-", "encoder")
    print(f"| - | encoder | {row['seconds']:.3f} | | | | {row['bytes'][0] / 2**20:.0f} | |")
  print(f"\n{args.size[1]} x {args.size[0]} pixels, {args.dim} features, {args.classes} classes, "
        f"{args.frames} frames, {args.clock} time")


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--protocols", default="corrflow,mast,later,crw")
  parser.add_argument("--size", default="480x854", help="pixels down and across")
  parser.add_argument("--frames", type=int, default=48)
  parser.add_argument("--dim", type=int, default=64, help="features of a cell")
  parser.add_argument("--classes", type=int, default=4, help="background and objects")
  parser.add_argument("--repeats", type=int, default=5, help="the best of which counts")
  parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
  parser.add_argument("--memory", type=float, default=4, help="GiB that dense scores may take")
  parser.add_argument("--encoder", action="store_true", help="time the encoder too")
  parser.add_argument("--width", type=int, default=64, help="channels of the encoder")
  parser.add_argument("--row", help=argparse.SUPPRESS)
  args = parser.parse_args()
  args.size = tuple(int(n) for n in args.size.split("x"))
  args.protocols = args.protocols.split(",")
  if unknown := set(args.protocols) - set(ops.PROTOCOLS):
    parser.error(f"--protocols: {', '.join(sorted(unknown))} is not one of "
                 f"{', '.join(ops.PROTOCOLS)}")
  if not args.row:
    table(args)
    return
  name, form = args.row.split(",")
  run = {"ours": ours, "dense": dense, "floor": floor}
  print(json.dumps(encoder(args) if form == "encoder" else run[form](ops.PROTOCOLS[name], args)))


if __name__ == "__main__":
  main()
