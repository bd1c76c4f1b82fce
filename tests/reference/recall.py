"""Retrieval by class and uncertainty, one query at a time, in float64."""


def recall(scores, query_label, gallery_label, k):
  hits = 0
  for row, label in zip(scores, query_label, strict=True):
    order = sorted(range(len(row)), key=lambda j: -row[j])
    hits += any(gallery_label[j] == label for j in order[:k])
  return hits / len(scores)


def ranks(x):
  """From 0; equal numbers have the mean of their places."""
  return [sum(y < v for y in x) + (sum(y == v for y in x) - 1) / 2 for v in x]


def pearson(x, y):
  n = len(x)
  mean_x, mean_y = sum(x) / n, sum(y) / n
  cross = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
  return cross / (sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)) ** 0.5


def risks(u, hit):
  """Risk when the n most certain are answered, for distinct u."""
  order = sorted(range(len(u)), key=lambda i: u[i])
  return [sum(1 - hit[i] for i in order[:n]) / n for n in range(1, len(u) + 1)]
