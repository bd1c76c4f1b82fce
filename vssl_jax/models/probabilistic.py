"""A feature to a Gaussian: two heads on a video network (provico spec 4)."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vssl_jax.ops import gaussian
from vssl_jax.ops.normalise import l2

EXACT = jax.lax.Precision.HIGHEST
FORMS = ("log", "softplus")


class Head(nn.Module):
  """Mean on the unit sphere and log variance of a diagonal Gaussian, in float32.

  `mean = l2(LayerNorm(W v + b))`, `logvar = W' v + b'`, or that of a hidden layer's output; the
  layers share nothing.

  Attributes:
    dim: D.
    noise: length of a sample's deviation from its mean that the initial values aim at; the mean has
      length 1. With a variance of 1 in 256 dimensions the noise would be 16 times as long.
    form: what W' gives: "log" variance; or "softplus": a number whose softplus is
      the variance.
    clamp: (low, high), soft limits of logvar; none if empty.
    hidden: units of a layer with ReLU before that of logvar; 0 for none, as in the paper.
  """

  dim: int = 256
  noise: float = 0.3
  form: str = "log"
  clamp: tuple[float, ...] = ()
  hidden: int = 0

  @nn.compact
  def __call__(self, feature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[..., C] -> mean, logvar [..., dim]."""
    x, = gaussian.widen(feature)
    mean = nn.Dense(self.dim, precision=EXACT, name="mean")(x)
    # One pass for the variance would cancel where the mean is large.
    mean = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="norm")(mean)
    start = nn.initializers.constant(self._start())
    if self.hidden:
      x = nn.relu(nn.Dense(self.hidden, precision=EXACT, name="hidden")(x))
    raw = nn.Dense(self.dim, kernel_init=nn.initializers.normal(0.01), bias_init=start,
                   precision=EXACT, name="logvar")(x)
    logvar = log_softplus(raw) if self.form == "softplus" else raw
    return l2(mean), gaussian.soft_clamp(logvar, *self.clamp) if self.clamp else logvar

  def _start(self) -> float:
    variance = self.noise**2 / self.dim
    return math.log(math.expm1(variance) if self.form == "softplus" else variance)


def log_softplus(x: jax.Array) -> jax.Array:
  """`log(softplus(x))`, which is x far below 0, where softplus underflows."""
  low = x < -40
  return jnp.where(low, x, jnp.log(jax.nn.softplus(jnp.where(low, 0.0, x))))


class Probabilistic(nn.Module):
  """A backbone and its probabilistic head.

  Attributes:
    backbone: clips [B, T, H, W, 3] -> {"pooled": [B, C], ...}.
    head: a `Head`.
    dtype: of the backbone's arithmetic, if it has such; for its input.
  """

  backbone: nn.Module
  head: nn.Module
  dtype: Any = jnp.float32

  def __call__(self, clips: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    """Normalised clips to `feature` [B, C], `mean` and `logvar` [B, D], float32."""
    feature = self.backbone(clips.astype(self.dtype), train=train)["pooled"]
    feature, = gaussian.widen(feature)
    mean, logvar = self.head(feature)
    return {"feature": feature, "mean": mean, "logvar": logvar}
