"""Diagonal Gaussians and mixtures of them, by means and log variances (provico spec 5 to 7).

`logvar` is log sigma^2 everywhere, never a deviation. Half precision is widened to float32; float64
stays. Shapes: N clips of a video, K samples, D dimensions, any leading axes.
"""

import math

import jax
import jax.numpy as jnp

KINDS = ("geometric", "arithmetic", "total", "entropy")
READINGS = ("mean", "sum", "iso")


def widen(*arrays: jax.Array) -> list[jax.Array]:
  """float32, or wider where an array is."""
  return [x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in map(jnp.asarray, arrays)]


def soft_clamp(logvar: jax.Array, low: float, high: float) -> jax.Array:
  """Into [low, high]: softplus at both ends, whose slope beyond them falls off exponentially.

  The slope d beyond an end is about exp(-d), which in float32 is 0 from d = 88 on. Far from the
  ends nothing changes: by less than 1e-3 where 7 away. The upper end bends the lower one too, to
  `log1p(exp(low - high))` below it.
  """
  logvar, = widen(logvar)
  logvar = low + jax.nn.softplus(logvar - low)
  return high - jax.nn.softplus(high - logvar)


def moment_match(mean: jax.Array, logvar: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The Gaussian with mean and variance of a uniform mixture (spec 5).

  The variance is that within clips and that between them, `mean(v) + mean((mean_n - mean)^2)`,
  added as logarithms: E[x^2] - E[x]^2 would cancel. Equal clips give exactly no variance between.

  Args:
    mean, logvar: [..., N, D].

  Returns:
    mean, logvar [..., D]; with N = 1 those of the clip.
  """
  mean, logvar = widen(mean, logvar)
  first = mean[..., :1, :]
  off = mean - first
  centre = jnp.mean(off, axis=-2, keepdims=True)
  between = jnp.mean(jnp.square(off - centre), axis=-2)
  within = jax.nn.logsumexp(logvar, axis=-2) - math.log(logvar.shape[-2])
  # Inside and outside: log has an infinite slope at 0, and 0 * inf is nan in the backward pass.
  some = between > jnp.finfo(between.dtype).tiny
  both = jnp.logaddexp(within, jnp.log(jnp.where(some, between, 1.0)))
  return (first + centre)[..., 0, :], jnp.where(some, both, within)


def deviations(logvar: jax.Array, eps: jax.Array) -> jax.Array:
  """What K samples are away from their mean, `sigma * eps` (spec 6).

  Kept apart from the mean: where variances are tiny, differences of whole samples would lose it.

  Args:
    logvar: [..., D].
    eps: [..., K, D] of a standard normal distribution.

  Returns:
    [..., K, D]; a sample is the mean and this.
  """
  logvar, eps = widen(logvar, eps)
  return jnp.exp(logvar / 2)[..., None, :] * eps


def mixture_deviations(mean: jax.Array, logvar: jax.Array, eps: jax.Array,
                       clip: jax.Array) -> jax.Array:
  """Likewise for samples of the mixture itself: of clip `clip`, measured from the mixture's mean.

  Args:
    mean, logvar: [..., N, D].
    eps: [..., K, D].
    clip: [..., K] int, the clip of each sample.

  Returns:
    [..., K, D].
  """
  mean, logvar, eps = widen(mean, logvar, eps)
  off = mean - jnp.mean(mean, axis=-2, keepdims=True)
  off, logvar = (jnp.take_along_axis(x, clip[..., None], axis=-2) for x in (off, logvar))
  return off + jnp.exp(logvar / 2) * eps


def uncertainty(logvar: jax.Array, kind: str = "geometric") -> jax.Array:
  """Log variance of a video as a whole (spec 9 and 11.5).

  Args:
    logvar: [..., D].
    kind: "geometric": the mean of log variances; "arithmetic": the log of the mean variance;
      "total": "geometric" and log D, of all dimensions together, on the scale of squared distances;
      "entropy": the Gaussian's entropy, `D/2 log(2 pi e) + sum(logvar) / 2`.

  Returns:
    [...].

  Raises:
    ValueError: `kind` is unknown.
  """
  logvar, = widen(logvar)
  if kind == "geometric":
    return jnp.mean(logvar, axis=-1)
  if kind == "arithmetic":
    return jax.nn.logsumexp(logvar, axis=-1) - math.log(logvar.shape[-1])
  if kind == "total":
    return jnp.mean(logvar, axis=-1) + math.log(logvar.shape[-1])
  if kind == "entropy":
    return jnp.sum(math.log(2 * math.pi * math.e) + logvar, axis=-1) / 2
  raise ValueError(f"uncertainty {kind!r} is unknown; choose one of {', '.join(KINDS)}")


def bhattacharyya(x: jax.Array, logvar_x: jax.Array, y: jax.Array, logvar_y: jax.Array, *,
                  lam: float = 0.25, reading: str = "sum",
                  spread: tuple[jax.Array, jax.Array] | None = None) -> jax.Array:
  """`1/4 log(1/4 (v/v' + v'/v + 2)) + lam (x - y)^2 / (v + v')`, summed over dimensions.

  With means for x and y, lam 1/4 and the sum it is the Bhattacharyya distance of two Gaussians;
  with samples for them it is the printed formula (spec 7.1 to 7.3). Nothing overflows, whatever the
  ratio of the variances.

  Args:
    x, logvar_x, y, logvar_y: [..., D], of shapes that can be broadcast.
    lam: weight of the second term.
    reading: of the printed formula, where vectors divide: "sum" over dimensions; their "mean",
      which doesn't grow with D; or "iso": one variance a video, the mean over its dimensions.
    spread: variances of K samples of each side around x and y, as multiples of the distribution's
      variance, [..., D] each; the result is then the mean over all K^2 pairs of samples.

  Returns:
    [...], at least 0 but for rounding.
  """
  x, logvar_x, y, logvar_y = widen(x, logvar_x, y, logvar_y)
  if reading == "iso":
    spread = spread and [s * jnp.exp(l - _isotropic(l))
                         for s, l in zip(spread, (logvar_x, logvar_y), strict=True)]
    logvar_x, logvar_y = _isotropic(logvar_x), _isotropic(logvar_y)
  elif reading not in READINGS:
    raise ValueError(f"reading {reading!r} is unknown; choose one of {', '.join(READINGS)}")
  share = jax.nn.sigmoid(logvar_x - logvar_y)  # v / (v + v')
  larger = jnp.maximum(share, 1 - share)
  # log cosh(gap / 2) / 2. Not abs: its slope at 0, where variances are equal, is 1 in JAX.
  gap = jnp.maximum(logvar_x, logvar_y) - jnp.minimum(logvar_x, logvar_y)
  logs = 0.25 * gap - 0.5 * jnp.log(2 * larger)
  # Divided before it is squared: the square of a difference may overflow where the result doesn't.
  scale = jnp.minimum(jnp.exp(-logvar_x / 2), jnp.exp(-logvar_y / 2))
  square = jnp.square((x - y) * scale) * larger
  if spread is not None:
    square += spread[0] * share + spread[1] * (1 - share)
  if reading == "iso":
    return logs[..., 0] + lam * jnp.sum(square, axis=-1)
  total = jnp.sum(logs + lam * square, axis=-1)  # in one sum: it is read in one pass
  return total / logs.shape[-1] if reading == "mean" else total


def _isotropic(logvar: jax.Array) -> jax.Array:
  return uncertainty(logvar, "arithmetic")[..., None]


def kl_to_standard(mean: jax.Array, logvar: jax.Array) -> jax.Array:
  """`KL(N(mean, v) | N(0, I)) = 1/2 sum(v + mean^2 - 1 - log v)`: [..., D] -> [...] (spec 9)."""
  mean, logvar = widen(mean, logvar)
  # expm1: near the standard normal, v - 1 would keep no digits.
  return jnp.sum(jnp.expm1(logvar) - logvar + jnp.square(mean), axis=-1) / 2
