"""What LSTM and GRU start from, and their equations in closed form; values in test_aggregators."""

import jax
import numpy as np
import pytest

from vssl_jax.models.recurrent import GRU, LSTM


@pytest.mark.parametrize("model, gates", [(LSTM(hidden=64), 4), (GRU(hidden=64), 3)])
def test_initial_values_are_those_of_pytorch(model, gates):
  x = np.zeros((1, 2, 32), np.float32)
  params = jax.jit(model.init)(jax.random.key(3), x, np.int32([2]))["params"]
  bound = 64**-0.5  # of the hidden size, also for what comes in
  for i, fan_in in enumerate((32, 64)):
    layer = params[f"layers_{i}"]
    assert layer["input_kernel"].shape == (fan_in, gates * 64)
    assert layer["hidden_kernel"].shape == (64, gates * 64)
    for name, value in layer.items():
      assert 0.9 * bound < np.abs(value).max() <= bound, name
      np.testing.assert_allclose(np.std(value), bound / np.sqrt(3), rtol=0.1, err_msg=name)


def run(model, **biases):
  """Output at 1, 2, 3 frames of a one-unit layer whose weights are 0: biases alone decide."""
  x = np.zeros((1, 3, 1), np.float32)
  variables = model.init(jax.random.key(0), x, np.int32([3]))
  layer = jax.tree.map(np.zeros_like, variables["params"]["layers_0"])
  variables["params"]["layers_0"] = layer | {k: np.float32(v) for k, v in biases.items()}
  _, state = model.apply(variables, x, np.int32([3]), capture_intermediates=True)
  return np.asarray(state["intermediates"]["layers_0"]["__call__"][0])[0, :, 0]


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def test_lstm_in_closed_form():
  """Gates come in the order i, f, g, o; the two biases add."""
  i, f, g, o = 0.3, -0.4, 0.5, 0.7
  got = run(LSTM(layers=1, hidden=1), input_bias=[i, f, 0.1, o], hidden_bias=[0, 0, g - 0.1, 0])
  forget, write = sigmoid(f), sigmoid(i) * np.tanh(g)
  cells = write * np.array([1, 1 + forget, 1 + forget + forget**2])
  np.testing.assert_allclose(got, sigmoid(o) * np.tanh(cells), rtol=1e-6)


def test_gru_in_closed_form():
  """Gates come in the order r, z, n; the reset gate multiplies n's hidden bias."""
  r, z, n, h = 0.3, -0.4, 0.5, 0.7
  got = run(GRU(layers=1, hidden=1), input_bias=[r, z, n], hidden_bias=[0, 0, h])
  keep = sigmoid(z)
  want = np.tanh(n + sigmoid(r) * h) * (1 - keep ** np.arange(1, 4))
  np.testing.assert_allclose(got, want, rtol=1e-6)
