"""Video ResNets in float64 NumPy, evaluation mode, by torch names: [N, C, T, H, W] in and out."""

import re

import numpy as np


def convolve(x, weight, strides):
  """Cross-correlation with padding (k - 1) / 2 on all sides, one output cell at a time."""
  sides = weight.shape[2:]
  x = np.pad(x, [(0, 0), (0, 0), *((k // 2, k // 2) for k in sides)])
  shape = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], sides, strides, strict=True)]
  y = np.zeros((len(x), len(weight), *shape))
  for cell in np.ndindex(*shape):
    at = tuple(slice(i * s, i * s + k) for i, s, k in zip(cell, strides, sides, strict=True))
    y[(..., *cell)] = np.tensordot(x[(slice(None), slice(None), *at)], weight,
                                   axes=((1, 2, 3, 4), (1, 2, 3, 4)))
  return y


def stages(state, x):
  """Maps after the stem and after each of four stages."""
  def wide(name):
    return np.asarray(state[name], np.float64)

  def norm(x, name):
    mean, var, scale, bias = (wide(f"{name}.{leaf}")[:, None, None, None]
                              for leaf in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

  def layer(x, conv, bn, strides):
    return norm(convolve(x, wide(f"{conv}.weight"), strides), bn)

  def relu(x):
    return np.maximum(x, 0)

  def slow_block(x, n, s):
    y = relu(layer(x, f"{n}.branch2.a", f"{n}.branch2.a_bn", (1, 1, 1)))
    y = relu(layer(y, f"{n}.branch2.b", f"{n}.branch2.b_bn", (1, s, s)))
    y = layer(y, f"{n}.branch2.c", f"{n}.branch2.c_bn", (1, 1, 1))
    if f"{n}.branch1.weight" in state:
      x = layer(x, f"{n}.branch1", f"{n}.branch1_bn", (1, s, s))
    return relu(x + y)

  def basic_block(x, n, s):
    y = x
    for k, stride in ((1, s), (2, 1)):
      if f"{n}.conv{k}.0.3.weight" in state:
        y = relu(layer(y, f"{n}.conv{k}.0.0", f"{n}.conv{k}.0.1", (1, stride, stride)))
        y = layer(y, f"{n}.conv{k}.0.3", f"{n}.conv{k}.1", (stride, 1, 1))
      else:
        y = layer(y, f"{n}.conv{k}.0", f"{n}.conv{k}.1", (stride,) * 3)
      y = relu(y) if k == 1 else y
    if f"{n}.downsample.0.weight" in state:
      x = layer(x, f"{n}.downsample.0", f"{n}.downsample.1", (s, s, s))
    return relu(x + y)

  x = np.asarray(x, np.float64)
  slow = "s1.pathway0_stem.conv.weight" in state
  if slow:
    x = relu(layer(x, "s1.pathway0_stem.conv", "s1.pathway0_stem.bn", (1, 2, 2)))
    x = np.pad(x, [(0, 0)] * 3 + [(1, 1)] * 2, constant_values=-np.inf)
    height, width = ((n - 3) // 2 + 1 for n in x.shape[3:])
    x = np.stack([np.stack([x[..., 2 * i:2 * i + 3, 2 * j:2 * j + 3].max((-1, -2))
                            for j in range(width)], -1) for i in range(height)], -2)
  else:
    x = relu(layer(x, "stem.0", "stem.1", (1, 2, 2)))
    if "stem.3.weight" in state:
      x = relu(layer(x, "stem.3", "stem.4", (1, 1, 1)))
  maps = [x]
  for stage in (1, 2, 3, 4):
    pattern = rf"s{stage + 1}\.pathway0_res(\d+)" if slow else rf"layer{stage}\.(\d+)"
    blocks = {int(m[1]): m[0] for m in (re.match(pattern, n) for n in state) if m}
    for i, name in sorted(blocks.items()):
      stride = 2 if stage > 1 and i == 0 else 1
      x = (slow_block if slow else basic_block)(x, name, stride)
    maps.append(x)
  return maps
