"""One training step of CorrFlow: what encoding each frame once saves, and what attention costs.

  python -m benchmarks.corrflow_step [--batch=2] [--size=64] [--width=16] [--dtype=bfloat16]

Rows, each compiled by XLA, run in turn in one process, best of the repetitions:

- "step": loss, gradients and Adam of `vssl_jax.methods.corrflow`: 3 frames encoded, 4 attentions.
- "step as released": the same loss from 16 encoder passes and 8 attentions, one copy at a time.
- "encoder, 3" and "encoder, 16": the encoder alone, with gradients.
- "attention": the copies of "step" alone, from features and values to maps, with gradients.

Times are of the wall clock, or with `--clock=cpu` CPU seconds of all threads, steadier where other
programs run. The share of attention is that of "attention" in "step". The published setting is
`--batch=6 --size=256 --width=64`.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vssl_jax import optim
from vssl_jax.losses import colour as losses
from vssl_jax.methods import corrflow
from vssl_jax.methods import corrflow_chains as chains
from vssl_jax.models.corrflow import Encoder
from vssl_jax.ops import colour as colours
from vssl_jax.ops import resample
from vssl_jax.ops.window_attention import attend

FRAMES, CLASSES, RADIUS = 3, 16, 6
ORDER = chains.passes(FRAMES, cycles=True)
ATTEND = functools.partial(attend, radius=RADIUS)


def encode(net, variables, x, frames):
  """Features [B, frames, h, w, D] of x [B, frames, H, W, 3] in training mode."""
  out, _ = net.clone(frames=frames).apply(variables, x.reshape(-1, *x.shape[2:]), train=True,
                                          mutable=["batch_stats"])
  out = out["features"]
  return out.reshape(len(x), frames, *out.shape[1:])


def released(net, params, aux, x):
  """The loss of spec 7 with the second pair from the truth; passes 2k and 2k + 1 are a pair."""
  ids = colours.classes(colours.lab(x)[..., 1:])
  values = resample.labels_to_cells(ids, CLASSES)
  f = encode(net, {"params": params, "batch_stats": aux["batch_stats"]}, x[:, ORDER], len(ORDER))

  def copy(pair, v):
    return ATTEND(f[:, 2 * pair + 1], f[:, 2 * pair], v)

  def loss(p, frame):
    up = resample.to_pixels(p, x.shape[2:4])
    return losses.cross_entropy(up, ids[:, frame]).mean()

  short = loss(copy(0, values[:, 0]), 1) + loss(copy(1, values[:, 1]), 2)
  one = copy(3, copy(2, values[:, 0]))
  two = functools.reduce(lambda v, pair: copy(pair, v), range(4, 8), values[:, 0])
  return short + 0.1 * (loss(one, 0) + loss(two, 0))


def attention(f, values):
  """The sum of squares of all maps that the chains give."""
  truth = np.ones(FRAMES - 1, bool)
  short, back = chains.copy(lambda r, t, v: ATTEND(f[:, t], f[:, r], v), values, truth, lambda v: v)
  return sum(jnp.sum(jnp.square(p)) for p in (*short, *back))


def programs(args) -> dict:
  """Name -> (function, its arguments)."""
  method = corrflow.make(width=args.width, radius=RADIUS, dtype=args.dtype, drop=0.0,
                         scheduled_sampling=(1.0, 1.0))
  net = Encoder(args.width, dtype=jnp.bfloat16 if args.dtype == "bfloat16" else None)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.uniform(size=(args.batch, FRAMES, args.size, args.size, 3)), jnp.float32)
  batch = {"frames": jnp.stack([x, x], axis=1)[:, None]}
  params, aux = jax.jit(method.init)(jax.random.key(0), batch)
  tx = optim.make(steps=1, learning_rate=2e-4, schedule="constant", weight_decay=0)
  cells = -(-args.size // 4)
  f = jnp.asarray(rng.normal(size=(args.batch, FRAMES, cells, cells, 64)), args.dtype)
  values = jnp.asarray(rng.dirichlet(np.ones(CLASSES), f.shape[:4]), jnp.float32)

  def update(loss):
    def step(params, *rest):
      value, grads = jax.value_and_grad(loss)(params, *rest)
      return value, optax.apply_updates(params, tx.update(grads, tx.init(params), params)[0])
    return step

  def encoder(params, aux, x):
    variables = {"params": params, "batch_stats": aux["batch_stats"]}
    return jnp.sum(jnp.square(encode(net, variables, x, x.shape[1]).astype(jnp.float32)))

  ours = update(lambda params, aux, batch: method.loss(params, aux, batch, jax.random.key(1))[0])
  alone = jax.value_and_grad(encoder)
  return {"step": (ours, (params, aux, batch)),
          "step as released": (update(functools.partial(released, net)), (params, aux, x)),
          "encoder, 3": (alone, (params, aux, x)),
          "encoder, 16": (alone, (params, aux, x[:, ORDER])),
          "attention": (jax.value_and_grad(attention, argnums=(0, 1)), (f, values))}


def measure(args) -> dict[str, float]:
  """Seconds by name; all rows take turns, so that a busy moment spoils none of them alone."""
  clock = time.process_time if args.clock == "cpu" else time.perf_counter
  compiled = {name: (jax.jit(f).lower(*given).compile(), given)
              for name, (f, given) in programs(args).items()}
  first = {name: float(jax.block_until_ready(run(*given))[0])
           for name, (run, given) in compiled.items()}
  if args.dtype == "float32":  # the same objective, or the comparison means nothing
    np.testing.assert_allclose(first["step"], first["step as released"], rtol=1e-3)
  best = dict.fromkeys(compiled, float("inf"))
  for _ in range(args.repeats):
    for name, (run, given) in compiled.items():
      start = clock()
      jax.block_until_ready(run(*given))
      best[name] = min(best[name], clock() - start)
  return best


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--batch", type=int, default=2, help="clips")
  parser.add_argument("--size", type=int, default=64, help="height and width of the frames")
  parser.add_argument("--width", type=int, default=16, help="channels of the first stage")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
  args = parser.parse_args()
  seconds = measure(args)
  print("| row | ms | to the step |\n|---|---|---|")
  for name, value in seconds.items():
    print(f"| {name} | {1e3 * value:.1f} | {value / seconds['step']:.2f} |")
  print(f"\nencoding once: {seconds['encoder, 16'] / seconds['encoder, 3']:.1f} times faster; the "
        f"step: {seconds['step as released'] / seconds['step']:.1f} times; attention is "
        f"{seconds['attention'] / seconds['step']:.0%} of it.\n{args.batch} clips of {FRAMES} "
        f"frames, {args.size} x {args.size}, width {args.width}, {args.dtype}, {args.clock} time, "
        f"best of {args.repeats}; {jax.devices()[0].device_kind}")


if __name__ == "__main__":
  main()
