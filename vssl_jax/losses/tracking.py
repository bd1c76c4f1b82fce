"""Losses of response maps: where the target is and where not (cycle_contrast spec 6.2).

One loss an example, computed in float32 or wider, whose mean over the batch is the loss.
"""

import chex
import jax
import jax.numpy as jnp


def label_map(size: tuple[int, int], *, stride: int = 8, positive: float = 16,
              negative: float = 0, offset=(0.0, 0.0)) -> jax.Array:
  """1 near the target in a response map, 0 elsewhere, 1/2 in between.

  Args:
    size: H, W of the map.
    stride: pixels between its cells.
    positive: cells with |dx| + |dy| up to so many pixels are 1.
    negative: cells that are nearer than so many pixels and not 1 are 1/2, to be ignored.
    offset: [..., 2] pixels (y, x) from the middle of the map to the target.

  Returns:
    [..., H, W] float32.
  """
  y, x = distances(size, stride=stride, offset=offset)
  distance = y[..., :, None] + x[..., None, :]
  between = jnp.where(distance < negative / stride, 0.5, 0.0)
  return jnp.where(distance <= positive / stride, 1.0, between)


def distances(size: tuple[int, int], *, stride: int = 8,
              offset=(0.0, 0.0)) -> tuple[jax.Array, jax.Array]:
  """Cells from rows [..., H] and columns [..., W] to the target; arguments as of `label_map`."""
  offset = jnp.asarray(offset) / stride
  y, x = (jnp.abs(jnp.arange(n) - (n - 1) / 2 - offset[..., k, None]) for k, n in enumerate(size))
  return y, x


def focal(response, labels, *, gamma: float = 2.0):
  """Cross-entropy weighted by `(1 - p)^gamma`, p the chance of the right answer.

  Each example's mean over its cells, divided by the mean weight over the batch. The gradient goes
  through that weight as well.

  Args:
    response: [B, H, W] logits.
    labels: [B, H, W] or [H, W], 0 or 1.

  Returns:
    [B] float32.
  """
  response, labels = _checked(response, labels)
  right, wrong = jax.nn.log_sigmoid(response), jax.nn.log_sigmoid(-response)
  weight = labels * jnp.exp(gamma * wrong) + (1 - labels) * jnp.exp(gamma * right)
  loss = -(labels * jnp.exp(gamma * wrong) * right + (1 - labels) * jnp.exp(gamma * right) * wrong)
  # The bound is for answers that are all right, to six digits.
  return loss.mean(axis=(1, 2)) / jnp.maximum(weight.mean(), 1e-12)


def balanced(response, labels, *, negatives: float = 1.0):
  """Cross-entropy in which all positive cells of the batch weigh as much as all negative ones.

  SiamFC's own loss. Cells with other labels than 0 and 1 don't count.

  Args:
    response: [B, H, W] logits.
    labels: [B, H, W] or [H, W].
    negatives: weight of all negative cells, of the positive ones 1; their sum is made 1.

  Returns:
    [B] float32.
  """
  response, labels = _checked(response, labels)
  is_positive, is_negative = ((labels == k).astype(response.dtype) for k in (1, 0))
  # A kind without a cell weighs nothing, and the other one everything.
  weight = (is_positive / jnp.maximum(is_positive.sum(), 1)
            + negatives * is_negative / jnp.maximum(is_negative.sum(), 1))
  weight = weight / jnp.maximum(weight.sum(), 1e-12)
  cells = -(is_positive * jax.nn.log_sigmoid(response)
            + is_negative * jax.nn.log_sigmoid(-response))
  return len(response) * (weight * cells).sum(axis=(1, 2))


def _checked(response, labels):
  chex.assert_rank(response, 3)
  dtype = jnp.promote_types(response.dtype, jnp.float32)
  chex.assert_equal(response.shape[-2:], labels.shape[-2:])
  labels = jnp.broadcast_to(labels, response.shape)
  return response.astype(dtype), labels.astype(dtype)
