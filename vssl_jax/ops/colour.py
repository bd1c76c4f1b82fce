"""Colours as training targets and what hides them from the encoder (corrflow spec 3, 4, 16.1)."""

import jax
import jax.numpy as jnp
import numpy as np

# CIE 1931, D65: linear RGB to XYZ, and the white point.
XYZ = np.array([[0.412453, 0.357580, 0.180423],
                [0.212671, 0.715160, 0.072169],
                [0.019334, 0.119193, 0.950227]])
WHITE = np.array([0.950456, 1.0, 1.088754])

# (a, b) of the 16 published classes (spec 3).
CENTROIDS = np.array([
    [10.2274857, -25.5043678], [9.17186165, -5.48024511], [38.0797539, -55.1769676],
    [13.7724190, 29.9322014], [-22.9051380, 4.34982061], [0.369491816, -7.30068874],
    [-5.35446739, -13.4740639], [-9.10216141, 43.3926888], [2.85426378, -18.0428829],
    [-1.22265816, 21.6849480], [-7.96790981, -0.256643295], [33.9553642, 15.0786915],
    [22.3517704, -38.7799911], [5.72835445, 8.64794350], [54.2951202, -73.8893585],
    [0.193377614, 0.0322103500]], np.float32)

# Channels that a draw leaves: all, then each of the single ones dropped, then each of the pairs.
KEPT = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])


def to_unit(x: jax.Array) -> jax.Array:
  """Levels of integer type to [0, 1] float32; what is floating stays as it is."""
  return x.astype(jnp.float32) / 255 if jnp.issubdtype(x.dtype, jnp.integer) else x


def lab(rgb: jax.Array) -> jax.Array:
  """sRGB in [0, 1] to CIE Lab, D65, by formula.

  Args:
    rgb: [..., 3].

  Returns:
    [..., 3]: L in 0..100, a and b of about -127..127.
  """
  curved = ((jnp.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4
  linear = jnp.where(rgb > 0.04045, curved, rgb / 12.92)
  # Sums of products written out: an accelerator's fast matrix products have too few digits.
  x, y, z = (sum(float(m) * linear[..., c] for c, m in enumerate(row / white))
             for row, white in zip(XYZ, WHITE, strict=True))
  fx, fy, fz = (jnp.where(t > 0.008856, jnp.cbrt(jnp.maximum(t, 0.008856)),
                          7.787 * t + 16 / 116) for t in (x, y, z))
  return jnp.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=-1)


def classes(ab: jax.Array, centroids=CENTROIDS) -> jax.Array:
  """The nearest centroid, of equally near ones the first.

  Args:
    ab: [..., 2].
    centroids: [K, 2].

  Returns:
    [...] int32.
  """
  centroids = jnp.asarray(centroids, jnp.float32)
  distance = sum(jnp.square(ab[..., i, None] - centroids[:, i]) for i in range(2))
  return jnp.argmin(distance, axis=-1).astype(jnp.int32)


def scaled_lab(rgb: jax.Array) -> jax.Array:
  """Lab as MAST's network sees it: (L - 50) / 50, a / 127, b / 127; [..., 3] to [..., 3]."""
  return (lab(rgb) - jnp.array([50.0, 0, 0])) / jnp.array([50.0, 127, 127])


def factors() -> np.ndarray:
  """Factors of the channels in each case of `KEPT`: 3 / (3 - k) where k are dropped, or 0."""
  return (KEPT * 3 / KEPT.sum(1, keepdims=True)).astype(np.float32)


def channel_factors(key: jax.Array, p: float, shape: tuple[int, ...] = ()) -> jax.Array:
  """Factors that take colour channels away and leave the sum of the others as it was.

  With probability 1 - p all are 1; else one or two of the three, equally likely, and all choices
  of them as well, are 0, and the others 3 / (3 - k).

  Args:
    shape: of the draws.

  Returns:
    [*shape, 3] float32.
  """
  chances = jnp.array([1 - p] + [p / 6] * 6)
  drawn = jax.random.choice(key, len(KEPT), shape, p=chances)
  return jnp.asarray(factors())[drawn]


def chroma_factors(key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
  """As `channel_factors` for MAST's Lab: one of a and b is 0, L and the other one 3 / 2."""
  table = jnp.array([[1.5, 0, 1.5], [1.5, 1.5, 0]], jnp.float32)
  return table[jax.random.randint(key, shape, 0, 2)]
