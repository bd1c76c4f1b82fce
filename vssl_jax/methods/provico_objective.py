"""ProViCo's objective, from the distributions of clips and samples of videos (provico spec 7 to 9).

`methods.provico` draws the samples; everything here is without chance.
"""

import dataclasses

import jax
import jax.numpy as jnp

from vssl_jax.losses import probabilistic as losses
from vssl_jax.ops import gaussian, gaussian_pairs
from vssl_jax.ops.gaussian_pairs import Samples


@dataclasses.dataclass(frozen=True)
class Options:
  """What is computed; see `provico.make`, whose arguments these are, except for tau.

  Attributes:
    tau: the distance itself below which pairs are positive, see `losses.threshold`.
  """

  tau: float = 0.5
  lam: float = 0.25
  reading: str = "mean"
  mining: str = "sampled"
  neighbours: int = 0
  balanced: bool = False
  self_pairs: bool = True
  self_samples: bool = True
  eps_dist: float = 1e-6
  exact: bool = True
  mean_of_log: bool = False
  uncertainty: str = "geometric"
  stochastic: bool = True
  log_term: bool = True
  kl: str = "video"
  beta: float = 1e-4


def distance(mean, logvar, x: Samples, o: Options):
  """The distance that positives are mined by: [B, B]. Arguments as of `objective`."""
  if o.mining == "sampled":
    return gaussian_pairs.sampled(x, x, lam=o.lam, reading=o.reading)
  if o.mining == "closed_form":
    side = x.mean, x.logvar
    return gaussian_pairs.closed_form(side, side, lam=o.lam, reading=o.reading)
  return gaussian_pairs.mixture((mean, logvar), (mean, logvar), lam=o.lam, reading=o.reading)


def objective(mean, logvar, x: Samples, a, b, o: Options, *, same=None, mine=True):
  """Each video's part of the loss, and what it is made of.

  Args:
    mean, logvar: [B, N, D] of the clips.
    x: samples of the videos, around the moments of their clips.
    a, b: scalars of the match probability.
    same: [B, B] bool, pairs that are positive by construction; the diagonal always is.
    mine: bool scalar; False takes only those for positive.

  Returns:
    [B], of which the mean is the objective, and {"distance", "mask", "log_p", "log_not_p", "soft",
    "stochastic", "weights" [B, B], "u" [B], "kl" [B] or [B, N]}.
  """
  apart = jax.lax.stop_gradient(distance(mean, logvar, x, o))
  tau = jnp.where(mine, o.tau, -jnp.inf)
  mask = losses.positives(apart, tau, same, neighbours=o.neighbours)
  log_p, log_not_p = gaussian_pairs.match(x, a, b, eps_dist=o.eps_dist,
                                          self_samples=o.self_samples, exact=o.exact,
                                          mean_of_log=o.mean_of_log)
  soft = losses.soft_contrastive(log_p, log_not_p, mask)
  u = gaussian.uncertainty(x.logvar, o.uncertainty)
  stochastic = losses.stochastic_contrastive(soft, u, log_term=o.log_term) if o.stochastic else soft
  weights = losses.pair_weights(mask, balanced=o.balanced, self_pairs=o.self_pairs)
  kl = (gaussian.kl_to_standard(mean, logvar) if o.kl == "clip"
        else gaussian.kl_to_standard(x.mean, x.logvar))
  value = losses.per_video(stochastic, weights, kl, beta=o.beta)
  return value, {"distance": apart, "mask": mask, "log_p": log_p, "log_not_p": log_not_p,
                 "soft": soft, "stochastic": stochastic, "weights": weights, "u": u, "kl": kl}
