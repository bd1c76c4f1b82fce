"""Frame pooling and whitening against values of the released extractors and PCA (TCA spec 2, 3)."""

import jax
import numpy as np
import pytest

from tests.golden import rules
from vssl_jax.ops import pooling, whitening

POOLINGS = {
  "imac": pooling.imac, "l3irmac": pooling.l3_irmac, "l3imac": pooling.l3_imac,
}
SIDES = (56, 28, 14, 7)
WIDTHS = (1, 2, 4, 8)
SEED_STEP = {"full": 52, "rect": 53}


def files(golden_dir, name):
  found = sorted((golden_dir / "tca").glob(f"{name}*.npz"))
  if not found:
    pytest.skip(f"no tca/{name}*.npz in {golden_dir}")
  return found


def made_maps(seed, n, sizes, channels):
  """Maps of the README's rule, [N, H, W, C]."""
  return [
    np.maximum(0, rules.draw((seed, i), (n, c, *size)).astype(np.float32)).transpose(0, 2, 3, 1)
    for i, (size, c) in enumerate(zip(sizes, channels, strict=True))
  ]


def outputs(data, group):
  """{pooling: golden descriptors} of one group of a file."""
  return {name: data[f"{group}_{name}"] for name in POOLINGS if f"{group}_{name}" in data}


def check(maps, expected):
  for name, value in expected.items():
    np.testing.assert_allclose(jax.jit(POOLINGS[name])(maps), value, atol=1e-6, err_msg=name)


def test_stored_maps(golden_dir):
  checked = 0
  for path in files(golden_dir, "features"):
    data = np.load(path)
    groups = {key.removesuffix("_map1") for key in data.files if key.endswith("_map1")}
    for group in groups:
      n = sum(key.startswith(f"{group}_map") for key in data.files)
      maps = [data[f"{group}_map{i + 1}"].transpose(0, 2, 3, 1) for i in range(n)]
      expected = outputs(data, group)
      check(maps, expected)
      checked += len(expected)
  assert checked


@pytest.mark.parametrize("group", ["rect", "full"])
def test_made_maps(golden_dir, group):
  checked = 0
  for path in files(golden_dir, "features"):
    data = np.load(path)
    expected = outputs(data, group)
    sizes = data[f"{group}_sizes"] if f"{group}_sizes" in data else [(s, s) for s in SIDES]
    n, dim = expected["imac"].shape
    channels = [w * dim // sum(WIDTHS) for w in WIDTHS]
    for seed in rules.base_seeds(golden_dir / "tca"):
      maps = made_maps(seed + SEED_STEP[group], n, sizes, channels)
      if np.allclose(pooling.imac(maps), expected["imac"], atol=1e-3):
        break  # these are the maps; the last ones else, and the check says how far they are off
    check(maps, expected)
    checked += len(expected)
  assert checked


def pca_cases(golden_dir):
  for path in files(golden_dir, "pca"):
    data = np.load(path)
    for key in data.files:
      if key.endswith("_train"):
        yield key.removesuffix("_train"), data


def test_whitening(golden_dir):
  groups = set()
  for group, data in pca_cases(golden_dir):
    case = {k.removeprefix(f"{group}_"): data[k] for k in data.files if k.startswith(group)}
    train = case["train"]
    third = max(1, len(train) // 3)
    fitted = whitening.fit([train[:third], train[third:]], int(case["k"]))
    np.testing.assert_allclose(fitted.eigenvalues, case["lams"], rtol=1e-5)
    np.testing.assert_allclose(fitted.mean, case["mu"], atol=1e-6)
    signs = np.sign((fitted.components * case["U"]).sum(axis=0))
    out = np.asarray(whitening.apply(fitted, case["apply_in"]))
    np.testing.assert_allclose(out * signs, case["apply_out"], atol=2e-5)
    np.testing.assert_allclose(out @ out.T, case["gram"], atol=2e-5)
    again = np.asarray(whitening.apply(fitted, train[:len(case["apply_out_train9"])]))
    np.testing.assert_allclose(again * signs, case["apply_out_train9"], atol=2e-5)
    groups.add(group)
  assert groups
