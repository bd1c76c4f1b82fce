"""The forms that the benchmark compares compute the same matrices."""

import argparse

import numpy as np

from benchmarks import probabilistic as benchmark

ARGS = argparse.Namespace(videos=5, samples=2, dim=4, part=1.0)


def run(kind, form):
  fn, inputs = benchmark.program(kind, form, "forward", ARGS)
  return np.asarray(fn(*inputs))


def test_forms_agree():
  np.testing.assert_allclose(run("distance", "literal"), run("distance", "identity"), rtol=1e-4)
  literal = run("match", "literal")
  for form in ("product", "differences"):
    np.testing.assert_allclose(run("match", form), literal, rtol=1e-3, atol=1e-4)
  assert run("distance", "floor").shape == (5, 5)
  assert run("match", "floor")[0].shape == (10, 10)
