"""Window attention against other ways to compute it: time and memory, in one run.

  python -m benchmarks.attention [--quick] [--dtype=bfloat16] [--repeats=10] [--clock=cpu]

All forms compute the same thing: scores of a query map with the cells of a window in one or
several reference maps, one softmax, and a copy of the values. Rows:

- "tiles": `vssl_jax.ops.window_attention.attend` as XLA compiles it.
- "kernel": its Pallas form; GPU only. Its backward pass is that of the tiles.
- "shifted" (PyTorch): for each offset a product of the query with the shifted keys.
- "unfold" (PyTorch): all windows of the keys laid out, then one product.
- "masked" (JAX): scores of every cell with every cell, of which a mask keeps the windows.
- "floor": bare products of as many useful operations, 2 N R (2M+1)^2 (D + C) forward for N query
  cells: [N, D] x [D, R (2M+1)^2] x [R (2M+1)^2, C], 4096 rows at a time; no windows, no softmax.
  With gradients: those of this chain with respect to all three, three times as many operations.

Each row is a process of its own. Times are the best of the repetitions, on a CPU of PyTorch with
one thread and with all (`--clock=cpu`: CPU time, steadier where other programs run, of all of
JAX's threads and of PyTorch with one). On a CPU memory is by how much the process grew
at its highest; on a GPU the largest allocation (PyTorch) or what the compiled program asks for
(JAX: outputs and temporaries). Ratios are of times, this row's over the floor's or the tiles'; a
row that would need more than `--memory` GiB is left out, and says so.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import resource
import subprocess
import sys
import time

import numpy as np

# Those of the ratios come first.
METHODS = ("floor", "tiles", "kernel", "shifted", "unfold", "masked")
PASSES = ("forward", "with gradients")


@dataclasses.dataclass(frozen=True)
class Case:
  name: str
  b: int
  r: int
  h: int
  w: int
  d: int
  m: int
  c: int = 16

  @property
  def offsets(self) -> int:
    return (2 * self.m + 1) ** 2

  def gibibytes(self, method: str) -> float:
    """What the method's largest array takes, in float32."""
    n = self.b * self.h * self.w * self.r
    numbers = {"unfold": n * self.offsets * self.d, "masked": n * self.h * self.w,
               "shifted": n * self.offsets}.get(method, 0)
    return 4 * numbers / 2**30


QUICK = [Case("training", 6, 1, 64, 64, 64, 6), Case("DAVIS, 1 reference", 1, 1, 120, 214, 64, 6)]
CASES = [
  QUICK[0], Case("256 channels", 6, 1, 64, 64, 256, 6), QUICK[1],
  Case("DAVIS, 5 references", 1, 5, 120, 214, 64, 6),
  Case("DAVIS, 1 reference", 1, 1, 120, 214, 64, 12),
  Case("DAVIS, 3 references", 1, 3, 120, 214, 64, 12),
  Case("DAVIS, 5 references", 1, 5, 120, 214, 64, 12),
]


def arrays(case: Case) -> list[np.ndarray]:
  rng = np.random.default_rng(0)
  maps = (case.h, case.w)
  shapes = [(case.b, *maps, case.d), (case.b, case.r, *maps, case.d),
            (case.b, case.r, *maps, case.c)]
  return [rng.normal(size=s).astype(np.float32) / s[-1] ** 0.25 for s in shapes]


# JAX: (query, key, value) -> [B, H, W, C]


def masked(q, k, v, *, case: Case):
  import jax
  import jax.numpy as jnp
  y, x = (np.arange(n) for n in (case.h, case.w))
  rows, columns = (abs(i[:, None] - i) <= case.m for i in (y, x))
  near = (jnp.asarray(rows)[:, None, :, None] & jnp.asarray(columns)[None, :, None, :])
  s = jnp.einsum("byxd,brijd->byxrij", q, k, preferred_element_type=jnp.float32,
                 precision=jax.lax.Precision.HIGHEST)
  s = jnp.where(near[None, :, :, None], s, -jnp.inf)
  p = jax.nn.softmax(s.reshape(*s.shape[:3], -1), axis=-1)
  return jnp.einsum("byxk,bkc->byxc", p, v.reshape(case.b, -1, case.c).astype(jnp.float32),
                    precision=jax.lax.Precision.HIGHEST).astype(v.dtype)


