"""Accuracies, votes, hits and SGD on a linear classifier, one number at a time in float64."""

import math


def rank(scores, label):
  """Classes that come before the true one."""
  order = sorted(range(len(scores)), key=lambda c: (-scores[c], c))
  return order.index(label)


def accuracy(scores, labels, k):
  return sum(rank(s, y) < k for s, y in zip(scores, labels, strict=True)) / len(labels)


def neighbours(query, bank, allowed):
  """(cosine, number) of the bank's vectors, nearest first."""
  def unit(x):
    norm = max(math.sqrt(sum(float(v) ** 2 for v in x)), 1e-12)
    return [float(v) / norm for v in x]
  q = unit(query)
  found = [(sum(a * b for a, b in zip(q, unit(x), strict=True)), i) for i, x in enumerate(bank)
           if allowed(i)]
  return sorted(found, key=lambda pair: (-pair[0], pair[1]))


def votes(found, labels, classes, k, temperature):
  total = [0.0] * classes
  for cosine, i in found[:k]:
    total[labels[i]] += math.exp((cosine - found[0][0]) / temperature)
  return total


def hit(found, labels, label, k):
  return any(labels[i] == label for _, i in found[:k])


def softmax(scores):
  e = [math.exp(float(s) - float(max(scores))) for s in scores]
  return [v / sum(e) for v in e]


def sgd_step(weight, bias, v_weight, v_bias, x, labels, lr, momentum, decay):
  """One step of torch's SGD on the mean cross-entropy; lists of lists in, and out with the loss."""
  dim, classes, n = len(weight), len(bias), len(x)
  g_weight, g_bias, loss = [[0.0] * classes for _ in range(dim)], [0.0] * classes, 0.0
  for row, label in zip(x, labels, strict=True):
    p = softmax([bias[c] + sum(row[d] * weight[d][c] for d in range(dim)) for c in range(classes)])
    loss -= math.log(p[label]) / n
    for c in range(classes):
      g = (p[c] - (c == label)) / n
      g_bias[c] += g
      for d in range(dim):
        g_weight[d][c] += g * row[d]
  v_bias = [momentum * v + g + decay * p for v, g, p in zip(v_bias, g_bias, bias, strict=True)]
  v_weight = [[momentum * v_weight[d][c] + g_weight[d][c] + decay * weight[d][c]
               for c in range(classes)] for d in range(dim)]
  bias = [p - lr * v for p, v in zip(bias, v_bias, strict=True)]
  weight = [[weight[d][c] - lr * v_weight[d][c] for c in range(classes)] for d in range(dim)]
  return weight, bias, v_weight, v_bias, loss


def cross_entropy(scores, labels):
  """Of each row; 0 for the label -1."""
  return [-math.log(softmax(s)[y]) if y >= 0 else 0.0
          for s, y in zip(scores, labels, strict=True)]
