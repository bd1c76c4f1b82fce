"""A small CNN that looks at the frame-to-frame matrix of two videos (ViSiL; tca spec 10)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

SHORTEST = 4  # frames; shorter videos are repeated
WIDTHS = (32, 64, 128)


def repeated_length(length: jax.Array) -> jax.Array:
  """Frames of a video after it was doubled until it has `SHORTEST`: 1, 2, 3 become 4, 4, 6."""
  for _ in range(2):
    length = jnp.where(length < SHORTEST, 2 * length, length)
  return length


def output_length(length: jax.Array) -> jax.Array:
  """Rows that the network makes of a video of `length` frames, which it may repeat."""
  return repeated_length(length) // 2 // 2


def _torch_uniform(fan_in: int):
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's initial values of a convolution."""

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -1, 1) / math.sqrt(fan_in)

  return init


class Comparator(nn.Module):
  """Frame-to-frame matrix to a smaller one that has seen its diagonals.

  Padding changes nothing: borders are replicated where a video ends, not where its array does.

  Attributes:
    rescale: after the clip to [-1, 1], map to [0, 1] as TCA does; ViSiL does not.
  """

  rescale: bool = False

  @nn.compact
  def __call__(self, matrix: jax.Array, rows: jax.Array, columns: jax.Array) -> dict:
    """Refines matrices.

    Args:
      matrix: [B, T, S], any numbers beyond the first `rows` and `columns`.
      rows, columns: [B] int, at least 1; more than T or S means all of it.

    Returns:
      `matrix` [B, T', S'], 0 beyond `rows` and `columns` [B] int, its own valid size, floor(
      floor(n / 2) / 2) of n frames; `excess` [B], the sum of the amounts by which valid entries
      left [-1, 1] before the clip.
    """
    x, rows, columns = _repeat(matrix.astype(jnp.float32), rows, columns)
    x, fan_in = x[..., None], 1
    for i, width in enumerate(WIDTHS):
      init = _torch_uniform(9 * fan_in)
      conv = nn.Conv(width, (3, 3), padding="VALID", kernel_init=init, bias_init=init,
                     name=f"conv{i + 1}")
      x, fan_in = nn.relu(conv(_replicate(x, rows, columns))), width
      if i < len(WIDTHS) - 1:
        x, rows, columns = nn.max_pool(x, (2, 2), (2, 2)), rows // 2, columns // 2
    init = _torch_uniform(fan_in)
    x = nn.Conv(1, (1, 1), kernel_init=init, bias_init=init, name="fconv")(x)[..., 0]
    valid = _valid(x, rows, columns)
    excess = jnp.sum(jnp.where(valid, nn.relu(jnp.abs(x) - 1), 0.0), axis=(1, 2))
    x = jnp.clip(x, -1, 1)
    x = jnp.where(valid, x / 2 + 0.5 if self.rescale else x, 0.0)
    return {"matrix": x, "rows": rows, "columns": columns, "excess": excess}


def chamfer(matrix: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """Mean over valid rows of the largest valid entry: [B, T, S], [B], [B] -> [B]."""
  best = jnp.max(jnp.where(_valid(matrix, rows, columns), matrix, -jnp.inf), axis=2)
  inside = jnp.arange(matrix.shape[1]) < rows[:, None]
  return jnp.sum(jnp.where(inside, best, 0.0), axis=1) / rows


def _valid(x, rows, columns):
  """[B, T, S] bool: entries within the first rows and columns."""
  i, j = jnp.arange(x.shape[1])[None, :, None], jnp.arange(x.shape[2])[None, None, :]
  return (i < rows[:, None, None]) & (j < columns[:, None, None])


def _repeat(x, rows, columns):
  """Repeats short videos in matrices [B, T, S]; returns the new sizes too.

  The padding takes on the values of the last valid row or column, so NaN in it is gone.
  """
  rows, columns = jnp.minimum(rows, x.shape[1]), jnp.minimum(columns, x.shape[2])
  for axis, length in ((1, rows), (2, columns)):
    # Three frames are the longest that are repeated, to six.
    i = jnp.arange(max(x.shape[axis], 2 * (SHORTEST - 1)))[None]
    n = length[:, None]
    source = jnp.where(n < SHORTEST, i % n, jnp.minimum(i, n - 1))
    x = jnp.take_along_axis(x, jnp.expand_dims(source, 3 - axis), axis=axis)
  return x, repeated_length(rows), repeated_length(columns)


def _replicate(x, rows, columns):
  """[B, T, S, C] -> [B, T + 2, S + 2, C]: one more row and column around the valid part.

  What is beyond them never reaches a valid entry of a 3 x 3 convolution.
  """
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
  for axis, length in ((1, rows), (2, columns)):
    i = jnp.arange(x.shape[axis]) - 1
    shape = [1] * 4
    shape[axis] = x.shape[axis]
    after = i.reshape(shape) == length.reshape(-1, 1, 1, 1)
    x = jnp.where(after, jnp.roll(x, 1, axis), x)
  return x
