"""What CycleContrast's losses and queues cost beside the encoders, against bare products.

  python -m benchmarks.queues [--quick] [--repeats=5] [--clock=cpu]

The released size: 512 queries of 128 numbers, an intra queue of 65,536 rows and a cycle queue of
81,920, of which 16,384 in turn are possible neighbours of each of 8 groups of queries. Encoders are
left out: unit vectors stand for what they give. Rows, the first of each kind the floor of those
after it, which must do at least that:

- "intra", "cycle": the loss of the method, forward and with the gradient to the queries. Floors are
  the products that no form can do without: queries with the queue; queries with the neighbours, the
  neighbours' mean, and it with the queue's other rows; and as many again for the gradient.
- "step": the keys of the step before written to both queues, which are donated as the training step
  donates them, and both losses with the gradient to the queries. Its floor is those of both losses.
  "step, queues kept" is the same without donation. "step, written last" writes this step's keys
  after the losses.

Floors have the neighbours cut out beforehand, where the method draws and copies them. Bytes are
what the compiled program asks for beside its arguments, outputs that take an argument's place left
out. "Copies" are of whole queues, within the compiled program: a donated queue that isn't read
before it is written to is copied first, though the result lands in the same place. Below the table:
whether the step's queues were still where they had been after two steps.

Each row is a process of its own; times are the best of the repetitions (`--clock=cpu`: CPU time of
all threads, steadier where other programs run).
"""

import argparse
import functools
import json
import re
import subprocess
import sys
import time

ROWS = ("intra floor", "intra", "cycle floor", "cycle", "step floor", "step", "step, queues kept",
        "step, written last")
QUICK = dict(batch=16, dim=8, intra_queue=64, cycle_queue=80, neighbours=16, groups=2, repeats=1)
TAU = 0.07


def inputs(args):
  """{"query", "key", "candidate": by loss}, the two queues, the videos' numbers and U."""
  import jax
  import jax.numpy as jnp

  from vssl_jax.methods.cycle_contrast import _draw
  from vssl_jax.ops import bank
  from vssl_jax.ops.normalise import l2
  keys = jax.random.split(jax.random.key(0), 9)
  draw = {f"{kind} {loss}": l2(jax.random.normal(keys[3 * i + j], (args.batch, args.dim)))
          for i, kind in enumerate(("query", "key", "candidate"))
          for j, loss in enumerate(("intra", "cycle"))}
  init = jax.jit(bank.init, static_argnums=(1, 2))  # so that no two arrays share their memory
  queues = {"intra": init(keys[7], args.intra_queue, args.dim),
            "cycle": init(keys[8], args.cycle_queue, args.dim)}
  record = jnp.arange(args.batch, dtype=jnp.int32)
  chosen = _draw(keys[0], (args.batch, 3), args.groups, args.cycle_queue, args.neighbours)
  return jax.block_until_ready((draw, queues, record, chosen.neighbours))


def intra(query, x, queues, record, _):
  import jax.numpy as jnp

  from vssl_jax.losses import cycle as losses
  from vssl_jax.ops import bank
  queue = queues["intra"]
  mask = bank.valid(queue, record, filled_only=False)
  return jnp.mean(losses.intra(query, x["candidate intra"][:, None], queue.keys, mask, tau=TAU)[0])


def cycle(query, x, queues, record, chosen):
  """As the method does it: group by group, each with neighbours of its own."""
  import jax
  import jax.numpy as jnp

  from vssl_jax.losses import cycle as losses
  from vssl_jax.ops import bank
  queue, groups = queues["cycle"], len(chosen)
  mask = bank.valid(queue, record, filled_only=False)

  def one(q, p, mask, chosen):
    return losses.cycle(q, p, queue.keys, mask, chosen, tau=TAU, neighbour_tau=TAU)[0]

  split = [v.reshape(groups, -1, *v.shape[1:]) for v in
           (query, x["candidate cycle"][:, None], mask)]
  return jnp.mean(jax.vmap(one)(*split, chosen))


def intra_floor(query, queue):
  """Similarities and, of as many numbers, the gradient."""
  return (query @ queue.T) @ queue


def cycle_floor(query, near, rest):
  """The same there and back: query [G, n, D], near [G, S, D] and rest [G, K - S, D]."""
  import jax.numpy as jnp
  product = functools.partial(jnp.einsum, "gnd,gsd->gns")
  mean = functools.partial(jnp.einsum, "gns,gsd->gnd")
  there = product(query, near)
  back = mean(product(mean(there, near), rest), rest)  # gradient to the neighbour
  return mean(product(back, near), near)  # through its weights to the query


def step(x, queues, record, chosen):
  """(losses and gradients, queues), of queues in which the keys already are."""
  queues = written(x, queues, record)
  return losses_of(x, queues, record, chosen), queues


def step_written_last(x, queues, record, chosen):
  """The same of queues in which they aren't yet."""
  return losses_of(x, queues, record, chosen), written(x, queues, record)


def losses_of(x, queues, record, chosen):
  import jax
  return {name: jax.value_and_grad(loss)(x[f"query {name}"], x, queues, record, chosen)
          for name, loss in (("intra", intra), ("cycle", cycle))}


def written(x, queues, record):
  from vssl_jax.ops import bank
  return {name: bank.push(q, x[f"key {name}"], record) for name, q in queues.items()}


