"""Chains of copies over the frames of a clip (corrflow spec 7). T frames, h w cells, C values."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Step = Callable[[int, int, jax.Array], jax.Array]


def passes(frames: int, cycles: bool) -> tuple[int, ...]:
  """Frames in the order in which the released code encodes them in one step (spec 5)."""
  pairs = [(t, t + 1) for t in range(frames - 1)]
  for n in range(1, frames if cycles else 0):
    pairs += [(t, t + 1) for t in range(n)] + [(t, t - 1) for t in range(n, 0, -1)]
  return tuple(frame for pair in pairs for frame in pair)


def short_term(step: Step, values: jax.Array, truth: jax.Array,
               feed: Callable[[jax.Array], jax.Array]) -> list[jax.Array]:
  """Copies from each frame to the next, as `copy` makes them, without the cycles."""
  out = [step(0, 1, values[:, 0])]
  for t in range(1, values.shape[1] - 1):
    out.append(step(t, t + 1, jnp.where(truth[t], values[:, t], feed(out[-1]))))
  return out


def copy(step: Step, values: jax.Array, truth: jax.Array,
         feed: Callable[[jax.Array], jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
  """Copies from each frame to the next, and cycles that return to the first frame.

  Cycle n copies frame 0's values on to frame n and back, always what arrived and never the truth.
  All cycles share their way there, and those that are on their way back are copied together: 2
  (T - 1) attentions instead of (T - 1) (T + 1), 4 instead of 8 for three frames.

  Args:
    step: `(r, t, values [B, h, w, C'])`: values copied from frame r to frame t, for any C'.
    values: [B, T, h, w, C] of every frame, the truth.
    truth: [T - 1] bool, whether the values that go from frame t to the next are the truth, or what
      arrived at t. The first entry is ignored: nothing arrives there.
    feed: what is done to a copy before it is copied on.

  Returns:
    T - 1 maps [B, h, w, C] that arrive at frames 1, 2, ..; T - 1 that return to frame 0 in cycles
    1, 2, ..
  """
  first = step(0, 1, values[:, 0])
  short, chain = [first], [first]
  for t in range(1, values.shape[1] - 1):
    start = jnp.where(truth[t], values[:, t], feed(short[-1]))
    both = step(t, t + 1, jnp.concatenate([start, feed(chain[-1])], axis=-1))
    for maps, arrived in zip((short, chain), jnp.split(both, 2, axis=-1), strict=True):
      maps.append(arrived)
  back = []  # those that turned last come last
  for t in range(len(chain), 0, -1):
    back = [feed(c) for c in (*back, chain[t - 1])]
    back = jnp.split(step(t, t - 1, jnp.concatenate(back, axis=-1)), len(back), axis=-1)
  return short, back[::-1]
