"""Which pictures of a GOT-10k sequence are used for training pairs."""

import numpy as np
import pytest

from data_pipelines import tracking_pairs


def test_filter(golden_dir):
  paths = sorted((golden_dir / "cycle_contrast").glob("siamfc_pair_filter*.npz"))
  if not paths:
    pytest.skip(f"no siamfc_pair_filter*.npz in {golden_dir / 'cycle_contrast'}")
  for path in paths:
    case = np.load(path)
    size = tuple(case["image_hw"].tolist())
    np.testing.assert_array_equal(
      tracking_pairs.usable(case["anno"], size, case["cover"]), case["valid_with_cover"])
    np.testing.assert_array_equal(
      tracking_pairs.usable(case["anno"], size), case["valid_without_cover"])
