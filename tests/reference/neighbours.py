"""Neighbourhood purity, one member and one neighbour at a time, in float64."""


def purity(x, groups):
  """As `vssl_jax.metrics.neighbours.purity`, for lists."""
  found = {}
  for group in sorted({g for g in groups if g >= 0}):
    members = [i for i, g in enumerate(groups) if g == group]
    if len(members) < 2:
      continue
    shares = []
    for i in members:
      others = [j for j in range(len(x)) if j != i]
      others.sort(key=lambda j: -sum(float(a) * float(b) for a, b in zip(x[i], x[j], strict=True)))
      near = others[:len(members) - 1]
      shares.append(sum(groups[j] == group for j in near) / len(near))
    found[group] = sum(shares) / len(shares)
  return found
