"""Batch normalisation whose batch is a fixed slice of the global batch."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

MOMENTUM = 0.1
EPSILON = 1e-5


class BatchNorm(nn.Module):
  """Normalises every channel by its statistics over the batch, or over each group of it.

  In training the leading axis is cut into `groups` equal consecutive slices, each normalised by
  its own mean and biased variance. That is what data-parallel training without synchronised
  statistics does by accident of its device count; here it is a hyperparameter, and the numbers
  don't depend on the devices. Where groups and devices coincide, no values cross between devices.

  Running statistics move by `0.1 * (new - old)`, with the unbiased variance. They follow one
  group or the mean of all, see `running`. Statistics are computed in float32 or wider.

  Frames of clips may be passed all at once, clip after clip, and yet be normalised as if all first
  frames were a batch, all second ones another, and so on: see `frames`.

  Attributes:
    groups: number of slices; must divide the batch (the number of clips, where there are several
      frames).
    running: "first" takes running statistics from the first group, as torch's data-parallel
      wrapper keeps those of device 0; "mean" averages over groups, a steadier estimate.
    dtype: type of the result; that of the input if None.
    frames: T, of a clip; the batch is [clips * T, ...]. Each of the T has statistics of its own.
    order: frames whose statistics move the running ones, one after the other and perhaps several
      times; empty for each once.
    scale_init: what the scale begins as.

  Variables: `params` scale, bias `[C]`; `batch_stats` mean, var `[C]`.
  """

  groups: int = 1
  running: str = "first"
  dtype: Any = None
  frames: int = 1
  order: tuple[int, ...] = ()
  scale_init: Any = nn.initializers.ones

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """Normalises `x` `[B, ..., C]`; with `train` by its own statistics, else by the running ones.

    Raises:
      ValueError: `groups` doesn't divide B, a group holds a single value a channel, or `running`
        is unknown.
    """
    channels = (x.shape[-1],)
    scale = self.param("scale", self.scale_init, channels)
    bias = self.param("bias", nn.initializers.zeros, channels)
    mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
    var = self.variable("batch_stats", "var", jnp.ones, channels)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if not train:
      y = _normalise(wide, mean.value, var.value, scale, bias)
      return y.astype(self.dtype or x.dtype)

    count = self._group_size(x.shape)
    grouped = wide.reshape(self.groups, -1, self.frames, *x.shape[1:])
    axes = (1, *range(3, grouped.ndim - 1))
    m = grouped.mean(axis=axes, keepdims=True)
    # Two passes: E[x^2] - E[x]^2 cancels where the mean is large.
    v = jnp.square(grouped - m).mean(axis=axes, keepdims=True)
    if not self.is_initializing():
      mean.value = self._follow(mean.value, m)
      var.value = self._follow(var.value, v * (count / (count - 1)))
    y = _normalise(grouped, m, v, scale, bias).reshape(x.shape)
    return y.astype(self.dtype or x.dtype)

  def _group_size(self, shape: tuple[int, ...]) -> int:
    """Values a channel in each group."""
    parts = self.groups * self.frames
    if self.groups < 1 or self.frames < 1 or shape[0] % parts:
      clips = f" of clips of {self.frames} frames" if self.frames != 1 else ""
      raise ValueError(
        f"batch norm: {self.groups} groups{clips} don't divide a batch of {shape[0]}")
    count = 1
    for n in (shape[0] // parts, *shape[1:-1]):
      count *= n
    if count < 2:
      raise ValueError(
        f"batch norm: one value a channel has no variance (input {shape}, {self.groups} groups); "
        "use a larger batch or fewer groups"
      )
    return count

  def _follow(self, old: jax.Array, new: jax.Array) -> jax.Array:
    if self.running not in ("first", "mean"):
      raise ValueError(f"batch norm: running={self.running!r}; choose 'first' or 'mean'")
    new = jax.lax.stop_gradient(new.reshape(self.groups, self.frames, -1))
    new = new[0] if self.running == "first" else new.mean(axis=0)
    weights = [0.0] * self.frames  # what several moves, one after the other, come to
    for frame in self.order or range(self.frames):
      weights = [(1 - MOMENTUM) * w for w in weights]
      weights[frame] += MOMENTUM
    return old + sum(w * (new[frame] - old) for frame, w in enumerate(weights))


def _normalise(x, mean, var, scale, bias):
  return (x - mean) * (jax.lax.rsqrt(var + EPSILON) * scale) + bias
