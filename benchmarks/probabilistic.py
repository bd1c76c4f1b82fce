"""Pair matrices of ProViCo's videos against literal sums and bare products, in one run.

  python -m benchmarks.probabilistic [--videos=1024 --samples=8 --dim=256] [--repeats=5]
                                     [--clock=cpu] [--part=1]

Two matrices over all pairs of B videos, of which each has K samples in D dimensions:

- the distance by which positives are mined, forward only, for no gradient flows through it:
  "identity" is `gaussian_pairs.sampled`, in O(K); "closed form" that of the distributions;
  "literal" the mean over all K^2 pairs of samples, in blocks too. Their floor is one bare product
  [B, D] x [D, B].
- the match probability, which needs every pair of samples: "differences" and "product" are
  `gaussian_pairs.match` with `exact` on and off; "literal" lays all K^2 probabilities out and takes
  their mean and two logarithms, without blocks. Their floor is a bare product [BK, D] x [D, BK],
  with gradients those with respect to both sides.

Each row is a process of its own. Times are the best of the repetitions (`--clock=cpu`: CPU time of
all threads, steadier where other programs run). On a CPU memory is by how much the process grew at
its highest; on a GPU what the compiled program asks for. `--part` is the share of the columns that
the literal distance is measured on; its time is scaled up to all of them. Ratios are to the floor
of the same matrix. A row that would lay out more than `--memory` GiB is left out, and says so.
"""

import argparse
import functools
import json
import resource
import subprocess
import sys
import time

DISTANCES = ("floor", "identity", "closed form", "literal")
MATCHES = ("floor", "product", "differences", "literal")
ROWS = ([("distance", form, "forward") for form in DISTANCES]
        + [("match", form, which) for which in ("forward", "with gradients") for form in MATCHES])


def samples(args):
  import jax
  import jax.numpy as jnp

  from vssl_jax.ops import gaussian
  from vssl_jax.ops.gaussian_pairs import Samples
  keys = jax.random.split(jax.random.key(0), 3)
  mean = jax.random.normal(keys[0], (args.videos, args.dim))
  mean /= jnp.linalg.norm(mean, axis=1, keepdims=True)
  logvar = jnp.log(0.09 / args.dim) + jax.random.normal(keys[1], mean.shape)
  eps = jax.random.normal(keys[2], (args.videos, args.samples, args.dim))
  return Samples(mean, logvar, gaussian.deviations(logvar, eps))


def product(x, y):
  import jax
  import jax.numpy as jnp
  return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def literal_distance(x, columns: int):
  """The mean over all pairs of samples, by the elementwise formula."""
  from vssl_jax.ops import gaussian, gaussian_pairs
  z = x.mean[:, None] + x.deviation

  def pairs(part):
    w, logvar = part
    each = gaussian.bhattacharyya(z[:, :, None, None], x.logvar[:, None, None, None], w,
                                  logvar[:, None], reading="mean")
    return each.mean(axis=(1, 3))

  return gaussian_pairs.by_columns(pairs, (z[:columns], x.logvar[:columns]), 1, block=16)


def literal_match(x, a, b):
  import jax
  import jax.numpy as jnp
  z = (x.mean[:, None] + x.deviation).reshape(-1, x.mean.shape[1])
  square = jnp.sum(z * z, axis=1)
  distance = jnp.sqrt(jnp.maximum(square[:, None] + square - 2 * product(z, z), 0) + 1e-6)
  size, k = x.deviation.shape[:2]
  p = jax.nn.sigmoid(b - a * distance).reshape(size, k, size, k).mean(axis=(1, 3))
  return jnp.log(p), jnp.log1p(-p)


def program(kind: str, form: str, which: str, args):
  """A function and its arguments."""
  import jax
  import jax.numpy as jnp

  from vssl_jax.ops import gaussian_pairs
  x = samples(args)
  rows = (x.mean[:, None] + x.deviation).reshape(-1, args.dim)
  if kind == "distance":
    functions = {"floor": lambda x: product(x.mean, x.mean),
                 "identity": lambda x: gaussian_pairs.sampled(x, x),
                 "closed form": lambda x: gaussian_pairs.closed_form(x[:2], x[:2]),
                 "literal": functools.partial(literal_distance, columns=columns(args))}
    return functions[form], (x,)
  if form == "floor":
    fn, inputs = (lambda x, y: (product(x, y),)), (rows, rows + 1)
  else:
    fn = {"literal": literal_match, "product": functools.partial(gaussian_pairs.match, exact=False),
          "differences": gaussian_pairs.match}[form]
    inputs = x, jnp.float32(10), jnp.float32(10)
  if which == "forward":
    return fn, inputs
  return jax.value_and_grad(lambda *a: sum(jnp.mean(jnp.sin(v)) for v in fn(*a)),
                            tuple(range(len(inputs)))), inputs


