"""Frames to label maps, from the encoder to propagation, against the authors' own test loop."""

import jax
import numpy as np
import pytest

from tests.golden import rules
from vssl_jax.convert import corrflow as convert
from vssl_jax.evaluators import propagation
from vssl_jax.models.corrflow import Encoder
from vssl_jax.ops import propagation as ops

RELEASED = propagation.protocol("corrflow_released")


@pytest.fixture(scope="module")
def folder(golden_dir):
  return golden_dir / "corrflow"


@pytest.fixture(scope="module")
def cases(folder):
  """(arrays, features [T, h, w, D]) of every file."""
  paths = sorted(folder.glob("propagate_corrflow*.npz"))
  if not paths:
    pytest.skip(f"no propagate_corrflow*.npz in {folder}")
  seed, apply, out = rules.corrflow_propagation_seed(folder), {}, []
  for path in paths:
    case = dict(np.load(path, allow_pickle=False))
    gain = float(case["post_convolution_gain"])
    if gain not in apply:
      apply[gain] = encoder(rules.corrflow_params(folder, seed, gain))
    out.append((case, apply[gain](case["frames"].transpose(0, 2, 3, 1))))
  return out


def encoder(state):
  imported = convert.convert(state)
  apply = jax.jit(Encoder(**imported.settings).apply)
  variables = {"params": imported.params, "batch_stats": imported.batch_stats}
  return lambda frames: np.asarray(apply(variables, frames)["features"])


def agree(got, want):
  """Ties and near ties aside."""
  assert np.shape(got) == np.shape(want)
  assert (np.asarray(got) == want).mean() >= 0.999


def test_labels_from_the_labels_before(cases):
  for case, features in cases:
    first, *got = propagation.propagate(iter(features), case["labels_gt"][0], RELEASED)
    np.testing.assert_array_equal(first, case["labels_gt"][0])
    agree(got, case["pred_recurrent"])


def test_labels_from_the_truth_before(cases):
  for case, features in cases:
    truth, got = case["labels_gt"], []
    for i in range(len(features) - 1):
      _, labels = propagation.propagate(features[i:i + 2], truth[i], RELEASED)
      got.append(labels)
    agree(got, case["pred_from_gt"])


def test_probabilities_of_the_first_step(cases):
  for case, features in cases:
    want = np.moveaxis(case["prob_step1"], 0, -1)
    first = ops.cells_of(case["labels_gt"][0].astype(np.int32), RELEASED, want.shape[-1])
    got = ops.step(features[1], (features[0],), (first,), np.ones(1, bool), np.ones(1, np.int32),
                   RELEASED)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-4)
