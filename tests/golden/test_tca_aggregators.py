"""NetVLAD, NeXtVLAD, LSTM and GRU against the authors' modules."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden.rules import load_cases, make_params
from vssl_jax.convert import tca as convert
from vssl_jax.models import aggregators

NAMES = ("netvlad", "nextvlad", "lstm", "gru")


def pytest_generate_tests(metafunc):
  from tests.conftest import golden_root
  folder = golden_root() / "tca"
  found = sorted(p.stem for p in folder.glob("*.npz")
                 if re.fullmatch(rf"({'|'.join(NAMES)})(_.*)?", p.stem))
  metafunc.parametrize("case", found)
  metafunc.parametrize("folder", [folder])


@pytest.fixture
def loaded(folder, case):
  """The file, and `(variables, x, train) -> outputs, moved statistics` of the module.

  Variables are an argument: constants would be folded, which takes long.
  """
  with np.load(folder / f"{case}.npz", allow_pickle=False) as f:
    data = {k: f[k] for k in f.files}
  found = convert.convert(make_params(load_cases(folder)[case]))
  assert found.kind == re.match("[a-z]+", case).group()
  model = aggregators.make(found.kind, found.settings | {"dropout": 0.0})
  variables = {"params": found.params, "batch_stats": found.batch_stats}

  def run(variables, x, train=False):
    return model.apply(variables, x, data["lens"], train=train, mutable=["batch_stats"])

  return data, variables, jnp.asarray(data["x"].transpose(0, 2, 1)), run


def test_there_is_a_case_of_each_kind(folder, case):
  kinds = {re.match("[a-z]+", p.stem).group() for p in folder.glob("*.npz")}
  assert kinds >= set(NAMES)
  assert case in load_cases(folder)


def test_values_and_gradient(loaded):
  data, variables, x, run = loaded

  def weighed(x, variables):
    out = run(variables, x)[0]
    return jnp.sum(data["cotangent"] * out["video"]), out

  grad, out = jax.jit(jax.grad(weighed, has_aux=True))(x, variables)
  np.testing.assert_allclose(out["video"], data["video"], atol=1e-5)
  np.testing.assert_allclose(out["frames"], data["encode"], atol=1e-5)
  np.testing.assert_allclose(grad.transpose(0, 2, 1), data["grad_x"], atol=2e-5)


def test_training_mode_and_the_running_statistics_after_it(loaded):
  data, variables, x, run = loaded
  out, moved = jax.jit(run, static_argnames="train")(variables, x, train=True)
  np.testing.assert_allclose(out["video"], data["video_train_nodropout"], atol=1e-5)
  compared = 0
  for key, value in data.items():
    if found := re.fullmatch(r"train_(bn\d)_running_(mean|var)", key):
      got = moved["batch_stats"][found[1]][found[2]]
      np.testing.assert_allclose(got, value, atol=1e-5, err_msg=key)
      compared += 1
  assert compared >= 2


def test_garbage_in_padding_changes_nothing(loaded):
  data, variables, x, run = loaded
  dirty = np.array(x)
  padding = np.arange(x.shape[1])[None, :] >= data["lens"][:, None]
  assert padding.any()
  assert not dirty[padding].any()
  dirty[padding] = np.nan
  both = jax.jit(lambda v, x: (run(v, x), run(v, x, train=True)))
  jax.tree.map(np.testing.assert_array_equal, both(variables, dirty), both(variables, x))
  np.testing.assert_allclose(both(variables, dirty)[0][0]["video"], data["video"], atol=1e-5)


def test_names_go_there_and_back(folder, case):
  state = make_params(load_cases(folder)[case])
  found = convert.convert(state)
  back = convert.to_torch(found.params, found.batch_stats)
  assert sorted(back) == sorted(state)
  for name, value in state.items():
    np.testing.assert_array_equal(back[name], value, strict=True)