def floor(q, k, v, *, case: Case):
  """Takes weights of the right shape out of the keys and values, repeated where too few."""
  import jax
  import jax.numpy as jnp
  n = case.r * case.offsets
  into = jnp.resize(k.reshape(-1, case.d)[:n], (n, case.d)).T
  out = jnp.resize(v.reshape(-1, case.c)[:n], (n, case.c))
  product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
  rows = q.reshape(-1, case.d)
  rows = jnp.pad(rows, [(0, -len(rows) % 4096), (0, 0)]).reshape(-1, 4096, case.d)
  return jax.lax.map(lambda x: product(product(x, into), out), rows)


def jax_forms(case: Case):
  from vssl_jax.ops import window_attention
  attend = functools.partial(window_attention.attend, radius=case.m)
  return {"tiles": functools.partial(attend, implementation="xla"),
          "kernel": functools.partial(attend, implementation="pallas"),
          "masked": functools.partial(masked, case=case),
          "floor": functools.partial(floor, case=case)}


def run_jax(case: Case, method: str, args) -> dict:
  import jax
  import jax.numpy as jnp
  form = jax_forms(case)[method]
  inputs = [jnp.asarray(a, args.dtype) for a in arrays(case)]
  gradients = jax.value_and_grad(lambda *a: jnp.sum(form(*a).astype(jnp.float32) ** 2),
                                 argnums=(0, 1, 2))
  found = {}
  programs = [jax.jit(f).lower(*inputs).compile() for f in (form, gradients)]
  start = peak()
  for name, compiled in zip(PASSES, programs, strict=True):
    found[name] = best(lambda run=compiled: jax.block_until_ready(run(*inputs)), args)
    grown = peak() - start
    if jax.default_backend() != "cpu":
      sizes = compiled.memory_analysis()
      grown = sizes.temp_size_in_bytes + sizes.output_size_in_bytes
    found[name]["bytes"] = grown
  found["device"] = jax.devices()[0].device_kind
  return found


# PyTorch: query [B, D, H, W], keys [B, R, D, H, W], values [B, R, C, H, W] -> [B, C, H, W]


def shifted(torch, q, k, v, case: Case):
  m, size = case.m, 2 * case.m + 1
  pad = functools.partial(torch.nn.functional.pad, pad=(m, m, m, m))
  inside = pad(torch.ones((case.h, case.w), dtype=torch.bool, device=q.device))
  k, v = pad(k), pad(v)
  at = [(r, slice(i, i + case.h), slice(j, j + case.w))
        for r in range(case.r) for i in range(size) for j in range(size)]
  s = torch.stack([(q * k[:, r, :, y, x]).sum(1).float().masked_fill(~inside[y, x], -1e10)
                   for r, y, x in at])
  p = torch.softmax(s, dim=0)
  return sum(p[n, :, None] * v[:, r, :, y, x] for n, (r, y, x) in enumerate(at))


def unfold(torch, q, k, v, case: Case):
  b, r, size = case.b, case.r, 2 * case.m + 1

  def windows(x):
    x = torch.nn.functional.unfold(x.flatten(0, 1), size, padding=case.m)
    return x.view(b, r, -1, case.offsets, case.h * case.w)

  inside = windows(torch.ones_like(k[:, :, :1])) > 0
  s = torch.einsum("bdn,brdon->bron", q.flatten(2), windows(k)).float()
  p = torch.softmax(s.masked_fill(~inside[:, :, 0], -1e10).flatten(1, 2), dim=1)
  p = p.view(b, r, case.offsets, -1).to(v.dtype)
  return torch.einsum("bron,brcon->bcn", p, windows(v)).view(b, -1, case.h, case.w)


def run_torch(case: Case, method: str, args) -> dict:
  import torch
  device = args.platform if args.platform == "cpu" else "cuda"
  # As many digits as the others get.
  torch.backends.cuda.matmul.allow_tf32 = False
  inputs = [torch.tensor(np.moveaxis(a, -1, -3).copy(), device=device).to(
    getattr(torch, args.dtype)) for a in arrays(case)]
  form = functools.partial({"shifted": shifted, "unfold": unfold}[method], torch)

  def forward():
    with torch.no_grad():
      return form(*inputs, case)

  def gradients():
    leaves = [x.detach().requires_grad_() for x in inputs]
    form(*leaves, case).float().square().sum().backward()

  def finished(f):
    f()
    if device == "cuda":
      torch.cuda.synchronize()

  # Where cores are busy PyTorch's threads wait spinning, up to a hundred times the work itself.
  threads = {1} if args.clock == "cpu" else {1, torch.get_num_threads()}
  found = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}
  start = peak()
  for name, f in zip(PASSES, (forward, gradients), strict=True):
    if device == "cuda":
      torch.cuda.reset_peak_memory_stats()
      start = torch.cuda.memory_allocated()
    found[name] = min((threaded(torch, n, lambda f=f: finished(f), args) for n in threads),
                      key=lambda row: row["seconds"])
    end = torch.cuda.max_memory_allocated() if device == "cuda" else peak()
    found[name]["bytes"] = end - start
  return found


