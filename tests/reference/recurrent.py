"""LSTM and GRU in float64 NumPy: one video, one frame, one gate at a time (tca spec 5)."""

import numpy as np

from tests.reference.losses import unit
from tests.reference.vlad import norm, sigmoid, zeroed


def gates(kernel, bias, x, count):
  """The parts of `x @ kernel + bias`, each of its own columns."""
  size = kernel.shape[1] // count
  return [x @ kernel[:, i * size:(i + 1) * size] + bias[i * size:(i + 1) * size]
          for i in range(count)]


def lstm(p, frames):
  """[T, D] -> [T, H]."""
  h = c = np.zeros(len(p["hidden_kernel"]))
  out = []
  for x in frames:
    ours = gates(p["input_kernel"], p["input_bias"], x, 4)
    own = gates(p["hidden_kernel"], p["hidden_bias"], h, 4)
    i, f, g, o = (a + b for a, b in zip(ours, own, strict=True))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    out.append(h)
  return np.array(out)


def gru(p, frames):
  """[T, D] -> [T, H]."""
  h = np.zeros(len(p["hidden_kernel"]))
  out = []
  for x in frames:
    in_r, in_z, in_n = gates(p["input_kernel"], p["input_bias"], x, 3)
    own_r, own_z, own_n = gates(p["hidden_kernel"], p["hidden_bias"], h, 3)
    z = sigmoid(in_z + own_z)
    h = (1 - z) * np.tanh(in_n + sigmoid(in_r + own_r) * own_n) + z * h
    out.append(h)
  return np.array(out)


def encode(cell, p, s, x, length, *, train):
  """`x` [B, T, D], `length` [B] -> (video [B, H], frames [B, T, H], zero at padding)."""
  x = norm(p["bn1"], s["bn1"], zeroed(x, length), train)
  video, frames = [], []
  for row, n in zip(x, length, strict=True):
    y = row[:n]  # of padding it never hears
    for i in range(len(p) - 1):
      y = cell(p[f"layers_{i}"], y)
    video.append(unit(y.mean(axis=0)))
    frames.append(np.concatenate([unit(y), np.zeros((len(row) - len(y), y.shape[1]))]))
  return np.array(video), np.array(frames)
