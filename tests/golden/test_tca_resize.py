"""Padding and windows against the released data loader."""

import numpy as np

from data_pipelines.pipeline import fit_length


def test_fit_length(golden_dir):
  with np.load(golden_dir / "tca" / "resize.npz", allow_pickle=False) as f:
    data = {k: f[k] for k in f.files}
  cases = [k[:-3] for k in data if k.endswith("_in")]
  assert cases
  for case in cases:
    want = data[f"{case}_out"]
    start = int(data[f"{case}_start"]) if f"{case}_start" in data else None
    np.testing.assert_array_equal(fit_length(data[f"{case}_in"], len(want), start), want, case)
