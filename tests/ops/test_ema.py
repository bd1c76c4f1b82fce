"""Moving averages of trees against the recurrence in float64."""

import jax
import numpy as np
import pytest

from vssl_jax.ops import ema


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.999])
def test_against_the_recurrence(momentum):
  rng = np.random.default_rng(0)

  def tree():
    return {"a": rng.standard_normal((2, 3)).astype(np.float32),
            "b": [rng.standard_normal(4).astype(np.float32)]}

  average = tree()
  want = jax.tree.map(np.float64, average)
  for _ in range(4):
    new = tree()
    average = ema.update(average, new, momentum)
    want = jax.tree.map(lambda w, n: momentum * w + (1 - momentum) * n, want, new)
  assert jax.tree.structure(average) == jax.tree.structure(want)
  for got, expected in zip(jax.tree.leaves(average), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_the_momentum_belongs_to_the_old_value():
  assert float(ema.update({"w": np.float32(8)}, {"w": np.float32(0)}, 0.75)["w"]) == 6
