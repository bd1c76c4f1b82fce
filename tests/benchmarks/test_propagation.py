"""What the benchmark counts, against windows drawn by hand."""

import argparse

import numpy as np
import pytest

from benchmarks import propagation
from vssl_jax.ops.propagation import PROTOCOLS

ARGS = argparse.Namespace(size=(480, 854), dim=64, classes=4)


@pytest.mark.parametrize("name, cells", [("corrflow", 13 ** 2), ("mast", 5 * 25 ** 2),
                                         ("crw", 60 * 107 + 20 * 437), ("later", 8 * 437)])
def test_cells_compared(name, cells):
  assert propagation.compared(PROTOCOLS[name], 60 * 107) == cells


def test_products():
  names = "corrflow", "mast", "crw"
  found = {name: propagation.gigaflops(PROTOCOLS[name], ARGS) for name in names}
  for flops in found.values():
    assert flops["floor"] < flops["ours"] < flops["dense"]
  np.testing.assert_allclose(found["crw"]["dense"], 2e-9 * 64 * 21 * (60 * 107) ** 2)
  np.testing.assert_allclose(found["corrflow"]["dense"], 2e-9 * 68 * (120 * 214) ** 2)
  # An unrestricted first frame is a twenty-first of CRW's dense form by itself.
  assert all(f["dense"] > 10 * f["ours"] for n, f in found.items() if n != "crw")
