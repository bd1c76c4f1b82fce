"""Videos as Gaussians in float64, by the literal formulas: loops over pairs, samples, dimensions.

Variances, not their logarithms; means and variances of one video are lists of D numbers.
"""

import math

import numpy as np


def moments(means, variances):
  """Mean and variance of a uniform mixture, [N, D] -> [D], [D], by E[z^2] - E[z]^2."""
  mean = np.mean(means, axis=0)
  return mean, np.mean(np.square(means) + variances, axis=0) - mean**2


def bhattacharyya(x, v, y, w, *, lam, reading):
  """The printed distance between two points of two videos."""
  dims = range(len(x))
  if reading == "iso":
    s, t = sum(v) / len(v), sum(w) / len(w)
    return (math.log((s / t + t / s + 2) / 4) / 4
            + lam * sum((x[d] - y[d]) ** 2 for d in dims) / (s + t))
  total = sum(math.log((v[d] / w[d] + w[d] / v[d] + 2) / 4) / 4
              + lam * (x[d] - y[d]) ** 2 / (v[d] + w[d]) for d in dims)
  return total / len(x) if reading == "mean" else total


def matrix(function, rows, columns):
  return np.array([[function(r, c) for c in columns] for r in rows])


def sampled(x, y, *, lam, reading):
  """Mean over all K^2 pairs of samples; a video is (samples [K, D], variance [D])."""
  return np.mean([bhattacharyya(z, x[1], w, y[1], lam=lam, reading=reading)
                  for z in x[0] for w in y[0]])


def closed_form(x, y, *, lam=0.25, reading="sum"):
  """A video is (mean [D], variance [D])."""
  return bhattacharyya(x[0], x[1], y[0], y[1], lam=lam, reading=reading)


def mixture(x, y, *, lam=0.25, reading="sum"):
  """A video is (means [N, D], variances [N, D])."""
  inner = "sum" if reading == "mean" else reading

  def overlap(p, q):
    return sum(math.exp(-closed_form((m, v), (n, w), lam=lam, reading=inner))
               for m, v in zip(*p, strict=True) for n, w in zip(*q, strict=True))

  value = -math.log(overlap(x, y) / math.sqrt(overlap(x, x) * overlap(y, y)))
  return value / len(x[0][0]) if reading == "mean" else value


def match(x, y, a, b, *, eps_dist, same, self_samples):
  """The probability that videos with samples x and y [K, D] match."""
  terms = probabilities(x, y, a, b, eps_dist=eps_dist, same=same, self_samples=self_samples)
  return sum(terms) / len(terms)


def probabilities(x, y, a, b, *, eps_dist, same, self_samples):
  """That of each pair of samples."""
  terms = []
  for k, z in enumerate(x):
    for l, w in enumerate(y):
      if same and k == l and not self_samples and len(x) > 1:
        continue
      distance = math.sqrt(sum((p - q) ** 2 for p, q in zip(z, w, strict=True)) + eps_dist)
      terms.append(1 / (1 + math.exp(a * distance - b)))
  return terms


def kl(mean, variance):
  return sum(v + m * m - 1 - math.log(v) for m, v in zip(mean, variance, strict=True)) / 2


def positives(distance, tau, same, neighbours):
  """[B, B] bool; each video's neighbours are looked up one by one."""
  size = len(distance)
  mask = np.array(same) | np.eye(size, dtype=bool)

  def nearest(i):
    others = [j for j in range(size) if not (same[i][j] or i == j)]
    return sorted(others, key=lambda j: distance[i][j])[:neighbours]

  for i in range(size):
    for j in range(size):
      mutual = not neighbours or (j in nearest(i) and i in nearest(j))
      mask[i, j] |= distance[i][j] < tau and mutual
  return mask


def soft(p, positive):
  return -math.log(p) if positive else -math.log(1 - p)


def stochastic(loss, variance_i, variance_j):
  """Divided by the product of two videos' deviations, plus half their log variances."""
  return (loss / (math.sqrt(variance_i) * math.sqrt(variance_j))
          + (math.log(variance_i) + math.log(variance_j)) / 2)


def pair_mean(losses, mask, *, balanced, self_pairs):
  """The mean over ordered pairs, or half that of each kind."""
  kinds = {True: [], False: []}
  for i, row in enumerate(losses):
    for j, value in enumerate(row):
      if self_pairs or i != j:
        kinds[bool(mask[i][j])].append(value)
  if not balanced:
    return np.mean(kinds[True] + kinds[False])
  return sum(np.mean(kind) if kind else 0.0 for kind in kinds.values()) / 2
