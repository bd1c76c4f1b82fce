"""The comparator against the original modules: its outputs, their sizes, both similarities.

All pairs of a file go through at once, padded with garbage. The files do not say whether the
outputs were mapped to [0, 1]; their range does.
"""

import functools

import jax
import numpy as np
import pytest

from tests.golden.rules import load_cases, make_params
from tests.golden.test_tca_similarity import padded
from vssl_jax.convert import comparator as convert
from vssl_jax.methods import comparator as method
from vssl_jax.models.comparator import Comparator
from vssl_jax.ops import similarity

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def cases(golden_dir):
  """(data, parameters) of every similarity file with comparator outputs."""
  folder = golden_dir / "tca"
  found = []
  for path in sorted(folder.glob("similarity*.npz")):
    data = dict(np.load(path, allow_pickle=False))
    if "comparator_out_flat" in data:
      found.append(data)
  names = {k: v for k, v in load_cases(folder).items() if k.startswith("comparator")}
  if not found:
    pytest.skip(f"no similarity*.npz with comparator outputs in {folder}")
  assert len(found) == len(names), "one comparator in names.json for every similarity file"
  return [(data, convert.from_torch(make_params(names[name])))
          for data, name in zip(found, sorted(names), strict=True)]


def rescaled(data) -> bool:
  return bool(data["comparator_out_flat"].min() >= 0)


def test_outputs_and_their_sizes(cases):
  for data, params in cases:
    (q, q_len), (t, t_len) = padded(data["q"], data["q_lens"]), padded(data["t"], data["t_lens"])
    s = similarity.frame_matrix(q, t).transpose(0, 2, 1, 3)
    rows, columns = np.broadcast_arrays(q_len[:, None], t_len[None])
    out = jax.jit(Comparator(rescaled(data)).apply)(
        {"params": params}, s.reshape(-1, *s.shape[2:]), rows.ravel(), columns.ravel())
    sizes = np.stack([out["rows"], out["columns"]], axis=-1)
    np.testing.assert_array_equal(sizes.reshape(data["comparator_out_shapes"].shape),
                                  data["comparator_out_shapes"])
    flat = [m[:n, :k].ravel() for m, (n, k) in zip(np.asarray(out["matrix"]), sizes, strict=True)]
    np.testing.assert_allclose(np.concatenate(flat), data["comparator_out_flat"], atol=TOLERANCE)


def test_both_similarities(cases):
  for data, params in cases:
    m = method.make(rescale=rescaled(data))
    embed = functools.partial(m.embed, {}, {})
    q, t = (embed(dict(zip(("x", "length"), padded(data[k], data[f"{k}_lens"]), strict=True)))
            for k in "qt")
    got = jax.jit(m.score)({"comparator": params}, {}, q, t)
    for name, key in (("comparator", "chamfer_comparator"),
                      ("symmetric_comparator", "sym_chamfer_comparator")):
      np.testing.assert_allclose(got[name], data[key], atol=TOLERANCE, err_msg=name)
