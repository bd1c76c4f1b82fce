"""t-SNE, exact: for the few hundred points of a figure (van der Maaten and Hinton, JMLR 2008).

Every pair of points is looked at in every step, which for a figure is fast enough, and saves users
a large package with trees for millions of points.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

EXAGGERATION, EARLY = 12.0, 250  # forces that draw points together at first, and for how many steps
TINY = 1e-30


def tsne(x: np.ndarray, *, perplexity: float = 15.0, steps: int = 750,
         seed: int = 0) -> np.ndarray:
  """Places points in the plane so that near ones stay near.

  Begins at the first two principal components, so that large-scale order is kept; `seed` breaks
  ties only. The same input gives the same output on one machine.

  Args:
    x: [N, D], at least three points.
    perplexity: about how many neighbours a point has; at most (N - 1) / 3 is used.
    steps: of gradient descent.

  Returns:
    [N, 2] float32, centred.

  Raises:
    ValueError: fewer than three points, or one that isn't finite.
  """
  x = np.asarray(x, np.float64)
  if x.ndim != 2 or len(x) < 3 or not np.isfinite(x).all():
    raise ValueError(f"needs at least three finite points [N, D], got {x.shape}")
  p = affinities(x, min(perplexity, (len(x) - 1) / 3))
  start = _start(x, np.random.default_rng(seed))
  return np.asarray(_descend(p.astype(np.float32), start.astype(np.float32), steps))


@functools.partial(jax.jit, static_argnames="steps")
def _descend(p, y, steps: int):
  """Gradient descent with momentum and a gain for each number, as van der Maaten's code has it."""
  rate = max(len(y) / EXAGGERATION / 4, 50.0)  # Belkina et al., Nature Communications 2019

  def step(i, state):
    y, speed, gain = state
    early = i < EARLY
    _, slope = divergence(jnp.where(early, EXAGGERATION, 1.0) * p, y)
    gain = jnp.maximum(jnp.where(slope * speed < 0, gain + 0.2, gain * 0.8), 0.01)
    speed = jnp.where(early, 0.5, 0.8) * speed - rate * gain * slope
    y = y + speed
    return y - y.mean(axis=0), speed, gain

  return jax.lax.fori_loop(0, steps, step, (y, jnp.zeros_like(y), jnp.ones_like(y)))[0]


def affinities(x: np.ndarray, perplexity: float) -> np.ndarray:
  """[N, N] joint probabilities of x [N, D]: symmetric, zero on the diagonal, summing to 1.

  Row i comes from a Gaussian around point i as wide as gives it the perplexity exp(entropy).
  """
  norms, n = np.sum(x * x, axis=1), len(x)
  d = np.maximum(norms[:, None] + norms - 2 * x @ x.T, 0)
  np.fill_diagonal(d, np.inf)
  d -= d.min(axis=1, keepdims=True)  # leaves the rows' probabilities as they are
  low, high, beta = np.zeros(n), np.full(n, np.inf), np.ones(n)
  for _ in range(64):  # bisection on the precision beta
    p = np.exp(-d * beta[:, None])
    p /= p.sum(axis=1, keepdims=True)
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1)
    wide = entropy > np.log(perplexity)
    low, high = np.where(wide, beta, low), np.where(wide, high, beta)
    beta = np.where(np.isinf(high), beta * 2, (low + np.where(np.isinf(high), 0, high)) / 2)
  return (p + p.T) / (2 * n)


def divergence(p: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  """KL(p || q) for q from Student's t in the plane, and its gradient [N, 2] by y [N, 2].

  `p` [N, N] need not sum to 1: the gradient is then that of the exaggerated forces.
  """
  w = (1 - jnp.eye(len(y))) / (1 + jnp.sum((y[:, None] - y) ** 2, axis=-1))
  q = w / w.sum()
  cost = jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.maximum(p, TINY) / jnp.maximum(q, TINY)), 0))
  forces = (p - q) * w
  return cost, 4 * (forces.sum(axis=1)[:, None] * y - forces @ y)


def _start(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """The first two principal components, tiny; with noise, so that equal points can part."""
  centred = x - x.mean(axis=0)
  u, s, _ = np.linalg.svd(centred, full_matrices=False)
  y = np.zeros((len(x), 2))
  y[:, :min(2, len(s))] = u[:, :2] * s[:2]
  y /= max(y[:, 0].std(), 1e-12)
  return 1e-4 * (y + 1e-3 * rng.standard_normal(y.shape))