def program(row: str, args):
  """A jitted function and its arguments."""
  import jax
  import jax.numpy as jnp
  x, queues, record, chosen = inputs(args)
  if row.startswith("step") and row != "step floor":
    fn = step_written_last if row == "step, written last" else step
    donated = () if row == "step, queues kept" else (1,)
    return jax.jit(fn, donate_argnums=donated), (x, queues, record, chosen)
  if row in ("intra", "cycle"):
    loss = {"intra": intra, "cycle": cycle}[row]
    return jax.jit(jax.value_and_grad(loss)), (x[f"query {row}"], x, queues, record, chosen)
  keys = queues["cycle"].keys
  others = jax.vmap(lambda c: jnp.setdiff1d(jnp.arange(len(keys)), c,
                                            size=len(keys) - len(c)))(chosen)
  there = x["query cycle"].reshape(args.groups, -1, args.dim), keys[chosen], keys[others]
  here = x["query intra"], queues["intra"].keys
  if row == "step floor":
    return jax.jit(lambda a, b: (intra_floor(*a), cycle_floor(*b))), (here, there)
  return jax.jit(intra_floor if row == "intra floor" else cycle_floor), (
    here if row == "intra floor" else there)


def measure(row: str, args) -> dict:
  import jax
  fn, given = program(row, args)
  given = jax.block_until_ready(given)
  compiled = fn.lower(*given).compile()
  sizes = compiled.memory_analysis()
  donated = row in ("step", "step, written last")
  found = {"device": jax.devices()[0].device_kind, "in_place": sizes.alias_size_in_bytes,
           "copies": copies(compiled, args),
           "bytes": (sizes.temp_size_in_bytes + sizes.output_size_in_bytes
                     - sizes.alias_size_in_bytes)}
  if donated:
    x, queues, *rest = given
    found["queues"] = sum(q.keys.nbytes for q in queues.values())
    found["kept_place"], queues = stays(compiled, x, queues, rest)
    given = x, queues, *rest
  seconds, clock = [], time.process_time if args.clock == "cpu" else time.perf_counter
  for _ in range(args.repeats + 1):
    start = clock()
    out = jax.block_until_ready(compiled(*given))
    seconds.append(clock() - start)
    if donated:
      given = given[0], out[1], *given[2:]
  return found | {"seconds": min(seconds[1:])}  # the first one warms up


def copies(compiled, args) -> int:
  """How many times the program copies a whole queue."""
  shapes = "|".join(f"{n},{args.dim}" for n in (args.intra_queue, args.cycle_queue))
  return len(re.findall(rf"= f32\[(?:{shapes})\]\S* copy(?:-start)?\(", compiled.as_text()))


def stays(compiled, x, queues, rest) -> tuple[bool, dict]:
  """Whether two steps leave the queues' keys where they were in memory; and the queues."""
  def places(queues):
    return {name: q.keys.unsafe_buffer_pointer() for name, q in queues.items()}

  before = places(queues)
  for _ in range(2):
    queues = compiled(x, queues, *rest)[1]
  return places(queues) == before, queues


def in_a_process(row: str) -> dict:
  done = subprocess.run([sys.executable, "-m", "benchmarks.queues", *sys.argv[1:], f"--row={row}"],
                        text=True, capture_output=True)
  if done.returncode:
    sys.exit(f"{row} failed:\n{done.stderr}")
  return json.loads(done.stdout.splitlines()[-1])


def table(args) -> None:
  print(f"{args.batch} queries of {args.dim} numbers in {args.groups} groups, queues of "
        f"{args.intra_queue} and {args.cycle_queue}, {args.neighbours} neighbours\n\n"
        "| | ms | to the floor | MiB | copies |\n|---|---|---|---|---|")
  floor, found = None, {}
  for row in ROWS:
    found[row] = figures = in_a_process(row)
    floor = figures if row.endswith("floor") else floor
    print(f"| {row} | {1e3 * figures['seconds']:.2f} | {figures['seconds'] / floor['seconds']:.2f} "
          f"| {figures['bytes'] / 2**20:.0f} | {figures['copies']} |", flush=True)
  one = found["step"]
  print(f"\nThe step's outputs take the place of {one['in_place'] / 2**20:.1f} MiB of its "
        f"arguments (the queues' keys are {one['queues'] / 2**20:.1f}); after two steps they are "
        f"{'where they were' if one['kept_place'] else 'elsewhere'}.\n"
        f"float32, {args.clock} time, best of {args.repeats}; {one['device']}")


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  for name, value in dict(batch=512, dim=128, intra_queue=65_536, cycle_queue=81_920,
                          neighbours=16_384, groups=8, repeats=5).items():
    parser.add_argument(f"--{name}", type=int, default=value)
  parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
  parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
  parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.quick:
    vars(args).update(QUICK)
  for name in QUICK:
    if getattr(args, name) < 1:
      parser.error(f"--{name} must be at least 1")
  if args.batch % args.groups or args.neighbours >= args.cycle_queue:
    parser.error("--groups must divide --batch, and --neighbours leave some of --cycle_queue")
  if args.row is None:
    table(args)
  else:
    print(json.dumps(measure(args.row, args)))


if __name__ == "__main__":
  main()
