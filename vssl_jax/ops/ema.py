"""Exponential moving averages of parameter trees."""

import jax


def update(average, new, momentum: float):
  """`momentum * average + (1 - momentum) * new`, leaf by leaf."""
  return jax.tree.map(lambda a, b: momentum * a + (1 - momentum) * b, average, new)
