"""Similarities against those of the original modules; videos are padded with garbage."""

import numpy as np
import pytest

from vssl_jax.ops import similarity

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def cases(golden_dir):
  paths = sorted((golden_dir / "tca").glob("similarity*.npz"))
  if not paths:
    pytest.skip(f"no similarity*.npz in {golden_dir / 'tca'}")
  return [dict(np.load(path, allow_pickle=False)) for path in paths]


def padded(frames, lengths):
  out = np.full((len(lengths), int(max(lengths)) + 3, frames.shape[1]), 9.0, np.float32)
  for i, x in enumerate(np.split(frames, np.cumsum(lengths)[:-1])):
    out[i, :len(x)] = x
  return out, lengths


@pytest.mark.parametrize(("key", "score"), [("chamfer", similarity.chamfer),
                                            ("sym_chamfer", similarity.symmetric_chamfer)])
def test_chamfer(cases, key, score):
  for case in cases:
    got = score(*padded(case["q"], case["q_lens"]), *padded(case["t"], case["t_lens"]))
    np.testing.assert_allclose(got, case[key], atol=TOLERANCE)


def test_cosine(cases):
  for case in cases:
    got = similarity.cosine(case["q_video"], case["t_video"])
    np.testing.assert_allclose(got, case["cosine"], atol=TOLERANCE)


def test_cosine_from_frames(cases):
  """The stored video vectors are plain means of the frames, so cosine must normalise them."""
  for case in cases:
    means = [np.stack([x.mean(0) for x in np.split(case[k], np.cumsum(case[f"{k}_lens"])[:-1])])
             for k in "qt"]
    np.testing.assert_allclose(similarity.cosine(*means), case["cosine"], atol=TOLERANCE)
