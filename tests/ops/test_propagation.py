"""Protocols: what is a reference when, and impossible ones."""

import dataclasses

import numpy as np
import pytest

from tests.reference import propagation as reference
from vssl_jax.ops import propagation


@pytest.mark.parametrize("name", propagation.PROTOCOLS)
def test_references(name):
  protocol = propagation.PROTOCOLS[name]
  sizes = set()
  for target in range(1, 30):
    frames, valid = propagation.references(protocol, target)
    sizes.add((len(frames), len(valid), len(protocol.radii)))
    got = [n for n, v in zip(frames, valid, strict=True) if v]
    assert sorted(got) == sorted(reference.references(protocol, target))
    assert all(0 <= n < target for n in frames)
  assert len(sizes) == 1 and len(set(sizes.pop())) == 1


def test_the_published_references():
  mast, crw = propagation.PROTOCOLS["mast"], propagation.PROTOCOLS["crw"]
  assert reference.references(mast, 1) == [0]
  assert reference.references(mast, 7) == [0, 2, 4, 5, 6]
  assert reference.references(mast, 9) == [0, 4, 5, 6, 8]
  assert reference.references(crw, 3) == [0, 2, 1, *[0] * 18]
  assert reference.references(propagation.PROTOCOLS["corrflow"], 9) == [8]


def test_a_reference_that_is_not_there_has_no_weight():
  rng = np.random.default_rng(0)
  q, k = rng.normal(size=(4, 5, 3)), rng.normal(size=(2, 4, 5, 3))
  v = rng.normal(size=(2, 4, 5, 2))
  two = propagation.Protocol(fixed=(0, 5), recent=(), missing="leave_out", radius=2)
  for p in (two, dataclasses.replace(two, border="zero"), dataclasses.replace(two, top_k=3)):
    def f(keys, values, valid, p=p):
      return propagation.step(q, tuple(keys), tuple(values), np.array(valid), np.array([3, 3]), p)
    got = f(k, v, [True, False])
    np.testing.assert_allclose(got, f([k[0], 9 * k[1]], [v[0], 9 * v[1]], [True, False]), atol=1e-6)
    assert np.abs(got - f(k, v, [True, True])).max() > 1e-2


def test_protocols_of_lists_are_hashable():
  p = propagation.protocol("mast", fixed=[5, 0], recent=[3, 1])
  assert p.fixed == (0, 5) and p.recent == (1, 3) and hash(p)


@pytest.mark.parametrize("changes, words", [
  (dict(missing="x"), "missing='x'"), (dict(shape="round"), "shape='round'"),
  (dict(rule="mean"), "rule='mean'"), (dict(feedback=1), "feedback=1"),
  (dict(recent=(0,)), "recent"), (dict(recent=(2,), fixed=()), "no reference"),
  (dict(border="zero", top_k=3), "border='zero'"), (dict(search_age=3), "search_age"),
  (dict(temperature=0), "temperature"), (dict(stride=0), "stride"),
])
def test_impossible_protocols(changes, words):
  with pytest.raises(ValueError, match=words):
    propagation.protocol("corrflow", **changes)


def test_unknown_names():
  with pytest.raises(ValueError, match="'x' is not one of corrflow"):
    propagation.protocol("x")
  with pytest.raises(ValueError, match=r"no radios.*radius"):
    propagation.protocol("crw", radios=3)