def threaded(torch, n: int, f, args) -> dict:
  torch.set_num_threads(n)
  return best(f, args)


def peak() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def best(f, args) -> dict:
  """Seconds, after one call to warm up, which counts where it takes longer than the limit."""
  clock = time.process_time if args.clock == "cpu" else time.perf_counter
  begun, start = time.perf_counter(), clock()
  f()
  seconds = [clock() - start] if time.perf_counter() - begun > args.limit else []
  while len(seconds) < args.repeats and (not seconds or time.perf_counter() - begun < args.limit):
    start = clock()
    f()
    seconds.append(clock() - start)
  return {"seconds": min(seconds)}


def in_a_process(number: int, method: str, args) -> dict:
  """The row's figures, or {"skipped": why}."""
  case = (QUICK if args.quick else CASES)[number]
  if method == "kernel" and args.platform == "cpu":
    return {"skipped": "GPU only"}
  if method in ("shifted", "unfold") and not importlib.util.find_spec("torch"):
    return {"skipped": "PyTorch is not installed"}
  if case.gibibytes(method) > args.memory:
    return {"skipped": f"needs {case.gibibytes(method):.0f} GiB"}
  done = subprocess.run([sys.executable, "-m", "benchmarks.attention", *sys.argv[1:],
                         f"--platform={args.platform}", f"--row={number},{method}"],
                        text=True, capture_output=True)
  if done.returncode:
    print(done.stderr, file=sys.stderr)
    return {"skipped": f"failed: {done.stderr.strip().splitlines()[-1][:80]}"}
  return json.loads(done.stdout.splitlines()[-1])


def platform() -> str:
  code = "import jax; print(jax.default_backend())"
  return subprocess.run([sys.executable, "-c", code], text=True, capture_output=True,
                        check=True).stdout.split()[-1]


def table(args) -> None:
  cases = QUICK if args.quick else CASES
  print("| case | form | " + " | ".join(
    f"{p}, ms | to floor | to tiles | MiB" for p in PASSES) + " |")
  print("|---|---|" + "---|" * 8)
  for i, case in enumerate(cases):
    rows = {m: in_a_process(i, m, args) for m in METHODS[:2]}
    where = (f"{case.name}: {case.b}x{case.r}x{case.h}x{case.w}x{case.d}, M {case.m}, "
             f"{case.c} values")
    for method in METHODS:
      row = rows[method] = rows.get(method) or in_a_process(i, method, args)
      cells = [f"({row['skipped']})"] + [""] * 7 if "skipped" in row else figures(row, rows)
      print(f"| {where} | {method} | " + " | ".join(cells) + " |", flush=True)
  devices = {row["device"] for row in rows.values() if "device" in row}
  print(f"\n{args.dtype}, {args.clock} time, best of {args.repeats}; {', '.join(sorted(devices))}")


def figures(row: dict, rows: dict) -> list[str]:
  cells = []
  for name in PASSES:
    seconds = row[name]["seconds"]
    cells.append(f"{1e3 * seconds:.2f}")
    for other in ("floor", "tiles"):
      base = rows[other]
      cells.append("" if "skipped" in base else f"{seconds / base[name]['seconds']:.2f}")
    cells.append(f"{row[name]['bytes'] / 2**20:.0f}")
  return cells


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="two cases only")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  parser.add_argument("--repeats", type=int, default=10)
  parser.add_argument("--limit", type=float, default=5, help="seconds of repeating one form")
  parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
  parser.add_argument("--memory", type=float, default=4, help="GiB that one array may take")
  parser.add_argument("--platform", help=argparse.SUPPRESS)
  parser.add_argument("--row", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.row:
    number, method = args.row.split(",")
    case = (QUICK if args.quick else CASES)[int(number)]
    run = run_torch if method in ("shifted", "unfold") else run_jax
    print(json.dumps(run(case, method, args)))
    return
  args.platform = args.platform or platform()
  table(args)


if __name__ == "__main__":
  main()
