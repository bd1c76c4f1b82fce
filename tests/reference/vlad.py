"""NetVLAD and NeXtVLAD in float64 NumPy: one frame and one cluster at a time (tca spec 5)."""

import numpy as np

from tests.reference import batch_norm
from tests.reference.losses import unit


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def softmax(x):
  e = np.exp(x - x.max())
  return e / e.sum()


def dense(p, x):
  return x @ p["kernel"] + p.get("bias", 0)


def norm(p, s, x, train):
  """Batch norm by its own statistics or the running ones `s`."""
  if train:
    return batch_norm.train(x, groups=1, **p, **s)[0]
  return batch_norm.evaluate(x, **p, **s)


def zeroed(x, length):
  """`x` [B, T, D] in float64, zero from `length` on."""
  x = x.astype(np.float64)
  for row, n in zip(x, length, strict=True):
    row[n:] = 0
  return x


def head(p, s, clusters, train):
  """[B, K, D] -> [B, output]."""
  flat = np.array([np.concatenate(list(v)) for v in clusters])
  a = norm(p["bn3"], s["bn3"], dense(p["fc1"], norm(p["bn2"], s["bn2"], flat, train)), train)
  hidden = np.maximum(0, norm(p["bn4"], s["bn4"], dense(p["fc2"], a), train))
  return unit(a * sigmoid(dense(p["fc3"], hidden)))


def netvlad(p, s, x, length, *, train):
  """`x` [B, T, D], `length` [B] -> (video [B, output], clusters [B, K, D])."""
  x = norm(p["bn1"], s["bn1"], zeroed(x, length), train)
  out = np.zeros((len(x), *p["centroids"].shape))
  for b, n in enumerate(length):
    for frame in x[b, :n]:
      v = unit(frame)
      for k, share in enumerate(softmax(dense(p["conv"], v))):
        out[b, k] += share * (v - p["centroids"][k])
  clusters = unit(out)
  return head(p["head"], s["head"], clusters, train), clusters


def nextvlad(p, s, x, length, *, train, groups):
  """`x` [B, T, D], `length` [B] -> (video [B, output], clusters [B, K, R])."""
  x = zeroed(x, length)
  wide = np.array([[dense(p["conv1"], frame / max(np.linalg.norm(frame), 1e-12)) for frame in row]
                   for row in x])
  logits = norm(p["bn1"], s["bn1"], dense(p["conv3"], wide), train)
  out = np.zeros((len(x), *p["centroids"].shape))
  for b, n in enumerate(length):
    for t in range(min(n, x.shape[1])):
      attention = sigmoid(dense(p["conv2"], wide[b, t]))
      for g in range(groups):
        part = wide[b, t, g::groups]
        for k, share in enumerate(softmax(logits[b, t, g::groups])):
          out[b, k] += share * attention[g] * (part - p["centroids"][k])
  clusters = unit(out)
  return head(p["head"], s["head"], clusters, train), clusters
