"""A residual network in float64 NumPy, evaluation mode, by torch names: [N, C, H, W] in and out."""

import numpy as np


def convolve(x: np.ndarray, weight: np.ndarray, stride: int, dilation: int = 1) -> np.ndarray:
  """Cross-correlation with padding (k - 1) / 2 times the dilation on all sides."""
  if dilation > 1:  # zeros between the weights
    side = dilation * (weight.shape[-1] - 1) + 1
    spread = np.zeros((*weight.shape[:2], side, side))
    spread[:, :, ::dilation, ::dilation] = weight
    weight = spread
  k = weight.shape[-1]
  x = np.pad(x, [(0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)])
  height, width = ((n - k) // stride + 1 for n in x.shape[2:])
  y = np.zeros((len(x), len(weight), height, width))
  for i in range(height):
    for j in range(width):
      patch = x[:, :, i * stride:i * stride + k, j * stride:j * stride + k]
      y[:, :, i, j] = np.einsum("nckl,ockl->no", patch, weight)
  return y


def max_pool(x: np.ndarray) -> np.ndarray:
  """3 x 3 at stride 2, padded by 1 with -inf."""
  x = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
  height, width = ((n - 3) // 2 + 1 for n in x.shape[2:])
  rows = [
    [x[:, :, 2 * i:2 * i + 3, 2 * j:2 * j + 3].max((2, 3)) for j in range(width)]
    for i in range(height)
  ]
  return np.array(rows).transpose(2, 3, 0, 1)


def stages(state: dict, x: np.ndarray, strides=(1, 2, 2, 2),
           dilations=((1, 1),) * 4) -> list[np.ndarray]:
  """Outputs of the four stages for any depth whose names are in `state`.

  `dilations` are of the first and of the other blocks of each stage.
  """

  def norm(x, name):
    def get(leaf):
      return state[f"{name}.{leaf}"].astype(np.float64)[:, None, None]

    scaled = (x - get("running_mean")) / np.sqrt(get("running_var") + 1e-5)
    return scaled * get("weight") + get("bias")

  def layer(x, conv, bn, stride, dilation=1):
    return norm(convolve(x, state[f"{conv}.weight"].astype(np.float64), stride, dilation), bn)

  def block(x, name, stride, dilation):
    bottleneck = f"{name}.conv3.weight" in state
    strides = (1, stride, 1) if bottleneck else (stride, 1)
    y = x
    for k, s in enumerate(strides, start=1):
      y = layer(np.maximum(y, 0) if k > 1 else y, f"{name}.conv{k}", f"{name}.bn{k}", s,
                dilation if k == (2 if bottleneck else 1) else 1)
    if f"{name}.downsample.0.weight" in state:
      x = layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
    return np.maximum(x + y, 0)

  x = max_pool(np.maximum(layer(x.astype(np.float64), "conv1", "bn1", 2), 0))
  maps = []
  for stage in (1, 2, 3, 4):
    blocks = sorted({int(n.split(".")[1]) for n in state if n.startswith(f"layer{stage}.")})
    for i in blocks:
      x = block(x, f"layer{stage}.{i}", strides[stage - 1] if i == 0 else 1,
                dilations[stage - 1][i > 0])
    maps.append(x)
  return maps