def columns(args) -> int:
  return max(1, int(args.videos * args.part))


def gibibytes(kind: str, form: str, args) -> float:
  """What the row's largest array takes."""
  if kind == "match" and form in ("floor", "literal"):
    return 4 * (args.videos * args.samples) ** 2 / 2**30
  return 0.0


def measure(kind: str, form: str, which: str, args) -> dict:
  import jax
  fn, inputs = program(kind, form, which, args)
  inputs = jax.block_until_ready(inputs)
  compiled = jax.jit(fn).lower(*inputs).compile()
  start = peak()
  seconds = best(lambda: jax.block_until_ready(compiled(*inputs)), args)
  grown = peak() - start
  if jax.default_backend() != "cpu":
    sizes = compiled.memory_analysis()
    grown = sizes.temp_size_in_bytes + sizes.output_size_in_bytes
  if (kind, form) == ("distance", "literal"):
    seconds *= args.videos / columns(args)
  return {"seconds": seconds, "bytes": grown, "device": jax.devices()[0].device_kind}


def peak() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def best(f, args) -> float:
  """Seconds, after one call to warm up, which counts where it takes longer than the limit."""
  clock = time.process_time if args.clock == "cpu" else time.perf_counter
  begun, start = time.perf_counter(), clock()
  f()
  seconds = [clock() - start] if time.perf_counter() - begun > args.limit else []
  while len(seconds) < args.repeats and (not seconds or time.perf_counter() - begun < args.limit):
    start = clock()
    f()
    seconds.append(clock() - start)
  return min(seconds)


def in_a_process(number: int, args) -> dict:
  """The row's figures, or {"skipped": why}."""
  needed = gibibytes(*ROWS[number][:2], args)
  if needed > args.memory:
    return {"skipped": f"needs {needed:.1f} GiB"}
  done = subprocess.run([sys.executable, "-m", "benchmarks.probabilistic", *sys.argv[1:],
                         f"--row={number}"], text=True, capture_output=True)
  if done.returncode:
    print(done.stderr, file=sys.stderr)
    return {"skipped": f"failed: {done.stderr.strip().splitlines()[-1][:80]}"}
  return json.loads(done.stdout.splitlines()[-1])


def table(args) -> None:
  print(f"{args.videos} videos, {args.samples} samples, {args.dim} dimensions\n\n"
        "| matrix | form | ms | to the floor | MiB |\n|---|---|---|---|---|")
  floor, devices = None, set()
  for number, (kind, form, which) in enumerate(ROWS):
    row = in_a_process(number, args)
    if form == "floor":
      floor = row
    if "skipped" in row:
      print(f"| {kind}, {which} | {form} | ({row['skipped']}) | | |", flush=True)
      continue
    devices.add(row["device"])
    ratio = "" if "skipped" in floor else f"{row['seconds'] / floor['seconds']:.2f}"
    print(f"| {kind}, {which} | {form} | {1e3 * row['seconds']:.2f} | {ratio} | "
          f"{row['bytes'] / 2**20:.0f} |", flush=True)
  scaled = f", literal distances on {columns(args)} columns" if args.part < 1 else ""
  where = ", ".join(sorted(devices))
  print(f"\nfloat32, {args.clock} time, best of {args.repeats}{scaled}; {where}")


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--videos", type=int, default=1024)
  parser.add_argument("--samples", type=int, default=8)
  parser.add_argument("--dim", type=int, default=256)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--limit", type=float, default=5, help="seconds of repeating one form")
  parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
  parser.add_argument("--memory", type=float, default=4, help="GiB that one array may take")
  parser.add_argument("--part", type=float, default=1 / 64,
                      help="share of the columns that literal distances are measured on")
  parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
  args = parser.parse_args()
  for name in ("videos", "samples", "dim", "repeats"):
    if getattr(args, name) < 1:
      parser.error(f"--{name} must be at least 1")
  if not 0 < args.part <= 1:
    parser.error("--part must be above 0 and at most 1")
  if args.row is None:
    table(args)
  else:
    print(json.dumps(measure(*ROWS[args.row], args)))


if __name__ == "__main__":
  main()
